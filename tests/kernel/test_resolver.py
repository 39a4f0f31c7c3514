"""The resolver process with real sockets, namespaces and nftables: one pretend host, two sandboxes, an upstream."""

import asyncio
import contextlib
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import msgspec
import pytest

from fairlead.core import dnswire
from fairlead.core.dnswire import Message, Record
from fairlead.engine.forwarder import FAIR
from fairlead.engine.resolverclient import EndpointNames, ResolverClient, SandboxNames
from fairlead.errors import Invalid, Unavailable
from fairlead.host import netns

pytestmark = [pytest.mark.kernel, pytest.mark.skipif(os.geteuid() != 0, reason="needs root")]

WORLD = "10.9.0.1"
SERVER = ("127.0.0.11", 53)


class Ground:
    """A host and two sandboxes; each sandbox has a veth to the host (10.9.<n>.0/24)."""

    def __init__(self, root: Path) -> None:
        self.spaces = netns.Namespaces(root)
        for name in ("host", "one", "two"):
            self.spaces.create(name, lambda: None)
            self.run(name, "ip", "link", "set", "lo", "up")
        for number, name in enumerate(("one", "two"), 1):
            self.run(
                "host", "ip", "link", "add", f"v{name}", "type", "veth", "peer", "name", "eth0", "netns", self.at(name)
            )
            self.run("host", "ip", "address", "add", f"10.9.{number}.1/24", "dev", f"v{name}")
            self.run("host", "ip", "link", "set", f"v{name}", "up")
            self.run(name, "ip", "address", "add", f"10.9.{number}.2/24", "dev", "eth0")
            self.run(name, "ip", "link", "set", "eth0", "up")
            self.run(name, "ip", "route", "add", "default", "via", f"10.9.{number}.1")
        self.run("host", "ip", "address", "add", f"{WORLD}/32", "dev", "lo")

    def at(self, name: str) -> str:
        return self.spaces.path(name)

    def run(self, name: str, *words: str, text: str | None = None) -> str:
        command = ["nsenter", f"--net={self.at(name)}", *words]
        return subprocess.run(command, check=True, capture_output=True, text=True, input=text).stdout

    def close(self) -> None:
        for name in ("host", "one", "two"):
            self.spaces.destroy(name)
        self.spaces.close()


@pytest.fixture
def ground(tmp_path: Path) -> Iterator[Ground]:
    ground = Ground(tmp_path / "ns")
    yield ground
    ground.close()


class Upstream:
    """A name server in the host's namespace that does as ``answer`` says: (query packet) -> datagrams to send."""

    def __init__(self, ground: Ground, address: str, answer: Callable[[bytes], list[bytes]]) -> None:
        self.answer = answer
        self.asked: list[tuple[str, str]] = []
        self.sources: set[tuple[str, int]] = set()
        self.udp = netns.socket_in(ground.at("host"), socket.AF_INET, socket.SOCK_DGRAM)
        self.udp.bind((address, 53))
        self.tcp = netns.socket_in(ground.at("host"), socket.AF_INET, socket.SOCK_STREAM)
        self.tcp.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.tcp.bind((address, 53))
        self.tcp.listen()
        self.stopped, self._stop = os.pipe()
        self.thread = threading.Thread(target=self.serve)
        self.thread.start()

    def serve(self) -> None:
        while True:
            ready, _, _ = select.select([self.udp, self.tcp, self.stopped], [], [])
            if self.stopped in ready:
                return
            if self.udp in ready:
                packet, client = self.udp.recvfrom(4096)
                self.asked.append(("udp", client[0]))
                self.sources.add(client)
                for data in self.answer(packet):
                    self.udp.sendto(data, client)
            if self.tcp in ready:
                connection, client = self.tcp.accept()
                with connection:
                    packet = read_stream(connection)
                    self.asked.append(("tcp", client[0]))
                    for data in self.answer(packet):
                        connection.sendall(len(data).to_bytes(2, "big") + data)

    def close(self) -> None:
        os.write(self._stop, b".")
        self.thread.join()
        for end in (self.udp, self.tcp):
            end.close()
        for number in (self.stopped, self._stop):
            os.close(number)


