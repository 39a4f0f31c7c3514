"""What a node can still do that is none any more, or manages no more, while its certificates and keys are good."""

import asyncio
import datetime
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from fairlead.core.cluster import Description, Manager, Node, NodeSpec
from fairlead.core.datakeys import name
from fairlead.core.effects import Address
from fairlead.core.revoked import revoked, without
from fairlead.core.service import SECOND
from fairlead.core.session import Call, Hello, Reply
from fairlead.core.swarmspec import Cluster, Trust
from fairlead.engine.events import Events
from fairlead.errors import Unavailable
from fairlead.store.memory import MemoryStore
from fairlead.swarm import ca
from fairlead.swarm.dispatcher import Dispatcher
from fairlead.swarm.gate import NODES
from fairlead.swarm.keeping import Keeping
from fairlead.swarm.manager import Manager as MadeManager
from fairlead.swarm.manager import Tools
from fairlead.swarm.members import PORT, Member, Place
from fairlead.swarm.peers import Peers
from fairlead.swarm.revoking import Revoking
from fairlead.swarm.ring import KEY, encode_ring, read_ring
from fairlead.swarm.roles import Roles
from fairlead.swarm.rows import GossipRows
from fairlead.swarm.sharedstore import PUT, SHARED, Question, SharedVerbs
from fairlead.swarm.state import Event, State
from gossip.stock import free_port
from swarm.test_credentials import made
from unit.swarmpipe import pipe


async def until(look: Callable[[], object]) -> None:
    async with asyncio.timeout(10):
        while not look():
            await asyncio.sleep(0.01)


@pytest.mark.proves("swarm-certificates", guard=("swarm/keeping.py", "self._removed = True", "pass"))
async def test_gossip_gets_another_key_when_a_node_is_removed() -> None:
    ledger, now = MemoryStore(), [10**9 * SECOND]
    state = State(ledger)
    await ledger.put_if(SHARED + KEY, encode_ring((b"a" * 32,)))

    async def pause(seconds: float) -> None:
        await asyncio.sleep(0)

    fresh = iter([b"n" * 32])
    keeping = Keeping(state, ledger, lambda: now[0], lambda: next(fresh), pause)

    async def ring() -> tuple[bytes, ...]:
        entry = await ledger.get(SHARED + KEY)
        assert entry
        return tuple(read_ring(entry.value).keys)

    leading = asyncio.ensure_future(keeping.lead(("leader", 1)))
    await asyncio.sleep(0.05)
    assert await ring() == (b"a" * 32,)
    keeping.hear(Event("nodes", Node("w1"), None))
    await asyncio.sleep(0.05)
    assert await ring() == (b"n" * 32,)
    keeping.hear(Event("nodes", Node("w2"), Node("w2", state="down")))
    await asyncio.sleep(0.05)
    assert await ring() == (b"n" * 32,), "for as long as nobody else goes"
    leading.cancel()


