"""Services on paper: who sends what to whom from here, and by which names they are found."""

import asyncio
from typing import Any

import msgspec
import pytest

from engine.paper import Paper
from engine.test_overlays import RED, container, other
from fairlead.core import remotes
from fairlead.core.model import Endpoint, EndpointSettings, Remote, ServicePart
from fairlead.core.wanted import Vip
from fairlead.engine.drivers.base import Facts
from fairlead.engine.drivers.overlay import Overlay
from fairlead.engine.overlays import Overlays
from fairlead.engine.sandboxes import Stack
from fairlead.engine.services import Later
from fairlead.errors import Internal, Invalid

WEB = ServicePart(service="s1", name="web", task="t", vip="10.9.0.200", names=("www",), serving=True)


def task(number: int, **fields: Any) -> Remote:
    part = msgspec.structs.replace(WEB, task=f"t{number}", **fields)
    return msgspec.structs.replace(other(number), part=part)


def told(paper: Paper, address: str = WEB.vip) -> dict[str, tuple[str, ...]]:
    """Namespace -> where it sends what is for the address."""
    found = [item for item in paper.host.look() if isinstance(item, Vip) and item.address == address]
    return {item.ns: tuple(target for target, _ in item.targets) for item in found}


def named(paper: Paper) -> dict[str, tuple[str, ...]]:
    return {endpoint: names for (_, endpoint), names in paper.told.others.items()}


async def joined(paper: Paper, number: int, part: ServicePart | None = None) -> tuple[Stack, Endpoint]:
    """A container of this host, and what its network's other sandboxes are told of it."""
    stack, endpoint = await container(paper, number)
    endpoint = msgspec.structs.replace(endpoint, settings=EndpointSettings(part=part))
    await paper.overlays.services.tell(RED.id, endpoint.id, part, endpoint.address4, endpoint.address6)
    return stack, endpoint


async def test_every_sandbox_on_the_network_and_nobody_else(paper: Paper) -> None:
    await paper.overlays.learn(task(7))
    assert told(paper) == {}
    one, _ = await joined(paper, 2)
    assert told(paper) == {"c20000000000": ("10.9.0.7",)}
    assert named(paper)["service s1"] == ("web", "www")
    await joined(paper, 3, msgspec.structs.replace(WEB, task="t3"))
    both = ("10.9.0.3", "10.9.0.7")
    assert told(paper) == {"c20000000000": both, "c30000000000": both}, "itself too"
    await paper.sandboxes.close(one)
    assert set(told(paper)) == {"c30000000000"}


async def test_many_are_heard_and_each_sandbox_is_told_once(paper: Paper) -> None:
    for number in (2, 3):
        await joined(paper, number)
    await paper.overlays.learn(task(4))
    del paper.host.log[:]
    news = Later()
    for number in range(5, 25):
        await paper.overlays.learn(task(number), news)
    await paper.overlays.unlearn(task(4).id, later=news)
    assert not [item for _, item in paper.host.log if isinstance(item, Vip)]
    await paper.overlays.services.follow(news)
    assert len([item for _, item in paper.host.log if isinstance(item, Vip)]) == 2
    assert {len(targets) for targets in told(paper).values()} == {20}


async def test_tasks_of_this_host_that_come_together_are_told_of_together(paper: Paper) -> None:
    await joined(paper, 2)
    tell, parts = paper.overlays.services.tell, [task(number).part for number in range(10, 20)]
    del paper.host.log[:]
    await asyncio.gather(*(tell(RED.id, f"e{at}", part, f"10.9.0.{at}") for at, part in enumerate(parts, 10)))
    assert len([item for _, item in paper.host.log if isinstance(item, Vip)]) == 1
    assert len(told(paper)["c20000000000"]) == 10