def read_stream(sock: socket.socket) -> bytes:
    data = b""
    while len(data) < 2 or len(data) < 2 + int.from_bytes(data[:2], "big"):
        more = sock.recv(65536)
        if not more:
            raise EOFError
        data += more
    return data[2:]


def good(packet: bytes, count: int = 1, flags: int = 0x8180) -> bytes:
    """An answer of ``count`` addresses to any query."""
    query = dnswire.parse(packet)
    name = query.questions[0].name
    answers = tuple(Record(name, 1, 1, 60, bytes((1, 1, i >> 8, i & 255))) for i in range(count))
    return dnswire.build(Message(query.id, flags, query.questions, answers, (), query.additionals))


def failing(rcode: int) -> Callable[[bytes], list[bytes]]:
    return lambda packet: [good(packet, 0, 0x8180 | rcode)]


@pytest.fixture
def upstreams(ground: Ground) -> Iterator[Callable[..., Upstream]]:
    made: list[Upstream] = []

    def make(address: str = WORLD, answer: Callable[[bytes], list[bytes]] = lambda packet: [good(packet)]) -> Upstream:
        if not address.startswith("127.") and address != WORLD:
            ground.run("host", "ip", "address", "add", f"{address}/32", "dev", "lo")
        made.append(Upstream(ground, address, answer))
        return made[-1]

    yield make
    for upstream in made:
        upstream.close()


