"""Others: the nftables tables of other people, followed as far as they can be followed.

    nft -s list ruleset --read--> base chains --at(hook, packet)--> Opinion: passes, drops, or may drop; by which rules

Their rules may use any word there is, so every condition is one of three: it holds,
it does not, or it cannot be told from here (marks, named sets, limits, extensions of
iptables). An opinion is sure when nothing that cannot be told could change it.

Rules
    1. As in ``core.ruleset`` only the first packet of a connection is followed.
    2. A word that is not known makes its rule untold, never false: nothing that could
       drop is left out, and nothing is said to drop that might let pass.
    3. Rules are quoted as nft lists them; what iptables-nft made is shown the way nft
       shows it.
    4. Whose a table is, is a guess from its name and its chains; one without a guess is named as it is.

What it does not do: legacy iptables (their rules are in no listing), tc and XDP programs.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import NamedTuple

from fairlead.core.ruleset import Packet, within

_TOKEN = re.compile(r'"[^"]*"|[^\s,]+')
_HOOK = re.compile(r"type (\w+) hook (\w+)(?: devices? = ?(?:\{ )?(.*?)(?: \})?| device (\S+))? priority ([^;]+);(.*)")
_NAMED = {"raw": -300, "mangle": -150, "dstnat": -100, "filter": 0, "security": 50, "out": 100, "srcnat": 100}
_BRIDGE_NAMED = {"dstnat": -300, "filter": -200, "out": 100, "srcnat": 300}
_FIELDS = (
    "ip saddr", "ip daddr", "ip6 saddr", "ip6 daddr", "ip protocol", "ip6 nexthdr", "meta l4proto", "meta nfproto",
    "meta protocol", "meta iifname", "meta oifname", "th dport", "tcp dport", "udp dport", "sctp dport", "ct state",
    "ct direction", "ct status", "fib daddr type", "iifname", "oifname", "iif", "oif",
)  # fmt: skip
_SILENT = frozenset({"counter", "log", "comment", "prefix", "level", "flags", "group", "packets", "bytes", "notrack"})
_SILENT |= {"emerg", "alert", "crit", "err", "warn", "notice", "info", "debug", "audit", "all"}
_STATES = frozenset({"new", "established", "related", "invalid", "untracked", "dnat", "snat", "assured", "confirmed"})
_ENDS = frozenset({"accept", "drop", "reject", "queue", "return", "continue", "jump", "goto"})
_TRANSLATES = frozenset({"dnat", "redirect", "tproxy"})
_PROTOCOLS = {"icmpv6": "ipv6-icmp", "1": "icmp", "6": "tcp", "17": "udp", "58": "ipv6-icmp", "132": "sctp"}
_SHOWN = 3
_DEPTH = 16
"""As deep as the kernel lets chains jump."""

_OURS = re.compile(r"inet fairlead(-vips|-ingress|-mesh)?|netdev fairlead-.*")
_OWNERS = (
    (r"^(inet|ip6?) firewalld$", "firewalld"),
    (r"^inet fairlead-user$", "you"),
    (r"\bufw6?-", "ufw"),
    (r"\bDOCKER(-USER|-FORWARD|-ISOLATION-STAGE-1)?$|docker-bridges", "dockerd"),
    (r"netavark|NETAVARK", "podman"),
    (r"\bLIBVIRT_|libvirt_network", "libvirt"),
    (r"\bKUBE-|kube-proxy", "kube-proxy"),
    (r"\bCILIUM_|\bcali-", "the Kubernetes network"),
    (r"\bf2b-", "fail2ban"),
    (r"lxd|incus", "LXD or Incus"),
)


@dataclass(slots=True)
class Chain:
    """``hook`` "": it is only jumped to."""

    family: str
    table: str
    name: str
    kind: str = ""
    hook: str = ""
    priority: int = 0
    policy: str = "accept"
    devices: tuple[str, ...] = ()
    rules: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        return f"{self.family} {self.table} {self.name}"


class Said(NamedTuple):
    """A rule that had a say, or may have one; ``rule`` "": the policy."""

    chain: Chain
    rule: str
    verdict: str
    """accept, drop, dnat (its target changes)"""

    def __str__(self) -> str:
        return f"{self.chain.name}: {self.rule}" if self.rule else f"policy {self.chain.policy}"


@dataclass(frozen=True, slots=True)
class Opinion:
    """What a base chain does with a packet: ``drops`` surely; or may, by ``doubts``."""

    chain: Chain
    drops: bool
    by: Said | None = None
    """what decides, when it does not just come to its end"""
    doubts: tuple[Said, ...] = ()
    """rules that could decide otherwise, if they match"""


class Others:
    """Everything that other people's tables of one namespace hold."""

    def __init__(self, listing: str = "", legacy: Iterable[str] = ()) -> None:
        """``listing``: what nft lists, without counters; ``legacy``: names of tables that only the kernel can read."""
        self.legacy = tuple(legacy)
        """they are asked too, and what they do cannot be seen"""
        self._chains = {(c.family, c.table, c.name): c for c in _read(listing)}

    def chains(self, hook: str, family: str, device: str = "") -> list[Chain]:
        """Base chains that a packet of this family (ip, ip6, bridge, netdev) meets there, in their order."""
        families = (family, "inet") if family in ("ip", "ip6") else (family,)
        found = [c for c in self._chains.values() if c.hook == hook and c.family in families]
        return sorted((c for c in found if not c.devices or device in c.devices), key=lambda c: c.priority)

    def opinion(self, chain: Chain, packet: Packet, is_local: Callable[[str], bool]) -> Opinion:
        """Follow the packet from a base chain on."""
        follower = _Follower(self._chains, packet, is_local)
        said = follower.follow(chain) or Said(chain, "", chain.policy)
        against = ("accept",) if said.verdict == "drop" else ("drop", "dnat")
        doubts = tuple(doubt for doubt in follower.doubts if doubt.verdict in against)
        return Opinion(chain, said.verdict == "drop" and not doubts, said, doubts)

    def owner(self, chain: Chain) -> str:
        """Who seems to have made the table; "" when nothing tells."""
        words = [f"{chain.family} {chain.table}"]
        words += [name for family, table, name in self._chains if (family, table) == (chain.family, chain.table)]
        return next((who for sign, who in _OWNERS if any(re.search(sign, word) for word in words)), "")


