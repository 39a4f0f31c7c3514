"""Asking: the two ends of a question, ``explain A B[:port]``, the names in it, and what to do about the answer.

    db:5432/tcp  --parse-->  Ask(db, 5432, tcp)
    Asker + name --look_up-> Answer(address, how)      hosts file first, then 127.0.0.11 or the plain servers
    Walked       --advise--> what would make it work

Names are looked up in the same ``core.names`` that the resolver answers from.

What it does not do: walk (``core.explain``), or find containers (``engine.explain``).
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from fairlead.core import dnswire
from fairlead.core.names import Names
from fairlead.core.others import remedies
from fairlead.core.steps import NOWHERE, Walked
from fairlead.core.terrain import is_loopback
from fairlead.core.wanted import HOST
from fairlead.core.written import family_of
from fairlead.errors import Invalid

PROTOCOLS = ("tcp", "udp", "sctp")
LOOPBACK = "loopback addresses are for callers on the host itself: publish without an address, -p HOSTPORT:PORT"
APART = "put both on a network whose icc is on"
_URL = re.compile(r"http(?P<secure>s?)://(?P<place>[^/]+)(?P<path>/.*)?")
OUTSIDE = {4: "203.0.113.1", 6: "3fff::1"}
"""Addresses reserved for documentation; here they stand for anywhere in the world."""


class Ask(NamedTuple):
    """Who is called, and how. ``port`` 0: a ping. ``path``: of a URL."""

    who: str
    port: int = 0
    protocol: str = "tcp"
    path: str = ""


class Answer(NamedTuple):
    """What a name led to. ``address`` "": nothing that the caller could call."""

    address: str
    says: str
    ours: bool = True
    """False: others answer this name, if anybody"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asker:
    """How a caller's names are answered."""

    title: str
    hosts: tuple[tuple[str, tuple[str, ...]], ...] = ()
    """lines of its hosts file: address, names"""
    sandbox: str = ""
    names: Names | None = None
    """None: no embedded names here (default bridge, host)"""
    networks: tuple[str, ...] = ()
    """names of the networks whose names it sees"""
    upstreams: tuple[str, ...] = ()
    forwards: bool = True
    search: tuple[str, ...] = ()
    ndots: int = 1
    """a name with fewer dots is asked with each search domain first; from the caller's resolv.conf, both"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ends:
    """Who is called by whom, for the words of advice."""

    source: str = ""
    """name of the calling container; "" for host and world"""
    target: str = ""
    """name of the called container; "" for anything else"""
    source_networks: tuple[str, ...] = ()
    target_networks: tuple[str, ...] = ()
    internal: frozenset[str] = frozenset()
    published: Mapping[int, tuple[str, ...]] = field(default_factory=dict)
    """container port -> ``0.0.0.0:8080`` … of the called container"""
    local_only: frozenset[int] = frozenset()
    """host ports that are published on a loopback address only"""
    gateway: str = ""
    """address at which the caller reaches the host"""
    service: str = ""
    """name of the service that is called"""


def parse(text: str) -> Ask:
    """``web``, ``web:80``, ``web:53/udp``, ``10.0.0.2:80``, ``[fd00::2]:80``, ``fd00::2``, ``http://web/path``;
    ``Invalid`` for the rest."""
    if url := _URL.fullmatch(text):
        ask = parse(url["place"])
        return ask._replace(port=ask.port or (443 if url["secure"] else 80), path=url["path"] or "/")
    rest, slash, protocol = text.partition("/")
    if slash and protocol not in PROTOCOLS:
        raise Invalid(f"{text}: the protocol is one of {', '.join(PROTOCOLS)}")
    if is_address(rest.strip("[]")):
        who, port = rest.strip("[]"), ""
    elif rest.startswith("["):
        who, _, port = rest[1:].partition("]:")
    else:
        who, _, port = rest.partition(":")
    if not who or (port and not (port.isascii() and port.isdigit() and 0 < int(port) < 65536)):
        raise Invalid(f"{text}: not NAME, ADDRESS or either of them with :PORT")
    if slash and not port:
        raise Invalid(f"{text}: a protocol needs a port")
    return Ask(who, int(port or 0), protocol or "tcp")


def is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def look_up(asker: Asker, name: str, family: int) -> Answer:
    """Who answers ``name`` in the caller's stack, and with which address of that family."""
    for address, names in asker.hosts:
        if name in names and family_of(address) == family:
            return Answer(address, f"{name} is {address} in the hosts file of {asker.title}")
    if asker.names is None:
        return Answer("", _plainly(asker, name), False)
    kind = dnswire.A if family == 4 else dnswire.AAAA
    tried = spellings(name, asker.search, asker.ndots)
    known = ((each, asker.names.find(asker.sandbox, each.lower(), kind)) for each in tried)
    name, found = next(((each, records) for each, records in known if records is not None), (name, None))
    where = " and ".join(asker.networks)
    if found is not None and asker.forwards and (before := tried[: tried.index(name)]):
        where += f", unless others know {' or '.join(before)}: search and ndots:{asker.ndots} put that first"
    if found:
        address = str(ipaddress.ip_address(found[0][1]))
        more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
        return Answer(address, f"127.0.0.11 answers {name} with {address}{more}: a name on {where}")
    if found is not None:
        return Answer("", f"127.0.0.11 knows {name} on {where}, but without an IPv{family} address")
    if not asker.forwards:
        return Answer("", f"nobody on {where} is called {name}, and an internal network forwards no questions", False)
    servers = ", ".join(asker.upstreams) or "no server at all"
    words = f" for {', '.join(tried)}" if len(tried) > 1 else ""
    return Answer("", f"nobody on {where} is called {name}; 127.0.0.11 asks {servers}{words}", False)


