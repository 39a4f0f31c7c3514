"""The relay process: TCP with half-close and resets, UDP flows, held ports, and what a fresh relay is told."""

import asyncio
import contextlib
import ipaddress
import os
import select
import signal
import socket
import struct
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import msgspec
import pytest
from msgspec.structs import replace

from fairlead.engine.leads import Lead
from fairlead.engine.relayclient import RelayClient, RelayPort
from fairlead.errors import Conflict, Invalid, Unavailable
from fairlead.host import netns

DATA_SEGS_IN = 152
"""where linux/tcp.h's tcp_info has tcpi_data_segs_in"""

pytestmark = [pytest.mark.kernel, pytest.mark.skipif(os.geteuid() != 0, reason="needs root")]


@pytest.fixture
def here(tmp_path: Path) -> Iterator[str]:
    """A namespace with loopback and a second address; the test's own sockets are opened there too."""
    spaces = netns.Namespaces(tmp_path / "ns")
    spaces.create("host", lambda: None)
    path = spaces.path("host")
    addresses = ("10.9.0.1/32", "10.9.0.2/32", "fd00::1/128")
    for words in ("link set lo up", *(f"address add {address} dev lo" for address in addresses)):
        subprocess.run(["nsenter", f"--net={path}", "ip", *words.split()], check=True)
    yield path
    spaces.destroy("host")
    spaces.close()


class World:
    def __init__(self, here: str, path: str) -> None:
        self.here, self.path = here, path
        self.processes: list[asyncio.subprocess.Process] = []
        self.lost: dict[str, str] = {}
        self.client = RelayClient(path, self.start, self.note)

    async def start(self) -> None:
        words = [sys.executable, "-m", "fairlead", "relay", "--socket", self.path]
        self.processes.append(await asyncio.create_subprocess_exec("nsenter", f"--net={self.here}", *words))

    async def note(self, id_: str, reason: str) -> None:
        self.lost[id_] = reason

    def open(self, kind: int = socket.SOCK_STREAM, family: int = socket.AF_INET) -> socket.socket:
        sock = netns.socket_in(self.here, family, kind)
        sock.settimeout(5)
        return sock

    def server(self, kind: int = socket.SOCK_STREAM, address: str = "10.9.0.1", port: int = 0) -> socket.socket:
        sock = self.open(kind, socket.AF_INET6 if ":" in address else socket.AF_INET)
        if kind == socket.SOCK_STREAM:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((address, port))
        if kind == socket.SOCK_STREAM:
            sock.listen()
        return sock

    async def relay(self, server: socket.socket, address: str = "127.0.0.1", protocol: str = "tcp") -> int:
        target, target_port = server.getsockname()[:2]
        port = RelayPort(
            id=f"{address}/{protocol}",
            protocol=protocol,
            address=address,
            port=0,
            target=target,
            target_port=target_port,
        )
        return (await self.client.open(port))[port.id]

    async def statistics(self, **wanted: int) -> dict[str, int]:
        """Wait until the relay says so."""
        async with asyncio.timeout(5):
            while True:
                said = await self.client.statistics()
                if all(said[key] == value for key, value in wanted.items()):
                    return said
                await asyncio.sleep(0.01)

    async def close(self) -> None:
        await self.client.close_connection()
        for process in self.processes:
            with contextlib.suppress(ProcessLookupError):
                process.terminate()
            await process.wait()


@pytest.fixture
async def world(here: str, tmp_path: Path) -> AsyncIterator[World]:
    world = World(here, str(tmp_path / "relay.sock"))
    yield world
    await world.close()


def family_of(address: str) -> int:
    return socket.AF_INET6 if ":" in address else socket.AF_INET


def dial(world: World, port: int, address: str = "127.0.0.1") -> socket.socket:
    sock = world.open(family=family_of(address))
    sock.connect((address, port))
    return sock


def read_all(sock: socket.socket) -> bytes:
    data = bytearray()
    while more := sock.recv(1 << 18):
        data += more
    return bytes(data)


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
async def test_half_close_reaches_the_other_side_after_the_last_byte(world: World, address: str) -> None:
    with world.server() as server:
        port = await world.relay(server, address)
        with dial(world, port, address) as client:
            peer, _ = server.accept()
            with peer:
                peer.settimeout(5)
                client.sendall(b"question" * 1000)
                client.shutdown(socket.SHUT_WR)
                assert await asyncio.to_thread(read_all, peer) == b"question" * 1000
                peer.sendall(b"answer" * 1000)
                peer.shutdown(socket.SHUT_WR)
                assert await asyncio.to_thread(read_all, client) == b"answer" * 1000
    await world.statistics(connections=0)


