"""A town around one pretend host: neighbours, networks and containers, and who reaches whom.

    near 192.0.2.9 ----- lan0 -+          +- bridges of networks -- containers
                               +-- host --+
    far 198.51.100.9 --- wan0 -+          (made by the bridge driver and the real hands)

The neighbours are hostile: they know where the containers are and route straight to
them. Every place listens on the same ports; a probe tells whether a message
arrived, where, and from which address it seemed to come.
"""

import contextlib
import ipaddress
import select
import socket
import struct
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from fairlead.core import rules
from fairlead.core.model import Endpoint, EndpointSettings, Ipam, Network, PortBinding, Subnet
from fairlead.core.wanted import HOST, Address, Link, Namespace, Route, Skeleton, Sysctl, Wanted
from fairlead.engine.drivers.base import Facts
from fairlead.engine.drivers.bridge import Bridge
from fairlead.host.linux import LinuxHost
from fairlead.host.netns import socket_in
from lane.pretend import PretendHost

NEIGHBOURS = {"near": ("lan0", "192.0.2", "2001:db8"), "far": ("wan0", "198.51.100", "2001:db8:1")}
PATIENCE = 1.2
"""Seconds a probe may take: a drop is only ever seen as silence. Long enough for TCP to try again: the first packet
through a new device may come before the kernel has noticed its carrier."""
PORTS = (80, 8080, 53, 443)
"""Where containers and neighbours listen, TCP and UDP."""


@dataclass
class Arrival:
    """A message that came through: at whose socket, and from which address."""

    place: str
    source: str


