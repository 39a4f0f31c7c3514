"""The gate on real sockets: who comes in, who does not and is told why, and what a hostile peer can achieve."""

import asyncio
import datetime
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from msgspec import Raw

from fairlead.core import written
from fairlead.core.cluster import Description, Node
from fairlead.core.session import Assign, Beat, Enroll, Enrolled, GetRoot, Hello, Relay, Renew, Reply, Root, Welcome
from fairlead.errors import Conflict, Forbidden, Invalid, Unavailable
from fairlead.swarm import ca, gate
from fairlead.swarm.gate import Gate, Newcomer, Stream

NOW = datetime.datetime.now(datetime.UTC)
DAY = datetime.timedelta(days=1)


Doorman = Callable[[ca.Identity, Collection[str]], Awaitable[None]]


class Card:
    """A node's keys. What they are may change, as a node's do."""

    def __init__(
        self, folder: Path, root: ca.Authority, name: str, role: str, *, roots: bytes = b"", issued: Any = NOW
    ) -> None:
        self.folder = folder / name
        self.folder.mkdir(exist_ok=True)
        self.name, self.role = name, role
        self.take(root, roots or root.certificate, issued)

    def take(self, root: ca.Authority, roots: bytes, issued: datetime.datetime = NOW) -> None:
        key, request = ca.new_request()
        certificate = root.issue(request, ca.Identity(self.name, self.role, "cluster"), issued, DAY)
        (self.folder / "pair.pem").write_bytes(key + certificate)
        self.roots = roots.decode()

    def server(self) -> ssl.SSLContext:
        return self._with_pair(gate.server_context(self.roots))

    def client(self) -> ssl.SSLContext:
        return self._with_pair(gate.client_context(self.roots))

    def knows(self, who: ca.Identity, address: str) -> bool:
        return who.node != "former"

    def _with_pair(self, context: ssl.SSLContext) -> ssl.SSLContext:
        context.load_cert_chain(self.folder / "pair.pem")
        return context


@pytest.fixture(scope="module")
def root() -> ca.Authority:
    return ca.Authority.found(NOW)


@pytest.fixture
def manager(tmp_path: Path, root: ca.Authority) -> Card:
    return Card(tmp_path, root, "manager1", "manager")


@pytest.fixture
def worker(tmp_path: Path, root: ca.Authority) -> Card:
    return Card(tmp_path, root, "worker1", "worker")


class Met:
    """The other end: remembers who came."""

    gate: Gate

    def __init__(self) -> None:
        self.identities: list[ca.Identity | None] = []
        self.streams: list[Stream] = []

    async def root(self, stream: Stream, first: GetRoot) -> Root:
        self.identities.append(stream.identity)
        return Root("the root")

    async def enroll(self, stream: Stream, first: Enroll) -> Enrolled:
        if first.address == "taken":
            raise Conflict("somebody has it")
        return Enrolled({"manager1": first.address})

    async def renew(self, stream: Stream, first: Renew) -> None:
        raise RuntimeError(first.request)

    async def relay(self, stream: Stream, first: Relay) -> None:
        await stream.send(Reply(0))
        await stream.receive()

    async def session(self, stream: Stream, first: Hello) -> None:
        self.streams.append(stream)
        await stream.send(Welcome("cluster", 5.0, Node(first.description.hostname)))
        while isinstance(await stream.receive(), Beat):
            await stream.send(Assign())


async def everybody(who: ca.Identity, roles: Collection[str]) -> None:
    """Is welcome."""


async def but_worker1(who: ca.Identity, roles: Collection[str]) -> None:
    if who.node == "worker1":
        raise Forbidden(f"node {who.node} is not part of this swarm")


@asynccontextmanager
async def serving(
    keys: gate.Keys, welcome: Doorman = everybody, listen: str = "127.0.0.1:0", **more: Any
) -> AsyncIterator[tuple[str, Met]]:
    met = Met()
    met.gate = made = Gate(keys, welcome, **more)
    made.on(GetRoot, met.root)
    made.on(Relay, met.relay, gate.MANAGERS)
    made.on(Enroll, met.enroll, gate.MANAGERS)
    made.on(Renew, met.renew, gate.NODES)
    made.on(Hello, met.session, gate.NODES)
    address = made.listen(listen)
    running = asyncio.create_task(made.run())
    await asyncio.sleep(0)
    yield address, met
    running.cancel()
    await asyncio.wait([running])