async def test_much_goes_both_ways_and_a_slow_reader_slows_its_writer(world: World) -> None:
    much = os.urandom(1 << 20) * 16
    with world.server() as server:
        port = await world.relay(server)
        with dial(world, port) as client:
            peer, _ = server.accept()
            with peer:
                peer.settimeout(5)
                client.setblocking(False)
                sent = 0
                with contextlib.suppress(BlockingIOError):
                    while sent < len(much):
                        sent += client.send(much[sent : sent + (1 << 20)])
                assert sent < len(much), "nobody reads, so the writer has to wait"
                rss = Path(f"/proc/{world.processes[0].pid}/status").read_text().partition("VmRSS:")[2].split()[0]
                assert int(rss) < 24 << 10
                client.settimeout(20)

                def push() -> None:
                    client.sendall(much[sent:])
                    client.shutdown(socket.SHUT_WR)

                _, got = await asyncio.gather(asyncio.to_thread(push), asyncio.to_thread(read_all, peer))
                assert got == much


async def test_a_reset_is_passed_on_as_a_reset_and_a_refusal_too(world: World) -> None:
    server = world.server()
    port = await world.relay(server)
    with dial(world, port) as client:
        peer, _ = server.accept()
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        peer.close()
        with pytest.raises(ConnectionResetError):
            client.recv(1)
    server.close()
    with pytest.raises(ConnectionResetError):
        with dial(world, port) as client:
            client.recv(1)
    await world.statistics(connections=0)


async def test_closing_a_port_ends_its_connections_and_frees_it(world: World) -> None:
    with world.server() as server:
        port = await world.relay(server)
        with dial(world, port) as client:
            server.accept()[0].close()
            await world.client.close("127.0.0.1/tcp")
            with contextlib.suppress(ConnectionResetError):
                assert client.recv(1) == b""
        with pytest.raises(ConnectionRefusedError):
            dial(world, port)
    await world.statistics(ports=0, connections=0)


def read_some(sock: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        data += sock.recv(size - len(data))
    return data


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
async def test_a_task_is_told_of_its_client_before_the_first_byte(world: World, address: str) -> None:
    """PROXY protocol, version 2, as https://www.haproxy.org/download/2.6/doc/proxy-protocol.txt has it."""
    with world.server() as server, world.server(address="10.9.0.2") as plain:
        leads = (Lead(*server.getsockname()[:2], 1, True), Lead(*plain.getsockname()[:2], 1, False))
        wish = RelayPort(
            id="p", protocol="tcp", address=address, port=0, carries=True, policy="round-robin", leads=leads
        )
        port = (await world.client.open(wish))["p"]
        with dial(world, port, address) as client:
            peer, _ = plain.accept()
            client.sendall(b"x")
            assert peer.recv(1) == b"x"
            peer.close()
        with dial(world, port, address) as client:
            peer, _ = server.accept()
            with peer:
                peer.settimeout(5)
                peer.sendall(b"a greeting of the server's")
                assert client.recv(8) == b"a greeti"
                ends = [ipaddress.ip_address(end[0]).packed for end in (client.getsockname(), client.getpeername())]
                numbers = struct.pack("!HH", client.getsockname()[1], port)
                kind = b"\x21" if ":" in address else b"\x11"
                body = b"".join(ends) + numbers
                expected = b"\r\n\r\n\0\r\nQUIT\n\x21" + kind + struct.pack("!H", len(body)) + body
                assert await asyncio.to_thread(read_some, peer, len(expected)) == expected
                client.sendall(b"request")
                assert await asyncio.to_thread(read_some, peer, 7) == b"request"


async def test_the_header_and_what_the_client_has_said_are_one_packet(world: World) -> None:
    """A server with a full queue forgets whom it promised a connection: the second of two packets, if it comes first,
    is one of nobody's, and reset. Where the client is silent the header goes at once."""
    with world.server() as server:
        leads = (Lead(*server.getsockname()[:2], 1, True),)
        port = (
            await world.client.open(RelayPort(id="p", protocol="tcp", address="::1", port=0, carries=True, leads=leads))
        )["p"]
        (relay,) = world.processes
        relay.send_signal(signal.SIGSTOP)
        with dial(world, port, "::1") as client:
            client.sendall(b"request")
            relay.send_signal(signal.SIGCONT)
            peer, _ = await asyncio.to_thread(server.accept)
            with peer:
                assert len(await asyncio.to_thread(read_some, peer, 59)) == 59
                assert struct.unpack_from(
                    "=I", peer.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 192), DATA_SEGS_IN
                ) == (1,)
        with dial(world, port, "::1"):
            peer, _ = await asyncio.to_thread(server.accept)
            for _ in range(2):
                await world.client.statistics()
            with peer:
                assert len(peer.recv(99, socket.MSG_DONTWAIT)) == 52


