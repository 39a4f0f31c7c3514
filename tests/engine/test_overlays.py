"""What a host has of overlay networks: nothing without containers, and of other hosts what it was told."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine

import msgspec
import pytest

from engine.paper import Paper
from fairlead.core.model import Endpoint, Ipam, Network, Remote, Sandbox, Subnet
from fairlead.core.remotes import VNI
from fairlead.core.wanted import Forwarding, Link, Neighbour
from fairlead.engine.drivers.base import Facts
from fairlead.engine.drivers.overlay import Overlay
from fairlead.engine.overlays import Overlays
from fairlead.engine.sandboxes import Resolving, Stack
from fairlead.errors import Internal, NotFound, Unavailable

RED = Network(
    id="ed" * 32, name="RED", created="", driver="overlay", scope="global",
    ipam=Ipam(config=(Subnet(subnet="10.9.0.0/24"),)), options={VNI: "4097"},
)  # fmt: skip


def other(number: int, vtep: str = "192.168.77.12") -> Remote:
    return Remote(
        id=f"{number:064x}", network=RED.id, node="n2", host="two", vtep=vtep, name=f"c{number}",
        mac=f"02:42:0a:09:00:{number:02x}", ipv4=f"10.9.0.{number}/24", names=(f"c{number}",),
    )  # fmt: skip


async def container(paper: Paper, number: int) -> tuple[Stack, Endpoint]:
    id = f"c{number}".ljust(64, "0")
    stack = await paper.sandboxes.open(Sandbox(id, id, "own", id[:12], ""), "container", Resolving())
    endpoint = Endpoint(
        id=f"e{number}".ljust(64, "0"), network=RED.id, container=id, sandbox=id, name=f"c{number}", interface="eth0",
        device=f"veth{number}", ipv4=f"10.9.0.{number}/24", mac=f"02:42:0a:09:00:{number:02x}",
    )  # fmt: skip
    await paper.sandboxes.join(stack, RED, endpoint)
    return stack, endpoint


def shown(paper: Paper) -> set[str]:
    """Which MACs and addresses the kernel knows of other hosts."""
    found = paper.host.look()
    return {item.mac for item in found if isinstance(item, Forwarding)} | {
        item.address for item in found if isinstance(item, Neighbour)
    }


EVERYBODY = "00:00:00:00:00:00"


async def test_it_comes_with_the_first_container_and_goes_with_the_last(paper: Paper) -> None:
    before = set(paper.host.look())
    await paper.overlays.learn(other(7))
    assert set(paper.host.look()) == before and not paper.told.others
    one, _ = await container(paper, 2)
    two, endpoint = await container(paper, 3)
    assert shown(paper) == {EVERYBODY, "02:42:0a:09:00:07", "10.9.0.7"}
    assert paper.told.others == {(RED.id, other(7).id): ("c7",)}
    await paper.sandboxes.close(one)
    assert shown(paper)
    await paper.sandboxes.leave(two, endpoint)
    assert not shown(paper) and not paper.told.others
    await paper.sandboxes.close(two)
    assert set(paper.host.look()) == before


async def interrupted(paper: Paper, deed: Coroutine[None, None, object]) -> None:
    """Cancelled when the resolver was told, and has not said so."""
    told, usual = asyncio.Event(), (paper.told.set_names, paper.told.unname)

    def silent(tell: Callable[..., Awaitable[None]]) -> Callable[..., Coroutine[None, None, None]]:
        async def tell_and_wait(*given: object) -> None:
            await tell(*given)
            told.set()
            await asyncio.Event().wait()

        return tell_and_wait

    paper.told.set_names, paper.told.unname = map(silent, usual)  # type: ignore[method-assign]
    task = asyncio.ensure_future(deed)
    await told.wait()
    paper.told.set_names, paper.told.unname = usual  # type: ignore[method-assign]
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_who_is_interrupted_as_the_first_leaves_nothing_that_nobody_takes_away(paper: Paper) -> None:
    """A node may leave its swarm at any moment, and found another."""
    before = set(paper.host.look())
    await paper.overlays.learn(other(7))
    await interrupted(paper, paper.overlays.hold("ingress", [RED]))
    await paper.overlays.hold("ingress", ())
    assert set(paper.host.look()) == before
    await paper.overlays.hold("ingress", [RED])
    await interrupted(paper, paper.overlays.hold("ingress", ()))
    assert set(paper.host.look()) == before
    await paper.overlays.hold("another", [RED])
    await paper.overlays.hold("another", ())
    assert set(paper.host.look()) == before


async def test_a_task_is_withdrawn_while_its_container_is_removed(paper: Paper) -> None:
    before = set(paper.host.look())
    stack, endpoint = await container(paper, 2)
    begun, go, usual = asyncio.Event(), asyncio.Event(), paper.names.serve

    async def slow(stack: Stack, meanwhile: Callable[[], None] | None = None) -> None:
        begun.set()
        await go.wait()
        await usual(stack, meanwhile)

    paper.names.serve = slow  # type: ignore[method-assign]
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(paper.endpoints.change(stack, [msgspec.structs.replace(endpoint, names=("another",))]))
        await begun.wait()
        tasks.create_task(paper.sandboxes.close(stack))
        await asyncio.sleep(0)
        go.set()
    assert set(paper.host.look()) == before
    await paper.endpoints.forget(RED, endpoint)
    await paper.endpoints.change(stack, [endpoint])
    assert set(paper.host.look()) == before and not paper.endpoints.of_sandbox(endpoint.sandbox)
    with pytest.raises(NotFound, match="cannot be connected to RED"):
        await paper.sandboxes.join(stack, RED, endpoint)


async def test_other_hosts_come_and_go(paper: Paper) -> None:
    await container(paper, 2)
    await paper.overlays.learn(other(7))
    await paper.overlays.learn(other(8))
    await paper.overlays.unlearn(other(7).id)
    assert shown(paper) == {EVERYBODY, "02:42:0a:09:00:08", "10.9.0.8"}
    assert paper.told.others == {(RED.id, other(8).id): ("c8",)}
    await paper.overlays.learn(other(8, vtep="192.168.77.13"))
    vias = {item.via for item in paper.host.look() if isinstance(item, Forwarding)}
    assert vias == {"192.168.77.13"}
    await paper.overlays.unlearn(other(8).id)
    assert not shown(paper)


@pytest.mark.proves(
    "cluster-rows",
    guard=(
        "engine/overlays.py",
        "        if rival:\n            log.warning",
        "        if False:\n            log.warning",
    ),
)
async def test_two_with_one_address(paper: Paper) -> None:
    """Who was first has it. The others wait: also those of a host whose news came before the old one's end."""
    await container(paper, 2)
    await paper.overlays.learn(other(7))
    later = msgspec.structs.replace(other(7), id="f" * 64, vtep="192.168.77.13", host="three")
    await paper.overlays.learn(later)
    good = other(8, vtep="192.168.77.13")
    await paper.overlays.learn(good)
    ways = {(item.mac, item.via) for item in paper.host.look() if isinstance(item, Forwarding)}
    assert ways - {(EVERYBODY, "192.168.77.12"), (EVERYBODY, "192.168.77.13")} == {
        ("02:42:0a:09:00:07", "192.168.77.12"), ("02:42:0a:09:00:08", "192.168.77.13"),
    }  # fmt: skip
    await paper.overlays.unlearn(other(7).id)
    assert set(paper.overlays.others(RED.id)) == {later, good}
    moved = msgspec.structs.replace(later, mac="02:42:0a:09:00:09", ipv4="10.9.0.9/24")
    await paper.overlays.learn(moved)
    await paper.overlays.learn(other(7))
    assert shown(paper) == {EVERYBODY} | {f"02:42:0a:09:00:0{n}" for n in (7, 8, 9)} | {
        f"10.9.0.{n}" for n in (7, 8, 9)
    }
    again = Overlays(paper.store, paper.kernel, Overlay(), Facts(vtep="192.168.77.11"), paper.told)
    await again.load()
    assert set(again.others(RED.id)) == {other(7), good, moved}
    await again.learn(msgspec.structs.replace(other(7), id="e" * 64, vtep="192.168.77.14"))
    assert set(again.others(RED.id)) == {other(7), good, moved}, "what each has is known after a restart, too"


