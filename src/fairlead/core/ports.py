"""Ports: from what was asked (``-p``) to what is in force.

    {"80/tcp": [{"HostIp": "", "HostPort": "8080"}]} --parse_bindings--> PortRequest --choose--> PortBinding
                                                                             ^                       |
                                                       (taken, how this network publishes)           0.0.0.0:8080
                                                                                                     [::]:8080

A request that names no host address gets a binding in each family that the
container can be reached in, with *one* port for both. One that names an
address gets that address.

Rules
    1. A port of the host is taken by (protocol, address, port); 0.0.0.0 takes every
       IPv4 address, :: every IPv6 address, neither takes anything of the other family.
    2. All or nothing: one port that cannot be had fails them all, in Docker's words.
    3. Ports that we choose come lowest first out of 32768..60999, or out of the range
       that was asked for.
    4. Explicit ports are settled before chosen ones, so that a container never takes
       with one hand what it asks for with the other.
    5. Where a network routes (gateway mode ``routed``) nothing of the host is taken:
       the binding says only which port of the container is open (host port 0).
    6. Ports in a row with ports of the host in a row (``-p 5000-5999:5000-5999``) are one
       request and one binding of each address: a thousand are as soon chosen as one.

What it does not do: ask the machine whether some program has the port. Who takes it
finds out, and calls what was refused taken.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any

from msgspec.structs import replace

from fairlead.core.model import PortBinding, PortRequest
from fairlead.core.written import family_of, joined
from fairlead.errors import Conflict, Invalid

PROTOCOLS = ("tcp", "udp", "sctp")
EPHEMERAL = range(32768, 61000)
EVERY = {4: "0.0.0.0", 6: "::"}
NAT_MODES = ("nat", "nat-unprotected")

Taken = Iterable[tuple[str, str, int]]
"""(protocol, host address, host port) of every binding in force."""


# -- reading what was asked ----------------------------------------------------------------


def parse_bindings(
    bindings: Mapping[str, Sequence[Mapping[str, str]] | None] | None,
    exposed: Mapping[str, Any] | None,
    publish_all: bool = False,
) -> tuple[PortRequest, ...]:
    """Docker's ``PortBindings`` and ``ExposedPorts`` as requests, in order of container port, those in a row as one.

    ``Invalid("invalid port specification: …")`` for a port that is none. A host
    address that is none means any, and a protocol that Docker does not publish
    is left out, as dockerd does. ``publish_all`` (``-P``) adds every exposed port
    that has no binding of its own.
    """
    found: list[PortRequest] = []
    bound = set()
    for spec, places in (bindings or {}).items():
        port, protocol = _container_port(spec)
        bound.add((port, protocol))
        for place in places or ({},):
            first, last = _range(place.get("HostPort") or "")
            request = PortRequest(port, protocol, _host_ip(place.get("HostIp") or ""), first, last)
            if protocol in PROTOCOLS and port:
                found.append(request)
    if publish_all:
        wanted = {pair for spec in exposed or {} for pair in exposed_ports(spec)} - bound
        found.extend(PortRequest(port, protocol) for port, protocol in wanted if protocol in PROTOCOLS)
    return _in_rows(sorted(found, key=lambda request: (request.port, request.protocol)))


def _in_rows(requests: Iterable[PortRequest]) -> tuple[PortRequest, ...]:
    """The same requests; those for one port of the host each, which go on side by side, as one."""
    found: list[PortRequest] = []
    spans: list[int] = []
    last: dict[tuple[str, str, int], int] = {}
    for one in requests:
        way = one.protocol, one.host_ip, one.host_first - one.port
        at = last.get(way)
        if at is not None and one.port == found[at].port + spans[at] and one.host_first == one.host_last != 0:
            spans[at] += 1
            continue
        if one.host_first == one.host_last != 0:
            last[way] = len(found)
        found.append(one)
        spans.append(1)
    return tuple(one if span == 1 else replace(one, span=span) for one, span in zip(found, spans, strict=True))


def exposed_ports(spec: str) -> Iterator[tuple[int, str]]:
    """(port, protocol) of each port of ``80``, ``80/udp`` or ``8000-8010/tcp``; ``Invalid`` for anything else."""
    text, _, protocol = spec.partition("/")
    first, last = _range(text)
    if not first:
        raise Invalid(f'invalid port specification: "{text}"')
    protocol = protocol.lower() or "tcp"
    yield from ((port, protocol) for port in range(first, last + 1))


def _container_port(spec: str) -> tuple[int, str]:
    text, _, protocol = spec.partition("/")
    first, last = _range(text)
    if first != last or "-" in text:
        raise Invalid(f'invalid port specification: "{text}"')
    return first, protocol.lower() or "tcp"


@lru_cache(maxsize=4096)  # a container's thousand are read at its creation and at each start
def _range(spec: str) -> tuple[int, int]:
    """(first, last) of ``8080``, ``8000-8010`` or "" (0, 0: any); a protocol behind it is ignored, as dockerd does."""
    text = spec.partition("/")[0]
    if not text:
        return 0, 0
    first, dash, last = text.partition("-")
    numbers = [
        int(word) if word.isdecimal() and word.isascii() and len(word) < 10 else -1
        for word in ([first, last] if dash else [first])
    ]
    if any(not 0 <= number <= 65535 for number in numbers) or numbers[0] > numbers[-1]:
        raise Invalid(f'invalid port specification: "{spec}"')
    return numbers[0], numbers[-1]


def _host_ip(text: str) -> str:
    try:
        return str(ipaddress.ip_address(text.strip("[]")))
    except ValueError:
        return ""


# -- choosing ------------------------------------------------------------------------------


def choose(
    requests: Iterable[PortRequest],
    taken: Taken,
    host_ip4: str = "0.0.0.0",
    host_ip6: str = "::",
    *,
    ipv4: bool = True,
    ipv6: bool = False,
    mode4: str = "nat",
    mode6: str = "nat",
) -> tuple[PortBinding, ...]:
    """What is in force for ``requests``, in their order; ``Conflict`` when one cannot be had.

    ``host_ip4``, ``host_ip6``: where a request without an address is bound ("": not
    at all in that family). ``ipv4``, ``ipv6``: the families that can be served.
    ``mode4``, ``mode6``: gateway modes of the network; nothing is bound in ``isolated``.
    """
    modes = {4: mode4, 6: mode6}
    served = {4: ipv4 and mode4 != "isolated", 6: ipv6 and mode6 != "isolated"}
    everywhere = [address for address in (host_ip4, host_ip6) if address]
    requests = list(requests)
    places: dict[str, tuple[list[str], list[str]]] = {}
    for host_ip in {request.host_ip for request in requests}:
        addresses = [address for address in ([host_ip] if host_ip else everywhere) if served[family_of(address)]]
        places[host_ip] = addresses, [address for address in addresses if modes[family_of(address)] in NAT_MODES]
    settled = _settled(requests, {host_ip: bound for host_ip, (_, bound) in places.items()}, _Desk(taken))
    found = []
    for request, port in zip(requests, settled, strict=True):
        addresses, bound = places[request.host_ip]
        for address in addresses:
            host_port = port if address in bound else 0
            found.append(PortBinding(request.port, request.protocol, address, host_port, request.span))
    if all(each == bound for each, bound in places.values()):
        return tuple(found)
    # Where nothing of the host is taken, what was asked twice is one.
    return tuple(dict.fromkeys(one for row in found for one in row.each()))


def _settled(requests: Sequence[PortRequest], bound: Mapping[str, list[str]], desk: _Desk) -> list[int]:
    """The first host port of each, 0 where nothing is bound; those with the least choice are served first."""
    freedom = [_freedom(request) for request in requests]
    ports = [0] * len(requests)
    for index in sorted(range(len(requests)), key=freedom.__getitem__):
        request = requests[index]
        if addresses := bound[request.host_ip]:
            ports[index] = desk.settle(request, addresses)
    return ports


def _freedom(request: PortRequest) -> int:
    """How many host ports would do."""
    return request.host_last - request.host_first if request.host_last else len(EPHEMERAL)


class _Desk:
    """Who holds which port, while a choice is being made."""

    def __init__(self, taken: Taken) -> None:
        self._holders: dict[tuple[str, int], Sequence[str]] = {}
        """(protocol, port) -> addresses, of either family"""
        self._passed: dict[tuple[str, tuple[str, ...], int, int], int] = {}
        """the first port that was not given or refused yet: what was refused once is refused again"""
        for protocol, address, port in taken:
            if port:
                self._hold(protocol, range(port, port + 1), (address,))

    def settle(self, request: PortRequest, addresses: Sequence[str]) -> int:
        """One port for all these addresses (or the first of a row of them), held from now on."""
        first = request.host_first
        if first == 0 or first != request.host_last:
            first = self._lowest(request, addresses)
            row = range(first, first + 1)
        else:
            row = range(first, first + request.span)
            for port in row:
                if address := self._refused(request.protocol, port, addresses):
                    raise Conflict(f"Bind for {joined(address, port)} failed: port is already allocated")
        self._hold(request.protocol, row, addresses)
        return first

    def _hold(self, protocol: str, row: range, addresses: Sequence[str]) -> None:
        """``row``: of ports."""
        holders = self._holders
        for port in row:
            before = holders.get((protocol, port))
            holders[protocol, port] = (*before, *addresses) if before else addresses

    def _lowest(self, request: PortRequest, addresses: Sequence[str]) -> int:
        """The port is ours to choose, within limits or without."""
        first, last = request.host_first, request.host_last
        if not last:
            first, last = EPHEMERAL[0], EPHEMERAL[-1]
        asked = request.protocol, tuple(addresses), first, last
        for port in range(self._passed.get(asked, first), last + 1):
            self._passed[asked] = port + 1
            if not self._refused(request.protocol, port, addresses):
                return port
        raise Conflict(f"Bind for {joined(addresses[0], f'{first}-{last}')} failed: all ports are allocated")

    def _refused(self, protocol: str, port: int, addresses: Sequence[str]) -> str:
        """The first of these addresses where somebody has that port already; "" when nobody has."""
        holders = self._holders.get((protocol, port))
        if not holders:
            return ""
        for address in addresses:
            every = EVERY[family_of(address)]
            if address in holders or every in holders:
                return address
            if address == every and any(family_of(other) == family_of(every) for other in holders):
                return address
        return ""


def rows(parts: Iterable[tuple[int, int, int]]) -> Iterator[tuple[int, int, int]]:
    """Rows of pairs of ports (first, first, how many), those that go on side by side as one."""
    first = second = span = 0
    for one, other, more in parts:
        if one == first + span and other == second + span and span:
            span += more
            continue
        if span:
            yield first, second, span
        first, second, span = one, other, more
    if span:
        yield first, second, span
