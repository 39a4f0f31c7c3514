"""Healing: a change behind our back is put right and told; a change of ours while it looks is no drift."""

import asyncio
import itertools
import os
from collections.abc import Iterable

import pytest

from fairlead.core.wanted import Address, Element, Fence, Link, Skeleton, Wanted
from fairlead.engine import healing
from fairlead.engine.events import Event, Events
from fairlead.engine.healing import Healing
from fairlead.engine.kernel import Kernel
from fairlead.errors import FairleadError
from fairlead.host.fake import FakeHost

RED, BLUE = Link(name="br-red", kind="bridge"), Link(name="br-blue", kind="bridge")


class Bell:
    """A monitor that rings when the test says so."""

    def __init__(self, kind: str = "link") -> None:
        self._kind = kind
        self._read, self._write = os.pipe()

    def fileno(self) -> int:
        return self._read

    def ring(self) -> None:
        os.write(self._write, b"!")

    def urgent(self) -> set[str]:
        os.read(self._read, 1)
        return {self._kind} & {"firewall"}

    def heard(self) -> set[str]:
        return {self._kind} - {"firewall"}


async def repair_of_red(host: FakeHost, kernel: Kernel) -> Event:
    """Another hand deletes RED, a bell rings: what is told then."""
    bell, events = Bell(), Events(itertools.count(1).__next__)
    kernel.want("red", (RED,), "network RED")
    host.lose((RED,))
    told = events.stream(since=0)
    work = asyncio.create_task(Healing(kernel, bell, events).run())
    await asyncio.sleep(0)
    bell.ring()
    event = await asyncio.wait_for(anext(told), 5)
    work.cancel()
    return event


async def test_what_was_lost_is_made_again_and_told() -> None:
    host = FakeHost()
    kernel = Kernel(host)
    event = await repair_of_red(host, kernel)
    assert (event.kind, event.action, event.id) == ("fairlead", "repair", "network RED")
    assert event.attributes["object"] == "link  br-red"
    assert kernel.drift() == ((), ())


async def test_a_flushed_table_is_back_at_once_and_closes_before_it_opens() -> None:
    host, bell = FakeHost(), Bell("firewall")
    kernel, events = Kernel(host), Events(itertools.count(1).__next__)
    table, door = Skeleton(text="t"), Element(map="published4", item="tcp . 80", value="10.0.0.2 . 80")
    wall = Element(map="internal", item='"br-red"')
    fence = Fence(link="veth1", mac="02:00:00:00:00:01")
    kernel.want("engine", (table, door, wall, Link(name="veth1", kind="veth"), fence))
    host.lose((table, fence))
    host.log.clear()
    bell.ring()
    Healing(kernel, bell, events)._wake()
    assert [item for _, item in host.log] == [table, wall, fence, door]
    assert len(events.past(lambda event: event.action == "repair")) == 3
    bell.ring()
    Healing(kernel, bell, events)._wake()
    assert len(host.log) == 4, "it stands: nothing to do"


async def test_who_is_served_does_not_wait_for_our_reading_of_what_he_caused() -> None:
    class Slow(Bell):
        read = asyncio.Event()

        def heard(self) -> set[str]:
            Slow.read.set()
            return super().heard()

    bell = Slow()
    work = asyncio.create_task(Healing(Kernel(FakeHost()), bell, Events(lambda: 1)).run())
    await asyncio.sleep(0)
    bell.ring()
    for _ in range(3):
        await asyncio.sleep(0)
    assert not Slow.read.is_set(), "not in the turns that the request needs"
    await asyncio.wait_for(Slow.read.wait(), 5)
    work.cancel()