@dataclass
class Town:
    """See above. Everything is made through ``LinuxHost``, and taken away at the end."""

    pretend: PretendHost
    facts: Facts = field(default_factory=Facts)
    skeleton: Skeleton | None = None
    listen_on: tuple[int, ...] = PORTS

    def __post_init__(self) -> None:
        self.host: LinuxHost = self.pretend.open()
        self.driver = Bridge()
        self.networks: dict[str, Network] = {}
        self.endpoints: dict[str, Endpoint] = {}
        self.made: list[Wanted] = []
        self.listeners: dict[tuple[str, int, int], socket.socket] = {}
        self._counter = 0

    # -- building -----------------------------------------------------------------------

    def make(self, plan: Iterable[Wanted]) -> None:
        plan = tuple(plan)
        self.host.make(plan)
        self.made.extend(plan)

    def found(self) -> None:
        """The host, its rules and its two neighbours; bridge-netfilter as the facts say."""
        for name in ("iptables", "ip6tables"):
            setting = Path(f"/proc/sys/net/bridge/bridge-nf-call-{name}")
            if setting.exists():
                setting.write_text("1" if self.facts.bridge_netfilter else "0")
            elif self.facts.bridge_netfilter:
                pytest.skip("this kernel has no bridge-netfilter")
        machine = list(
            rules.machine_plan(
                ipv6=True, drop_foreign=(4, 6) if self.facts.drop_foreign else (), firewall=self.facts.firewall
            )
        )
        if self.skeleton is not None:
            machine[0] = self.skeleton
        self.make(machine)
        for name, (device, four, six) in NEIGHBOURS.items():
            self.make(
                [
                    Namespace(name=name),
                    Link(name=device, kind="veth", peer="eth0", peer_ns=name),
                    Sysctl(path=f"net/ipv6/conf/{device}/accept_dad", value="0"),
                    Sysctl(ns=name, path="net/ipv6/conf/eth0/accept_dad", value="0"),
                    Address(link=device, address=f"{four}.1/24"),
                    Address(link=device, address=f"{six}::1/64"),
                    Address(ns=name, link="eth0", address=f"{four}.9/24"),
                    Address(ns=name, link="eth0", address=f"{six}::9/64"),
                    Route(ns=name, destination="0.0.0.0/0", gateway=f"{four}.1", link="eth0"),
                    Route(ns=name, destination="::/0", gateway=f"{six}::1", link="eth0"),
                ]
            )
            self._listen(name)

    def network(
        self, name: str, *, internal: bool = False, ipv6: bool = True, subnets: tuple[str, ...] = (), **options: str
    ) -> Network:
        """A bridge network; ``options`` by the last word of their key (``enable_icc="false"``)."""
        number = len(self.networks) + 1
        pools = subnets or (f"10.{number}.0.0/24", *((f"fd00:{number}::/64",) if ipv6 else ()))
        made = Network(
            id=f"{number:012x}".ljust(64, "0"),
            name=name,
            created="",
            internal=internal,
            ipv6=ipv6,
            ipam=Ipam(config=tuple(Subnet(subnet=pool, gateway=_host_of(pool, 1)) for pool in pools)),
            options={_key(key): value for key, value in options.items() if value},
        )
        self.networks[name] = made
        self.make(self.driver.network(made, self.facts))
        return made

    def container(self, name: str, network: str, *bindings: PortBinding, **settings: object) -> Endpoint:
        """A container on one network, with a default route unless that is internal, listening on every port."""
        made = self.join(name, name, network, *bindings, **settings)
        self._listen(name)
        return made

    def join(self, name: str, sandbox: str, network: str, *bindings: PortBinding, **settings: object) -> Endpoint:
        on = self.networks[network]
        self._counter += 1
        mine = sum(endpoint.network == on.id for endpoint in self.endpoints.values()) + 2
        four = next((p.subnet for p in on.ipam.config if ":" not in p.subnet), "")
        six = next((p.subnet for p in on.ipam.config if ":" in p.subnet), "")
        fresh = not any(endpoint.sandbox == sandbox for endpoint in self.endpoints.values())
        endpoint = Endpoint(
            id=f"{self._counter:07x}".ljust(64, "0"),
            network=on.id,
            container=sandbox,
            sandbox=sandbox,
            name=name,
            interface=f"eth{sum(e.sandbox == sandbox for e in self.endpoints.values())}",
            device=f"veth{self._counter:07x}",
            ipv4=f"{_host_of(four, mine)}/{four.partition('/')[2]}" if four else "",
            ipv6=f"{_host_of(six, mine)}/{six.partition('/')[2]}" if six else "",
            mac=f"02:00:00:00:00:{self._counter:02x}",
            bindings=bindings,
            settings=EndpointSettings(**settings),  # type: ignore[arg-type]
        )
        plan: list[Wanted] = [Namespace(name=endpoint.namespace)] if fresh else []
        plan += self.driver.endpoint(on, endpoint, self.facts)
        if fresh and not on.internal:
            plan += self._routes(on, endpoint)
        plan += self.driver.publish(on, endpoint, self.facts)
        self.make(plan)
        self.endpoints[name] = endpoint
        return endpoint

    def _routes(self, network: Network, endpoint: Endpoint) -> Iterator[Route]:
        for pool in network.ipam.config:
            everything = "::/0" if ":" in pool.subnet else "0.0.0.0/0"
            yield Route(ns=endpoint.namespace, destination=everything, gateway=pool.gateway, link=endpoint.interface)

    def load(self, text: str) -> None:
        """nft text of somebody else's."""
        file = self.pretend.root / "theirs.nft"
        file.write_text(text)
        self.pretend.run("nft", "-f", str(file))

    def close(self) -> None:
        for listener in self.listeners.values():
            listener.close()
        self.host.remove(self.made)

    # -- places -------------------------------------------------------------------------

    def path(self, place: str) -> str:
        """Of the place's namespace; the host's own is the one this thread is in."""
        return "/proc/thread-self/ns/net" if place == "host" else self.host.namespace_path(place[:12])

    def open_socket(self, place: str, family: int, kind: int, protocol: int = 0) -> socket.socket:
        return socket_in(self.path(place), family, kind, protocol)

    def address(self, place: str, family: int) -> str:
        if place in NEIGHBOURS:
            _, four, six = NEIGHBOURS[place]
            return f"{four}.9" if family == 4 else f"{six}::9"
        endpoint = self.endpoints[place]
        return endpoint.address4 if family == 4 else endpoint.address6

    def _listen(self, place: str) -> None:
        for port in self.listen_on:
            for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
                self.listen(place, port, kind)

    def listen(self, place: str, port: int, kind: int = socket.SOCK_STREAM) -> None:
        listener = self.open_socket(place, socket.AF_INET6, kind)
        listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("::", port))
        listener.setblocking(False)
        if kind == socket.SOCK_STREAM:
            listener.listen(256)
        self.listeners[place, port, kind] = listener

    # -- probing ------------------------------------------------------------------------

    def reach(
        self, source: str, address: str, port: int, protocol: str = "tcp", patience: float = PATIENCE
    ) -> Arrival | None:
        """Who, if anybody, hears ``source`` call that address and port."""
        return self.reach_all([(source, address, port, protocol)], patience)[0]

    def reach_all(self, probes: list[tuple[str, str, int, str]], patience: float = PATIENCE) -> list[Arrival | None]:
        """Many at once, so that many silences cost one patience."""
        callers = [self._call(index, *probe) for index, probe in enumerate(probes)]
        heard: dict[int, Arrival] = {}
        try:
            self._hear(callers, heard, len(probes), patience)
        finally:
            for caller in callers:
                caller.close()
        return [heard.get(index) for index in range(len(probes))]

    def hears(self, place: str, port: int) -> tuple[bytes, str] | None:
        """The next datagram at a place's port, and from where; None when none comes."""
        listener = self.listeners[place, port, socket.SOCK_DGRAM]
        if not select.select([listener], [], [], PATIENCE)[0]:
            return None
        data, peer = listener.recvfrom(64)
        return data, _plain(peer[0])

    def throw(self, place: str, device: str, data: bytes) -> None:
        """A frame of our own making, out of a device of that place."""
        with self.open_socket(place, socket.AF_PACKET, socket.SOCK_RAW) as raw:
            raw.bind((device, 0))
            raw.send(data)

    def _call(self, index: int, source: str, address: str, port: int, protocol: str) -> socket.socket:
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        caller = self.open_socket(source, family, socket.SOCK_STREAM if protocol == "tcp" else socket.SOCK_DGRAM)
        caller.setblocking(False)
        with contextlib.suppress(BlockingIOError, OSError):
            caller.connect((address, port))
        if protocol == "udp":
            with contextlib.suppress(OSError):
                caller.send(struct.pack("!I", index))
        return caller

    def _hear(self, callers: list[socket.socket], heard: dict[int, Arrival], expected: int, patience: float) -> None:
        poll = select.epoll()
        open_ones = {listener.fileno(): (place, listener) for (place, *_), listener in self.listeners.items()}
        accepted: dict[int, tuple[str, socket.socket, str]] = {}
        for number in open_ones:
            poll.register(number, select.EPOLLIN)
        for index, caller in enumerate(callers):
            if caller.type == socket.SOCK_STREAM:
                poll.register(caller.fileno(), select.EPOLLOUT | select.EPOLLONESHOT)
                accepted[caller.fileno()] = (str(index), caller, "")
        end = time.monotonic() + patience
        while len(heard) < expected and (left := end - time.monotonic()) > 0:
            for number, _ in poll.poll(left):
                if number in open_ones:
                    place, listener = open_ones[number]
                    _take(poll, place, listener, accepted, heard)
                elif accepted[number][2]:
                    place, stream, source = accepted[number]
                    _note(heard, stream.recv(4), place, source)
                    poll.unregister(number)
                else:
                    with contextlib.suppress(OSError):
                        accepted[number][1].send(struct.pack("!I", int(accepted[number][0])))
        poll.close()
        for _, stream, source in accepted.values():
            if source:
                stream.close()