async def test_a_question_and_a_session(manager: Card, worker: Card) -> None:
    async with serving(manager) as (address, met):
        assert await gate.ask(address, GetRoot(), Newcomer()) == Root("the root")
        assert met.identities == [None]
        stream = await gate.open(address, worker)
        assert stream.identity == ("manager1", "manager", "cluster")
        await stream.send(Hello(Description("box")))
        assert (await stream.receive()).node.id == "box"
        for _ in range(3):
            await stream.send(Beat())
            assert await stream.receive() == Assign()
        assert met.streams[0].identity == ("worker1", "worker", "cluster")
        await stream.close()


@pytest.mark.parametrize("everywhere", ["0.0.0.0:0", "[::]:0"])
async def test_all_addresses_are_those_of_both_families(manager: Card, worker: Card, everywhere: str) -> None:
    """``--listen-addr`` is 0.0.0.0 unless somebody says another: a swarm over IPv6 alone begins with that, too."""
    async with serving(manager, listen=everywhere) as (address, met):
        _, port = gate.parted(address)
        for host in ("127.0.0.1", "::1"):
            stream = await gate.open(written.joined(host, port), worker)
            await stream.send(Hello(Description("box")))
            await stream.receive()
            assert (stream.peer, met.streams[-1].peer, met.streams[-1].here) == (host, host, host)
            await stream.close()


@pytest.mark.proves(
    "swarm-certificates", guard=("swarm/gate.py", "if roles and who and who.role not in roles:", "if False:")
)
async def test_a_role_that_is_not_enough_is_told_so(manager: Card, worker: Card) -> None:
    async with serving(manager) as (address, _):
        with pytest.raises(Forbidden, match="takes a manager, and the certificate is a worker's"):
            await gate.ask(address, Enroll("here:1"), worker)
        with pytest.raises(Forbidden, match="a certificate of this swarm is needed"):
            await gate.ask(address, Enroll("here:1"), Newcomer(manager.roots))
        assert await gate.ask(address, Enroll("here:1"), manager) == Enrolled({"manager1": "here:1"})
        with pytest.raises(Conflict, match="somebody has it"):
            await gate.ask(address, Enroll("taken"), manager)


@pytest.mark.proves(
    "swarm-certificates",
    guard=("swarm/gate.py", "context.verify_mode = ssl.CERT_OPTIONAL", "context.verify_mode = ssl.CERT_NONE"),
)
@pytest.mark.parametrize("flaw", ["foreign", "expired"])
async def test_a_bad_certificate_is_not_let_in(flaw: str, tmp_path: Path, root: ca.Authority, manager: Card) -> None:
    if flaw == "foreign":
        other = Card(tmp_path, ca.Authority.found(NOW), "mallory", "manager", roots=root.certificate)
    else:
        other = Card(tmp_path, root, "mallory", "manager", issued=NOW - 3 * DAY)
    async with serving(manager) as (address, met):
        with pytest.raises(Forbidden, match="does not accept the certificate of this node"):
            await gate.ask(address, GetRoot(), other)
        assert not met.identities


async def test_who_is_no_manager_of_the_cluster_is_told_nothing(
    tmp_path: Path, root: ca.Authority, manager: Card, worker: Card
) -> None:
    """A worker that listens, and a manager of another cluster."""
    stranger = Card(tmp_path, ca.Authority.found(NOW), "stranger", "manager", roots=root.certificate)
    for liar in (worker, stranger):
        async with serving(liar) as (address, met):
            with pytest.raises(Forbidden, match="is no manager of this swarm"):
                await gate.ask(address, GetRoot(), manager)
            with pytest.raises(Forbidden, match="is no manager of this swarm"):
                await gate.ask(address, GetRoot(), Newcomer(root.certificate.decode()))
            assert not met.identities


async def test_who_was_removed_is_unwelcome(manager: Card, worker: Card) -> None:
    async with serving(manager, but_worker1) as (address, _):
        with pytest.raises(Forbidden, match="node worker1 is not part of this swarm"):
            await gate.ask(address, Hello(Description()), worker)
        assert await gate.ask(address, GetRoot(), worker) == Root("the root")


async def goes_on(stream: Stream) -> bool:
    try:
        await stream.send(Beat())
        return bool(await stream.receive(5) == Assign())
    except Unavailable:
        return False