class World:
    """A running resolver and its client."""

    def __init__(self, ground: Ground, path: str, preamble: str = "") -> None:
        self.ground, self.path, self.preamble = ground, path, preamble
        self.processes: list[asyncio.subprocess.Process] = []
        self.client = ResolverClient(path, self.start)

    async def start(self) -> None:
        code = f"{self.preamble}\nimport sys\nfrom fairlead.__main__ import main\nsys.exit(main())"
        words = [sys.executable, "-c", code, "resolver", "--socket", self.path]
        command = ["nsenter", f"--net={self.ground.at('host')}", *words]
        self.processes.append(await asyncio.create_subprocess_exec(*command))

    @property
    def pid(self) -> int:
        return self.processes[-1].pid

    def sandbox(self, name: str = "one", **said: object) -> SandboxNames:
        return SandboxNames(id=name, namespace=self.ground.at(name), networks=("red",), **said)  # type: ignore[arg-type]

    async def open(self, name: str = "one", *names: EndpointNames, **said: object) -> None:
        said.setdefault("upstreams", ((WORLD, "sandbox"),))
        await self.client.open(self.sandbox(name, **said), names or (WEB,))

    async def ask(self, packet: bytes, name: str = "one", seconds: float = 6) -> Message:
        return dnswire.parse(await asyncio.to_thread(self.ask_now, packet, name, seconds))

    def ask_now(self, packet: bytes, name: str = "one", seconds: float = 6) -> bytes:
        with netns.socket_in(self.ground.at(name), socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.settimeout(seconds)
            sock.sendto(packet, SERVER)
            answer, whose = sock.recvfrom(65535)
            assert whose == SERVER
            return answer

    def dial(self, name: str = "one") -> socket.socket:
        sock = netns.socket_in(self.ground.at(name), socket.AF_INET, socket.SOCK_STREAM)
        sock.settimeout(6)
        sock.connect(SERVER)
        return sock

    async def ask_stream(self, packet: bytes, name: str = "one") -> Message:
        def work() -> bytes:
            with self.dial(name) as sock:
                sock.sendall(len(packet).to_bytes(2, "big") + packet)
                return read_stream(sock)

        return dnswire.parse(await asyncio.to_thread(work))

    async def close(self) -> None:
        await self.client.close()
        for process in self.processes:
            with contextlib.suppress(ProcessLookupError):
                process.terminate()
            await process.wait()


WEB = EndpointNames(network="red", name="RED", endpoint="e1", names=("web", "any"), ipv4="172.18.0.2/16")
DB = EndpointNames(network="red", name="RED", endpoint="e2", names=("db", "any"), ipv4="172.18.0.3/16")


@pytest.fixture
async def world(ground: Ground, tmp_path: Path) -> AsyncIterator[World]:
    world = World(ground, str(tmp_path / "r.sock"))
    yield world
    await world.close()


@contextlib.asynccontextmanager
async def tuned(ground: Ground, tmp_path: Path, preamble: str) -> AsyncIterator[World]:
    """A resolver with other limits."""
    world = World(ground, str(tmp_path / "t.sock"), preamble)
    try:
        yield world
    finally:
        await world.close()


def rcode(message: Message) -> int:
    return message.flags & 15


def addresses(message: Message) -> list[str]:
    return [".".join(map(str, record.data)) for record in message.answers]


# -- names -----------------------------------------------------------------------------------


async def test_names_are_served_when_acknowledged_and_gone_when_dropped(world: World) -> None:
    await world.open("one", WEB, DB, forward=False)
    for ask in (world.ask, world.ask_stream):
        assert addresses(await ask(dnswire.query("web"))) == ["172.18.0.2"]
        assert addresses(await ask(dnswire.query("Web.red", id_=7))) == ["172.18.0.2"]
        assert rcode(await ask(dnswire.query("web", dnswire.AAAA))) == dnswire.NOERROR
        back = await ask(dnswire.query("2.0.18.172.in-addr.arpa", dnswire.PTR))
        assert back.answers[0].data == b"\3web\3RED\0" and back.answers[0].ttl <= 1
    await world.client.set_names(
        EndpointNames(network="red", name="RED", endpoint="e1", names=("web",), ipv4="172.18.0.9")
    )
    assert addresses(await world.ask(dnswire.query("web"))) == ["172.18.0.9"]
    await world.client.unname("red", "e1")
    assert rcode(await world.ask(dnswire.query("web"))) == dnswire.SERVFAIL


async def test_many_at_once_are_each_answered_to_whoever_asked(world: World) -> None:
    await world.open("one", WEB, DB, forward=False)
    questions = {  # known, not known, shared (rotating), and no question at all
        "web": lambda id_: dnswire.query("web", id_=id_),
        "db.red": lambda id_: dnswire.query("db.red", id_=id_),
        "nobody": lambda id_: dnswire.query("nobody", id_=id_),
        "any": lambda id_: dnswire.query("any", id_=id_, size=1232),
        "": lambda id_: id_.to_bytes(2, "big") + b"\1\0\0\2" + bytes(6),
    }
    with contextlib.ExitStack() as stack:
        clients = []
        for _ in range(3):
            sock = netns.socket_in(world.ground.at("one"), socket.AF_INET, socket.SOCK_DGRAM)
            clients.append(stack.enter_context(sock))
            sock.settimeout(6)
            sock.connect(SERVER)
        for _ in range(40):  # however it reads them: first one at a time, then all that wait
            os.kill(world.pid, signal.SIGSTOP)
            expected: list[dict[int, set[str]]] = [{} for _ in clients]
            for number in range(45):
                name, client = list(questions)[number % len(questions)], number % len(clients)
                clients[client].send(questions[name](number))
                known = {"web": {"172.18.0.2"}, "db.red": {"172.18.0.3"}, "any": {"172.18.0.2", "172.18.0.3"}}
                expected[client][number] = known.get(name, set())
            os.kill(world.pid, signal.SIGCONT)
            for client, sock in enumerate(clients):
                while expected[client]:
                    answer = sock.recv(4096)
                    found = set() if answer[3] & 15 else set(addresses(dnswire.parse(answer)))
                    assert expected[client].pop(int.from_bytes(answer[:2], "big")) == found


async def test_a_shared_alias_rotates(world: World) -> None:
    await world.open("one", WEB, DB)
    for size in (0, 1232):
        first = [addresses(await world.ask(dnswire.query("any", size=size)))[0] for _ in range(6)]
        assert first == ["172.18.0.2", "172.18.0.3"] * 3 or first == ["172.18.0.3", "172.18.0.2"] * 3


async def test_many_addresses_are_cut_for_small_clients_and_whole_over_tcp(world: World) -> None:
    many = [
        EndpointNames(network="red", name="RED", endpoint=f"e{i}", names=("all",), ipv4=f"172.18.1.{i}")
        for i in range(100)
    ]
    await world.open("one", *many)
    seen = set()
    for _ in range(100):
        cut = await world.ask(dnswire.query("all"))
        assert cut.flags & dnswire.TC and len(cut.answers) == 30
        seen.add(addresses(cut)[0])
    assert len(seen) == 100
    assert len((await world.ask(dnswire.query("all", size=4096))).answers) == 100
    assert len((await world.ask_stream(dnswire.query("all"))).answers) == 100


async def test_127_0_0_11_port_53_leads_to_us_beside_a_server_of_the_containers_own(world: World) -> None:
    await world.open()
    own = netns.socket_in(world.ground.at("one"), socket.AF_INET, socket.SOCK_DGRAM)
    own_stream = netns.socket_in(world.ground.at("one"), socket.AF_INET, socket.SOCK_STREAM)
    with own, own_stream:
        own.bind(("0.0.0.0", 53))
        own_stream.bind(("0.0.0.0", 53))
        own_stream.listen()
        assert addresses(await world.ask(dnswire.query("web"))) == ["172.18.0.2"]
        assert addresses(await world.ask_stream(dnswire.query("web"))) == ["172.18.0.2"]
        own.setblocking(False)
        with pytest.raises(BlockingIOError):
            own.recv(1)
        with netns.socket_in(world.ground.at("one"), socket.AF_INET, socket.SOCK_DGRAM) as client:
            client.sendto(b"mine", ("127.0.0.1", 53))
            assert own.recv(9) == b"mine"


async def test_a_container_that_tracks_connections_sees_answers_to_what_it_asked(world: World) -> None:
    await world.open()
    strict = "type filter hook input priority 0; meta l4proto { tcp, udp } th sport 53 ct state != established drop"
    world.ground.run("one", "nft", "-f", "-", text=f"table inet own {{ chain arriving {{ {strict}; }}; }}\n")
    assert addresses(await world.ask(dnswire.query("web"))) == ["172.18.0.2"]
    assert addresses(await world.ask_stream(dnswire.query("web"))) == ["172.18.0.2"]


async def test_a_neighbour_asks_nobodys_resolver(world: World) -> None:
    """A container that takes packets to 127.0.0.11 from its network (``route_localnet``) lets others ask what it serves
    itself, and not what it may know."""
    await world.open()
    for device in ("all", "eth0"):
        for setting, value in (("route_localnet", 1), ("rp_filter", 0)):
            world.ground.run("one", "sysctl", "-qw", f"net.ipv4.conf.{device}.{setting}={value}")
    world.ground.run("host", "ip", "route", "add", "127.0.0.11/32", "via", "10.9.1.2", "dev", "vone")
    own = netns.socket_in(world.ground.at("one"), socket.AF_INET, socket.SOCK_DGRAM)
    neighbour = netns.socket_in(world.ground.at("host"), socket.AF_INET, socket.SOCK_DGRAM)
    with own, neighbour:
        own.bind(("0.0.0.0", 53))
        own.settimeout(6)
        neighbour.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"vone")
        neighbour.sendto(dnswire.query("web"), SERVER)
        assert (await asyncio.to_thread(own.recvfrom, 512))[1][0] == "10.9.1.1"
    assert addresses(await world.ask(dnswire.query("web"))) == ["172.18.0.2"]


