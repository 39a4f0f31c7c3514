"""``-p`` and ``--expose`` on the way to the API: ``[[ip:]host:]container[/protocol]``, with ranges.

    80    8080:80    127.0.0.1:8080:80    ::80    [::1]:8080:80    5000-5010:2000-2010/udp

What the engine should choose stays empty (``HostPort: ""``), or a range
(``HostPort: "8000-8100"`` for one container port). Complaints are Docker's.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable

from fairlead.errors import Invalid

Bindings = dict[str, list[dict[str, str]]]


def parse(published: Iterable[str], exposed: Iterable[str] = ()) -> tuple[Bindings, dict[str, dict[str, str]]]:
    """(PortBindings, ExposedPorts) of all ``-p`` and ``--expose``."""
    bindings: Bindings = {}
    for text in published:
        for port, binding in _one(text):
            bindings.setdefault(port, []).append(binding)
    ports: dict[str, dict[str, str]] = {port: {} for port in bindings}
    for text in exposed:
        if ":" in text:
            raise Invalid(f"invalid port format for --expose: {text}")
        plain, _, protocol = text.partition("/")
        first, last = numbers(plain, f"invalid range format for --expose: {text}")
        ports |= {f"{port}/{protocol or 'tcp'}": {} for port in range(first, last + 1)}
    return bindings, ports


def _one(text: str) -> Iterable[tuple[str, dict[str, str]]]:
    """The bindings of one ``-p``."""
    rest, _, protocol = text.partition("/") if "/" in text else (text, "", "tcp")
    protocol = protocol.lower()
    if protocol not in ("tcp", "udp", "sctp"):
        raise Invalid(f"invalid proto: {protocol}")
    address, host, inside = _split(rest)
    if not inside:
        raise Invalid(f"no port specified: {text}<empty>")
    address = _address(address)
    first, last = numbers(inside, f"invalid containerPort: {inside}")
    if not host:
        return [(f"{port}/{protocol}", {"HostIp": address, "HostPort": ""}) for port in range(first, last + 1)]
    start, end = numbers(host, f"invalid hostPort: {host}")
    if end - start != last - first:
        if first != last:
            raise Invalid(f"invalid ranges specified for container and host Ports: {inside} and {host}")
        return [(f"{first}/{protocol}", {"HostIp": address, "HostPort": f"{start}-{end}"})]
    return [
        (f"{first + step}/{protocol}", {"HostIp": address, "HostPort": str(start + step)})
        for step in range(last - first + 1)
    ]


def _split(text: str) -> tuple[str, str, str]:
    """(address, host ports, container ports); an IPv6 address stands in brackets, or is what is left over."""
    address, _, inside = text.rpartition(":")
    address, _, host = address.rpartition(":")
    return address, host, inside


def _address(text: str) -> str:
    plain = text.strip("[]")
    if not plain:
        return ""
    try:
        ipaddress.ip_address(plain)
    except ValueError:
        raise Invalid(f"invalid IP address: {plain}") from None
    return plain


def numbers(text: str, complaint: str) -> tuple[int, int]:
    """``80`` or ``80-90``, first and last; ``Invalid`` with the complaint."""
    first, dash, last = text.partition("-")
    if not all(re.fullmatch("[0-9]{1,9}", word) for word in ([first, last] if dash else [first])):
        raise Invalid(complaint)
    low, high = int(first), int(last or first)
    if not 0 <= low <= high <= 65535:
        raise Invalid(complaint)
    return low, high
