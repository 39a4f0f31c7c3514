"""What nodes share through their sessions: who may write what, watches that outlive a session, addresses on loan."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from typing import Any

import msgspec
import pytest

from fairlead.core.cluster import Node
from fairlead.core.model import Ipam, Network, Subnet
from fairlead.core.service import SECOND
from fairlead.core.swarmspec import SharedNetwork
from fairlead.engine.swarm import STORE, InitRequest, JoinRequest, LateSwarm
from fairlead.errors import FairleadError, Forbidden, Internal, Invalid, NotFound, Unavailable
from fairlead.store.base import Entry
from fairlead.store.memory import MemoryStore
from fairlead.swarm.ca import Identity
from fairlead.swarm.farewells import Farewells
from fairlead.swarm.keeping import LIFETIME, Keeping
from fairlead.swarm.leader import Leader
from fairlead.swarm.loans import LEASE, Borrowed, Held, Loans
from fairlead.swarm.ring import KEY, encode_ring, read_ring
from fairlead.swarm.sharedstore import LARGEST, SHARED, Question, SharedStore, SharedVerbs, read
from fairlead.swarm.state import Event, State
from unit.jumping import in_jumping_time

WORKER, OTHER, MANAGER = (Identity(n, r, "c") for n, r in (("w1", "worker"), ("w2", "worker"), ("m1", "manager")))
OURS, THEIRS = "e" * 64, "f" * 64


class Session:
    """A node's session with a manager, without the wire: what is said goes through JSON."""

    def __init__(self, who: Identity, *served: dict[str, Any]) -> None:
        self.who = who
        self.served = {verb: answer for one in served for verb, answer in one.items()}
        self.up = asyncio.Event()
        self.up.set()
        self.lost = asyncio.Event()

    async def connected(self) -> None:
        await self.up.wait()

    def lose(self) -> None:
        self.up.clear()
        self.lost.set()

    def find(self) -> None:
        self.lost = asyncio.Event()
        self.up.set()

    async def ask(self, verb: str, body: Any = None) -> AsyncIterator[msgspec.Raw]:
        if not self.up.is_set():
            raise Unavailable("the session has ended")
        lost = asyncio.ensure_future(self.lost.wait())
        answers = self.served[verb](self.who, msgspec.Raw(msgspec.json.encode(body)))
        step: asyncio.Future[Any] = lost
        try:
            while True:
                step = asyncio.ensure_future(anext(answers))
                await asyncio.wait({step, lost}, return_when=asyncio.FIRST_COMPLETED)
                if not step.done():
                    raise Unavailable("the session has ended")
                try:
                    reply = step.result()
                except StopAsyncIteration:
                    return
                yield msgspec.Raw(msgspec.json.encode(reply))
        finally:
            step.cancel()
            lost.cancel()
            await asyncio.gather(step, return_exceptions=True)
            await answers.aclose()

    async def one(self, verb: str, body: Any = None) -> msgspec.Raw:
        async with aclosing(self.ask(verb, body)) as replies:
            async for reply in replies:
                return reply
        raise AssertionError("no answer")


def stores(ledger: MemoryStore, *who: Identity) -> list[SharedStore]:
    return [SharedStore(Session(one, SharedVerbs(ledger).served)) for one in who]


async def test_a_node_writes_its_own_and_managers_the_ring() -> None:
    ledger = MemoryStore()
    one, manager = stores(ledger, WORKER, MANAGER)
    await ledger.put_if("tasks/t1", b"a secret")
    await one.put_if("nodes/w1", b"here")
    await one.put_if("keys/w1", b"half")
    await manager.put_if("gossip/ring", b"[]", 0)
    assert await one.get("gossip/ring") and await one.get("nodes/w1") == Entry("nodes/w1", b"here", 2)
    for key in ("nodes/w2", "keys/m1", "gossip/ring", "nodes/w1/x", "tasks/t1", "nodes/"):
        with pytest.raises(Forbidden):
            await one.put_if(key, b"mine")
        with pytest.raises(Forbidden):
            await one.delete_if(key)
    with pytest.raises(Forbidden):
        await manager.put_if("nodes/w1", b"elsewhere")
    assert {entry.key for entry in await ledger.list("shared/")} == {
        "shared/nodes/w1", "shared/keys/w1", "shared/gossip/ring",
    }  # fmt: skip


@pytest.mark.parametrize("key", ["", "../tasks/t1", "nodes//w1", "a/../../tasks"])
async def test_nobody_leaves_what_is_shared(key: str) -> None:
    (one,) = stores(MemoryStore(), WORKER)
    with pytest.raises(Invalid):
        await one.get(key)
    with pytest.raises(Invalid):
        await one.list(key)