def _take(
    poll: select.epoll,
    place: str,
    listener: socket.socket,
    accepted: dict[int, tuple[str, socket.socket, str]],
    heard: dict[int, Arrival],
) -> None:
    with contextlib.suppress(BlockingIOError):
        if listener.type == socket.SOCK_STREAM:
            stream, peer = listener.accept()
            poll.register(stream.fileno(), select.EPOLLIN)
            accepted[stream.fileno()] = (place, stream, _plain(peer[0]))
        else:
            data, peer = listener.recvfrom(64)
            _note(heard, data, place, _plain(peer[0]))


def _note(heard: dict[int, Arrival], data: bytes, place: str, source: str) -> None:
    if len(data) == 4:
        heard[struct.unpack("!I", data)[0]] = Arrival(place, source)


def _plain(address: str) -> str:
    return address.removeprefix("::ffff:")


def _key(word: str) -> str:
    return f"com.docker.network.{'' if word.startswith('host_ipv') else 'bridge.'}{word}"


def _host_of(prefix: str, number: int) -> str:
    """The ``number``-th address of a prefix."""
    return str(ipaddress.ip_network(prefix)[number])


@contextmanager
def town(pretend: PretendHost, facts: Facts | None = None, skeleton: Skeleton | None = None) -> Iterator[Town]:
    made = Town(pretend, facts or Facts(), skeleton)
    try:
        made.found()
        yield made
    finally:
        made.close()