async def test_a_failed_attach_leaves_nothing(paper: Paper, monkeypatch: pytest.MonkeyPatch) -> None:
    before = set(paper.host.look())
    id = "c2".ljust(64, "0")
    stack = await paper.sandboxes.open(Sandbox(id, id, "own", id[:12], ""), "container", Resolving())

    async def refuse(stack: Stack, meanwhile: object = None) -> None:
        raise Internal("no resolver")

    monkeypatch.setattr(paper.names, "serve", refuse)
    with pytest.raises(Internal):
        await paper.sandboxes.join(
            stack, RED, Endpoint(id="e", network=RED.id, container=id, sandbox=id, name="c2", interface="eth0")
        )
    monkeypatch.undo()
    await paper.sandboxes.close(stack)
    assert set(paper.host.look()) == before


async def test_a_failed_connect_leaves_what_was_there(paper: Paper, monkeypatch: pytest.MonkeyPatch) -> None:
    stack, endpoint = await container(paper, 2)
    before = set(paper.host.look())
    blue = msgspec.structs.replace(RED, id="b1" * 32, name="BLUE", options={VNI: "4098"})
    second = msgspec.structs.replace(endpoint, id="e3", network=blue.id, interface="eth1", device="veth3", mac="")

    async def refuse(stack: Stack, meanwhile: object = None) -> None:
        raise Unavailable("no resolver")

    monkeypatch.setattr(paper.names, "serve", refuse)
    with pytest.raises(Unavailable):
        await paper.sandboxes.join(stack, blue, second)
    assert set(paper.host.look()) == before


