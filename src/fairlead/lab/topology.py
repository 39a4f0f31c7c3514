"""Topology: a small network of pretend machines, as data.

    one_cable("one", "two")                         a file, for `fairlead lab up --topology FILE`

      underlay (a namespace)                        [wires.lan]
    +--------- lan -----------+                     subnet = "192.168.77.0/24"
    |          |              |                     [wires.far]
    outside    one           two                    subnet6 = "fd99::/64"
    .1         .11           .12                    [hosts.one]                   # wires = the first
                                                    [hosts.two]
    a second wire, a router between them:           wires = ["far"]
                                                    options = ["--mtu=1400"]      # its engine's
    one -- lan -- r1 -- far -- two                  [routers.r1]
                                                    wires = ["lan", "far"]

``outside`` is the rest of the world: on the first wire, the way out of all
hosts, their name server, and the place from which a client looks at published
ports. Addresses follow from the order in the file: outside .1, routers from
.2, a store .10, hosts from .11. A machine's n-th wire is its eth(n-1). Every
machine has a route to every wire that routers (and outside) lead to.

What it does not do: make anything. ``lab.world`` does.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator
from pathlib import Path

import msgspec

from fairlead.errors import Invalid

OUTSIDE, STORE, UNDERLAY = "outside", "store", "underlay"
_NAME = re.compile(r"[a-z][a-z0-9-]{0,12}")
_MOST = 200
"""Machines of one kind; their last number must fit into a /24."""


class Wire(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A switch and its cables. Either subnet may be missing; canonical CIDR texts."""

    subnet: str = ""
    subnet6: str = ""
    mtu: int = 1500