@pytest.mark.proves(
    "swarm-certificates",
    guard=("swarm/gate.py", "self._limit(stream, stream.certificate.not_valid_after_utc)", "pass"),
)
async def test_a_session_ends_with_the_certificate_it_began_with(
    manager: Card, worker: Card, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Though the clock was set to a later day meanwhile."""
    monkeypatch.setattr(gate, "LOOK", 0.05)
    ahead = datetime.timedelta()
    async with serving(manager, now=lambda: datetime.datetime.now(datetime.UTC) + ahead) as (address, met):
        stream = await gate.open(address, worker)
        await stream.send(Hello(Description("box")))
        await stream.receive()
        await asyncio.sleep(0.1)
        assert await goes_on(stream)
        ahead = 2 * DAY
        with pytest.raises(Unavailable, match="ended"):
            await stream.receive(5)
        async with asyncio.timeout(5):
            while met.gate._limits or met.gate._open:
                await asyncio.sleep(0.01)


async def test_what_a_node_has_open_ends_when_it_may_not_begin_it_any_more(
    tmp_path: Path, root: ca.Authority, manager: Card
) -> None:
    former, other = Card(tmp_path, root, "m2", "manager"), Card(tmp_path, root, "m3", "manager")
    async with serving(manager) as (address, met):
        sessions, relays = [], []
        for card in (former, other):
            for kept, message in ((sessions, Hello(Description("box"))), (relays, Relay("n", "logs", Raw(b"null")))):
                kept.append(await gate.open(address, card))
                await kept[-1].send(message)
                await kept[-1].receive(5)
        met.gate.dismiss("m2", still=gate.NODES)
        with pytest.raises(Unavailable, match="ended"):
            await relays[0].receive(5)
        assert await goes_on(sessions[0]), "it is a node still"
        met.gate.dismiss("m2")
        assert not await goes_on(sessions[0])
        assert await goes_on(sessions[1]) and len(met.gate._open) == 2, "the other's"


@pytest.mark.proves(
    "swarm-certificates",
    guard=(
        "swarm/gate.py",
        "if stream.identity is not None and not keys.knows(stream.identity, address):",
        "if False:",
    ),
)
async def test_a_manager_that_one_was_not_told_of_is_told_nothing(
    tmp_path: Path, root: ca.Authority, worker: Card
) -> None:
    """It was one, and its certificate is good for weeks."""
    former = Card(tmp_path, root, "former", "manager")
    async with serving(former) as (address, met):
        with pytest.raises(Forbidden, match="is no manager that this node knows of"):
            await gate.ask(address, GetRoot(), worker)
        assert not met.identities


async def test_roots_change_while_the_gate_is_open(root: ca.Authority, manager: Card, worker: Card) -> None:
    """A rotation: both roots, then new certificates over the bridge, then the old root is forgotten."""
    new = root.succeeded_by(ca.Authority.found(NOW), NOW)
    async with serving(manager) as (address, met):
        staying = await gate.open(address, worker)
        await staying.send(Hello(Description("box")))
        await staying.receive()
        manager.take(new, root.certificate + new.certificate)
        await gate.ask(address, GetRoot(), worker)  # knows the old root only, believes by the bridge
        worker.take(new, new.certificate)
        await gate.ask(address, GetRoot(), worker)
        manager.take(new, new.certificate)
        await gate.ask(address, GetRoot(), worker)
        await staying.send(Beat())
        assert await staying.receive() == Assign()
        await staying.close()
        worker.take(root, new.certificate)
        with pytest.raises(Forbidden, match="does not accept the certificate"):
            await gate.ask(address, GetRoot(), worker)
    assert len(met.identities) == 3


async def test_a_failure_of_ours_is_not_explained_to_others(manager: Card, worker: Card) -> None:
    async with serving(manager) as (address, _):
        with pytest.raises(Exception, match=r"^internal error$"):
            await gate.ask(address, Renew("secret words"), worker)


# -- hostile peers -----------------------------------------------------------------------------------------------------


async def raw(address: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    host, port = gate.parted(address)
    reader, writer = await asyncio.open_connection(host, port, ssl=Newcomer().client(), server_hostname=gate.SERVER)
    assert await reader.readexactly(gate.LENGTH) == gate.COME_IN
    return reader, writer


async def test_who_says_nothing_is_closed(manager: Card, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing at all, no message after the handshake, and a byte of one now and then."""
    monkeypatch.setattr(gate, "FIRST", 0.3)
    async with serving(manager) as (address, _), asyncio.timeout(10):
        host, port = gate.parted(address)
        silent, idle = await asyncio.open_connection(host, port), await raw(address)
        slow_reader, slow = await raw(address)
        for byte in (b"\0", b"\0", b"\1"):
            slow.write(byte)
            await slow.drain()
        for reader in (silent[0], idle[0], slow_reader):
            assert await reader.read() == b""
        assert await gate.ask(address, GetRoot(), Newcomer()) == Root("the root")


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ((gate.LARGEST_FIRST + 1).to_bytes(4), b""),
        (b"\xff\xff\xff\xff", b""),
        (b"\0\0\0\2{}", b""),
        (b"\0\0\0\5\xff\xfe\xfd\xfc\xfb", b""),
        ((100_000).to_bytes(4) + b"[" * 100_000, b""),
        (b'\0\0\0\x0f{"type":"beat"}', b"nothing to begin with"),
    ],
)
async def test_what_is_no_message_ends_the_stream(manager: Card, said: bytes, why: bytes) -> None:
    async with serving(manager) as (address, _), asyncio.timeout(10):
        reader, writer = await raw(address)
        writer.write(said)
        answer = await reader.read()
        assert why in answer and bool(answer) == bool(why)
        assert await gate.ask(address, GetRoot(), Newcomer()) == Root("the root")