# -- forwarding ---------------------------------------------------------------------------------


async def test_what_is_not_ours_is_asked_from_the_right_place(world: World, upstreams: Callable[..., Upstream]) -> None:
    outside, loopback = upstreams(), upstreams("127.0.0.53")
    await world.open()
    for ask in (world.ask, world.ask_stream):
        answer = await ask(dnswire.query("eXample.com", id_=77, size=1232))
        assert (answer.id, addresses(answer)) == (77, ["1.1.0.0"])
        assert answer.questions[0].name == b"\7eXample\3com\0" and answer.additionals
    assert outside.asked == [("udp", "10.9.1.2"), ("tcp", "10.9.1.2")]
    await world.open(upstreams=(("127.0.0.53", "host"),))
    assert addresses(await world.ask(dnswire.query("example.com"))) == ["1.1.0.0"]
    assert loopback.asked == [("udp", "127.0.0.1")]


async def test_container_names_are_never_forwarded(world: World, upstreams: Callable[..., Upstream]) -> None:
    outside = upstreams()
    await world.open()
    for type_ in (dnswire.A, dnswire.AAAA, dnswire.MX, dnswire.TXT, 65):
        assert rcode(await world.ask(dnswire.query("web", type_))) == dnswire.NOERROR
    assert outside.asked == []
    assert addresses(await world.ask(dnswire.query("web.example.com"))) == ["1.1.0.0"]