async def test_a_resolver_that_is_away_is_told_later(paper: Paper, monkeypatch: pytest.MonkeyPatch) -> None:
    """What it should serve is noted by its client; the network comes and goes all the same."""
    before = set(paper.host.look())
    for number in (7, 8):
        await paper.overlays.learn(other(number))

    def note_and_refuse(note):  # type: ignore[no-untyped-def]
        async def call(*words: object) -> None:
            await note(*words)
            raise Unavailable("nobody answers")

        return call

    for name in ("set_names", "unname"):
        monkeypatch.setattr(paper.told, name, note_and_refuse(getattr(paper.told, name)))
    stack, _ = await container(paper, 2)
    await paper.overlays.learn(other(9))
    assert shown(paper) >= {"10.9.0.7", "10.9.0.8", "10.9.0.9"} and len(paper.told.others) == 3
    await paper.overlays.unlearn(other(7).id)
    await paper.sandboxes.close(stack)
    assert set(paper.host.look()) == before and not paper.told.others


async def test_what_the_kernel_refuses_is_tried_again(paper: Paper, monkeypatch: pytest.MonkeyPatch) -> None:
    await container(paper, 2)
    make = paper.host.make

    def refuse(objects: object) -> None:
        raise Internal("the namespace is gone")

    monkeypatch.setattr(paper.host, "make", refuse)
    await paper.overlays.learn(other(7))
    monkeypatch.setattr(paper.host, "make", make)
    assert not shown(paper)
    paper.kernel.repair()
    assert shown(paper) == {EVERYBODY, "02:42:0a:09:00:07", "10.9.0.7"}


async def test_after_a_restart_it_knows_what_it_knew(paper: Paper) -> None:
    """Without asking anybody: the store may be away."""
    await container(paper, 2)
    await paper.overlays.learn(other(7))
    again = Overlays(paper.store, paper.kernel, Overlay(), Facts(vtep="192.168.77.11"), paper.told)
    await again.load()
    assert again.others(RED.id) == [other(7)]
    again.adopt("c2".ljust(64, "0"), [RED])
    assert paper.kernel.repair() == ((), ())


async def test_a_host_that_moves_takes_its_networks_along(paper: Paper) -> None:
    """Frames arrive elsewhere; containers and what is known of others stay."""
    await container(paper, 2)
    await paper.overlays.learn(other(7))
    before = shown(paper)
    paper.facts.vtep = "192.168.77.99"
    await paper.overlays.move(None)
    assert shown(paper) == before
    (tunnel,) = [item for item in paper.host.look() if isinstance(item, Link) and item.kind == "vxlan"]
    assert ("local", "192.168.77.99") in tunnel.options
    await paper.overlays.forget()
    assert not shown(paper) and not paper.told.others