class Node(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A machine: the wires it is on, in order; what its engine is told besides what all are told."""

    wires: tuple[str, ...] = ()
    options: tuple[str, ...] = ()


class Topology(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Wires and the machines on them. Raises ``Invalid`` when they do not fit together."""

    hosts: dict[str, Node]
    wires: dict[str, Wire] = msgspec.field(default_factory=lambda: {"lan": Wire("192.168.77.0/24", "fd77:77::/64")})
    routers: dict[str, Node] = {}
    store: str = ""
    """``etcd``, ``consul`` or ``zookeeper``: a machine named ``store`` on the first wire serves it to all engines"""

    def __post_init__(self) -> None:
        names = [*self.wires, *self.routers, *self.hosts]
        for name in names:
            if not _NAME.fullmatch(name) or name in (OUTSIDE, STORE, UNDERLAY, "lo"):
                raise Invalid(f"topology: {name!r} cannot be a name: a letter, then at most 12 of a-z, 0-9 and -")
        if len(set(names)) != len(names):
            raise Invalid(f"topology: every wire and machine needs a name of its own: {', '.join(names)}")
        if not self.wires or not self.hosts or max(len(self.hosts), len(self.routers)) > _MOST:
            raise Invalid(f"topology: one wire and one host are the least, {_MOST} machines of a kind the most")
        for name, wire in self.wires.items():
            _check_wire(name, wire)
        for name, node in {**self.routers, **self.hosts}.items():
            if unknown := [wire for wire in node.wires if wire not in self.wires]:
                raise Invalid(f"topology: {name} is on the wire {unknown[0]!r}, which is not described")

    @property
    def nodes(self) -> tuple[str, ...]:
        """All machines, ``outside`` first."""
        return (OUTSIDE, *self.routers, *([STORE] if self.store else []), *self.hosts)

    def wires_of(self, node: str) -> tuple[str, ...]:
        """Names of the wires a machine is on, in the order of its devices."""
        described = self.routers.get(node) or self.hosts.get(node)
        return (described.wires if described else ()) or (next(iter(self.wires)),)

    def forwards(self, node: str) -> bool:
        """Whether a machine passes on what is not for it."""
        return node == OUTSIDE or node in self.routers

    def address(self, node: str, wire: str, version: int) -> str:
        """A machine's address on a wire without prefix length; empty where the wire has no such subnet."""
        subnet = self.wires[wire].subnet if version == 4 else self.wires[wire].subnet6
        return str(ipaddress.ip_network(subnet)[self._number(node)]) if subnet else ""

    def _number(self, node: str) -> int:
        if node in (OUTSIDE, STORE):
            return 1 if node == OUTSIDE else 10
        return 2 + list(self.routers).index(node) if node in self.routers else 11 + list(self.hosts).index(node)

    # The same as text for iproute2

    def switches(self) -> list[str]:
        """``ip -batch`` lines for the underlay: one bridge per wire."""
        lines = ["link set lo up"]
        for name, wire in self.wires.items():
            lines += [f"link add {name} mtu {wire.mtu} type bridge forward_delay 0 mcast_snooping 0"]
            lines += [f"link set {name} up"]
        return lines

    def ports(self, node: str) -> dict[str, str]:
        """Wire -> name of the underlay's end of the machine's cable to it."""
        number, wires = self.nodes.index(node), list(self.wires)
        return {wire: f"p{wires.index(wire)}-{number}" for wire in self.wires_of(node)}

    def cables(self, node: str, pid: int) -> list[str]:
        """``ip -batch`` lines for the underlay: the machine's cables, one end in the network of ``pid``.

        A machine keeps its MACs when it reboots, as real ones do: nobody has to learn where it is.
        """
        lines = []
        for number, (wire, port) in enumerate(self.ports(node).items()):
            mtu = self.wires[wire].mtu
            mac = f"02:fa:1e:ad:{list(self.wires).index(wire):02x}:{self._number(node):02x}"
            lines += [
                f"link add {port} mtu {mtu} type veth peer name eth{number} address {mac} mtu {mtu} netns {pid}",
                f"link set {port} master {wire} up",
            ]
        return lines

    def stack(self, node: str) -> list[str]:
        """``ip -batch`` lines for one machine: loopback, addresses, routes."""
        lines = ["link set lo up"]
        for number, wire in enumerate(self.wires_of(node)):
            for version, subnet in ((4, self.wires[wire].subnet), (6, self.wires[wire].subnet6)):
                if subnet:
                    prefix = subnet.partition("/")[2]
                    lines.append(f"address add {self.address(node, wire, version)}/{prefix} dev eth{number}")
            lines.append(f"link set eth{number} up")
        return lines + list(self._routes(node))

    def _routes(self, node: str) -> Iterator[str]:
        first = next(iter(self.wires))
        for wire in self.wires:
            if wire in self.wires_of(node):
                continue
            for version, subnet in ((4, self.wires[wire].subnet), (6, self.wires[wire].subnet6)):
                if subnet and (via := self._next_hop(node, wire, version)):
                    yield f"route add {subnet} via {via}"
        for version, everywhere in ((4, "0.0.0.0/0"), (6, "::/0")):
            out = self.address(OUTSIDE, first, version)
            via = out if first in self.wires_of(node) else out and self._next_hop(node, first, version)
            if via and node != OUTSIDE:
                yield f"route add {everywhere} via {via}"

    def _next_hop(self, node: str, wire: str, version: int) -> str:
        """Address of the first machine on the shortest way to a wire; empty when no router leads there."""
        passing = [each for each in self.nodes if self.forwards(each) and each != node]
        ways = {near: "" for near in self.wires_of(node)}
        turn = list(ways)
        while turn:
            here = turn.pop(0)
            for router in passing:
                entry = self.address(router, here, version) if here in self.wires_of(router) else ""
                for there in self.wires_of(router) if entry else ():
                    if there not in ways:
                        ways[there] = ways[here] or entry
                        turn.append(there)
        return ways.get(wire, "")


def one_cable(*hosts: str, mtu: int = 1500, store: str = "") -> Topology:
    """Hosts on one wire of both families."""
    if len(set(hosts)) != len(hosts):
        raise Invalid(f"topology: every host needs a name of its own: {', '.join(hosts)}")
    wires = {"lan": Wire("192.168.77.0/24", "fd77:77::/64", mtu)}
    return Topology({name: Node() for name in hosts}, wires, store=store)


def read(path: Path) -> Topology:
    """The topology that a TOML file describes; ``Invalid`` says what in it makes no sense."""
    try:
        return msgspec.toml.decode(path.read_bytes(), type=Topology)
    except OSError as problem:
        raise Invalid(f"topology {path}: {problem.strerror}") from None
    except msgspec.MsgspecError as problem:
        raise Invalid(f"topology {path}: {problem}") from None


def _check_wire(name: str, wire: Wire) -> None:
    for text, version in ((wire.subnet, 4), (wire.subnet6, 6)):
        try:
            fits = not text or ipaddress.ip_network(text).version == version
        except ValueError as problem:
            raise Invalid(f"topology: wire {name}: {problem}") from None
        if not fits:
            raise Invalid(f"topology: wire {name}: {text} is not an IPv{version} subnet")
        if text and ipaddress.ip_network(text).num_addresses < 256:
            raise Invalid(f"topology: wire {name}: {text} is too small: 256 addresses are the least")
    if not wire.subnet and not wire.subnet6:
        raise Invalid(f"topology: wire {name} needs a subnet or a subnet6")
    if not 1280 <= wire.mtu <= 65535:
        raise Invalid(f"topology: wire {name}: mtu {wire.mtu} is not within 1280 and 65535")
