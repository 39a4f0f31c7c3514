"""The routing mesh on a host: what comes to a port that the swarm publishes goes on to one of its tasks.

    client --> host:8080 --ports[tcp . 8080]--> chain tcp-8080: dnat to numgen random mod 3 map { ... } --> the leg
                 not translated: refused                                                                     |
    client <-- host <-- translated back <-- only answers <---------------------------------------- a task, anywhere

One table of the host: maps that lead a port to its chain, a chain for each, and a guard for the host's own device in
ingress (its *leg*). Nobody's address but the target's is written over, so a task sees who calls.

Rules
    1. A change of one port is one transaction about that port, however many others there are.
    2. Who was chosen stays chosen for as long as the kernel knows the connection: it is NAT.
    3. By the leg comes what belongs to a connection that left by it, and nothing else: no container on ingress reaches
       the host by it, or through the host anything.
    4. A published port that leads nowhere refuses, whatever listens on this host. What is under way there goes on: it
       is the relay's, from before the kernel took the port back.
    5. [::1] is not for here: the kernel never lets it off the loopback device.
    6. The table's own rules are said again with every change: whatever somebody did to them is mended by it.

What it does not do: decide who serves (``core.serving``), or hold the port against other programs (the relay).
"""

from __future__ import annotations

import ipaddress
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import lru_cache

from fairlead.core.patterns import pattern
from fairlead.core.wanted import Leg, MeshPort
from fairlead.host import nft, turns
from fairlead.host.nft import Denied, Nft

TABLE = "inet fairlead-mesh"
_AT = {"": ("ports", "refused"), "4": ("ports_at4", "refused_at4"), "6": ("ports_at6", "refused_at6")}
BASE = f"""\
add table {TABLE}
add set {TABLE} legs {{ type ifname; }}
add map {TABLE} ports {{ type inet_proto . inet_service : verdict; }}
add map {TABLE} ports_at4 {{ type ipv4_addr . inet_proto . inet_service : verdict; }}
add map {TABLE} ports_at6 {{ type ipv6_addr . inet_proto . inet_service : verdict; }}
add set {TABLE} refused {{ type inet_proto . inet_service; }}
add set {TABLE} refused_at4 {{ type ipv4_addr . inet_proto . inet_service; }}
add set {TABLE} refused_at6 {{ type ipv6_addr . inet_proto . inet_service; }}
add chain {TABLE} arriving {{ type filter hook prerouting priority mangle; policy accept; }}
add chain {TABLE} leg
add chain {TABLE} prerouting {{ type nat hook prerouting priority dstnat; policy accept; }}
add chain {TABLE} output {{ type nat hook output priority -100; policy accept; }}
add chain {TABLE} choose
add chain {TABLE} input {{ type filter hook input priority filter; policy accept; }}
add chain {TABLE} refuse
flush chain {TABLE} arriving
flush chain {TABLE} leg
flush chain {TABLE} prerouting
flush chain {TABLE} output
flush chain {TABLE} choose
flush chain {TABLE} input
flush chain {TABLE} refuse
add rule {TABLE} arriving ct direction reply accept
add rule {TABLE} arriving iifname @legs goto leg
add rule {TABLE} leg icmpv6 type {{ nd-neighbor-solicit, nd-neighbor-advert }} accept
add rule {TABLE} leg counter drop
add rule {TABLE} prerouting fib daddr type local jump choose
add rule {TABLE} output ip6 daddr ::1 accept
add rule {TABLE} output fib daddr type local jump choose
add rule {TABLE} choose ip daddr . meta l4proto . th dport vmap @ports_at4
add rule {TABLE} choose ip6 daddr . meta l4proto . th dport vmap @ports_at6
add rule {TABLE} choose meta l4proto . th dport vmap @ports
add rule {TABLE} input ct state != new accept
add rule {TABLE} input ip6 daddr ::1 accept
add rule {TABLE} input meta l4proto . th dport @refused goto refuse
add rule {TABLE} input ip daddr . meta l4proto . th dport @refused_at4 goto refuse
add rule {TABLE} input ip6 daddr . meta l4proto . th dport @refused_at6 goto refuse
add rule {TABLE} refuse meta l4proto tcp reject with tcp reset
add rule {TABLE} refuse reject
"""
_CHAIN = pattern(r"^\tchain ((?:tcp|udp|sctp)-\S+) \{\n(.*?)^\t\}\n", re.MULTILINE | re.DOTALL)
_ELEMENTS = pattern(r"^\t\telements = \{.*?\}\n", re.MULTILINE | re.DOTALL)
_LEGS = pattern(r"^\tset legs \{.*?^\t\}", re.MULTILINE | re.DOTALL)
_WORD = pattern(r'"([^"]+)"')


