"""Fences: what comes out of a container speaks for itself only.

    eth0 in the container --- veth --> [ table netdev fairlead-veth… ] --> the bridge

One small table for each fenced port, hooked at its very device: frames of other ports never meet it, and no set has to
be searched. It names one MAC and the addresses of one container:

    frames             of another MAC, or tagged for a VLAN         dropped
    ARP                that says another MAC or IPv4 address        dropped (0.0.0.0 passes: who has none yet asks so)
    IPv4, IPv6         from another address                         dropped
    neighbour answers  for another address                          dropped
    routers' messages  (advertisements, redirects)                  dropped

Rules
    1. A table carries the hash of its text, and is compared with how the same text lists in a namespace that nobody can
       reach (there with the device ``lo``).
    2. What is not IP or ARP passes, with the container's own MAC.

What it does not do: look at what comes *to* a container, or at devices without a port on a bridge (macvlan).
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import lru_cache

from fairlead.core.patterns import pattern
from fairlead.core.wanted import Fence
from fairlead.host import nft
from fairlead.host.listings import mark
from fairlead.host.nft import Denied, Nft

_DEVICE = pattern(r'device "[^"]*"')


def make(nft: Nft, fences: Sequence[Fence]) -> Callable[[], None]:
    """Those that do not stand, in one transaction; returns how to undo it. Their devices are there."""
    there = set(look(nft, fences))
    missing = [fence for fence in fences if fence not in there]
    try:
        nft.run("".join(_anew(fence.link) + text(fence) for fence in missing))
    except Denied as refusal:
        raise refusal.as_error(fences[0]) from None
    return lambda: remove(nft, missing)


def remove(nft: Nft, fences: Sequence[Fence]) -> None:
    """Gone already is fine."""
    try:
        nft.run("".join(_anew(fence.link) for fence in fences))
    except Denied as refusal:
        raise refusal.as_error(fences[0]) from None


def look(nft: Nft, wanted: Iterable[Fence]) -> Iterator[Fence]:
    """Every fence there is. One that is not what its table says it is has no addresses."""
    asked = {fence.link: fence for fence in wanted}
    for name in nft.tables_at_devices():
        link = name.removeprefix("fairlead-")
        if link == name:
            continue
        listing = nft.output(f"list table netdev {_table(link)}")
        wish = asked.get(link)
        intact = wish is not None and _anonymous(listing, link) == _as_it_should_list(wish)
        yield wish if wish is not None and intact else Fence(link=link, mac="")


def text(fence: Fence, device: str = "") -> str:
    """The table in nft's words, hooked at the fence's device, or at another one."""
    four = [address for address in fence.addresses if ":" not in address]
    six = [address for address in fence.addresses if ":" in address]
    return "\n".join(
        [
            f"table netdev {_table(fence.link)} {{",
            f'comment "fairlead {mark("".join((fence.mac, *fence.addresses)))}"',
            "chain out {",
            f'type filter hook ingress device "{device or fence.link}" priority filter; policy accept;',
            *_rules(fence.mac, four, six),
            "}",
            "}\n",
        ]
    )


def _rules(mac: str, four: list[str], six: list[str]) -> Iterator[str]:
    yield f"ether saddr != {mac} counter drop"
    yield "meta protocol { 8021q, 8021ad } counter drop"
    yield f"arp saddr ether != {mac} counter drop"
    mine = ", ".join([*four, "0.0.0.0"])
    yield f"arp saddr ip != {{ {mine} }} counter drop"
    yield f"ip saddr != {{ {mine} }} counter drop"
    if not six:
        yield "meta protocol ip6 counter drop"
        return
    yield f"ip6 saddr != {{ {', '.join([*six, '::'])} }} counter drop"
    yield "icmpv6 type { nd-router-advert, nd-redirect } counter drop"
    for address in six:  # the address that is spoken of stands 8 bytes into the message
        yield f"icmpv6 type nd-neighbor-advert @th,64,128 {hex(int(ipaddress.IPv6Address(address)))} accept"
    yield "icmpv6 type nd-neighbor-advert counter drop"


def _table(link: str) -> str:
    return f"fairlead-{link}"


def _anew(link: str) -> str:
    return f"add table netdev {_table(link)}\ndelete table netdev {_table(link)}\n"


def _anonymous(listing: str, link: str) -> str:
    """Without what names one device."""
    return _DEVICE.sub("device", listing.replace(_table(link), "table", 1))


@lru_cache(maxsize=4096)
def _as_it_should_list(fence: Fence) -> str:
    return _anonymous(nft.listed(text(fence, "lo"), f"netdev {_table(fence.link)}"), fence.link)