async def test_a_bell_for_our_own_device_gets_a_glance_and_no_more() -> None:
    class Counting(FakeHost):
        looks, glances = 0, asyncio.Event()

        def look(self, objects: Iterable[Wanted] = (), gently: bool = False) -> tuple[Wanted, ...]:
            Counting.looks += 1
            return super().look(objects, gently)

        def devices_amiss(self, wanted: Iterable[Link]) -> set[str]:
            loop.call_soon_threadsafe(Counting.glances.set)
            return super().devices_amiss(wanted)

    loop, host, bell = asyncio.get_running_loop(), Counting(), Bell()
    kernel = Kernel(host)
    kernel.want("red", (RED,))
    work = asyncio.create_task(Healing(kernel, bell, Events(lambda: 1)).run())
    await asyncio.sleep(0)
    for _ in range(2):
        # The second glance shows that all that followed the first one is over.
        Counting.glances.clear()
        bell.ring()
        await asyncio.wait_for(Counting.glances.wait(), 5)
    work.cancel()
    assert Counting.looks == 0


class Busy(FakeHost):
    """A network is made and another taken away during every glance and every look, once before and once after it."""

    looks = 0
    kernel: Kernel

    def look(self, objects: Iterable[Wanted] = (), gently: bool = False) -> tuple[Wanted, ...]:
        self.looks += 1
        self.change(f"look {self.looks}")
        seen = super().look(objects, gently)
        self.change(f"looked {self.looks}")
        return seen

    def devices_amiss(self, wanted: Iterable[Link]) -> set[str]:
        self.change("glance")
        seen = super().devices_amiss(wanted)
        self.change("glanced")
        return seen

    def change(self, name: str) -> None:
        self.kernel.want(name, (Link(name=f"br-{name}", kind="bridge"),))
        self.kernel.drop("old")
        self.kernel.want("old", (Link(name=f"br-old-{name}", kind="bridge"),))


async def test_what_another_hand_deletes_is_found_while_wishes_change() -> None:
    host = Busy()
    host.kernel = kernel = Kernel(host)
    event = await repair_of_red(host, kernel)
    assert event.attributes["object"] == "link  br-red"


async def test_wishes_that_change_all_the_while_cost_no_look() -> None:
    host = Busy()
    host.kernel = kernel = Kernel(host)
    kernel.want("red", (RED,))
    assert await kernel.devices_stand()
    assert host.looks == 0


async def test_wishes_that_change_all_the_while_are_no_drift_and_cost_no_second_look() -> None:
    host = Busy()
    host.kernel = kernel = Kernel(host)
    kernel.want("red", (RED,))
    assert await kernel.heal() == ((), ())
    assert host.looks == 1


async def test_bells_do_not_keep_the_tick_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(healing, "TICK", 0.5)
    monkeypatch.setattr(healing, "BREATH", 0.001)
    host, bell = FakeHost(), Bell()
    kernel = Kernel(host)
    address = Address(link="br-red", address="10.0.0.1/24")
    kernel.want("red", (RED, address))
    work = asyncio.create_task(Healing(kernel, bell, Events(lambda: 1)).run())
    await asyncio.sleep(0)
    host.lose((address,))
    async with asyncio.timeout(5):
        while kernel.drift() != ((), ()):
            bell.ring()  # a device of ours came; a glance does not see addresses
            await asyncio.sleep(0.01)
    work.cancel()


async def test_a_repair_that_fails_does_not_end_it() -> None:
    host = FakeHost()
    kernel, events = Kernel(host), Events(itertools.count(1).__next__)
    kernel.want("red", (RED,))
    host.lose((RED,))
    host.fail_on(RED.key)
    healing = Healing(kernel, Bell(), events)
    await healing.heal()
    host.relent()
    await healing.heal()
    assert kernel.drift() == ((), ())


async def test_a_wish_refused_while_we_look_is_no_drift() -> None:
    class Refusing(FakeHost):
        """Somebody is refused a network while this host is being looked at, half way."""

        def look(self, objects: Iterable[Wanted] = (), gently: bool = False) -> tuple[Wanted, ...]:
            if not gently:
                return super().look(objects)
            half = (*super().look(objects), BLUE)
            self.fail_on(BLUE.key)
            with pytest.raises(FairleadError):
                kernel.want("blue", (BLUE,))
            self.relent()
            return half

    host = Refusing()
    kernel = Kernel(host)
    kernel.want("red", (RED,))
    assert await kernel.heal() == ((), ())