class _Follower:
    """One packet in one base chain."""

    def __init__(
        self, chains: dict[tuple[str, str, str], Chain], packet: Packet, is_local: Callable[[str], bool]
    ) -> None:
        self._chains, self._packet, self._is_local = chains, packet, is_local
        self.doubts: list[Said] = []

    def follow(self, chain: Chain, sure: bool = True, depth: int = 0) -> Said | None:
        """What surely ends it here; what may end it is noted. None: it comes out at the end."""
        for text in chain.rules:
            for holds, words in self._verdicts(_TOKEN.findall(text)):
                said = self._end(chain, text, words, sure and holds is True, depth)
                if said is not None and sure and holds:
                    return said
                if words and words[0] in ("goto", "return"):
                    if sure and holds:
                        return None
                    sure = False  # what follows in this chain may not be asked at all
        return None

    def _end(self, chain: Chain, text: str, words: list[str], sure: bool, depth: int) -> Said | None:
        """The statement that a rule ends with."""
        word = words[0] if words else ""
        if word in ("jump", "goto"):
            target = self._chains.get((chain.family, chain.table, words[1]))
            return self.follow(target, sure, depth + 1) if target and depth < _DEPTH else None
        verdict = {"accept": "accept", "drop": "drop", "reject": "drop", "queue": "drop"}.get(word, "")
        if word in _TRANSLATES:
            verdict = "dnat"
        if word == "return" and chain.hook and not sure:
            verdict = chain.policy  # it may leave a base chain: then the policy decides
        said = Said(chain, text, verdict)
        if verdict and (not sure or word == "queue" or verdict == "dnat"):
            self.doubts.append(said)
            return None
        return said if verdict else None

    def _verdicts(self, words: list[str]) -> Iterator[tuple[bool | None, list[str]]]:
        """(does the rule hold, its statement), more than one for a verdict map; nothing when it surely does not."""
        holds: bool | None = True
        while words:
            size = next((n for name in _FIELDS if words[: (n := name.count(" ") + 1)] == name.split()), 0)
            if size:
                name, words = " ".join(words[:size]), words[size:]
                if words[:1] == ["vmap"]:
                    yield from self._mapped(name, words[1:], holds)
                    return
                one, words = self._compare(name, words)
                if one is False:
                    return
                holds = holds if one else None
            elif words[0] in _SILENT or words[0].startswith('"') or words[0].isdigit():
                words = words[1:]
            elif words[0] in _ENDS or words[0] in _TRANSLATES:
                yield holds, words
                return
            elif words[0] == "xt" and words[1:2] == ["target"]:
                yield holds, _of_xt(words[2:3])
                return
            elif words[1:2] and words[2:3] == ["set"]:  # meta mark set 1, ct mark set 1 …
                words = words[4:]
            else:
                holds, words = None, words[1:]

    def _mapped(self, name: str, words: list[str], holds: bool | None) -> Iterator[tuple[bool | None, list[str]]]:
        if words[:1] != ["{"]:
            yield from ((None, ["accept"]), (None, ["drop"]))  # a named map: of its verdicts nothing is known
            return
        body = words[1 : words.index("}")] if "}" in words else words[1:]
        keys = [at - 1 for at, word in enumerate(body) if word == ":"]
        for at, end in zip(keys, [*keys[1:], len(body)], strict=True):
            one = self._holds(name, body[at])
            if one is not False:
                yield (holds if one else None), body[at + 2 : end]
                if one and holds:
                    return

    def _compare(self, name: str, words: list[str]) -> tuple[bool | None, list[str]]:
        """(does it hold, the words after it)."""
        negated = words[:1] == ["!="]
        words = words[1:] if negated else words
        if words[:1] in (["&"], ["|"], ["^"], ["."], ["=="], ["in"]):
            return None, words[1:]
        if words[:1] == ["{"]:
            stop = words.index("}") if "}" in words else len(words)
            found = [self._holds(name, word) for word in words[1:stop]]
            words = words[stop + 1 :]
        else:
            size = 1
            if name.startswith("ct "):  # related, established: its commas are gone
                size = next((at for at, word in enumerate(words) if word not in _STATES), len(words)) or 1
            found = [self._holds(name, word) for word in words[:size]]
            words = words[size:]
        result = True if True in found else None if None in found else False
        return (None if result is None else result != negated), words

    def _holds(self, name: str, operand: str) -> bool | None:
        """Whether the packet's field is this: a value, a prefix, a range, a name with a star; None: not to be told."""
        value, packet = self._value(name), self._packet
        if name == "fib daddr type":
            return (operand == "local") == self._is_local(packet.target) if operand in ("local", "unicast") else None
        if value is None or operand.startswith("@"):
            return None
        if value == "":
            return False
        first, dash, last = operand.partition("-")
        if name.endswith("dport"):
            if not operand.replace("-", "").isdigit():
                return None
            return int(first) <= int(value) <= int(last or first)
        if name.endswith("addr"):
            return _between(value, first, last) if dash else within(value, operand)
        if operand.startswith('"'):
            text = operand.strip('"')
            return value.startswith(text[:-1]) if text.endswith("*") else value == text
        return value == _PROTOCOLS.get(operand, operand)

    def _value(self, name: str) -> str | None:
        """The packet's field; "": it has no such field; None: not known."""
        packet = self._packet
        four = packet.family == 4
        layer, _, rest = name.partition(" ")
        if layer in ("ip", "ip6"):
            mine = four == (layer == "ip")
            known = {"saddr": packet.source or None, "daddr": packet.target}
            return known.get(rest, packet.protocol) if mine else ""
        if rest == "dport":
            return str(packet.port) if packet.port and layer in ("th", packet.protocol) else ""
        fields = {
            "meta l4proto": packet.protocol,
            "meta nfproto": "ipv4" if four else "ipv6",
            "meta protocol": "ip" if four else "ip6",
            "ct state": "new",
            "ct direction": "original",
            "ct status": "dnat" if packet.translated else "",
        }
        if name in fields:
            return fields[name]
        return packet.arrives if name.endswith(("iifname", "iif")) else packet.leaves