async def test_a_watch_goes_on_in_the_next_session() -> None:
    ledger = MemoryStore()
    session = Session(WORKER, SharedVerbs(ledger).served)
    store, seen = SharedStore(session), []

    async def watch() -> None:
        async for change in store.watch("nodes/", [Entry("nodes/gone", b"", 1)]):
            seen.append((change.key, change.value))

    watching = asyncio.ensure_future(watch())
    await ledger.put_if("shared/nodes/w1", b"1")
    await until(lambda: ("nodes/w1", b"1") in seen)
    assert ("nodes/gone", None) in seen
    session.lose()
    await ledger.put_if("shared/nodes/w2", b"2")
    await ledger.delete_if("shared/nodes/w1")
    await asyncio.sleep(0)
    assert len(seen) == 2
    session.find()
    await until(lambda: len(seen) == 4)
    assert set(seen[2:]) == {("nodes/w2", b"2"), ("nodes/w1", None)}
    watching.cancel()
    await asyncio.gather(watching, return_exceptions=True)


async def until(holds: Callable[[], object]) -> None:
    async with asyncio.timeout(10):
        while not holds():
            await asyncio.sleep(0.01)


class Desk:
    """A manager that leads, and the sessions of its nodes."""

    def __init__(self) -> None:
        self.ears: list[Callable[[Event], None]] = []
        self.ledger = MemoryStore()
        self.state = State(self.ledger, lambda event: [ear(event) for ear in tuple(self.ears)] and None)
        self.leader = Leader(self.state, lambda: SECOND, lambda: "t1", 5)
        self.hear(self.leader.hear)
        self.loans = Loans(self.state, self.hear)

    def hear(self, ear: Callable[[Event], None]) -> Callable[[], None]:
        self.ears.append(ear)
        return lambda: self.ears.remove(ear)

    async def begin(self, attachable: bool = True) -> None:
        pool = Subnet(subnet="10.0.1.0/29", gateway="10.0.1.1")
        red = Network("red", "red", "", "overlay", "swarm", attachable=attachable, ipam=Ipam(config=(pool,)))
        await self.state.commit([SharedNetwork("red", red), Node("w1"), Node("w2")])
        version = await self.ledger.put_if("leader", b"m1", 0)
        self.leading = asyncio.ensure_future(self.leader.lead(("leader", version)))

    def node(self, who: Identity) -> Borrowed:
        return Borrowed(Session(who, self.loans.served))


@pytest.fixture
async def desk() -> AsyncIterator[Desk]:
    made = Desk()
    await made.begin()
    yield made
    made.leading.cancel()
    await asyncio.gather(made.leading, return_exceptions=True)


RED = Network("red", "red", "", "overlay", "swarm")


def first(taken: set[str]) -> str:
    return "10.0.1.2"


async def test_addresses_are_lent_once_and_given_back(desk: Desk) -> None:
    one, two = desk.node(WORKER), desk.node(OTHER)
    found = [await one.address(RED, OURS, "", (), first), await two.address(RED, THEIRS, "10.0.1.5", (), first)]
    assert len(set(found)) == 2 and found[1] == "10.0.1.5"
    dockerd = "^Could not attach to network red: attaching to network failed, make sure .* logs: "
    with pytest.raises(Internal, match=dockerd + "Address already in use$"):
        await one.address(RED, "a" * 64, "10.0.1.5", (), first)
    assert set(desk.state.loans) == {OURS, THEIRS}
    saying = asyncio.ensure_future(one.run())
    await one.tidy([OURS])
    one.settled(OURS)
    await one.release("red", OURS)
    await until(lambda: set(desk.state.loans) == {THEIRS})
    await one.keep("red", "b" * 64, "10.0.1.6")
    await until(lambda: "b" * 64 in desk.state.loans)
    assert desk.state.loans["b" * 64].addresses == ("10.0.1.6/29",)
    saying.cancel()
    await asyncio.gather(saying, return_exceptions=True)


async def test_a_full_network_refuses_in_dockerds_words_and_keeps_no_note(desk: Desk) -> None:
    node = desk.node(WORKER)
    ends = [letter * 64 for letter in "abcdef"]
    words = (
        "^Could not attach to network red: attaching to network failed, .*: no available IPv4 addresses on this network"
    )
    with pytest.raises(Internal, match=words) as refused:
        for end in ends:
            await node.address(RED, end, "", (), first)
    assert refused.value.status == 500
    assert len(desk.state.loans) == 5  # the one that was refused is not kept


def test_who_is_between_two_managers_borrows_when_there_is_one_again_and_not_for_ever() -> None:
    async def tell() -> None:
        desk, clock = Desk(), asyncio.get_running_loop().time
        await desk.begin()
        session = Session(WORKER, desk.loans.served)
        node = Borrowed(session)
        session.lose()
        asyncio.get_running_loop().call_later(8, session.find)
        assert await node.address(RED, OURS, "", (), first) == "10.0.1.2"
        assert 8 <= clock() < 9
        lease, refused = session.served[LEASE], [Unavailable("the connection ended")]

        async def again(who: Identity, body: msgspec.Raw) -> AsyncIterator[Any]:
            if refused:
                raise refused.pop()
            async for reply in lease(who, body):
                yield reply

        session.served[LEASE] = again
        assert await node.address(RED, "a" * 64, "", (), first) == "10.0.1.3"
        session.lose()
        with pytest.raises(Unavailable, match="no manager"):
            await node.address(RED, THEIRS, "", (), first)
        assert 18 <= clock() < 20
        desk.leading.cancel()

    in_jumping_time(tell())