class Town:
    """Nodes of a swarm with gossip, over one ledger."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.ledger, self.tasks = folder, MemoryStore(), list[asyncio.Task[None]]()

    def start(self, name: str) -> Peers:
        folder = self.folder / name
        folder.mkdir(exist_ok=True)
        node, place = name.rjust(25, "0"), Address("127.0.0.1", free_port())
        rows = GossipRows(self.ledger, node)
        peers = Peers(self.ledger, Events(lambda: 1), node, name, place, folder, rows=rows)
        self.tasks.append(asyncio.ensure_future(peers.run()))
        return peers

    async def end(self) -> None:
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)
        self.tasks.clear()


@pytest.mark.proves("swarm-certificates", guard=("swarm/discovery.py", "self._gone(node)", "pass"))
@pytest.mark.parametrize("away", [False, True], ids=["here", "while it was off"])
async def test_nobody_believes_what_a_removed_node_signs(tmp_path: Path, away: bool) -> None:
    town = Town(tmp_path)
    one, two = town.start("one"), town.start("two")
    gone, word = "two".rjust(25, "0"), b"an endpoint of mine"
    signed = two._keys.sign(word)
    await until(lambda: one._keys.verify(gone, word, signed))
    if away:
        await town.end()
    else:
        town.tasks.pop().cancel()  # else it would say again where it is: it does not know yet
    await town.ledger.delete_if(f"nodes/{gone}")
    if away:
        one = town.start("one")
        assert gone in one._discovery.places, "on its disk"
    await until(lambda: gone not in one._discovery.places)
    assert not one._keys.verify(gone, word, signed)
    await town.end()


@pytest.mark.proves(
    "swarm-certificates",
    guard=("swarm/dispatcher.py", "self._served(self._now(who), verb, body)", "self._served(who, verb, body)"),
)
async def test_who_manages_no_more_may_not_do_what_managers_may() -> None:
    """Its session goes on, and its certificate is a manager's, until it has another."""
    ledger = MemoryStore()
    state = State(ledger, lambda event: dispatcher and dispatcher.hear(event))
    dispatcher: Dispatcher | None = None
    manager = Node("m2", NodeSpec(role="manager"), manager=Manager(address="m2"))
    await state.commit([Cluster("cluster", Trust("ROOT")), manager])

    async def connect(address: str) -> Any:
        raise AssertionError(address)

    dispatcher = Dispatcher(state, ledger, "m1", connect)
    dispatcher.verbs |= SharedVerbs(ledger).served
    near, far = pipe("m2", "manager")
    session = asyncio.ensure_future(dispatcher.session(far, Hello(Description())))

    async def puts(number: int) -> str:
        await near.send(Call(number, PUT, _raw(Question("gossip/ring", b"mine"))))
        while True:
            message = await near.receive(10)
            if isinstance(message, Reply) and message.number == number and (message.error or not message.more):
                return message.error

    assert await puts(1) == ""
    await state.commit([_demoted(state.nodes["m2"])])
    assert await puts(2) == "Forbidden"
    near.abort()
    await asyncio.wait([session])


class Etcd:
    """The list of members, as ``Members`` has it."""

    def __init__(self, *nodes: str) -> None:
        self.members = [Member(str(at), node, False, True) for at, node in enumerate(nodes)]

    async def list(self) -> list[Member]:
        return list(self.members)

    async def remove(self, id: str) -> None:
        self.members = [member for member in self.members if member.id != id]


async def test_who_is_demoted_while_it_is_away_is_no_manager_and_its_certificates_are_revoked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("fairlead.swarm.roles.LOOK", 0.02)
    ledger, etcd = MemoryStore(), Etcd("m1", "m2")
    state = State(ledger)
    cluster, spec = Cluster("cluster", Trust("ROOT")), NodeSpec(role="manager")
    nodes = [Node(id, spec, manager=Manager(address=id), serials={f"{id}c": 1}) for id in ("m1", "m2")]
    await state.commit([cluster, *nodes])
    leader = await ledger.put_if("leader", b"m1")
    leading = asyncio.ensure_future(Roles(state, etcd).lead(("leader", leader)))  # type: ignore[arg-type]
    await asyncio.sleep(0.1)
    assert len(etcd.members) == 2 and not revoked(cluster, state.nodes.values())
    await state.commit([_demoted(state.nodes["m2"])])
    await until(lambda: revoked(cluster, state.nodes.values()) == {"m2c"})
    assert [member.node for member in etcd.members] == ["m1"] and state.nodes["m2"].manager is None
    assert state.nodes["m1"].manager
    leading.cancel()


def on_paper(folder: Path, ledger: MemoryStore, cut: Callable[[int], object] = lambda port: None) -> MadeManager:
    """A manager that was made, and does not run."""
    now = datetime.datetime.now(datetime.UTC)
    tools = Tools(
        etcd=lambda command, place: None,  # type: ignore[arg-type, return-value]
        open=lambda socket: (None, ledger),  # type: ignore[arg-type, return-value]
        clock=lambda: SECOND,
        now=lambda: now,
        draw=lambda most: 0,
        cut=cut,
    )
    credentials = made(folder, ca.Authority.found(now))
    credentials.keep_data_keys({name(b"k" * 32): b"k" * 32})
    return MadeManager(credentials, "127.0.0.1:2377", Place(folder, folder, folder), tools)


