"""Names: who may resolve what. The whole truth the resolver process answers from.

    network RED   --- web (endpoint 1)  db (endpoint 2)        sandbox A is on RED and BLUE,
    network BLUE  --- db (endpoint 9)                           sandbox B on RED only

A sandbox asks for a name. It finds it when one of *its* networks knows it, in
the order of its networks; what its networks do not know is not ours (``None``)
and may be forwarded. The same name may mean different containers to different
askers, and that is the point.

How a name is looked up
    1. whole: a link alias of this sandbox, or a name, alias or short id, on each
       network in turn;
    2. qualified: ``db.red`` is ``db`` on the network named ``red``;
    3. wildcard aliases: ``*.shop`` answers ``a.shop`` and ``a.b.shop``, not ``shop``;
       the longest wildcard wins, and anything said exactly beats it.
    4. services: ``_80._tcp.db`` is port 80 of ``db`` for a question of type SRV (RFC 2782),
       before wildcards, if somebody called ``db`` exposes or publishes that port.
    The first rule with any hit decides. Of the networks it hit, the first one
    with an address of the asked family gives the answer; none has one: the name
    is known and the answer is empty (never "no such name", which would hide the
    other family).

Rules
    1. Letters are compared without case; a last dot means nothing.
    2. An alias shared by endpoints answers with all of them, oldest first;
       whoever sends the answer rotates it.
    3. Reverse agrees with forward: an address resolves to ``name.network``, and
       that name resolves to the address.
    4. A known name is known for every record type, so that no container's name
       ever leaves the machine as a question.

What it does not do: read messages (``core.dnswire``), forward, hold sockets.
Endpoint ids are opaque here: a service's address may be an "endpoint" as well,
and ``tasks.web`` is a name like any other.
"""

from __future__ import annotations

import ipaddress
import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from fairlead.core import dnswire
from fairlead.errors import Invalid

Rdata = tuple[int, bytes]
"""(record type, data) as ``dnswire.record`` takes them."""


class Entry(NamedTuple):
    """One endpoint's names on one network, folded; ``told`` is the one reverse lookups tell, as it was given."""

    names: tuple[str, ...]
    told: str = ""
    ipv4: bytes = b""
    ipv6: bytes = b""
    ports: tuple[tuple[int, str], ...] = ()
    """what it offers: (80, "tcp")"""


class _Network:
    """The names of one network, ready to be looked up."""

    __slots__ = ("by_address", "by_name", "entries", "name", "suffix", "wild")

    def __init__(self, name: str) -> None:
        self.called(name)
        self.entries: dict[str, Entry] = {}
        self.by_name: dict[str, dict[str, Entry]] = {}
        self.wild: dict[str, dict[str, Entry]] = {}
        self.by_address: dict[bytes, dict[str, Entry]] = {}

    def called(self, name: str) -> None:
        self.name, self.suffix = name, "." + _fold(name)

    def put(self, endpoint: str, entry: Entry) -> None:
        self.drop(endpoint)
        self.entries[endpoint] = entry
        for index, key in self._keys(entry):
            index.setdefault(key, {})[endpoint] = entry

    def drop(self, endpoint: str) -> None:
        entry = self.entries.pop(endpoint, None)
        if entry is None:
            return
        for index, key in self._keys(entry):
            holders = index.get(key, {})
            holders.pop(endpoint, None)
            if not holders:
                index.pop(key, None)

    def _keys(self, entry: Entry) -> Iterator[tuple[dict[Any, dict[str, Entry]], str | bytes]]:
        for name in entry.names:
            yield (self.wild, name[2:]) if name.startswith("*.") else (self.by_name, name)
        for address in (entry.ipv4, entry.ipv6):
            if address:
                yield self.by_address, address

    def wildcard(self, name: str) -> dict[str, Entry] | None:
        """The endpoints of the longest wildcard alias above ``name``."""
        while self.wild and "." in name:
            name = name.partition(".")[2]
            if name in self.wild:
                return self.wild[name]
        return None

    def unqualified(self, name: str) -> str:
        """``db`` for ``db.red`` on the network ``red``; "" for anything else."""
        return name[: -len(self.suffix)] if self.name and name.endswith(self.suffix) else ""


class _Sandbox(NamedTuple):
    networks: tuple[str, ...]
    links: dict[str, dict[str, str]]