async def test_a_node_speaks_for_its_own_loans_only(desk: Desk) -> None:
    await desk.node(WORKER).address(RED, OURS, "", (), first)
    with pytest.raises(Forbidden):
        await desk.node(OTHER).address(RED, OURS, "", (), first)
    await Session(OTHER, desk.loans.served).one("hold-addresses", {})
    assert set(desk.state.loans) == {OURS}


async def test_a_node_s_own_address_on_ingress_is_no_loan(desk: Desk) -> None:
    pool = Subnet(subnet="10.0.0.0/24", gateway="10.0.0.1")
    ingress = Network("ingress", "ingress", "", "overlay", "swarm", ingress=True, ipam=Ipam(config=(pool,)))
    await desk.state.commit([SharedNetwork("ingress", ingress)])
    for network, loans in (("ingress", set()), ("red", {OURS})):
        await Session(WORKER, desk.loans.served).one("hold-addresses", {OURS: Held(network, ("10.0.1.2",))})
        assert set(desk.state.loans) == loans


async def test_not_every_network_is_for_anybody() -> None:
    desk = Desk()
    await desk.begin(attachable=False)
    with pytest.raises(Forbidden, match="not manually attachable"):
        await desk.node(WORKER).address(RED, OURS, "", (), first)
    with pytest.raises(NotFound):
        await desk.node(WORKER).address(msgspec.structs.replace(RED, id="blue"), OURS, "", (), first)
    desk.leading.cancel()


async def test_the_leader_changes_the_gossip_key_and_forgets_nodes_that_are_gone() -> None:
    ledger, now, steps = MemoryStore(), [SECOND], list[Any]()
    state = State(ledger)
    await state.commit([Node("w1")])
    for key in ("nodes/w1", "nodes/w2", "keys/w2"):
        await ledger.put_if(SHARED + key, b"x")
    await ledger.put_if(SHARED + KEY, encode_ring((b"a" * 32, b"b" * 32)))

    async def step(seconds: float) -> None:
        entry = await ledger.get(SHARED + KEY)
        assert entry
        steps.append([key[:1] for key in read_ring(entry.value).keys])

    async def shared() -> set[str]:
        return {entry.key for entry in await ledger.list(SHARED)}

    async def ring() -> list[bytes]:
        await step(0)
        return steps.pop()

    keeping = Keeping(state, ledger, lambda: now[0], lambda: b"n" * 32, step, lifetime=LIFETIME // 2)
    leading = asyncio.ensure_future(keeping.lead(("leader", 1)))
    async with asyncio.timeout(10):
        while await shared() != {"shared/nodes/w1", "shared/gossip/ring", "shared/gossip/rotated"}:
            await asyncio.sleep(0)
    assert not steps
    now[0] += LIFETIME // 2
    keeping.hear(Event("nodes", Node("w3"), None))
    async with asyncio.timeout(10):
        while await ring() != [b"n"]:
            await asyncio.sleep(0)
    assert steps == [[b"a", b"b", b"n"], [b"n", b"a", b"b"]]
    leading.cancel()


async def test_a_farewell_is_over_when_everybody_thanked() -> None:
    said: list[tuple[str, bytes]] = []
    owner = Farewells(lambda node, words: None, lambda network: {"me", "w1", "w2"}, "me")
    other = Farewells(lambda node, words: said.append((node, words)), lambda network: (), "w1")
    owner.begin([OURS], serving=False)
    leaving = asyncio.ensure_future(owner.over({OURS: "red"}, serving=False))
    other.thank("me", OURS, serving=False)
    owner.thanked("w1", said[0][1])
    owner.thanked("w2", b"\xfbsomething else")
    other.thank("me", OURS, serving=True)
    owner.thanked("w2", said[1][1])  # late thanks for its greeting
    await asyncio.sleep(0.01)
    assert not leaving.done()
    owner.thanked("w2", said[0][1])
    async with asyncio.timeout(1):
        await leaving


def test_nobody_waits_for_the_thanks_of_who_has_failed() -> None:
    nodes = {"me", "w1", "w2"}
    owner = Farewells(lambda node, words: None, lambda network: nodes, "me")

    async def story() -> None:
        owner.begin([OURS], serving=True)
        greeting = asyncio.ensure_future(owner.over({OURS: "red"}, serving=True))
        owner.thanked("w1", b"\xfb+" + OURS.encode())
        await asyncio.sleep(1)
        assert not greeting.done()
        nodes.discard("w2")
        await greeting

    assert in_jumping_time(story()) < 1.5


async def test_a_store_and_a_swarm_do_not_go_together() -> None:
    swarm = LateSwarm(lambda: pytest.fail("made"), lambda: True, store=True)
    for deed in (swarm.init(InitRequest()), swarm.join(JoinRequest()), swarm.run()):
        with pytest.raises(FairleadError, match=STORE):
            await deed


def test_a_question_is_small() -> None:
    with pytest.raises(Invalid):
        read(msgspec.Raw(msgspec.json.encode(Question("nodes/w1", bytes(LARGEST + 1)))))
    with pytest.raises(Invalid):
        read(msgspec.Raw(b'{"key": 1}'))