def router_advertisement(from_mac: bytes) -> bytes:
    """A default route, and the prefix fd66::/64 to choose an address from, as a frame to all nodes."""
    source = b"\xfe\x80" + bytes(6) + bytes([0, 0, 0, 0xFF, 0xFE, 0, 0, 1])
    target = b"\xff\x02" + bytes(13) + b"\x01"
    prefix = struct.pack("!BBBBIII", 3, 4, 64, 0xC0, 3600, 3600, 0) + b"\xfd\x66" + bytes(14)
    body = struct.pack("!BBHBBHII", 134, 0, 0, 64, 0, 1800, 0, 0) + prefix
    pseudo = source + target + struct.pack("!II", len(body), 58)
    total = sum(struct.unpack(f"!{len(pseudo + body) // 2}H", pseudo + body))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    body = body[:2] + struct.pack("!H", ~total & 0xFFFF) + body[4:]
    head = struct.pack("!IHBB", 0x60000000, len(body), 58, 255) + source + target
    return b"\x33\x33\x00\x00\x00\x01" + from_mac + b"\x86\xdd" + head + body


def frame(source_mac: str, target_mac: str, source: str, target: str, port: int, payload: bytes) -> bytes:
    """An Ethernet frame with an IPv4 UDP datagram of our own making: any addresses whatever."""
    udp = struct.pack("!HHHH", 4321, port, 8 + len(payload), 0) + payload
    head = struct.pack(
        "!BBHHHBBH4s4s", 0x45, 0, 20 + len(udp), 1, 0, 64, 17, 0, socket.inet_aton(source), socket.inet_aton(target)
    )
    total = sum(struct.unpack("!10H", head))
    total = (total & 0xFFFF) + (total >> 16)
    checksum = ~(total + (total >> 16)) & 0xFFFF
    head = head[:10] + struct.pack("!H", checksum) + head[12:]
    macs = bytes.fromhex(target_mac.replace(":", "")) + bytes.fromhex(source_mac.replace(":", ""))
    return macs + b"\x08\x00" + head + udp


def mac_of(town: Town, place: str, device: str) -> str:
    """The MAC of a device of that place."""
    ns = HOST if place == "host" else place[:12]
    return town.pretend.run("ip", "-o", "link", "show", "dev", device, ns=ns).split("link/ether ")[1].split()[0]
