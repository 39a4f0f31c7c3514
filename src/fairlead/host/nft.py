"""nftables: our one table of a namespace, through libnftables in this process.

    Skeleton --apply--> delete table; table inet fairlead { … }; create elements     one transaction
    Element  --apply--> create element inet fairlead map { a : b, c : d }            one transaction

A change of a few elements costs a fifth of a millisecond, however many there
are. What costs forty times that is a transaction that the kernel refuses; so
this module hopes first and reads what is there only when hope was wrong.

How it works
    Elements are *created*: the kernel refuses if one is there already. Then, and
    only then, the maps concerned are read, equal elements are left alone,
    different ones replaced. So what ``apply`` did is known, and can be undone.

    The table carries a hash of the skeleton it was made from as its comment. That
    tells whose text it is, not whether somebody deleted a rule since. So the table
    is listed without elements and counters, and compared with the listing of the
    same text in a namespace nobody else can reach (``host.listings`` remembers it).

Rules
    1. A context belongs to the namespace it was opened in, and to one thread at a time. But names of devices it looks
       up where its caller is, by a dump of all there are: so the caller goes there, where there are few.
    2. The whole table is never listed to add or remove an element.
    3. Nobody puts words into our commands: what could end an element is refused.
    4. Rules name devices by name (``iifname``), not by index (``iif``), but for "lo".
"""

from __future__ import annotations

import ipaddress
import logging
import os
import struct
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import lru_cache
from operator import is_
from typing import Any

import msgspec

from fairlead.core.patterns import pattern
from fairlead.core.wanted import Element, Skeleton
from fairlead.errors import Internal, Invalid, Unsupported
from fairlead.host import libnftables, nftwire, nftwords
from fairlead.host.libnftables import JSON, TERSE
from fairlead.host.listings import intact, known, mark
from fairlead.host.netlink import NETFILTER, Netlink, Request, attributes, string, text
from fairlead.host.netns import HERE, in_new, inside

log = logging.getLogger(__name__)

TABLE = "inet fairlead"
_INET, _NETDEV, _GET_TABLE, _GET_CHAIN = 1, 5, (10 << 8) | 1, (10 << 8) | 4
_CHUNK = 100
_TRIES = 5
"""how often a listing is asked for that fails for no reason of its own"""
_ANY_TABLE = f"add table {TABLE}\ndelete table {TABLE}\n"
_UNSAFE = pattern(r"[^\w .:/\-*@%\"]")

Undo = Callable[[], None]