def spellings(name: str, search: tuple[str, ...], ndots: int) -> tuple[str, ...]:
    """Under which names a program's resolver asks for ``name``, in its order (resolv.conf(5))."""
    bare = name.rstrip(".")
    if name.endswith("."):
        return (bare,)
    longer = tuple(f"{bare}.{domain.strip('.')}" for domain in search if domain.strip("."))
    return (bare, *longer) if bare.count(".") >= ndots else (*longer, bare)


def _plainly(asker: Asker, name: str) -> str:
    servers = ", ".join(asker.upstreams) or "no server at all"
    return f"there are no container names here: {asker.title} asks {servers} for {name}"


def advise(walked: Walked, ends: Ends, ask: Ask, resolved: bool) -> Iterator[str]:
    """What would make it work, in the order of what is done most often; nothing when it works."""
    if not resolved and ends.source and walked.place != NOWHERE:
        yield from _for_a_name(ends)
    if walked.reason == "name" and ends.source_networks and all(n in ends.internal for n in ends.source_networks):
        yield f"it is on internal networks only: fairlead network connect bridge {ends.source}"
    reason, met = walked.reason, walked.stopped_by
    if walked.place != NOWHERE:
        yield from _though_it_arrived(walked, ends, ask)
    elif reason == "rule" and met is not None:
        yield from _for_a_rule(met.chain, met.rule, ends, ask)
    elif reason in ("others", "detour", "refused", "rp_filter"):
        yield from _for_others(walked)
    elif reason == "internal":
        yield from _for_a_rule("forward", "@internal", ends, ask)
    elif reason == "loopback":
        yield LOOPBACK
    elif reason == "switch" and "icc" in walked.hops[-1].says:
        yield APART
        yield _publish(ends, ask)
    elif reason == "route":
        yield from _for_a_route(ends, walked, resolved)
    elif reason == "nobody":
        yield "nobody has this address now: is the container running, and is it its present address?"
    elif reason == "vip":
        yield f"see what its tasks are about: fairlead service ps {ends.service}".rstrip() + ", on a manager"
    elif reason == "inlet":
        yield "ingress carries published ports and answers: tasks talk to each other on a network of their own"
    elif reason == "key":
        yield "does the engine on the other host run, and does the cluster store answer (fairlead info)?"
    elif reason == "forwarding":
        setting = "net.ipv4.ip_forward" if walked.packet.family == 4 else "net.ipv6.conf.all.forwarding"
        yield f"run the daemon with --ip-forward, or: sysctl -w {setting}=1"
    elif reason == "answer":
        yield "connect it to a network that leads out (its networks are all internal)"
    elif reason == "switch":
        yield "give both containers a bridge network, or reach the host by another address of this LAN"


