"""Where a node listens and where others find it: what people typed, against the addresses that this machine has.

    --listen-addr 0.0.0.0:2377 | eth0:2377        --advertise-addr 192.0.2.1 | eth0 | 192.0.2.1:2377 | (nothing: found)
    --data-path-addr 192.0.2.1 | eth0

An interface stands for its only address; of two families, for the IPv4 one. What cannot be decided is not guessed.
``here``: (device, "192.0.2.1/24") of this machine. Everything raises ``FairleadError`` in Docker's words.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable

from fairlead.core.written import joined, parted
from fairlead.errors import FairleadError, Invalid

Here = Iterable[tuple[str, str]]
Address = ipaddress.IPv4Address | ipaddress.IPv6Address

PORT = 2377
OURS = ("docker0", "docker_gwbridge", "br-", "veth", "ingress")
"""Devices of containers' networks: nobody outside finds this machine there."""
ADD_OPTION = "specify one with --advertise-addr"


def listen(text: str, here: Here) -> str:
    """``host:port``."""
    if not text:
        raise Invalid('invalid ListenAddr "": invalid empty address')
    host, port = parted(text)
    if not host:
        raise FairleadError(f"could not parse listen address {text}")
    address = _meant(host, here, zero=True)
    if address is None:
        raise FairleadError("listen address must be an IP address or network interface (with optional port number)")
    return joined(str(address), port or PORT)


def advertise(text: str, listening: str, here: Here) -> str:
    """``host:port``; the port is the one it listens on, where none was said."""
    host, port = parted(text) if text else ("", 0)
    bound, bound_port = parted(listening)
    port = port or bound_port or PORT
    here = list(here)
    if host:
        address = _meant(host, here, zero=False)
        if address is None:
            raise FairleadError(
                "advertise address must be a non-zero IP address or network interface (with optional port number)"
            )
        return joined(str(address), port)
    one = ipaddress.ip_address(bound)
    return joined(str(one if not one.is_unspecified else _only(here)), port)


def data_path(text: str, here: Here) -> str:
    """An address; "": where others find the node."""
    if not text:
        return ""
    address = _meant(text, here, zero=False)
    if address is None:
        raise FairleadError(
            "data path address must be a non-zero IP address or network interface (without a port number)"
        )
    return str(address)


def device_of(wish: str, here: Here) -> str:
    """Which of this machine's devices has the address that was written; "": it is none of its."""
    host = host_of(wish)
    return next((device for device, text in here if text.partition("/")[0] == host), "")


def host_of(text: str) -> str:
    """Without the port."""
    return parted(text)[0]


def _meant(host: str, here: Here, *, zero: bool) -> Address | None:
    """The address that was written, or that of the interface of this name."""
    found = [address for device, address in _parsed(here) if device == host and not address.is_link_local]
    if found:
        return _only_of(host, found)
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return None
    return address if zero or not address.is_unspecified else None


def _only_of(device: str, found: list[Address]) -> Address:
    for version in (4, 6):
        same = [address for address in found if address.version == version]
        if len(same) > 1:
            raise FairleadError(f"interface {device} has more than one IPv{version} address ({same[0]} and {same[1]})")
        if same:
            return same[0]
    raise FairleadError(f"interface {device} has no usable IPv4 or IPv6 address")


def _only(here: Here) -> Address:
    """The one address of this machine that is not loopback or a container network's."""
    candidates = [
        (device, address)
        for device, address in _parsed(here)
        if not (address.is_loopback or address.is_link_local or device.startswith(OURS))
    ]
    for version in (4, 6):
        same = [pair for pair in candidates if pair[1].version == version]
        if len(same) == 1:
            return same[0][1]
        if same:
            (first, one), (second, other) = same[0], next((pair for pair in same if pair[0] != same[0][0]), same[1])
            where = f"interface {first} ({one} and {other})"
            if first != second:
                where = f"different interfaces ({one} on {first} and {other} on {second})"
            raise FairleadError(
                "could not choose an IP address to advertise since this system has multiple addresses on"
                f" {where} - {ADD_OPTION}"
            )
    raise FairleadError(f"could not find the system's IP address - {ADD_OPTION}")


def _parsed(here: Here) -> list[tuple[str, Address]]:
    return [(device, ipaddress.ip_interface(text).ip) for device, text in here]