class Nft:
    """libnftables of one namespace. Make it while the thread is there; use it from anywhere."""

    def __init__(self, path: str | int = "", lively: bool = False, blank: bool = False) -> None:
        """``path`` of the namespace, or an open file of it; "": where all threads are. ``lively``: elements come and go
        here, so they have a socket of their own. ``blank``: it was just made, and nothing of ours can be there."""
        self._path = path
        self.blank = blank
        self._context = libnftables.Context()
        self._netlink = Netlink.here(NETFILTER) if lively else None
        self._known = ""
        self._foreseen: tuple[Sequence[Element], list[Request]] | None = None

    def close(self) -> None:
        if self._netlink is not None:
            self._netlink.close()

    def knows(self, skeleton: Skeleton) -> None:
        """The table is this one: from now on its plain elements need no words."""
        self._known, self._foreseen = skeleton.text, None

    def run(self, commands: str) -> None:
        """One transaction; raises ``Denied`` when the kernel or the parser refuses it."""
        with self._there():
            code, _, error = self._context.run(commands)
        self.blank = False
        if code:
            raise Denied(error)

    def change(self, elements: Sequence[Element], *, delete: bool = False) -> bool:
        """Make (or delete) elements without words, in one transaction; False: nothing was done, take the long way."""
        if self._netlink is None:
            return False
        foreseen, self._foreseen = self._foreseen, None
        if foreseen and not delete and len(foreseen[0]) == len(elements) and all(map(is_, foreseen[0], elements)):
            requests: list[Request] | None = foreseen[1]
        else:
            requests = nftwire.change("fairlead", _layouts(self._known), elements, delete=delete)
        try:
            return requests is not None and self._netlink.transact(requests) is None
        except OSError:
            return False  # more than fits into one send

    def foresee(self, elements: Sequence[Element]) -> None:
        """They will be made next, if nothing comes between: they are spelled now."""
        requests = nftwire.change("fairlead", _layouts(self._known), elements) if self._netlink else None
        self._foreseen = (elements, requests) if requests else None

    def exists(self) -> bool:
        """Whether our table is there, whatever is in it; some twenty microseconds."""
        return bool(self.listing()) if self._netlink is None else is_there(self._netlink)

    def declared(self, words: str) -> bool:
        """Whether the table of this text and its chains are there, whatever is in them."""
        if self._netlink is None:
            return False
        lines = [line.split() for line in words.splitlines()]
        table = next(line[2] for line in lines if line[:2] == ["table", "inet"])
        chains = [line[1] for line in lines if line[:1] == ["chain"]]
        body = struct.pack("=BBH", _INET, 0, 0) + text(1, table)
        questions = [Request(_GET_TABLE, 0, body), *(Request(_GET_CHAIN, 0, body + text(3, name)) for name in chains)]
        return all(isinstance(answer, bytes) for answer in self._netlink.ask(questions))

    def listing(self, elements: bool = False) -> str:
        """Our table as text, "" when there is none."""
        return self.output(f"list table {TABLE}", 0 if elements else TERSE)

    def tables_at_devices(self) -> list[str]:
        """Names of the tables of family ``netdev``, everybody's."""
        if self._netlink is None:
            return [line.split()[2] for line in self.output("list tables netdev").splitlines()]
        found = self._netlink.dump(_GET_TABLE, struct.pack("=BBH", _NETDEV, 0, 0))
        return [string(attributes(body, 4)[1]) for body in found]

    def everything(self) -> str:
        """All tables, everybody's, as text without the elements of named sets."""
        return self.output("list ruleset", TERSE)

    def output(self, command: str, flags: int = 0) -> str:
        """What a command lists; "" when that is not there, or cannot be in this kernel.

        A listing that failed says nothing: what is taken for an empty table would be made anew, over what stands.
        """
        for _ in range(_TRIES):
            with self._there():
                code, output, error = self._context.run(command, flags)
            if not code:
                return output
            refusal = Denied(error)
            if refusal.absent or refusal.unsupported:
                return ""
        raise Internal(f"cannot {command}: nftables: {refusal}")

    def _there(self) -> AbstractContextManager[None]:
        return nullcontext() if self._path == "" else inside(self._path)

    def read(self, what: str) -> list[dict[str, Any]]:
        """JSON objects of ``table inet fairlead`` or ``map inet fairlead x``; none when it is not there."""
        output = self.output(f"list {what}", JSON)
        return list(msgspec.json.decode(output)["nftables"]) if output else []


class Denied(Exception):
    """libnftables' own words; ``exists`` and ``absent`` tell what can be helped."""

    def __init__(self, words: str) -> None:
        lines = [line.strip() for line in words.strip().splitlines()[:2]]
        super().__init__(": ".join(line[:300] for line in lines))
        self.exists = "File exists" in words
        self.absent = "No such file or directory" in words
        self.unsupported = "Operation not supported" in words or "Protocol not supported" in words
        self.nameless = "Could not resolve protocol name" in words  # "tcp" in a rule, in a root without /etc/protocols

    def as_error(self, what: object) -> Internal | Unsupported:
        if self.nameless:
            return Unsupported(f"cannot make {what}: /etc/protocols is missing (Debian: the package netbase)")
        kind = Unsupported if self.unsupported else Internal
        return kind(f"cannot make {what}: nftables: {self}")


# -- making -----------------------------------------------------------------------


def apply(nft: Nft, skeleton: Skeleton | None, elements: Sequence[Element], fresh: bool = False) -> Undo:
    """Skeleton (unless it stands) and elements, in one transaction; returns how to undo it.

    ``fresh``: the namespace is new, nothing can be there.
    """
    if skeleton is not None and (fresh or nft.blank or not stands(nft, skeleton)):
        return _replace_table(nft, skeleton, elements, fresh)
    if not elements:
        return _nothing
    if not nft.change(elements):
        try:
            nft.run(_commands("create", elements))
        except Denied as refusal:
            if refusal.exists:
                return _replace_elements(nft, elements)
            raise refusal.as_error(_few(elements)) from None
    return lambda: remove(nft, elements)


def remove(nft: Nft, elements: Sequence[Element]) -> None:
    """Gone already is fine."""
    if not elements or nft.change(elements, delete=True):
        return
    try:
        nft.run(_commands("delete", elements))
    except Denied as refusal:
        if not refusal.absent:
            raise refusal.as_error(_few(elements)) from None
        there = _standing(nft, elements)
        left = [item for item in elements if (item.map, canonical(item.item)) in there]
        if left:
            _run(nft, _commands("delete", left), _few(left))


def remove_table(nft: Nft) -> None:
    """Gone already is fine."""
    _run(nft, _ANY_TABLE, "the removal of our table")