async def test_an_internal_sandbox_sends_no_packet(world: World, upstreams: Callable[..., Upstream]) -> None:
    outside, loopback = upstreams(), upstreams("127.0.0.53")
    everything = ((WORLD, "sandbox"), ("127.0.0.53", "host"))
    await world.open(upstreams=everything)
    await world.ask(dnswire.query("example.com"))
    assert len(outside.asked) == 1
    await world.open(upstreams=everything, forward=False)
    world.ground.run("one", "sysctl", "-q", "net.ipv6.conf.all.disable_ipv6=1")
    sent = world.ground.run("one", "cat", "/sys/class/net/eth0/statistics/tx_packets")
    for name in ("x.attacker.test", "y.attacker.test"):
        assert rcode(await world.ask(dnswire.query(name))) == dnswire.SERVFAIL
        assert rcode(await world.ask_stream(dnswire.query(name, dnswire.TXT))) == dnswire.SERVFAIL
    assert addresses(await world.ask(dnswire.query("web"))) == ["172.18.0.2"]
    assert world.ground.run("one", "cat", "/sys/class/net/eth0/statistics/tx_packets") == sent
    assert len(outside.asked) == 1 and loopback.asked == []
    assert (await world.client.statistics())["lines"] == 0


async def test_the_next_server_is_asked_when_one_is_of_no_use(world: World, upstreams: Callable[..., Upstream]) -> None:
    upstreams("10.9.0.2", failing(dnswire.REFUSED))
    upstreams("10.9.0.3", failing(dnswire.SERVFAIL))
    last = upstreams()
    closed = "10.9.0.1"  # nobody listens on its port 53 in the other list
    await world.open(upstreams=tuple((address, "sandbox") for address in ("10.9.0.2", "10.9.0.3", WORLD)))
    for ask in (world.ask, world.ask_stream):
        assert addresses(await ask(dnswire.query("example.com"))) == ["1.1.0.0"]
    last.answer = failing(dnswire.NXDOMAIN)
    assert rcode(await world.ask(dnswire.query("example.com"))) == dnswire.NXDOMAIN
    last.answer = failing(dnswire.REFUSED)
    assert rcode(await world.ask(dnswire.query("example.com"))) == dnswire.REFUSED
    await world.open(upstreams=(("10.9.1.1", "sandbox"), (closed, "sandbox")))
    last.answer = lambda packet: [good(packet)]
    began = time.monotonic()
    assert addresses(await world.ask(dnswire.query("example.com"))) == ["1.1.0.0"]
    assert time.monotonic() - began < 1, "a refused port is known at once"


async def test_a_silent_server_costs_a_moment_once(world: World, upstreams: Callable[..., Upstream]) -> None:
    silent = upstreams("10.9.0.2", lambda packet: [])
    upstreams()
    await world.open(upstreams=(("10.9.0.2", "sandbox"), (WORLD, "sandbox")))
    assert addresses(await world.ask(dnswire.query("a.example"))) == ["1.1.0.0"]
    began = time.monotonic()
    assert addresses(await world.ask(dnswire.query("b.example"))) == ["1.1.0.0"]
    assert time.monotonic() - began < 1 and len(silent.asked) == 1
    await world.open(upstreams=(("10.9.0.2", "sandbox"),))
    assert rcode(await world.ask(dnswire.query("c.example"))) == dnswire.SERVFAIL


@pytest.mark.proves(
    "CVE-2025-23028",
    guard=("engine/forwarder.py", "dnswire.check_answer(data, exchange.query.question)", "data[3] & 15"),
)
async def test_forged_and_broken_answers_are_not_believed(world: World, upstreams: Callable[..., Upstream]) -> None:
    def hostile(packet: bytes) -> list[bytes]:
        true = good(packet)
        other = dnswire.query("other.example", id_=int.from_bytes(packet[:2], "big"))
        wrong_id = bytes((true[0] ^ 1,)) + true[1:]
        echo, short, long = packet, true[:5], true[:6] + b"\xff\xff" + true[8:]
        loop = true[: 12 + len(packet) - 12] + b"\xc0\xff" * 5
        return [wrong_id, good(other), echo, short, b"", long, loop, os.urandom(600), true]

    upstreams(answer=hostile)
    await world.open()
    for number in range(20):
        answer = await world.ask(dnswire.query(f"n{number}.example", id_=number))
        assert (answer.id, addresses(answer)) == (number, ["1.1.0.0"])
        assert dnswire.text(answer.questions[0].name) == f"n{number}.example"


