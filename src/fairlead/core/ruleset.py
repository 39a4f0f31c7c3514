"""Ruleset: our own nftables table, read back and followed by hand, to say what it does with a packet and why.

    Skeleton.text + Elements --Ruleset--> at("prerouting", packet) -> Judgement: accept or drop, and by which rules

It is the very text the kernel is given that is followed here, not a second
description of it, so an explanation cannot drift from the firewall. The price is
that every word the skeleton uses must be known here: an unknown one is ``Internal``,
and a test reads every skeleton there is.

Rules
    1. Only the first packet of a connection is followed: it decides. So its direction
       is never ``reply``, its state never ``related``; ``status dnat`` is true once a map
       has translated it.
    2. Chains of one hook are asked in the order of their priority; ``drop`` ends it, ``accept``
       ends the chain. Translating ends its chain, too.
    3. What was met is told: the chain, the rule as it is written, and the element that
       made it match. A jump that came back with nothing is not.

What it does not do: routing, bridges, names (``core.explain``), or tables of other people.
"""

from __future__ import annotations

import ipaddress
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace

from fairlead.core.rules import GROUP
from fairlead.core.wanted import Element, Skeleton
from fairlead.core.written import family_of
from fairlead.errors import Internal

_PRIORITIES = {"raw": -300, "mangle": -150, "dstnat": -100, "filter": 0, "security": 50, "srcnat": 100}
_FIELDS = (
    "ip saddr", "ip daddr", "ip6 saddr", "ip6 daddr", "meta l4proto", "meta nfproto", "meta iifkind", "meta oifkind",
    "meta iifgroup", "meta oifgroup",
    "th dport", "@th,96,24", "meta ipsec", "rt ipsec", "ct direction", "ct status", "ct state", "fib daddr type",
    "iifname", "oifname",
)  # fmt: skip
_TOKEN = re.compile(r'"[^"]*"|\S+')
_PROTOCOLS = {"icmp": "icmp", "ipv6-icmp": "ipv6-icmp", "1": "icmp", "58": "ipv6-icmp"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Packet:
    """The first packet of a connection. ``port`` 0: it has none (a ping)."""

    source: str
    target: str
    protocol: str
    """tcp, udp, sctp, icmp or ipv6-icmp"""
    port: int = 0
    arrives: str = ""
    """the device it came in by; "" when it begins on the host"""
    leaves: str = ""
    translated: bool = False
    """its target was changed on the way (dnat)"""

    @property
    def family(self) -> int:
        return family_of(self.target)


@dataclass(frozen=True, slots=True)
class Met:
    """One rule that had a say: where, as it is written, and the element that made it match."""

    chain: str
    rule: str
    element: Element | None = None


@dataclass(frozen=True, slots=True)
class Judgement:
    """What a hook did: ``dropped`` or let on, as ``packet`` is now, because of ``met``."""

    packet: Packet
    dropped: bool = False
    met: tuple[Met, ...] = ()


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What rules may ask of the machine."""

    is_local: Callable[[str], bool] = lambda address: False
    """an address of this host (fib daddr type local)"""
    kind: Callable[[str], str] = lambda device: ""
    """``bridge`` for a bridge"""
    own_address: Callable[[str, int], str] = lambda device, family: ""
    """what masquerading gives a packet that leaves by this device"""


@dataclass(slots=True)
class _Chain:
    hook: str = ""
    priority: int = 0
    rules: list[str] = field(default_factory=list)


class Ruleset:
    """One table. ``skeleton`` None: there is no firewall of ours, and everything passes."""

    def __init__(self, skeleton: Skeleton | None, elements: Iterable[Element], around: Surroundings) -> None:
        self._chains = _chains(skeleton.text if skeleton else "")
        self._around = around
        self._elements: dict[str, dict[str, Element]] = defaultdict(dict)
        for element in elements:
            self._elements[element.map][element.item] = element

    def priorities(self, hook: str) -> list[int]:
        """Where between the chains of others ours are asked."""
        return sorted({chain.priority for chain in self._chains.values() if chain.hook == hook})

    def at(self, hook: str, packet: Packet, priority: int | None = None) -> Judgement:
        """What the chains of one hook (prerouting, output, forward, postrouting) do with the packet; all of them, or
        those of one ``priority``."""
        met: list[Met] = []
        mine = [n for n, c in self._chains.items() if c.hook == hook and priority in (None, c.priority)]
        for name in sorted(mine, key=lambda n: self._chains[n].priority):
            follower = _Follower(self._chains, self._elements, self._around, packet)
            verdict = follower.follow(name)
            met += follower.met
            packet = follower.packet
            if verdict == "drop":
                return Judgement(packet, True, tuple(met))
        return Judgement(packet, False, tuple(met))

    def rules(self) -> Iterator[str]:
        """Every rule there is, as it is written."""
        for chain in self._chains.values():
            yield from chain.rules


class _Follower:
    """One packet on its way through the chains of one base chain."""

    def __init__(
        self,
        chains: Mapping[str, _Chain],
        elements: Mapping[str, Mapping[str, Element]],
        around: Surroundings,
        packet: Packet,
    ) -> None:
        self._chains, self._elements, self._around = chains, elements, around
        self.packet = packet
        self.met: list[Met] = []

    def follow(self, name: str) -> str:
        """``accept``, ``drop``, or "" when the chain came to its end."""
        for text in self._chains[name].rules:
            words = _Words(text)
            matched, element = self._matches(words)
            if not matched:
                continue
            verdict = self._do(words, name, text, element)
            if verdict:
                return "" if verdict == "end" else verdict
        return ""

    def _matches(self, words: _Words) -> tuple[bool, Element | None]:
        """Every condition before the verdict, in order; the last element that was found."""
        element: Element | None = None
        while fields := words.selector():
            negated = words.take("!=")
            values = [self._value(name) for name in fields]
            operand = words.next()
            if operand.startswith("@"):
                found = None if None in values else self._lookup(operand[1:], [v or "" for v in values])
                element, hit = (found or element), found is not None
            else:
                hit = _equal(values[0], operand)
            if None in values or hit == negated:
                return False, None
        return True, element

    def _do(self, words: _Words, chain: str, text: str, element: Element | None) -> str:
        """The statements of a rule that matched; "" goes on with the next rule, ``end`` leaves the chain."""
        while word := words.next():
            if word == "comment":
                words.next()
            elif word in ("accept", "drop"):
                self.met.append(Met(chain, text, element))
                return word
            elif word in ("goto", "jump"):
                before = len(self.met)
                verdict = self.follow(words.next())
                if word == "goto" or verdict or len(self.met) > before:
                    self.met.insert(before, Met(chain, text, element))
                return verdict or ("end" if word == "goto" else "")
            elif word == "masquerade":
                self.met.append(Met(chain, text, element))
                source = self._around.own_address(self.packet.leaves, self.packet.family) or self.packet.source
                self.packet = replace(self.packet, source=source)
                return "accept"
            elif word in ("dnat", "snat"):
                return self._translate(word, words, chain, text)
            elif word not in ("counter", "notrack"):
                raise Internal(f"the rule {text!r} has a word that cannot be explained: {word}")
        return ""

    def _translate(self, word: str, words: _Words, chain: str, text: str) -> str:
        family, _ = words.next(), words.next()
        values = [self._value(name) for name in words.selector()]
        _, place = words.next(), words.next()
        if self.packet.family != (6 if family == "ip6" else 4) or None in values:
            return ""
        element = self._lookup(place[1:], [v or "" for v in values])
        if element is None:
            return ""
        self.met.append(Met(chain, text, element))
        address, _, port = element.value.partition(" . ")
        if word == "dnat":
            target = replace(self.packet, target=address, port=int(port or self.packet.port), translated=True)
            self.packet = target
        else:
            self.packet = replace(self.packet, source=address)
        return "accept"

    def _value(self, name: str) -> str | None:
        """A field of the packet in nft's notation; None when the packet has no such field."""
        packet = self.packet
        family, _, rest = name.partition(" ")
        if family in ("ip", "ip6"):
            if packet.family != (6 if family == "ip6" else 4):
                return None
            return packet.source if rest == "saddr" else packet.target
        around = self._around
        known: dict[str, str | None] = {
            "iifname": f'"{packet.arrives}"' if packet.arrives else '""',
            "oifname": f'"{packet.leaves}"',
            "meta l4proto": packet.protocol,
            "meta nfproto": f"ipv{packet.family}",
            "meta iifkind": f'"{around.kind(packet.arrives)}"' if packet.arrives else None,
            "meta oifkind": f'"{around.kind(packet.leaves)}"',
            "meta iifgroup": self._group(packet.arrives) if packet.arrives else None,
            "meta oifgroup": self._group(packet.leaves),
            "th dport": str(packet.port),
            "@th,96,24": "",  # VXLAN from another host; what containers send never looks like it here
            "meta ipsec": "missing",
            "rt ipsec": "missing",
            "ct direction": "original",
            "ct status": "dnat" if packet.translated else "",
            "ct state": "new",
            "fib daddr type": "local" if around.is_local(packet.target) else "unicast",
        }
        return known[name]

    def _group(self, device: str) -> str:
        """Which devices we gave theirs: a network's."""
        return str(GROUP) if f'"{device}"' in self._elements.get("networks", {}) else "0"

    def _lookup(self, place: str, values: list[str]) -> Element | None:
        elements = self._elements.get(place, {})
        exact = elements.get(" . ".join(values))
        if exact is not None:
            return exact
        return next((e for item, e in elements.items() if "/" in item and _covers(item, values)), None)


class _Words:
    """The words of one rule, read from the left."""

    def __init__(self, text: str) -> None:
        self._words = _TOKEN.findall(text)
        self._at = 0

    def next(self) -> str:
        self._at += 1
        return self._words[self._at - 1] if self._at <= len(self._words) else ""

    def take(self, word: str) -> bool:
        if self._words[self._at : self._at + 1] == [word]:
            self._at += 1
            return True
        return False

    def selector(self) -> list[str]:
        """``ip daddr . meta l4proto . th dport`` as a list; empty when no condition stands here."""
        found = []
        while (name := self._field()) is not None:
            found.append(name)
            if not self.take("."):
                break
        return found

    def _field(self) -> str | None:
        for name in _FIELDS:
            size = name.count(" ") + 1
            if " ".join(self._words[self._at : self._at + size]) == name:
                self._at += size
                return name
        return None


def _equal(value: str | None, operand: str) -> bool:
    if value is None:
        return False
    if "/" in operand:
        return _covers(operand, [value])
    return _PROTOCOLS.get(value, value) == _PROTOCOLS.get(operand, operand)


def _covers(item: str, values: list[str]) -> bool:
    """Whether an element with prefixes in it (``10.0.0.0/8 . "br-1"``) means these values."""
    parts = item.split(" . ")
    return len(parts) == len(values) and all(
        within(value, part) if "/" in part else value == part for part, value in zip(parts, values, strict=True)
    )


def within(address: str, prefix: str) -> bool:
    """Whether the address is in the prefix; False for different families."""
    try:
        return ipaddress.ip_address(address) in ipaddress.ip_network(prefix, strict=False)
    except ValueError:
        return False


def _chains(text: str) -> dict[str, _Chain]:
    """Chains by name: their hook and their rules, one line each. Sets are declared elsewhere in the text."""
    chains: dict[str, _Chain] = {}
    current: _Chain | None = None
    for line in map(str.strip, text.splitlines()):
        if line.startswith("chain "):
            current = chains[line.split()[1]] = _Chain()
        elif line == "}":
            current = None
        elif current is not None and line.startswith("type "):
            words = line.replace(";", " ").split()
            priority = words[words.index("priority") + 1]
            current.hook = words[words.index("hook") + 1]
            current.priority = _PRIORITIES[priority] if priority in _PRIORITIES else int(priority)
        elif current is not None and line:
            current.rules.append(line)
    return chains


def unknown_words(skeleton: Skeleton) -> list[str]:
    """Rules of a skeleton that cannot be explained: empty, or there is work to do here."""
    known = {"accept", "drop", "goto", "jump", "masquerade", "dnat", "snat", "counter", "comment", "notrack"}
    bad = []
    for text in Ruleset(skeleton, (), Surroundings()).rules():
        words = _Words(text)
        while words.selector():
            words.take("!=")
            words.next()
        if words.next() not in known:
            bad.append(text)
    return bad