def _replace_table(nft: Nft, skeleton: Skeleton, elements: Sequence[Element], fresh: bool) -> Undo:
    before = "" if fresh or nft.blank else nft.listing(elements=True)
    if before:
        log.info("the table %s is not as it should be: it is made anew", TABLE)
    _run(nft, ("" if fresh else _ANY_TABLE) + table_text(skeleton.text) + _commands("add", elements), f"table {TABLE}")
    nft.knows(skeleton)
    return lambda: nft.run(_ANY_TABLE + before)


def _replace_elements(nft: Nft, elements: Sequence[Element]) -> Undo:
    """Some of them are there: read which, and in what state."""
    there = _standing(nft, elements)
    new, old, different = [], [], []
    for item in elements:
        value = there.get((item.map, canonical(item.item)))
        if value is None:
            new.append(item)
        elif value != canonical(item.value):
            different.append(item)
            old.append(Element(ns=item.ns, map=item.map, item=item.item, value=value))
    forth = _commands("delete", different) + _commands("add", [*different, *new])
    back = _commands("delete", [*new, *different]) + _commands("add", old)
    if forth:
        _run(nft, forth, _few(elements))
    return (lambda: nft.run(back)) if forth else _nothing


def _standing(nft: Nft, elements: Sequence[Element]) -> dict[tuple[str, str], str]:
    """(map, canonical item) -> canonical value of everything in the maps of these elements."""
    found = {}
    for name, kind in {item.map: "map" if item.value else "set" for item in elements}.items():
        other = "set" if kind == "map" else "map"
        objects = nft.read(f"{kind} {TABLE} {name}") or nft.read(f"{other} {TABLE} {name}")
        for item in _elements(objects, ""):
            found[name, item.item] = item.value
    return found


def _commands(verb: str, elements: Sequence[Element]) -> str:
    _refuse_unsafe(elements)
    by_map: dict[str, list[str]] = {}
    for item in elements:
        pair = f"{item.item} : {item.value}" if item.value and verb != "delete" else item.item
        by_map.setdefault(item.map, []).append(pair)
    lines = []
    for name, pairs in by_map.items():
        for start in range(0, len(pairs), _CHUNK):
            chunk = ", ".join(pairs[start : start + _CHUNK])
            lines.append(f"{verb} element {TABLE} {name} {{ {chunk} }}\n")
    return "".join(lines)


def _run(nft: Nft, commands: str, what: object) -> None:
    try:
        nft.run(commands)
    except Denied as refusal:
        raise refusal.as_error(what) from None


def _nothing() -> None:
    """Nothing was done, nothing is to be undone."""


def _refuse_unsafe(elements: Iterable[Element]) -> None:
    for item in elements:
        for word in (item.map, item.item, item.value):
            if bad := _UNSAFE.search(word):
                raise Invalid(f"{bad.group()!r} has no place in a firewall element: {item}")


def _few(elements: Sequence[Element]) -> str:
    more = f" and {len(elements) - 1} more" if len(elements) > 1 else ""
    return f"{elements[0]}{more}"


# -- the skeleton: is it what it was? -----------------------------------------------


def table_text(text: str) -> str:
    return f'table {TABLE} {{\n\tcomment "fairlead {mark(text)}"\n{text}\n}}\n'


def stands(nft: Nft, skeleton: Skeleton) -> bool:
    """Whether our table is exactly this skeleton, elements aside."""
    listing = nft.listing()
    if not (_signed(listing) == mark(skeleton.text) and intact(skeleton.text, listing, as_it_should_list)):
        return False
    nft.knows(skeleton)
    return True


@lru_cache(maxsize=8)
def _layouts(skeleton: str) -> dict[str, nftwire.Layout]:
    return nftwire.layouts(skeleton)


@lru_cache(maxsize=1)
def elsewhere() -> Nft:
    """A context in a namespace that nobody can reach."""
    return in_new(lambda: Nft(os.open(HERE, os.O_RDONLY | os.O_CLOEXEC)))


@lru_cache(maxsize=256)
def as_it_should_list(text: str) -> str:
    """How the kernel lists this skeleton when nobody touched it; "" if it cannot even be made."""
    return listed(table_text(text), TABLE, TERSE)


def listed(commands: str, table: str, flags: int = 0) -> str:
    """How the kernel lists the table that these commands make when nobody touched it; "" if it cannot even be made."""
    nft = elsewhere()
    try:
        nft.run(commands)
    except Denied:
        return ""
    listing = nft.output(f"list table {table}", flags)
    nft.run(f"delete table {table}")
    return listing


# -- reading ----------------------------------------------------------------------


def is_there(wire: Netlink) -> bool:
    """Whether our table is in that namespace, whatever is in it; some twenty microseconds."""
    body = struct.pack("=BBH", _INET, 0, 0) + text(1, "fairlead")
    return isinstance(wire.ask([Request(_GET_TABLE, 0, body)])[0], bytes)