class Names:
    """All names of one machine, by network, and what each sandbox sees of them."""

    def __init__(self) -> None:
        self._networks: dict[str, _Network] = {}
        self._sandboxes: dict[str, _Sandbox] = {}
        self._sharing: dict[str, set[str]] = {}

    # -- what is known -------------------------------------------------------------------

    def sandbox(self, id_: str, networks: Sequence[str], links: Mapping[str, Mapping[str, str]] | None = None) -> None:
        """Sandbox ``id_`` sees these networks, in this order; ``links``: network -> alias -> name of the target."""
        self.forget(id_)
        folded = {
            network: {_fold(alias): _fold(target) for alias, target in aliases.items()}
            for network, aliases in (links or {}).items()
        }
        self._sandboxes[id_] = _Sandbox(tuple(dict.fromkeys(networks)), folded)
        for network in networks:
            self._sharing.setdefault(network, set()).add(id_)

    def forget(self, id_: str) -> None:
        """The sandbox is gone; forgetting an unknown one is fine."""
        old = self._sandboxes.pop(id_, None)
        for network in old.networks if old else ():
            sharing = self._sharing.get(network, set())
            sharing.discard(id_)
            if not sharing:
                self._sharing.pop(network, None)

    def put(
        self,
        network: str,
        network_name: str,
        endpoint: str,
        names: Iterable[str],
        ipv4: str = "",
        ipv6: str = "",
        ports: Iterable[str] = (),
    ) -> None:
        """Upsert an endpoint's names on a network. Addresses as text, with or without prefix length, "" for none.

        ``ports``: what it offers, as ``80/tcp``."""
        given = tuple(names)
        told = next((name for name in given if _fits(f"{name}.{network_name}")), "")
        folded = dict.fromkeys(filter(None, map(_fold, given)))
        offered = tuple((int(port), protocol) for port, _, protocol in (text.partition("/") for text in ports))
        entry = Entry(tuple(folded), told, _packed(ipv4, 4), _packed(ipv6, 6), offered)
        known = self._networks.get(network)
        if known is None:
            known = self._networks[network] = _Network(network_name)
        elif network_name:
            known.called(network_name)
        known.put(endpoint, entry)

    def drop(self, network: str, endpoint: str) -> None:
        """The endpoint's names are gone from the network; so is a network without any."""
        known = self._networks.get(network)
        if known is not None:
            known.drop(endpoint)
            if not known.entries:
                del self._networks[network]

    def sharing(self, network: str) -> frozenset[str]:
        """The sandboxes that see this network."""
        return frozenset(self._sharing.get(network, ()))

    def counts(self) -> dict[str, int]:
        """How much there is, for people."""
        return {
            "networks": len(self._networks),
            "sandboxes": len(self._sandboxes),
            "endpoints": sum(len(network.entries) for network in self._networks.values()),
        }

    # -- what a sandbox finds ---------------------------------------------------------------

    def find(self, sandbox: str, name: str, type_: int) -> tuple[Rdata, ...] | None:
        """Answer for a sandbox: records; ``()`` for a known name without such records; None: not ours.

        ``name`` as ``dnswire.text`` gives it: lower case, no last dot.
        """
        asker = self._sandboxes.get(sandbox)
        if asker is None:
            return None
        networks = [(id_, self._networks[id_]) for id_ in asker.networks if id_ in self._networks]
        address = reverse_address(name)
        if address:
            return self._reverse(networks, address, type_)
        for rule in (self._whole, self._qualified):
            hits = [hit for hit in rule(asker, networks, name) if hit]
            if hits:
                return next(filter(None, (_records(hit, type_) for hit in hits)), ())
        services = self._services(asker, networks, name) if name.startswith("_") else None
        if services is not None:
            return services if type_ in (dnswire.SRV, dnswire.ANY) else ()
        hits = [hit for hit in self._wild(asker, networks, name) if hit]
        return next(filter(None, (_records(hit, type_) for hit in hits)), ()) if hits else None

    def _services(self, asker: _Sandbox, networks: list[tuple[str, _Network]], name: str) -> tuple[Rdata, ...] | None:
        """SRV records of ``_80._tcp.db``: everybody called ``db`` who offers that port, none before the other.

        None when nobody is called so; ``()`` when nobody of that name offers the port (or it is no number)."""
        port, protocol, target = [*name.split(".", 2), "", ""][:3]
        if not (target and protocol.startswith("_")):
            return None
        is_number = port[1:].isdecimal() and port.isascii() and len(port) < 7
        wanted = int(port[1:]) if is_number else 0, protocol[1:]
        known = False
        for rule in (self._whole, self._qualified, self._wild):
            for (_, network), hit in zip(networks * 2, rule(asker, networks, target), strict=False):
                known = known or bool(hit)
                told = [f"{entry.told}.{network.name}" for entry in (hit or {}).values() if wanted in entry.ports]
                if told:
                    fixed = struct.pack(">HHH", 0, 0, wanted[0])
                    return tuple((dnswire.SRV, fixed + dnswire.wire(full)) for full in told if _fits(full))
        return () if known else None

    @staticmethod
    def _whole(asker: _Sandbox, networks: list[tuple[str, _Network]], name: str) -> Iterator[dict[str, Entry] | None]:
        for id_, network in networks:
            target = asker.links.get(id_, {}).get(name)
            yield (target and network.by_name.get(target)) or network.by_name.get(name)

    @staticmethod
    def _qualified(
        asker: _Sandbox, networks: list[tuple[str, _Network]], name: str
    ) -> Iterator[dict[str, Entry] | None]:
        for id_, network in networks:
            short = network.unqualified(name)
            target = asker.links.get(id_, {}).get(short)
            yield (target and network.by_name.get(target)) or network.by_name.get(short)

    @staticmethod
    def _wild(asker: _Sandbox, networks: list[tuple[str, _Network]], name: str) -> Iterator[dict[str, Entry] | None]:
        for _, network in networks:
            yield network.wildcard(name)
        for _, network in networks:
            yield network.wildcard(network.unqualified(name))

    @staticmethod
    def _reverse(networks: list[tuple[str, _Network]], address: bytes, type_: int) -> tuple[Rdata, ...] | None:
        for _, network in networks:
            for entry in network.by_address.get(address, {}).values():
                full = f"{entry.told}.{network.name}"
                if entry.told and _fits(full):
                    return ((dnswire.PTR, dnswire.wire(full)),) if type_ in (dnswire.PTR, dnswire.ANY) else ()
        return None