def describe(opinion: Opinion, owner: str) -> str:
    """One line for people: the chain, the rules that decide, and whose it is."""
    chain, by = opinion.chain, opinion.by
    whose = {"": "whose it is, its name does not say", "you": "your own rules"}.get(owner, f"it is {owner}'s")
    where = f"{chain} ({chain.hook}, priority {chain.priority}, policy {chain.policy}; {whose})"
    rules = "; ".join(map(str, opinion.doubts[:_SHOWN]))
    rules += f"; and {len(opinion.doubts) - _SHOWN} more" if len(opinion.doubts) > _SHOWN else ""
    ends = f"drops it: {by}" if by and by.rule else "drops it: no rule lets it pass"
    if opinion.drops:
        return f"{where} {ends}"
    if by is not None and by.verdict == "drop":
        return f"{where} {ends}, unless one of these does, which cannot be told from here: {rules}"
    if all(doubt.verdict == "dnat" for doubt in opinion.doubts):
        return f"{where} may send it elsewhere: {rules}"
    return f"{where} may drop it, which cannot be told from here: {rules}"


def remedies(opinion: Opinion, owner: str, packet: Packet) -> Iterator[str]:
    """What would let the packet through there, in the words of the tool that the table belongs to."""
    chain, arrives, leaves = opinion.chain, packet.arrives, packet.leaves
    forward = chain.hook == "forward"
    if owner == "firewalld":
        yield f"firewall-cmd --zone=trusted --change-interface={arrives if forward else arrives or leaves}"
    elif owner == "ufw":
        yield f"ufw route allow in on {arrives} out on {leaves}" if forward else f"ufw allow in on {arrives}"
    elif chain.family in ("ip", "ip6") and chain.name.isupper():
        tool = "iptables" if chain.family == "ip" else "ip6tables"
        place = "DOCKER-USER" if owner == "dockerd" and forward else chain.name
        sides = (f" -i {arrives}" if arrives else "") + (f" -o {leaves}" if leaves else "")
        yield f"{tool} -I {place}{sides} -j ACCEPT"
        if forward:
            yield f"and for the answers: {tool} -I {place} -m conntrack --ctstate ESTABLISHED,RELATED -j ACCEPT"
    else:
        sides = (f'iifname "{arrives}" ' if arrives else "") + (f'oifname "{leaves}" ' if leaves else "")
        yield f"nft insert rule {chain} {sides}accept"
        if forward:
            yield f"and for the answers: nft insert rule {chain} ct state established,related accept"