def make(nft: Nft, legs: Sequence[Leg], ports: Sequence[MeshPort]) -> Callable[[], None]:
    """All of them, in one transaction; returns how to undo it."""
    commands = [f'add element {TABLE} legs {{ "{leg.link}" }}\n' for leg in legs]
    _run(nft, "".join([*commands, *map(_made, ports)]), (*legs, *ports)[0])
    return lambda: remove(nft, legs, ports)


def remove(nft: Nft, legs: Sequence[Leg], ports: Sequence[MeshPort]) -> None:
    """Gone already is fine. The table goes with the leg."""
    _run(nft, "".join(map(_removed, ports)) + (f"delete table {TABLE}\n" if legs else ""), (*legs, *ports)[0])


def look(nft: Nft, wanted: Iterable[MeshPort]) -> Iterator[Leg | MeshPort]:
    """Those that are there. A port that is not whole has a target that nobody wants; a guard that is not, no device."""
    asked = {_chain(port): port for port in wanted}
    listing = nft.output(f"list table {TABLE}")
    intact = _ELEMENTS.sub("", _CHAIN.sub("", listing)).split() == _as_it_should_list().split()
    for link in _WORD.findall("".join(_LEGS.findall(listing))):
        yield Leg(link=link if intact else "?")
    words = Counter(re.findall(r"[^\s,]+", "".join(_ELEMENTS.findall(listing))))
    for name, body in _CHAIN.findall(listing):
        wish = asked.get(name)
        stands = wish is not None and intact and words[name] == 1 and body.split() == _listed(wish).split()
        yield wish if wish is not None and stands else _broken(name)


def _broken(chain: str) -> MeshPort:
    protocol, port, *at = chain.split("-")
    return MeshPort(protocol=protocol, port=int(port), address=at[0].replace("_", ":") if at else "", policy="?")


def _run(nft: Nft, commands: str, what: object) -> None:
    try:
        nft.run(BASE + commands)
    except Denied as refusal:
        raise refusal.as_error(what) from None


def _made(port: MeshPort) -> str:
    chain = f"{TABLE} {_chain(port)}"
    rules = [f"add rule {chain} {rule}\n" for rule in _rules(port)]
    return "".join([f"add chain {chain}\nflush chain {chain}\n", *rules, *_elements("add", port)])


def _removed(port: MeshPort) -> str:
    """Said to be there first, so that nothing can be missing."""
    chain = f"{TABLE} {_chain(port)}"
    parts = [f"add chain {chain}\n", *_elements("add", port), *_elements("delete", port)]
    return "".join([*parts, f"flush chain {chain}\ndelete chain {chain}\n"])


def _elements(verb: str, port: MeshPort) -> Iterator[str]:
    leads, refuses = _AT[str(ipaddress.ip_address(port.address).version) if port.address else ""]
    key = " . ".join(filter(None, (port.address, port.protocol, str(port.port))))
    goto = f" : goto {_chain(port)}" if verb == "add" else ""
    yield f"{verb} element {TABLE} {leads} {{ {key}{goto} }}\n"
    yield f"{verb} element {TABLE} {refuses} {{ {key} }}\n"


def _rules(port: MeshPort) -> Iterator[str]:
    """What its chain does: one rule for each family that has somebody to go to; before it, one for who calls from the
    bridge of those."""
    ways = [(port.targets, "")]
    if port.around:
        ways.insert(0, (port.around, f'iifname "{port.bridge}" '))
    for targets, those in ways:
        for family, ip in ((4, "ip"), (6, "ip6")):
            places = _places(targets, family)
            if not places:
                continue
            by = turns.words(port.policy, ip, len(places))
            leads = ", ".join(f"{at} : {address} . {number}" for at, (address, number) in enumerate(places))
            only = f"{those}meta nfproto ipv{family} meta l4proto {port.protocol}"
            yield f"{only} dnat {ip} to {by} map {{ {leads} }}"


def _places(targets: Iterable[tuple[str, int, int]], family: int) -> list[tuple[str, int]]:
    mine = [(text, number, weight) for text, number, weight in targets if (":" in text) == (family == 6)]
    return turns.places([((str(ipaddress.ip_address(text)), number), weight) for text, number, weight in mine])


def _chain(port: MeshPort) -> str:
    at = f"-{ipaddress.ip_address(port.address)}".replace(":", "_") if port.address else ""
    return f"{port.protocol}-{port.port}{at}"


@lru_cache(maxsize=4096)
def _listed(port: MeshPort) -> str:
    """A port's chain, as the kernel lists it."""
    found: dict[str, str] = dict(_CHAIN.findall(nft.listed(BASE + _made(port), TABLE)))
    return found.get(_chain(port), "")  # no chain of a port that is asked for is empty


@lru_cache(maxsize=1)
def _as_it_should_list() -> str:
    """The table without any port or leg, as the kernel lists it."""
    return nft.listed(BASE, TABLE)