async def test_other_leads_are_told_while_connections_stay(world: World) -> None:
    with world.server() as one, world.server() as two:
        wish = RelayPort(id="p", protocol="tcp", address="127.0.0.1", port=0, carries=True)
        port = (await world.client.open(wish))["p"]
        with pytest.raises(ConnectionResetError), dial(world, port) as client:
            client.recv(1)
        leads = [(Lead(*server.getsockname()[:2]),) for server in (one, two)]
        assert (await world.client.open(replace(wish, leads=leads[0])))["p"] == port
        with dial(world, port) as client:
            peer, _ = one.accept()
            await world.client.open(replace(wish, leads=leads[1]))
            with dial(world, port):
                two.accept()[0].close()
            await world.client.close("p")
            with pytest.raises(ConnectionRefusedError):
                dial(world, port)
            client.sendall(b"still there?")
            assert peer.recv(12) == b"still there?"
            peer.close()


async def test_only_tcp_is_carried(world: World) -> None:
    with pytest.raises(Conflict, match="cannot be carried"):
        await world.client.open(RelayPort(id="p", protocol="udp", address="127.0.0.1", port=0, carries=True))


@pytest.mark.parametrize("address", ["0.0.0.0", "::"])
async def test_udp_answers_come_from_where_the_client_asked(world: World, address: str) -> None:
    with world.server(socket.SOCK_DGRAM) as server:
        port = await world.relay(server, address, "udp")
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        clients = [world.open(socket.SOCK_DGRAM, family) for _ in range(3)]
        mine, to = ("::1", "fd00::1") if ":" in address else ("10.9.0.1", "10.9.0.2")
        for number, client in enumerate(clients):
            client.bind((mine, 0))
            client.connect((to, port))  # the kernel drops answers from any other address
            client.send(b"from %d" % number)
        for _ in clients:
            data, flow = server.recvfrom(100)
            server.sendto(data.replace(b"from", b"to"), flow)
        for number, client in enumerate(clients):
            assert client.recv(100) == b"to %d" % number
            client.close()
        assert (await world.client.statistics())["flows"] == 3


async def test_a_silent_target_is_no_end(world: World) -> None:
    server = world.server(socket.SOCK_DGRAM)
    where = server.getsockname()[1]
    port = await world.relay(server, "127.0.0.1", "udp")
    server.close()
    with world.open(socket.SOCK_DGRAM) as client:
        client.connect(("127.0.0.1", port))
        client.send(b"lost")
        client.send(b"lost as well")
        with world.server(socket.SOCK_DGRAM, port=where) as server:
            client.send(b"found")
            assert server.recv(100) in (b"lost", b"lost as well", b"found")


async def test_taken_ports_are_refused_in_dockers_words(world: World) -> None:
    with world.server(address="127.0.0.1") as server:
        port = server.getsockname()[1]
        wish = dict(protocol="tcp", address="127.0.0.1", port=port, target_port=80)
        for target in ("172.17.0.2", ""):
            with pytest.raises(Conflict) as caught:
                await world.client.open(RelayPort(id="p", target=target, **wish))
            words = f"failed to bind host port for 127.0.0.1:{port}:{target}:80/tcp: address already in use"
            assert caught.value.message == words
        ok = RelayPort(id="ok", protocol="tcp", address="127.0.0.1", port=0)
        with pytest.raises(Conflict):
            await world.client.open(ok, RelayPort(id="p", **wish))
        assert (await world.client.statistics())["ports"] == 0, "all or none"