async def test_a_store_that_is_started_again_is_no_lost_majority(tmp_path: Path) -> None:
    class Away(MemoryStore):
        async def get(self, key: str) -> None:
            raise Unavailable("connection refused")

    manager = on_paper(tmp_path, Away())
    assert not await manager.majority()
    manager._back_by = asyncio.get_running_loop().time() + 10
    assert await manager.majority()


@pytest.mark.proves("swarm-certificates", guard=("swarm/revoking.py", "self._cut(PORT)", "pass"))
async def test_connections_to_the_members_are_cut_when_there_is_more_on_the_list(tmp_path: Path) -> None:
    """And what the node has open at the gate. A machine that cannot cut them goes on all the same."""
    cut: list[int] = []
    able = True

    def cuts(port: int) -> None:
        cut.append(port)
        if not able:
            raise Unavailable("the kernel cuts no connections")

    manager = on_paper(tmp_path, MemoryStore(), cuts)
    dismissed: list[tuple[str, Any]] = []
    manager.gate.dismiss = lambda node, *, still=(): dismissed.append((node, still))  # type: ignore[method-assign]
    cluster, spec = Cluster("cluster", Trust("ROOT")), NodeSpec(role="manager")
    nodes = [
        Node(id, spec, manager=Manager(address=id), serials={f"{at}c": 9 * SECOND})
        for at, id in enumerate(("m2", "m3"))
    ]
    await manager.state.commit([cluster, *nodes])
    manager.hear(manager._follow)
    manager._revoke()
    assert not cut
    await manager.state.commit([replace(_demoted(manager.state.nodes["m2"]), manager=None)])
    assert cut == [PORT] and dismissed == [("m2", NODES)]
    await manager.state.commit([replace(manager.state.nodes["m2"], message="something else")])
    assert cut == [PORT] and len(dismissed) == 1
    able = False
    (held,) = manager.state.cluster.values()
    await manager.state.commit([without(held, manager.state.nodes["m3"], 0)], delete=[manager.state.nodes["m3"]])
    assert cut == [PORT, PORT] and dismissed[1:] == [("m3", ())]
    assert await manager.state.commit([replace(_demoted(manager.state.nodes["m2"]), spec=spec)])
    assert cut == [PORT, PORT], "fewer on the list: nobody to cut off"


@pytest.mark.proves("swarm-certificates", guard=("swarm/revoking.py", "before.good - good or listed", "listed"))
def test_connections_to_the_members_end_with_the_certificate_and_not_with_the_engine(tmp_path: Path) -> None:
    """What was cut by one engine is not cut again by the next; what ended while there was none, is."""
    now, cut = [SECOND], list[int]()
    keys = made(tmp_path, ca.Authority.found(datetime.datetime.now(datetime.UTC)))

    def engine() -> Callable[..., None]:
        nodes = {"m1": {"1a": 90 * SECOND}, "m2": {"2a": 50 * SECOND, "2b": 80 * SECOND}}
        revoking = Revoking(keys, tmp_path, cut.append, lambda: now[0], lambda: datetime.datetime.now(datetime.UTC))
        revoking.begin()

        def looks(*gone: str) -> None:
            cluster = Cluster("cluster", Trust("ROOT"), revoked={"3a": 99 * SECOND} | dict.fromkeys(gone, 99 * SECOND))
            manager = NodeSpec(role="manager")
            revoking.look(cluster, [Node(id, manager, serials=serials) for id, serials in nodes.items()])

        return looks

    look = engine()
    look()
    assert cut == [PORT], "nobody knows what there was before"
    look()
    engine()()
    assert cut == [PORT], "the engine was started again, and that is all"
    now[0] = 50 * SECOND
    look()
    look()
    assert cut == [PORT] * 2
    now[0] = 80 * SECOND
    look = engine()
    look()
    assert cut == [PORT] * 3, "while no engine was there"
    engine()("4a")
    assert cut == [PORT] * 4, "given and taken while no engine was there"


def _demoted(node: Node) -> Node:
    return replace(node, spec=NodeSpec(role="worker"))


def _raw(question: Question) -> Any:
    return msgspec.Raw(msgspec.json.encode(question))
