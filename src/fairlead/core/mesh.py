"""The routing mesh: every node of a swarm answers on a published port, and the task sees who calls.

                    node A                                   node B
    client ---> A:8080 -dnat-> leg 10.0.0.2 ~~ ingress ~~ eth0 10.0.0.5   task
      ^                          ^  02:42:0a:00:00:02        |  remembers 02:42:0a:00:00:02 for this connection
      '------ translated back ---'<~~~~~~~~ ingress ~~~~~~~~~'  and answers there

    leg_plan     the host's own device in ingress, behind its guard        as soon as a node is in a swarm
    published    one port of the swarm, and who serves it                  nodes' own tasks first
    carried      the same, where the relay carries it                      the task's side of it is an inlet, too
    inlet        a task's side: what may come in, and how it is answered   in each sandbox on ingress
    way_back     a node that calls may come in by, in each such sandbox

Rules
    1. Nobody but the target is written over, so what a task answers is for the client, wherever that is. The way to go
       follows from the MAC of the node that let the call in: its last four bytes are a mark, and a mark has a table.
       So nodes' addresses on ingress, and no other address, make their MACs.
    2. A node with serving tasks of its own sends them what comes in there, by the bridge on which they reach the world:
       ingress would be a second cable to the same sandbox. What stands stays where it is.
    3. What a task wants PROXY's header on is carried by the relay, which alone can put words before a connection.
    4. A family in which a sandbox knows no way to the world answers by ingress alone; so does a task to who calls from
       that same bridge: its ports do not hear each other, and bridge-netfilter would translate without leaving it.

What it does not do: know who serves (rows of the ingress network: ``engine.mesh``), or touch anything.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from msgspec.structs import replace

from fairlead.core import addresses, rules
from fairlead.core.model import Endpoint, Network
from fairlead.core.patterns import pattern
from fairlead.core.serving import HEAVIEST, Backend, policy, within
from fairlead.core.wanted import Inlet, Leg, MeshPort, Plan, Route, Rule, Sysctl, Wanted

LEG = "ingress0"
"""the host's own device"""
STAND_IN = "ingress-sbox"
"""what inspecting the network shows in place of a container, as in Docker"""
NAME = "ingress-endpoint"
LAST_RESORT = 4096
"""metric of a default route that is there to be answered by, not to call by"""
_FIRST_PRIORITY = 1000
_KERNELS_TABLES = 255
"""up to there: unspecified 0, default 253, main 254, local 255"""
AT = "fairlead.publish.address"
"""label of a service: an address or a device of nodes at which alone its ports are published"""
PROXY, V2 = "fairlead.publish.proxy", "v2"
"""label of a service, and what it may say: its published TCP ports tell its tasks of their clients by PROXY's header"""
PUBLISHED = pattern(
    r"(?:(?P<at>[A-Za-z0-9_.:-]{1,45})@)?(?P<published>[0-9]{1,5}):(?P<target>[0-9]{1,5})"
    r"/(?P<protocol>tcp|udp|sctp)(?P<proxied>;v2)?"
)
"""as a row has it: ``8080:80/tcp``, ``192.0.2.1@8080:80/tcp``, ``eth1@8080:80/tcp``, ``8080:80/tcp;v2``"""


Near = tuple[str, str]
"""A task's own addresses (IPv4, IPv6) on the bridge by which it reaches the world; "": it has none there."""
NOWHERE: Near = ("", "")


class Published(NamedTuple):
    """A port of every node, or where ``at`` is given (an address, or the name of a device) of those who have that."""

    protocol: str
    port: int
    at: str = ""


def mac(address: str) -> str:
    """Of a node's leg; ``address`` (IPv4, with or without prefix length) is what it has on ingress."""
    return addresses.mac_from_address(address.partition("/")[0])


def mark(leg4: str) -> int:
    """Of what came in by the node with this address on ingress: the address, shifted by one (see ``host.inlets``)."""
    return int(ipaddress.IPv4Address(leg4)) << 1 & 0xFFFFFFFF


def table(leg4: str) -> int:
    """Of the routes by which that is answered: its mark's number, but none of the kernel's own.

    128.0.0.127 would have main's. Marks are even: those of the first tables have odd numbers beyond.
    """
    own = mark(leg4)
    return own if own > _KERNELS_TABLES else own + _KERNELS_TABLES + 2


def leg_plan(network: Network, facts_has_ipv6: bool = True) -> Plan:
    """What must stand before the device does, and what the host has to know of it. The device: the driver's."""
    subnets = tuple(pool.subnet for pool in network.ipam.config)
    guard = Leg(link=LEG, why="what comes in by ingress is an answer, or it is dropped")
    known = rules.network_elements(rules.NetworkRules(device=LEG, subnets=subnets, masquerade=False))
    why = "answers to the host's own 127.0.0.1 come back here; the guard keeps everything else out"
    settings = [Sysctl(path=f"net/ipv4/conf/{LEG}/route_localnet", value="1", why=why)]
    if facts_has_ipv6 and network.ipv6:
        settings.append(Sysctl(path=f"net/ipv6/conf/{LEG}/accept_dad", value="0", why="nobody else has its MAC"))
    return (guard, *known, *settings)


def ports(part_ports: Iterable[str]) -> dict[Published, int]:
    """Published port -> the task's own."""
    found = {}
    for text in part_ports:
        if match := PUBLISHED.fullmatch(text):
            found[_published(match)] = int(match["target"])
    return found