async def test_an_address_that_may_come_later_is_held(world: World) -> None:
    await world.client.open(RelayPort(id="p", protocol="udp", address="9.9.9.9", port=53))
    with pytest.raises(Conflict, match="address already in use"):
        await world.client.open(RelayPort(id="q", protocol="udp", address="9.9.9.9", port=53))


async def test_a_held_port_is_nobody_elses(world: World) -> None:
    holds = [
        RelayPort(id="t", protocol="tcp", address="0.0.0.0", port=8080),
        RelayPort(id="u", protocol="udp", address="::", port=8080),
        RelayPort(id="s", protocol="sctp", address="0.0.0.0", port=8080),
    ]
    assert await world.client.open(*holds) == {"t": 8080, "u": 8080, "s": 8080}
    with pytest.raises(OSError, match="in use"):
        world.server(port=8080)
    with pytest.raises(ConnectionRefusedError):
        dial(world, 8080)
    await world.client.close("t", "u", "s")
    server = world.server(port=8080)
    client = dial(world, 8080, "10.9.0.1")
    server.accept()[0].close()  # closed first here: TIME_WAIT stays at port 8080
    client.close()
    server.close()
    assert await world.client.open(holds[0]) == {"t": 8080}


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
async def test_what_is_left_of_our_connections_is_in_nobodys_way(world: World, address: str) -> None:
    """A connection that the target ended first stays a minute (TIME_WAIT) at the port, which another may have by then:
    we, and whoever else says SO_REUSEADDR, as every server does."""
    with world.server() as server:
        port = await world.relay(server, address)
        with dial(world, port, address) as client:
            server.accept()[0].close()
            assert read_all(client) == b""
        await world.statistics(connections=0)
        id_, (target, target_port) = f"{address}/tcp", server.getsockname()
        again = RelayPort(id=id_, protocol="tcp", address=address, port=port, target=target, target_port=target_port)
        await world.client.close(id_)
        with pytest.raises(OSError, match="in use"), world.open(family=family_of(address)) as careless:
            careless.bind((address, port))  # so there is something left
        assert await world.client.open(again) == {id_: port}
        await world.client.close(id_)
        world.server(address=address, port=port).close()
        assert await world.client.open(replace(again, target="")) == {id_: port}


async def test_a_port_of_both_families_carries_ipv6_and_holds_ipv4(world: World) -> None:
    with world.server() as server:
        target, target_port = server.getsockname()
        port = RelayPort(
            id="b", protocol="tcp", address="::", port=8080, both=True, target=target, target_port=target_port
        )
        await world.client.open(port)
        with dial(world, 8080, "::1") as client:
            peer, _ = server.accept()
            peer.send(b"well")
            assert client.recv(10) == b"well"
        peer.close()  # last, so that no closing connection is left of this port
        await world.statistics(connections=0)
        with pytest.raises(OSError, match="in use"):
            world.server(address="127.0.0.1", port=8080)
        with pytest.raises(ConnectionResetError), dial(world, 8080) as client:  # it may come before ``connect`` returns
            client.recv(1)
        server.settimeout(0.1)
        with pytest.raises(TimeoutError):
            server.accept()
    await world.client.close("b")
    held = RelayPort(id="h", protocol="tcp", address="::", port=8080, both=True, container="172.17.0.2")
    await world.client.open(held)
    for address in ("127.0.0.1", "::1"):
        with pytest.raises(OSError, match="in use"):
            world.server(address=address, port=8080)
        with pytest.raises(ConnectionRefusedError):
            dial(world, 8080, address)
    with pytest.raises(Conflict, match=r"for 0\.0\.0\.0:8080:172\.17\.0\.3:0/tcp: address already in use"):
        await world.client.open(RelayPort(id="i", protocol="tcp", address="0.0.0.0", port=8080, container="172.17.0.3"))