async def test_ports_and_ids_are_not_foreseeable(world: World, upstreams: Callable[..., Upstream]) -> None:
    ids: list[int] = []
    upstream = upstreams(answer=lambda packet: [ids.append(packet[0] << 8 | packet[1]) or good(packet)])
    await world.open()
    packets = [dnswire.query(f"n{number}.example", id_=5) for number in range(200)]
    await asyncio.to_thread(lambda: [world.ask_now(packet) for packet in packets])
    assert len(set(ids)) > 190 and 5 not in ids[:3]
    assert len(upstream.sources) >= 1


async def test_long_answers(world: World, upstreams: Callable[..., Upstream]) -> None:
    upstream = upstreams(answer=lambda packet: [good(packet, 100)])
    await world.open()
    cut = await world.ask(dnswire.query("big.example", id_=3))
    assert cut.flags & dnswire.TC and not cut.answers and cut.id == 3
    assert len((await world.ask(dnswire.query("big.example", size=4096))).answers) == 100
    assert len((await world.ask_stream(dnswire.query("big.example"))).answers) == 100
    upstream.answer = lambda packet: [good(packet, 100, 0x8380)[:300]]
    assert (await world.ask(dnswire.query("big.example"))).flags & dnswire.TC


async def test_single_labels_stay_here_when_ndots_was_set(world: World, upstreams: Callable[..., Upstream]) -> None:
    upstream = upstreams()
    await world.open(options=("ndots:2",))
    assert rcode(await world.ask(dnswire.query("nobody"))) == dnswire.NXDOMAIN
    assert upstream.asked == []
    await world.open(options=("ndots:0",))
    assert addresses(await world.ask(dnswire.query("nobody"))) == ["1.1.0.0"]


async def test_an_upstream_that_is_ourselves_is_left_out(world: World) -> None:
    await world.open(upstreams=(("127.0.0.11", "sandbox"),))
    assert rcode(await world.ask(dnswire.query("example.com"))) == dnswire.SERVFAIL
    assert (await world.client.statistics())["forwarded"] == 0


# -- hostile containers ------------------------------------------------------------------------------