async def test_one_address_cannot_take_all_places(manager: Card, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gate, "MOST_FROM_ONE", 5)
    async with serving(manager) as (address, _), asyncio.timeout(10):
        host, port = gate.parted(address)
        crowd = [await asyncio.open_connection(host, port) for _ in range(5)]
        one_more, _ = await asyncio.open_connection(host, port)
        assert await one_more.read() == b""
        for _, writer in crowd:
            writer.close()
        while True:  # their places are free as soon as they are gone
            try:
                await gate.ask(address, GetRoot(), Newcomer())
                break
            except Unavailable:
                await asyncio.sleep(0.01)


async def test_a_message_that_stops_half_way_ends_a_session(
    manager: Card, worker: Card, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gate, "PIECE", 0.2)
    async with serving(manager) as (address, _), asyncio.timeout(10):
        stream = await gate.open(address, worker)
        await stream.send(Hello(Description("box")))
        await stream.receive()
        stream._writer.write((100).to_bytes(4) + b"{")
        answer = await stream.receive()
        assert "nothing was heard" in answer.message
        with pytest.raises(Unavailable, match="ended"):
            await stream.receive()
        await stream.close()


async def test_who_does_not_read_is_closed(manager: Card, worker: Card, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gate, "PIECE", 0.3)
    async with serving(manager) as (address, met), asyncio.timeout(20):
        stream = await gate.open(address, worker)
        await stream.send(Hello(Description("box")))
        await stream.receive()
        stream._writer.transport.pause_reading()
        big = Welcome("x" * (8 << 20), 1.0, Node("n"))
        with pytest.raises(Unavailable):
            while True:
                await met.streams[0].send(big)
        stream.abort()


async def test_sessions_end_with_the_gate(manager: Card, worker: Card) -> None:
    async with serving(manager) as (address, _):
        stream = await gate.open(address, worker)
        await stream.send(Hello(Description("box")))
        await stream.receive()
    with pytest.raises(Unavailable, match="ended"):
        await stream.receive(within=5)
    await stream.close()


async def test_where_nobody_listens(manager: Card) -> None:
    async with serving(manager) as (address, _):
        with pytest.raises(Unavailable, match="cannot listen on"):
            Gate(manager, everybody).listen(address)
    with pytest.raises(Unavailable, match="cannot be reached"):
        await gate.ask(address, GetRoot(), manager)


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("10.0.0.1:99", "10.0.0.1", 99),
        ("10.0.0.1", "10.0.0.1", 2377),
        ("[fd00::1]:99", "fd00::1", 99),
        ("fd00::1", "fd00::1", 2377),
        ("[fd00::1]", "fd00::1", 2377),
        ("box:1", "box", 1),
    ],
)
def test_addresses_as_people_write_them(text: str, host: str, port: int) -> None:
    assert gate.parted(text) == (host, port)
    assert gate.parted(written.joined(host, port)) == (host, port)


@pytest.mark.parametrize("text", ["box:0", "box:70000", "box:x", "[fd00::1]:"])
def test_what_is_no_address(text: str) -> None:
    with pytest.raises(Invalid):
        gate.parted(text)