async def test_a_row_of_ports_is_asked_for_as_one_and_had_one_by_one(world: World) -> None:
    with world.server() as first:
        target, target_port = first.getsockname()
        with world.server(port=target_port + 1) as second:
            row = RelayPort(
                id="row tcp :: 9000", protocol="tcp", address="::", port=9000, span=3, both=True, target=target,
                target_port=target_port,
            )  # fmt: skip
            held = RelayPort(id="row udp 10.9.0.1 53", protocol="udp", address="10.9.0.1", port=53, span=2)
            assert await world.client.open(row, held) == {row.id: 9000, held.id: 53}
            ids = {*(f"row tcp :: {port}" for port in (9000, 9001, 9002)), *(f"row udp 10.9.0.1 {n}" for n in (53, 54))}
            assert await world.client.held() == ids == {one.id for each in (row, held) for one in each.each()}
            for port, server in ((9000, first), (9001, second)):
                with dial(world, port, "::1") as client, server.accept()[0] as peer:
                    peer.send(b"here")
                    assert client.recv(10) == b"here"
    for kind, address, port in ((socket.SOCK_STREAM, "10.9.0.1", 9002), (socket.SOCK_DGRAM, "10.9.0.1", 54)):
        with pytest.raises(OSError, match="in use"):
            world.server(kind, address, port)
    await world.client.close(*(one.id for one in row.each()), *(one.id for one in held.each()))
    assert await world.client.held() == set()


async def test_a_row_is_had_all_or_none_and_the_port_that_is_taken_is_named(world: World) -> None:
    row = RelayPort(id="row tcp 0.0.0.0 9000", protocol="tcp", address="0.0.0.0", port=9000, span=4, target_port=80)
    before = RelayPort(id="other tcp 0.0.0.0 8999", protocol="tcp", address="0.0.0.0", port=8999)
    with world.server(address="127.0.0.1", port=9002), pytest.raises(Conflict) as caught:
        await world.client.open(before, replace(row, container="172.17.0.2"))
    words = "failed to bind host port for 0.0.0.0:9002:172.17.0.2:82/tcp: address already in use"
    assert caught.value.message == words
    assert await world.client.held() == set()
    await world.client.open(row)
    with pytest.raises(Conflict):
        await world.client.open(replace(row, id="beyond tcp 0.0.0.0 65530", port=65530, span=20))
    assert len(await world.client.held() or ()) == 4, "beyond the last port there is none"


async def test_a_fresh_relay_is_told_each_port_of_a_row(world: World) -> None:
    """As an older one would understand it, too; closed one by one, the row is forgotten."""
    row = RelayPort(id="row tcp 0.0.0.0 9000", protocol="tcp", address="0.0.0.0", port=9000, span=3)
    await world.client.open(row)
    returned = RelayClient(world.path)
    returned.adopt([row])
    await world.client.close_connection()
    await returned.connect()
    assert await returned.held() == {one.id for one in row.each()}
    assert [port.get("span", 1) for port in _stated(returned)] == [1, 1, 1]
    await returned.close(*(one.id for one in row.each()))
    assert _stated(returned) == []
    await returned.close_connection()


def _stated(client: RelayClient) -> list[dict[str, object]]:
    return list(msgspec.json.decode(msgspec.json.encode(client._state()))["ports"])


