"""Virtual addresses: what a sandbox sends to a service goes to one of its tasks, decided in the sandbox itself.

    connect(10.0.1.2) --output--> choose4[10.0.1.2] --> chain vip-10.0.1.2: dnat to numgen random mod 3 map { ... }
                                                                   |
                      still sent to a virtual address? refused <---'--> 10.0.1.5, by the network as any packet

One table in each sandbox that has any: maps that lead an address to its chain, and a chain for each. However many there
are, a new connection costs one lookup, and each packet a question (was it turned?).

Rules
    1. A change of one address is one transaction about that address, and costs the same however many there are
       (``host.vipwire``). The first one in a namespace, and what is refused, take the long way, with words.
    2. Who was chosen stays chosen for as long as the kernel knows the connection: it is NAT.
    3. Whatever is sent is led on: TCP, UDP, SCTP, pings. What has nobody to go to is refused, not dropped.
    4. Source addresses stay: a task sees who calls.
    5. The kernel tracks connections of a namespace only as long as some rule asks for it. One of ours always does
       (``ct status``), so that who is under way goes on though nobody serves any more.
    6. The table's own rules are said again the long way: whatever somebody did to them is seen when they are looked at,
       and mended with the next change.

What it does not do: decide who serves (``core.serving``), spell whose turn it is (``host.turns``), or touch what only
passes through a sandbox.
"""

from __future__ import annotations

import ipaddress
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import lru_cache

from fairlead.core.patterns import pattern
from fairlead.core.wanted import Vip
from fairlead.host import nft, turns, vipwire
from fairlead.host.doors import Door
from fairlead.host.netlink import Request
from fairlead.host.nft import Denied

TABLE = "inet fairlead-vips"
BASE = f"""\
add table {TABLE}
add map {TABLE} choose4 {{ type ipv4_addr : verdict; }}
add map {TABLE} choose6 {{ type ipv6_addr : verdict; }}
add set {TABLE} refuse4 {{ type ipv4_addr; }}
add set {TABLE} refuse6 {{ type ipv6_addr; }}
add chain {TABLE} choose {{ type nat hook output priority -100; policy accept; }}
add chain {TABLE} refuse {{ type filter hook output priority 0; policy accept; }}
add chain {TABLE} no
flush chain {TABLE} choose
flush chain {TABLE} refuse
flush chain {TABLE} no
add rule {TABLE} choose ip daddr vmap @choose4
add rule {TABLE} choose ip6 daddr vmap @choose6
add rule {TABLE} refuse ct status dnat accept
add rule {TABLE} refuse ip daddr @refuse4 goto no
add rule {TABLE} refuse ip6 daddr @refuse6 goto no
add rule {TABLE} no meta l4proto tcp reject with tcp reset
add rule {TABLE} no reject with icmpx type host-unreachable
"""
_CHAIN = pattern(r"^\tchain vip-(\S+) \{\n(.*?)^\t\}\n", re.MULTILINE | re.DOTALL)
_ELEMENTS = pattern(r"^\t\telements = \{.*?\}\n", re.MULTILINE | re.DOTALL)
_PLACES = pattern(r" : ([0-9a-f.:]+)")
_ONE = pattern(r"dnat ip6? to ([0-9a-f.:]+)\n")


def make(door: Door, vips: Sequence[Vip]) -> Callable[[], None]:
    """All of them, in one transaction; returns how to undo it."""
    door.shortcuts.leave(vips)
    if not _told(door, vipwire.changed(vips)):
        _run(door, "".join(map(_made, vips)), vips)
    door.shortcuts.lead(door.netlink, vips)
    return lambda: remove(door, vips)


def remove(door: Door, vips: Sequence[Vip]) -> None:
    """Gone already is fine. The table stays: it goes with the sandbox."""
    door.shortcuts.leave(vips)
    if not _told(door, vipwire.removed(vips)):
        _run(door, "".join(map(_removed, vips)), vips)


def look(door: Door, ns: str, wanted: Iterable[Vip]) -> Iterator[Vip]:
    """Those that are there. One that is not whole has a target that nobody wants."""
    asked = {vip.address: vip for vip in wanted}
    listing = door.nft.output(f"list table {TABLE}")
    chains = dict(_CHAIN.findall(listing))
    intact = _ELEMENTS.sub("", _CHAIN.sub("", listing)).split() == _as_it_should_list().split()
    if not intact:
        door.stands.discard(TABLE)
    words = Counter(re.findall(r"[^\s,]+", "".join(_ELEMENTS.findall(listing))))
    for name, body in chains.items():
        address = _address(name)
        wish = asked.get(address)
        told = words[address] == 2 and words[f"vip-{name}"] == 1
        stands = wish is not None and intact and told and _shape(body) == _shape(_rule(wish) + "\n")
        if wish is not None and stands:
            door.shortcuts.lead(door.netlink, [wish])  # after a restart
        yield wish if wish is not None and stands else Vip(ns=ns, address=address, targets=(("?", 0),))


def _told(door: Door, requests: Sequence[Request]) -> bool:
    """Without words; False: nothing was done."""
    if TABLE not in door.stands:
        return False
    try:
        return door.wire.transact(requests) is None
    except OSError:
        return False  # more than fits into one send


def _run(door: Door, commands: str, vips: Sequence[Vip]) -> None:
    try:
        door.nft.run(BASE + commands)
    except Denied as refusal:
        raise refusal.as_error(vips[0]) from None
    door.stands.add(TABLE)


def _made(vip: Vip) -> str:
    chain, rule = f"{TABLE} {vipwire.chain(vip)}", _rule(vip)
    return "".join(
        [
            f"add chain {chain}\nflush chain {chain}\n",
            f"add rule {chain} {rule}\n" if rule else "",
            *_elements("add", vip),
        ]
    )


def _removed(vip: Vip) -> str:
    """Said to be there first, so that nothing can be missing."""
    chain = f"{TABLE} {vipwire.chain(vip)}"
    parts = [f"add chain {chain}\n", *_elements("add", vip), *_elements("delete", vip)]
    return "".join([*parts, f"flush chain {chain}\ndelete chain {chain}\n"])


def _elements(verb: str, vip: Vip) -> Iterator[str]:
    family = ipaddress.ip_address(vip.address).version
    leads = f" : goto {vipwire.chain(vip)}" if verb == "add" else ""
    yield f"{verb} element {TABLE} choose{family} {{ {vip.address}{leads} }}\n"
    yield f"{verb} element {TABLE} refuse{family} {{ {vip.address} }}\n"


def _rule(vip: Vip) -> str:
    """What its chain does; nothing when there is nobody to go to."""
    places = _places(vip)
    ip = "ip6" if ":" in vip.address else "ip"
    if len(places) < 2:
        return f"dnat {ip} to {places[0]}" if places else ""
    leads = ", ".join(f"{at} : {place}" for at, place in enumerate(places))
    return f"dnat {ip} to {turns.words(vip.policy, ip, len(places))} map {{ {leads} }}"


def _places(vip: Vip) -> list[str]:
    return turns.places([(str(ipaddress.ip_address(address)), weight) for address, weight in vip.targets])


def _shape(rule: str) -> tuple[str, list[str], list[str]]:
    """A rule as it is compared: by what it chooses, and between whom."""
    return turns.chosen(rule), _PLACES.findall(rule), _ONE.findall(rule)


def _address(name: str) -> str:
    return name.replace("_", ":")


@lru_cache(maxsize=1)
def _as_it_should_list() -> str:
    """The table without any address, as the kernel lists it."""
    return nft.listed(BASE, TABLE)