def _of_xt(name: list[str]) -> list[str]:
    """What a target of iptables, that nft could only name, does."""
    target = name[0].strip('"').lower() if name else ""
    return [target] if target in _ENDS | _TRANSLATES else ["drop"] if target in ("tarpit", "nfqueue") else []


def _between(value: str, first: str, last: str) -> bool | None:
    try:
        low, it, high = (int(ip_address(text)) for text in (first, value, last))
    except ValueError:
        return None
    return low <= it <= high and (":" in value) == (":" in first)


def _read(listing: str) -> Iterator[Chain]:
    """Chains of a listing; sets and maps are skipped."""
    family, table, asleep = "", "", False
    chain: Chain | None = None
    for line in listing.splitlines():
        text = line.strip()
        words = text.split()
        if line.startswith("table "):
            family, table, asleep = words[1], words[2], False
        elif line.startswith("\tflags "):
            asleep = "dormant" in words
        elif line.startswith("\tchain ") and not _OURS.fullmatch(f"{family} {table}"):
            chain = Chain(family, table, words[1])
        elif line == "\t}":
            if chain is not None:
                yield chain
            chain = None
        elif chain is not None and (found := _HOOK.match(text)):
            _set_hook(chain, found)
            chain.hook = "" if asleep else chain.hook
        elif chain is not None and text:
            chain.rules.append(text)


def _set_hook(chain: Chain, found: re.Match[str]) -> None:
    kind, hook, many, one, priority, rest = found.groups()
    named = _BRIDGE_NAMED if chain.family == "bridge" else _NAMED
    base, _, shift = priority.replace(" ", "").replace("+", "|+").replace("-", "|-").partition("|")
    chain.kind, chain.hook = kind, hook
    chain.priority = named.get(base, 0) + int(shift or 0) if base in named else int(priority.replace(" ", ""))
    chain.policy = "drop" if "policy drop" in rest else "accept"
    chain.devices = tuple(word.strip('",') for word in (many or one or "").split())