def _fits(name: str) -> bool:
    """Whether a name can be told in a message."""
    try:
        return not name.startswith("*.") and bool(dnswire.wire(name))
    except dnswire.Malformed:
        return False


def _records(entries: Mapping[str, Entry], type_: int) -> tuple[Rdata, ...]:
    """The entries' addresses of the asked family, each once."""
    found: list[Rdata] = []
    if type_ in (dnswire.A, dnswire.ANY):
        found += [(dnswire.A, entry.ipv4) for entry in entries.values() if entry.ipv4]
    if type_ in (dnswire.AAAA, dnswire.ANY):
        found += [(dnswire.AAAA, entry.ipv6) for entry in entries.values() if entry.ipv6]
    return tuple(dict.fromkeys(found))


def reverse_address(name: str) -> bytes:
    """The address asked for by ``2.0.18.172.in-addr.arpa`` or its IPv6 sister; b"" when it is no whole address."""
    if name.endswith(".in-addr.arpa"):
        labels = name[:-13].split(".")
        if len(labels) == 4 and all(_is_octet(label) for label in labels):
            return bytes(int(label) for label in reversed(labels))
    elif name.endswith(".ip6.arpa"):
        nibbles = name[:-9].split(".")
        if len(nibbles) == 32 and all(len(nibble) == 1 and nibble in "0123456789abcdef" for nibble in nibbles):
            return bytes.fromhex("".join(reversed(nibbles)))
    return b""


def _is_octet(label: str) -> bool:
    return len(label) < 4 and label.isdecimal() and label.isascii() and int(label) < 256


def _fold(name: str) -> str:
    return name.rstrip(".").lower()


def _packed(address: str, version: int) -> bytes:
    if not address:
        return b""
    try:
        parsed = ipaddress.ip_address(address.partition("/")[0])
    except ValueError:
        raise Invalid(f"not an address: {address}") from None
    if parsed.version != version:
        raise Invalid(f"not an IPv{version} address: {address}")
    return parsed.packed