async def test_a_relay_that_knows_no_rows_is_asked_for_each_port(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    row = RelayPort(id="row tcp 0.0.0.0 9000", protocol="tcp", address="0.0.0.0", port=9000, span=3)
    asked, say = [], world.client._control.say

    async def as_to_an_older_one(*lines: dict[str, object], **more: object) -> list[dict[str, object]]:
        asked.extend(line["do"] for line in lines)
        return await say(*({**line, "do": "what"} if line["do"] == "take" else line for line in lines), **more)

    monkeypatch.setattr(world.client._control, "say", as_to_an_older_one)
    await world.client.connect()  # with nothing to tell yet
    assert (await world.client.open(row))[row.id] == 9000
    assert asked == ["take", "open"]
    assert await world.client.held() == {one.id for one in row.each()}


async def _at_once(event: asyncio.Event) -> None:
    event.set()


async def test_something_is_done_while_the_relay_is_at_work(world: World) -> None:
    await world.client.connect()
    port = RelayPort(id="p tcp 0.0.0.0 9000", protocol="tcp", address="0.0.0.0", port=9000)
    ahead = asyncio.Event()
    os.kill(world.processes[0].pid, signal.SIGSTOP)
    try:
        async with asyncio.timeout(5), asyncio.TaskGroup() as tasks:
            other = asyncio.Event()
            opening = tasks.create_task(world.client.open(port, meanwhile=lambda: other.is_set() and ahead.set()))
            tasks.create_task(_at_once(other))
            await ahead.wait()  # so the other had his turn before
            assert not opening.done()
            os.kill(world.processes[0].pid, signal.SIGCONT)
    finally:
        os.kill(world.processes[0].pid, signal.SIGCONT)
    assert opening.result() == {port.id: 9000}


async def test_a_socket_has_the_families_it_is_asked_for_whatever_the_kernel_makes_of_others(world: World) -> None:
    """net.ipv6.bindv6only says what a socket of IPv6 is that is told nothing."""
    both = RelayPort(id="b", protocol="tcp", address="::", port=8080, both=True)
    for default in ("1", "0"):
        subprocess.run(
            ["nsenter", f"--net={world.here}", "sysctl", "-qw", f"net.ipv6.bindv6only={default}"], check=True
        )
        await world.client.open(both, replace(both, id="s", port=8081, both=False))
        with pytest.raises(OSError, match="in use"):
            world.server(address="127.0.0.1", port=8080)
        world.server(address="127.0.0.1", port=8081).close()
        await world.client.close("b", "s")


async def test_a_fresh_relay_is_told_everything_and_says_what_it_could_not_have(world: World) -> None:
    with world.server() as server:
        target, target_port = server.getsockname()
        port = RelayPort(id="a", protocol="tcp", address="127.0.0.1", port=9001, target=target, target_port=target_port)
        other = RelayPort(id="b", protocol="tcp", address="127.0.0.1", port=9002)
        await world.client.open(port, other)
        async with asyncio.TaskGroup() as group:
            keeper = group.create_task(world.client.keep())
            os.kill(world.processes[0].pid, signal.SIGKILL)
            await world.processes[0].wait()
            with world.server(address="127.0.0.1", port=9002):
                async with asyncio.timeout(5):
                    while not world.lost:
                        await asyncio.sleep(0.01)
            assert world.lost == {"b": "address already in use"}
            dial(world, 9001).close()
            keeper.cancel()


async def test_a_returned_engine_keeps_connections_that_stay(world: World) -> None:
    with world.server() as server:
        port = await world.relay(server)
        with dial(world, port) as client:
            peer, _ = server.accept()
            await world.client.close_connection()
            returned = RelayClient(world.path)
            returned.adopt(world.client._ports.values())
            await returned.connect()
            client.sendall(b"still here")
            assert peer.recv(100) == b"still here"
            fresh = RelayClient(world.path)
            await fresh.connect()  # wants nothing
            assert (await fresh.statistics())["ports"] == 0
            with pytest.raises(ConnectionResetError):
                client.recv(1)
            peer.close()
            await returned.close_connection()
            await fresh.exit()
    assert await world.processes[0].wait() == 0


async def test_nonsense_is_refused(world: World) -> None:
    for bad in (
        RelayPort(id="x", protocol="icmp", address="127.0.0.1", port=1, target="10.9.0.1", target_port=1),
        RelayPort(id="x", protocol="sctp", address="127.0.0.1", port=1, target="10.9.0.1", target_port=1),
        RelayPort(id="x", protocol="tcp", address="127.0.0.1", port=70000, target="10.9.0.1", target_port=1),
    ):
        with pytest.raises((Conflict, Invalid, Unavailable)):
            await world.client.open(bad)
    assert (await world.client.statistics())["ports"] == 0


async def test_rest_costs_nothing(world: World) -> None:
    with world.server() as server:
        port = await world.relay(server)
        clients = [dial(world, port) for _ in range(20)]
        peers = [server.accept()[0] for _ in clients]
        for client, peer in zip(clients[:10], peers[:10], strict=True):
            client.shutdown(socket.SHUT_WR)
            assert peer.recv(1) == b""
        gone = clients.pop()
        gone.setblocking(False)
        while select.select([], [gone], [], 0.2)[1]:
            gone.send(bytes(1 << 16))
        gone.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        gone.close()  # a reset, while its last bytes still wait for their reader
        await world.statistics(connections=20)
        stat = Path(f"/proc/{world.processes[0].pid}/stat")
        before = stat.read_text().split()[13:15]
        await asyncio.sleep(0.3)  # the thing itself: a third of a second in which nothing should happen
        assert stat.read_text().split()[13:15] == before
        for end in (*clients, *peers):
            end.close()
        await world.statistics(connections=0)