def _for_others(walked: Walked) -> Iterator[str]:
    """Ways out of what somebody else has made: only they know why it is there."""
    packet, road = walked.packet, walked.road
    if walked.stopped_by_others is not None:
        yield from remedies(walked.stopped_by_others, walked.owner, packet)
    elif walked.reason == "rp_filter":
        setting = f"net.ipv4.conf.{packet.arrives}.rp_filter"
        yield f"let answers leave by {packet.arrives}, or: sysctl -w {setting}=2"
    elif road is not None and road.rules:
        yield f"see to the policy rule: ip rule delete priority {road.rules[0].partition(':')[0]}"
    elif road is not None and road.prefix:
        flag, kind = "-6 " if packet.family == 6 else "", "" if road.leads else f"{road.kind} "
        by = f" dev {road.device}" if road.device else ""
        table = "" if road.table == "main" else f" table {road.table}"
        yield f"if it may go: ip {flag}route delete {kind}{road.prefix}{by}{table}"
    else:
        yield f"sysctl -w net.ipv4.conf.{packet.arrives}.forwarding=1"


def _for_a_name(ends: Ends) -> Iterator[str]:
    if ends.target and not set(ends.source_networks) & set(ends.target_networks) - {"bridge"}:
        yield f"names need a user network that both are on: {_together(ends)}"


def _together(ends: Ends) -> str:
    mine = [name for name in ends.target_networks if name not in ("bridge", "host", "none")]
    if mine:
        return f"fairlead network connect {mine[0]} {ends.source}"
    theirs = [name for name in ends.source_networks if name not in ("bridge", "host", "none")]
    if theirs:
        return f"fairlead network connect {theirs[0]} {ends.target}"
    return f"fairlead network create NET; then network connect NET {ends.source}, and {ends.target}"


def _though_it_arrived(walked: Walked, ends: Ends, ask: Ask) -> Iterator[str]:
    if ends.source and is_loopback(walked.packet.target) and walked.place != HOST and ends.gateway:
        where = f"{ends.gateway}:{ask.port}" if ask.port else ends.gateway
        yield f"127.0.0.1 in a container is the container; the host's ports are at {where}"
    if walked.place == HOST and ask.port in ends.local_only:
        yield f"port {ask.port} is published at 127.0.0.1 only: publish it with -p {ask.port}:PORT"


def _for_a_rule(chain: str, rule: str, ends: Ends, ask: Ask) -> Iterator[str]:
    if chain == "guard":
        yield LOOPBACK
    elif "@internal" in rule:
        inner = next((n for n in (*ends.source_networks, *ends.target_networks) if n in ends.internal), "the network")
        yield f"{inner} is internal: nothing crosses its edge; connect the container to another network as well"
    elif "icc is off" in rule:
        yield APART
        yield _publish(ends, ask)
    elif chain == "entering":
        if ends.source and ends.target:
            yield f"put both on one network: {_together(ends)}"
        yield _publish(ends, ask)
    else:
        yield "the engine turned forwarding on for containers only: --ip-forward-no-drop lets others through"


def _publish(ends: Ends, ask: Ask) -> str:
    """Where the called port is published, or how it could be."""
    there = ends.published.get(ask.port) or (
        tuple(place for places in ends.published.values() for place in places) if not ask.port else ()
    )
    if there:
        return f"call a published port of the host instead: {', '.join(there)} leads there"
    return f"publish it: run {ends.target or 'the container'} with -p HOSTPORT:{ask.port or 'PORT'}, and call the host"


def _for_a_route(ends: Ends, walked: Walked, resolved: bool) -> Iterator[str]:
    if ends.target and not resolved:
        yield f"put both on one network: {_together(ends)}"
    if walked.packet.family == 6:
        yield "no network of the caller has IPv6: network create --ipv6"
    if ends.source_networks and all(name in ends.internal for name in ends.source_networks):
        yield f"it is on internal networks only: fairlead network connect bridge {ends.source}"
    elif ends.source and ends.source_networks in ((), ("none",)):
        yield "it has no network: run it with --network NET"