def look(nft: Nft, ns: str, wanted: Skeleton | None) -> tuple[Skeleton | None, list[Element]]:
    """Skeleton and elements that are there.

    A table that is not exactly ``wanted`` is returned as the kernel lists it.
    """
    told, listing = _told(nft, wanted)
    if not listing:
        return None, []
    if wanted is not None and _signed(listing) == mark(wanted.text):
        stands = intact(wanted.text, listing, as_it_should_list)
        if stands:
            nft.knows(wanted)
        skeleton = Skeleton(ns=ns, text=wanted.text if stands else listing)
    else:
        skeleton = Skeleton(ns=ns, text=listing)
    sets = _sets(listing)
    if not sets:
        return skeleton, []
    kernels_own = {name for name, body in sets.items() if any(map(_filled_by_packets, body))}
    found = nftwords.elements(told, kernels_own)
    if found is None:
        return skeleton, [item for item in _elements(nft.read(f"table {TABLE}"), ns) if item.map not in kernels_own]
    return skeleton, [Element(ns=ns, map=name, item=canonical(key), value=canonical(v)) for name, key, v in found]


def _told(nft: Nft, wanted: Skeleton | None) -> tuple[str, str]:
    """Our table as it is listed with its elements, and without. (To have rules and elements as JSON costs three times
    as much as all of it in words.)"""
    told = nft.listing(elements=True)
    listing = nftwords.without_elements(told)
    if wanted is not None and known(wanted.text, listing):
        return told, listing
    return told, nft.listing()  # in doubt nft's own way to leave them out


def _signed(listing: str) -> str:
    """The mark in the comment of a table, "" when it has none."""
    return listing.partition('\n\tcomment "fairlead ')[2].partition('"')[0]


def _sets(listing: str) -> dict[str, list[str]]:
    """What is said of each set and map, by name. (Expressions for the same are dearer to compile than all listings.)"""
    found: dict[str, list[str]] = {}
    body: list[str] = []
    for line in listing.splitlines():
        if line.startswith(("\tset ", "\tmap ")):
            body = found[line.split()[1]] = []
        elif line == "\t}":
            body = []
        else:
            body.append(line)
    return found


def _filled_by_packets(line: str) -> bool:
    """Whether a set of which this is said is none whose elements somebody wished for."""
    words = line.replace(",", " ").split()
    return words[:1] == ["timeout"] or (words[:1] == ["flags"] and not {"dynamic", "timeout"}.isdisjoint(words))


def _elements(objects: Iterable[dict[str, Any]], ns: str) -> list[Element]:
    found = []
    for entry in objects:
        body = entry.get("map") or entry.get("set")
        if not isinstance(body, dict) or body.get("table") != "fairlead":
            continue
        for element in body.get("elem", []):
            key, value = element if "map" in entry else (element, None)
            item, text = canonical(_text(key)), canonical(_text(value)) if value is not None else ""
            found.append(Element(ns=ns, map=body["name"], item=item, value=text))
    return found


def _text(value: Any) -> str:
    """An expression of libnftables' JSON in nft's own notation."""
    if not isinstance(value, dict):
        return str(value)
    kind, body = next(iter(value.items()))
    if kind == "concat":
        return " . ".join(_text(part) for part in body)
    if kind == "prefix":
        return f"{body['addr']}/{body['len']}"
    if kind == "range":
        return f"{_text(body[0])}-{_text(body[1])}"
    if kind == "elem":
        return _text(body["val"])
    if kind in ("jump", "goto"):
        return f"{kind} {body['target']}"
    return str(kind)


@lru_cache(maxsize=16384)
def canonical(text: str) -> str:
    """One spelling of many: no quotes, decimal numbers, short addresses, a range that is a prefix as one."""
    return " . ".join(_canonical(part.strip()) for part in text.split(" . "))


def _canonical(word: str) -> str:
    if word.startswith('"'):
        return word.strip('"')
    try:
        return str(int(word, 0))
    except ValueError:
        pass
    first, _, last = word.partition("-")
    try:
        if last:
            networks = list(ipaddress.summarize_address_range(_ip(first), _ip(last)))
            return _short(networks[0]) if len(networks) == 1 else f"{_ip(first)}-{_ip(last)}"
        return _short(ipaddress.ip_network(word))
    except (ValueError, TypeError):
        return word


def _ip(text: str) -> Any:
    return ipaddress.ip_address(text)


def _short(network: ipaddress.IPv4Network | ipaddress.IPv6Network) -> str:
    return str(network.network_address) if network.prefixlen == network.max_prefixlen else str(network)