async def test_who_is_told_of_does_not_depend_on_who_waits(paper: Paper, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first of two is cancelled while it tells for both."""
    await joined(paper, 2)
    services = paper.overlays.services
    follow = services.follow
    first: list[asyncio.Task[None]] = []

    async def once(news: Later) -> None:
        monkeypatch.setattr(services, "follow", follow)
        first[0].cancel()
        await asyncio.sleep(0)

    monkeypatch.setattr(services, "follow", once)
    tasks = [asyncio.create_task(services.tell(RED.id, f"e{n}", task(n).part, f"10.9.0.{n}")) for n in (10, 11)]
    first.append(tasks[0])
    await asyncio.wait(tasks)
    assert tasks[0].cancelled() and told(paper)["c20000000000"] == ("10.9.0.10", "10.9.0.11")


async def test_a_change_of_one_service_touches_no_other(paper: Paper) -> None:
    await joined(paper, 2)
    await paper.overlays.learn(task(7))
    await paper.overlays.learn(task(8, service="s2", name="db", vip="10.9.0.201"))
    del paper.host.log[:]
    await paper.overlays.learn(task(7, serving=False))
    assert [(deed, item.address) for deed, item in paper.host.log if isinstance(item, Vip)] == [("make", WEB.vip)]
    assert told(paper) == {"c20000000000": ()} and told(paper, "10.9.0.201") == {"c20000000000": ("10.9.0.8",)}


@pytest.mark.parametrize(("stays", "left"), [(False, set()), (True, {"service s1", "service s2"})])
async def test_who_comes_while_the_last_one_goes(
    paper: Paper, monkeypatch: pytest.MonkeyPatch, stays: bool, left: set[str]
) -> None:
    """Whether it goes again at once or stays and finds all names: that ends nothing."""
    one, _ = await joined(paper, 2)
    await paper.overlays.learn(task(7))
    await paper.overlays.learn(task(8, service="s2", name="db", vip="10.9.0.201"))
    unname, visits = paper.told.unname, [3]

    async def visited(network: str, endpoint: str) -> None:
        await unname(network, endpoint)
        if visits:
            visitor, _ = await joined(paper, visits.pop())
            if not stays:
                await paper.sandboxes.close(visitor)

    monkeypatch.setattr(paper.told, "unname", visited)
    await paper.overlays.services.unname(paper.overlays.services.leave(RED.id, one.sandbox.id))
    assert {name for name in named(paper) if name.startswith("service")} == left


async def test_names_follow_who_serves(paper: Paper) -> None:
    await joined(paper, 2)
    await paper.overlays.learn(task(7))
    await paper.overlays.learn(task(8, serving=False))
    assert named(paper)[other(7).id] == ("c7", "tasks.web", "tasks.www")
    assert named(paper)[other(8).id] == ("c8",)
    await paper.overlays.learn(task(7, vip=""))
    await paper.overlays.unlearn(other(8).id)
    assert named(paper) == {other(7).id: ("c7", "web", "www", "tasks.web", "tasks.www")}


async def test_the_address_of_a_service_that_is_gone_refuses_until_somebody_has_it(paper: Paper) -> None:
    await joined(paper, 2)
    await paper.overlays.learn(task(7))
    await paper.overlays.unlearn(other(7).id)
    assert told(paper) == {"c20000000000": ()} and named(paper) == {}
    await paper.overlays.learn(other(200))
    assert told(paper) == {}


async def test_connections_to_a_task_are_forgotten_when_it_is_gone_not_before(paper: Paper) -> None:
    await joined(paper, 2)
    await paper.overlays.learn(task(7))
    await paper.overlays.learn(task(7, serving=False))
    assert not paper.host.forgotten
    await paper.overlays.unlearn(other(7).id)
    assert paper.host.forgotten == [("", "10.9.0.7", 0)]


async def test_connections_to_a_task_whose_host_has_another_address_go_on(paper: Paper) -> None:
    """It is the same task at the same address of its own. With another of its own it is not."""
    await joined(paper, 2)
    await paper.overlays.learn(task(7))
    await paper.overlays.learn(msgspec.structs.replace(task(7), vtep="192.168.77.99"))
    assert not paper.host.forgotten and told(paper) == {"c20000000000": ("10.9.0.7",)}
    await paper.overlays.learn(msgspec.structs.replace(task(7), vtep="192.168.77.99", ipv4="10.9.0.8/24"))
    assert paper.host.forgotten == [("", "10.9.0.7", 0)] and told(paper) == {"c20000000000": ("10.9.0.8",)}


async def test_nothing_is_sent_where_the_network_has_no_say(paper: Paper) -> None:
    await joined(paper, 2)
    await paper.overlays.learn(task(7, vip="192.0.2.1"))
    stray = msgspec.structs.replace(task(8), ipv4="192.0.2.8/24")
    await paper.overlays.learn(stray)
    assert told(paper, "192.0.2.1") == {} and told(paper) == {"c20000000000": ()}


async def test_after_a_restart_it_is_as_it_was(paper: Paper) -> None:
    await joined(paper, 2)
    await paper.overlays.learn(task(7))
    wanted = paper.kernel.wanted()
    again = Overlays(paper.store, paper.kernel, Overlay(), Facts(vtep="192.168.77.11"), paper.told)
    await again.load()
    paper.told.others.clear()
    again.adopt("c2".ljust(64, "0"), [RED])
    assert set(paper.kernel.wanted()) == set(wanted) and named(paper)["service s1"] == ("web", "www")
    assert paper.kernel.repair() == ((), ())


async def test_what_the_kernel_refuses_is_tried_again(paper: Paper) -> None:
    await joined(paper, 2)
    paper.host.fail_on(Vip(ns="c20000000000", address=WEB.vip).key, Internal("no NAT"))
    await paper.overlays.learn(task(7))
    assert told(paper) == {}
    paper.host.relent()
    paper.kernel.repair()
    assert told(paper) == {"c20000000000": ("10.9.0.7",)}


@pytest.mark.parametrize(
    "nonsense",
    [
        {"vip": "10.9.0.0200"},
        {"vip": "127.0.0.1"},
        {"vip": "fd00::1"},
        {"vip6": "10.9.0.200"},
        {"name": "w b"},
        {"names": ("ok", "-")},
        {"weight": 0},
        {"weight": 1000},
        {"policy": "best"},
        {"ports": ("80",)},
        {"service": "S!"},
    ],
)
def test_nonsense_is_not_believed(nonsense: dict[str, Any]) -> None:
    good, bad = task(7), task(7, **nonsense)
    key = f"endpoints/{good.node}/{good.id}"
    assert remotes.read_remote(key, msgspec.json.encode(good)) == good
    with pytest.raises(Invalid):
        remotes.read_remote(key, msgspec.json.encode(bad))
