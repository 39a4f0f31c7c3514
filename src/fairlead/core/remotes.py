"""Remotes: what other hosts wrote about their networks and endpoints, read with care.

    endpoints/<node>/<id>   -->  Remote        networks/<id>   -->  Network

A row speaks for its own key only, and every word of it ends in the kernel or in
the name server: what is not canonical, not in the network's subnets, or
unreasonably long is refused as a whole (``Invalid`` says which word).
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping

import msgspec

from fairlead.core import addresses, mesh
from fairlead.core.model import Network, Remote, ServicePart, Subnet
from fairlead.core.patterns import pattern
from fairlead.core.serving import HEAVIEST, POLICIES, ROUTE
from fairlead.errors import Forbidden, Invalid, Unavailable

VNI = "com.docker.network.driver.overlay.vxlanid_list"
MTU = "com.docker.network.driver.mtu"
LAST_VNI = (1 << 24) - 1
MOST_NAMES = 64
_ID = pattern(r"[0-9a-f]{64}")
_NETWORK_ID = pattern(r"[0-9a-f]{64}|[0-9a-z]{25}")
_WORD = pattern(r"[0-9a-z]{1,64}")
_MAC = pattern(r"[0-9a-f][02468ace](:[0-9a-f]{2}){5}")
_NAME = pattern(r"(?:\*\.)?[A-Za-z0-9_](?:[A-Za-z0-9_.-]{0,252})")
_PORT = pattern(r"[0-9]{1,5}/(tcp|udp|sctp)")
_REMOTE = msgspec.json.Decoder(Remote)
_NETWORK = msgspec.json.Decoder(Network)


def read_remote(key: str, value: bytes) -> Remote:
    """One endpoint of another host; its addresses are not yet compared with its network's (``fits``)."""
    try:
        row = _REMOTE.decode(value)
    except (msgspec.MsgspecError, UnicodeDecodeError) as problem:
        raise Invalid(f"{key}: {problem}") from None
    check(key, "key", key == f"endpoints/{row.node}/{row.id}")
    check(key, "id", _ID.fullmatch(row.id) and _NETWORK_ID.fullmatch(row.network))
    check(key, "mac", _MAC.fullmatch(row.mac))
    check(key, "vtep", _is_unicast(row.vtep))
    check(key, "address", all(_is_interface(text) for text in (row.ipv4, row.ipv6) if text))
    check(key, "family", ":" not in row.ipv4 and (not row.ipv6 or ":" in row.ipv6))
    check(key, "names", len(row.names) <= MOST_NAMES and all(map(_NAME.fullmatch, (row.name, row.host, *row.names))))
    check(key, "ports", len(row.ports) <= 256 and all(map(_PORT.fullmatch, row.ports)))
    if row.part is not None:
        _check_part(key, row.part)
    return row


def _check_part(key: str, part: ServicePart) -> None:
    check(key, "service", _WORD.fullmatch(part.service) and _WORD.fullmatch(part.task))
    check(key, "service's names", len(part.names) <= MOST_NAMES and all(map(_NAME.fullmatch, (part.name, *part.names))))
    check(key, "virtual address", all(_is_unicast(text) for text in (part.vip, part.vip6) if text))
    check(key, "virtual addresses' family", ":" not in part.vip and (not part.vip6 or ":" in part.vip6))
    check(key, "weight", 0 < part.weight <= HEAVIEST)
    check(key, "policy", part.policy in POLICIES)
    check(key, "routes", len(part.routes) <= MOST_NAMES and all(map(ROUTE.fullmatch, part.routes)))
    check(key, "published ports", len(part.ports) <= 256 and all(map(mesh.PUBLISHED.fullmatch, part.ports)))


def fits(row: Remote, network: Network) -> bool:
    """Whether an endpoint's addresses are its network's to give."""
    pools = [pool.subnet for pool in network.ipam.config]
    held = [text.partition("/")[0] for text in (row.ipv4, row.ipv6) if text]
    return all(any(addresses.contains(pool, address) for pool in pools) for address in held)


def read_network(key: str, value: bytes) -> Network:
    """A network that some host made for all."""
    try:
        network = _NETWORK.decode(value)
    except (msgspec.MsgspecError, UnicodeDecodeError) as problem:
        raise Invalid(f"{key}: {problem}") from None
    check(key, "key", key == f"networks/{network.id}" and _ID.fullmatch(network.id))
    check(key, "driver", network.driver == "overlay" and network.scope == "global" and not network.predefined)
    check(key, "name", network.name.strip())
    for option, most in ((VNI, LAST_VNI), (MTU, 65535)):
        number = network.options.get(option, "" if option == VNI else "1500")
        check(key, option, re.fullmatch("[0-9]{1,8}", number) and 0 < int(number) <= most)
    check(key, "subnets", network.ipam.config and all(map(_is_pool, network.ipam.config)))
    return network


def identifier(wanted: str | None, taken: Mapping[str, str], first: int) -> str:
    """A new network's identifier on the wire: the one that was asked for, or the first that is free.

    ``taken``: identifier -> the network that has it. Raises ``Invalid``, ``Forbidden``, ``Unavailable``.
    """
    if wanted is not None:
        if not (wanted.isascii() and wanted.isdigit() and 0 < int(wanted) <= LAST_VNI and wanted[0] != "0"):
            raise Invalid(f"{VNI}={wanted} is no identifier: a number from 1 to {LAST_VNI}")
        if wanted in taken:
            raise Forbidden(f"{VNI}={wanted} is network {taken[wanted]}'s")
        return wanted
    for number in range(first, LAST_VNI + 1):
        if str(number) not in taken:
            return str(number)
    raise Unavailable("every identifier on the wire is some network's")


def check(key: str, word: str, holds: object) -> None:
    """``Invalid``, naming the key and what of its value makes no sense, unless it holds."""
    if not holds:
        raise Invalid(f"the cluster store's {key} makes no sense: its {word}")


def _is_unicast(text: str) -> bool:
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return False
    return str(address) == text and not (address.is_multicast or address.is_unspecified or address.is_loopback)


def _is_interface(text: str) -> bool:
    try:
        return str(ipaddress.ip_interface(text)) == text and "/" in text
    except ValueError:
        return False


def _is_pool(pool: Subnet) -> bool:
    """A subnet, and what is said to be in it."""
    try:
        subnet = ipaddress.ip_network(pool.subnet)
        within = [
            ipaddress.ip_network(text) for text in (pool.gateway, pool.ip_range, *pool.auxiliary.values()) if text
        ]
        return str(subnet) == pool.subnet and all(one.subnet_of(subnet) for one in within)  # type: ignore[arg-type]
    except (ValueError, TypeError):
        return False