async def test_a_flood_hurts_only_its_sender(world: World, upstreams: Callable[..., Upstream]) -> None:
    upstreams(answer=lambda packet: [])
    await world.open("one")
    await world.open("two")
    with netns.socket_in(world.ground.at("one"), socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(1)
        sock.setsockopt(socket.SOL_SOCKET, 33, 1 << 20)
        for number in range(FAIR + 88):
            sock.sendto(dnswire.query(f"n{number}.example", id_=number), SERVER)
        at_once = [dnswire.parse(sock.recv(600)) for _ in range(88)]
        assert {rcode(message) for message in at_once} == {dnswire.SERVFAIL}
        began = time.monotonic()
        assert addresses(await world.ask(dnswire.query("web"), "two")) == ["172.18.0.2"]
        assert time.monotonic() - began < 0.5
        sock.settimeout(6)
        rest = {dnswire.parse(sock.recv(600)).id for _ in range(FAIR)}
        assert len(rest) == FAIR, "every query is answered in the end"
    assert (await world.client.statistics())["failed"] == FAIR + 88


@pytest.mark.proves(
    "CVE-2024-8418",
    guard=(
        "engine/dnstcp.py",
        "                next(iter(self._connections)).close()\n            connection",
        "                pass\n            connection",
    ),
)
@pytest.mark.parametrize("trickle", [b"\0", b"\1"], ids=["empty messages", "a message that never ends"])
async def test_idle_and_trickling_connections_keep_nobody_out(ground: Ground, tmp_path: Path, trickle: bytes) -> None:
    patch = "import fairlead.engine.dnstcp as d; d.IDLE = 0.4; d.MOST = 8"
    async with tuned(ground, tmp_path, patch) as world:
        await world.open()
        idle = [world.dial() for _ in range(50)]
        for sock in idle[-8:]:
            sock.send(b"\0")
        assert addresses(await world.ask_stream(dnswire.query("web"))) == ["172.18.0.2"]
        assert (await world.client.statistics())["tcp"] <= 8
        loris, ended = world.dial(), time.monotonic() + 5
        with contextlib.suppress(OSError):
            while time.monotonic() < ended:
                loris.send(trickle)
                select.select([loris], [], [], 0.05)
                if select.select([loris], [], [], 0)[0] and loris.recv(1) == b"":
                    break
        assert time.monotonic() < ended, "only whole queries count as activity"
        async with asyncio.timeout(5):
            while (await world.client.statistics())["tcp"]:
                await asyncio.sleep(0.01)
        for sock in (*idle, loris):
            sock.close()


async def test_a_client_that_does_not_read_is_cut_off(world: World, upstreams: Callable[..., Upstream]) -> None:
    upstreams(answer=lambda packet: [good(packet, 4000)])
    await world.open()
    packet, many = dnswire.query("big.example"), 120
    with netns.socket_in(world.ground.at("one"), socket.AF_INET, socket.SOCK_STREAM) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        sock.connect(SERVER)
        sock.sendall((len(packet).to_bytes(2, "big") + packet) * many)
        async with asyncio.timeout(10):
            while (await world.client.statistics())["tcp"]:
                await asyncio.sleep(0.01)
    assert addresses(await world.ask(dnswire.query("web"))) == ["172.18.0.2"]


async def test_a_client_cannot_fill_our_memory_with_questions(world: World, upstreams: Callable[..., Upstream]) -> None:
    upstreams()
    await world.open("one", msgspec.structs.replace(WEB, names=("web", "*.shop")))
    with netns.socket_in(world.ground.at("one"), socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(5)
        sock.connect(SERVER)
        for number in range(1500):
            for name in (f"n{number}.shop", f"n{number}.example"):
                sock.send(dnswire.query(name))
                await asyncio.to_thread(sock.recv, 600)
    assert 0 < (await world.client.statistics())["remembered"] <= 2048


@pytest.mark.proves(
    "CVE-2026-35406",
    guard=(
        "engine/dnstcp.py",
        "        if not data:\n            self.close()\n            return\n        self._in += data",
        "        self._in += data",
    ),
)
async def test_nothing_a_container_sends_ends_the_process_and_rest_costs_nothing(world: World) -> None:
    await world.open("one", WEB, DB, forward=False)
    with netns.socket_in(world.ground.at("one"), socket.AF_INET, socket.SOCK_DGRAM) as sock:
        for number in range(3000):
            data = bytearray(dnswire.query("any", size=1232))
            data[number % len(data)] = number >> 4 & 255
            sock.sendto(data[: 1 + number % len(data)] if number % 3 else data, SERVER)
    for number in range(20):
        with world.dial() as sock:
            sock.sendall(os.urandom(number * 7))
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    assert addresses(await world.ask(dnswire.query("web"))) == ["172.18.0.2"]
    assert (await world.client.statistics())["remembered"] <= 2048
    before = cpu(world.pid)
    await asyncio.sleep(0.3)  # the thing itself: a third of a second in which nothing should happen
    assert cpu(world.pid) == before
    assert rss(world.pid) < 20 << 10


def sockets(pid: int) -> set[str]:
    """The open sockets of a process, by inode."""
    found = set()
    for number in os.listdir(f"/proc/{pid}/fd"):
        with contextlib.suppress(OSError):
            found.add(os.readlink(f"/proc/{pid}/fd/{number}"))
    return {link for link in found if link.startswith("socket:")}


def cpu(pid: int) -> int:
    """Scheduler ticks of user and system time."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
    return int(fields[11]) + int(fields[12])


def rss(pid: int) -> int:
    return int(
        next(line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if "VmRSS" in line).split()[1]
    )


# -- lives and deaths ------------------------------------------------------------------------------


async def test_names_outlive_the_engine_and_a_returned_one_changes_no_socket(world: World) -> None:
    await world.open("one", WEB, DB)
    await world.open("two")
    await world.client.close()
    assert addresses(await world.ask(dnswire.query("web"))) == ["172.18.0.2"]
    before = sockets(world.pid)
    returned = ResolverClient(world.path)
    returned.adopt([world.sandbox()], [DB])
    await returned.connect()
    assert addresses(await world.ask(dnswire.query("db"))) == ["172.18.0.3"]
    assert rcode(await world.ask(dnswire.query("web"))) == dnswire.SERVFAIL
    assert (await returned.statistics())["sandboxes"] == 1
    assert len(sockets(world.pid) - before) == 1, "only the new engine's connection is new"
    assert len(before - sockets(world.pid)) in (3, 4), "the other sandbox's three, and perhaps the old engine's"
    await returned.close()


async def test_a_killed_resolver_is_replaced(world: World) -> None:
    await world.open()
    async with asyncio.TaskGroup() as group:
        keeper = group.create_task(world.client.keep())
        os.kill(world.pid, signal.SIGKILL)
        await world.processes[0].wait()
        began = time.monotonic()
        while len(world.processes) < 2:
            await asyncio.sleep(0.01)
        answer = None
        while answer is None:
            with contextlib.suppress(OSError):
                answer = await world.ask(dnswire.query("web"), seconds=0.1)
        assert addresses(answer) == ["172.18.0.2"]
        assert time.monotonic() - began < 2
        keeper.cancel()


async def test_another_namespace_at_the_same_path_gets_sockets_of_its_own(world: World) -> None:
    await world.open("two")
    world.ground.spaces.destroy("two")
    world.ground.spaces.create("two", lambda: None)
    world.ground.run("two", "ip", "link", "set", "lo", "up")
    await world.open("two")
    assert addresses(await world.ask(dnswire.query("web"), "two")) == ["172.18.0.2"]


async def test_a_forgotten_sandbox_keeps_nothing_open(world: World) -> None:
    await world.client.connect()
    before = len(os.listdir(f"/proc/{world.pid}/fd"))
    await world.open()
    await world.client.forget("one")
    assert len(os.listdir(f"/proc/{world.pid}/fd")) == before


async def test_refusals_change_nothing(world: World) -> None:
    await world.open()
    for bad in (
        {"namespace": "/nowhere"},
        {"upstreams": (("nonsense", "sandbox"),)},
        {"upstreams": ((WORLD, "moon"),)},
    ):
        with pytest.raises(Invalid):
            await world.client.open(SandboxNames(**{"id": "one", "namespace": world.ground.at("one"), **bad}))
        assert addresses(await world.ask(dnswire.query("web"))) == ["172.18.0.2"]


async def test_the_control_socket(world: World) -> None:
    await world.open()
    assert os.stat(world.path).st_mode & 0o777 == 0o600
    reader, writer = await asyncio.open_unix_connection(world.path)
    lines = [b"nonsense", b"[]", b"{}", b'{"do":"names"}', b'{"do":"forget","id":[]}', b'{"do":"state","names":[1]}']
    writer.write(b"\n".join(lines) + b'\n{"do":"statistics"}\n')
    answers = [await reader.readline() for _ in range(len(lines) + 1)]
    assert all(b'"ok":false' in answer for answer in answers[:-1]), answers
    assert b'"sandboxes":1' in answers[-1]
    writer.close()
    second = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "fairlead", "resolver", "--socket", world.path, stderr=subprocess.DEVNULL
    )
    assert await second.wait() == 1, "a living resolver is not replaced"
    await world.client.exit()
    assert await world.processes[0].wait() == 0
    assert not os.path.exists(world.path)


async def test_no_resolver_no_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fairlead.engine.controlclient.STARTING", 0.1)
    with pytest.raises(Unavailable):
        await ResolverClient(str(tmp_path / "nobody")).connect()


async def test_a_resolver_of_another_version_gives_way(world: World) -> None:
    """One that outlived an older engine, and waits on ports to which nobody leads questions any more."""
    former = (
        "import sys; from fairlead.engine import control; sys.exit(control.run('resolver', sys.argv[2:], lambda _: "
    )
    words = [sys.executable, "-c", former + "{'state': lambda said: {}}))", "resolver", "--socket", world.path]
    old = await asyncio.create_subprocess_exec(*words)
    while not os.path.exists(world.path):
        await asyncio.sleep(0.01)
    await world.open()
    assert await old.wait() == 0
    assert addresses(await world.ask(dnswire.query("web"))) == ["172.18.0.2"]