def proxied(part_ports: Iterable[str]) -> set[Published]:
    """Those that a task wants PROXY's header on."""
    return {_published(match) for match in map(PUBLISHED.fullmatch, part_ports) if match and match["proxied"]}


def _published(match: re.Match[str]) -> Published:
    return Published(match["protocol"], int(match["published"]), match["at"] or "")


def published(
    port: Published,
    network: Network,
    backends: Mapping[Backend, int],
    here: Mapping[Backend, Near],
    addresses: Iterable[str] = ("",),
    bridge: str = "",
) -> tuple[MeshPort, ...]:
    """One port, given all tasks behind it (with their own port) and how this node reaches those that are on it.

    ``addresses``: of this node, at which it is published; "": at all. ``bridge``: by which it reaches its own.
    """
    chosen, own = _chosen(backends, here)
    ways = [
        (near, address, target, _weight(backend))
        for backend, target in chosen
        for address, near in zip((backend.ipv4, backend.ipv6), here.get(backend, NOWHERE), strict=True)
        if address and within(network, address)
    ]
    targets = [(near or address, target, weight) for near, address, target, weight in ways]
    around = [(address, target, weight) for _, address, target, weight in ways]
    short = bool(bridge) and targets != around
    one = MeshPort(
        protocol=port.protocol,
        port=port.port,
        targets=tuple(targets),
        policy=policy(backends),
        bridge=bridge if short else "",
        around=tuple(around) if short else (),
        why="a published port of the swarm, led to " + ("this node's own tasks" if own else "its tasks"),
    )
    return tuple(replace(one, address=address) for address in addresses)


def carried(
    port: Published, network: Network, backends: Mapping[Backend, int], here: Iterable[Backend]
) -> tuple[tuple[str, int, int, bool], ...]:
    """The same as address, port, weight, and whether it wants PROXY's header: one address a task."""
    chosen, _ = _chosen(backends, here)
    return tuple(
        (address, target, _weight(backend), port in proxied(backend.part.ports))
        for backend, target in chosen
        if (address := backend.ipv4 or backend.ipv6) and within(network, address)
    )


def _chosen(backends: Mapping[Backend, int], here: Iterable[Backend]) -> tuple[list[tuple[Backend, int]], bool]:
    """Those that are sent requests, in order of their tasks; whether they are this node's own."""
    serving = {backend: target for backend, target in backends.items() if backend.part.serving}
    own = {backend: target for backend, target in serving.items() if backend in set(here)}
    return sorted((own or serving).items(), key=lambda pair: pair[0].part.task), bool(own)


def _weight(backend: Backend) -> int:
    return min(max(backend.part.weight, 1), HEAVIEST)


def inlet(network: Network, endpoint: Endpoint, answers: tuple[str, str]) -> Plan:
    """A task's sandbox. ``answers``: of IPv4 and IPv6, its address on the way to the world; "": there is none."""
    ns, link = endpoint.namespace, endpoint.interface
    part = endpoint.settings.part
    allowed = ports(part.ports).items() if part else ()
    plan: list[Wanted] = [
        Inlet(
            ns=ns,
            link=link,
            own=tuple(filter(None, (endpoint.ipv4, endpoint.ipv6))),
            answers=tuple(filter(None, answers)),
            ports=tuple(sorted({f"{port.protocol} . {target}" for port, target in allowed})),
            why="published ports, and answers by the way that a call came in",
        ),
        Sysctl(
            ns=ns, path="net/ipv4/conf/all/rp_filter", value="0", why="calls come in by another way than to callers"
        ),
        Sysctl(ns=ns, path=f"net/ipv4/conf/{link}/rp_filter", value="0"),
        Sysctl(ns=ns, path="net/ipv4/tcp_fwmark_accept", value="1", why="a connection keeps to the way it came by"),
    ]
    for version, answer, everything in ((4, answers[0], "0.0.0.0/0"), (6, answers[1], "::/0")):
        gateway = endpoint.gateway6 if version == 6 else endpoint.gateway4
        if gateway and not answer:
            why = "answers need some way out before they are led to theirs"
            plan.append(Route(ns=ns, destination=everything, gateway=gateway, link=link, metric=LAST_RESORT, why=why))
    return tuple(plan)


def way_back(endpoint: Endpoint, network: Network, leg4: str, leg6: str) -> Plan:
    """How a sandbox answers what came in by one node. ``leg4``, ``leg6``: its addresses on ingress, without length."""
    own, its = mark(leg4), table(leg4)
    subnet = next(pool.subnet for pool in network.ipam.config if addresses.contains(pool.subnet, leg4))
    offset = int(ipaddress.IPv4Address(leg4)) - int(ipaddress.ip_network(subnet).network_address)
    ns, link, why = endpoint.namespace, endpoint.interface, f"what came in by the node at {leg4} is answered there"
    plan: list[Wanted] = []
    for family, gateway, everything in ((4, leg4, "0.0.0.0/0"), (6, leg6, "::/0")):
        if gateway and (endpoint.ipv6 if family == 6 else endpoint.ipv4):
            plan.append(Rule(ns=ns, family=family, priority=_FIRST_PRIORITY + offset, mark=own, table=its, why=why))
            plan.append(Route(ns=ns, destination=everything, gateway=gateway, link=link, table=its))
    return tuple(plan)
