"""What HAProxy is told about the HTTP mesh, while requests pass.

    Web <--difference--> Told <--read-- what HAProxy says it has
              '--> commands for its runtime socket

    routes.map     http://red.example.com/ -> b0     the beginning of a URL; the longest that fits
    ledger.map     <service>:8080          -> b0     which backend is whose, and
                   tls:red.example.com     -> <ids>  which secrets a certificate is of: HAProxy keeps it, nobody else
    backend b0     one server for each task, added and removed while requests pass

HAProxy starts with a fixed configuration (``core.proxyconfig``); everything else is said to it while it runs, so that
no change of any service drops a request, and there is nothing to reload.

Rules
    1. What is wanted comes before what is not: certificates, servers that come, routes, then servers that leave; no
       route moves, and nobody leaves, before somebody was found where requests go then (``finished`` tells). No backend
       is without anybody, for no moment, while the tasks before and the tasks after have somebody.
    2. A task that serves no more gets no new requests, not even of clients with its cookie, and leaves when its row
       does. One that still has requests then leaves with a later difference.
    3. A new server is sent requests once HAProxy itself could connect to it (``Server.up``): a task without a health
       check is said to serve before it listens. Found once, it is looked at no more: who serves is for the swarm to
       say, and the last task of a service that is slow to answer a check is better than nobody.
    4. A certificate is exchanged in one step; one that HAProxy does not want leaves the one before.
    5. A command's first line may be shown to anybody; what follows is secret.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from fairlead.core.proxyconfig import BACKENDS, CERTIFICATES, LEDGER, RAW_BACKENDS, ROUTES
from fairlead.core.webmesh import Key, Server, Web
from fairlead.core.written import joined

_CHECK = "check inter 2s downinter 200ms fall 3 rise 1"
_ENABLED = 4
"""bit of HAProxy's ``srv_check_state``"""
_TLS = "tls:"
_BACKENDS = {
    raw: [f"{letter}{number}" for number in range(most)]
    for raw, letter, most in ((False, "b", BACKENDS), (True, "p", RAW_BACKENDS))
}
_BACKEND = re.compile("[bp][0-9]+")
_GOOD = re.compile(
    r"|New server registered.*|Server deleted.*|New empty certificate.*|Transaction created.*|Committing.*|Inserting.*"
    r"|Entry .* deleted.*|Certificate .* deleted.*|Transaction aborted.*|No ongoing transaction.*|Server \S+ is .*",
    re.DOTALL,
)


class Told(NamedTuple):
    """What HAProxy has: ``routes`` and ``ledger`` (``Key`` as text) lead to backends, by name."""

    routes: dict[str, str]
    ledger: dict[str, str]
    servers: dict[str, dict[str, Server]]
    certificates: dict[str, str] = {}
    """host name -> of which secrets"""
    loaded: frozenset[str] = frozenset()
    """host names for which there is a place for a certificate"""
    listed: dict[str, list[str]] = {}
    """host name -> where it is in the list of those that are used"""
    begun: str = ""
    """the certificate that somebody began to exchange"""


QUESTIONS = (
    f"show map {ROUTES}",
    f"show map {LEDGER}",
    "show servers state",
    "show ssl cert",
    f"show ssl crt-list -n {CERTIFICATES}",
)


def read(routes: str, ledger: str, servers: str, certificates: str = "", used: str = "") -> Told:
    """Of the answers to ``QUESTIONS``."""
    found: dict[str, dict[str, Server]] = {}
    for line in servers.splitlines():
        words = line.split()
        if len(words) > 18 and _BACKEND.fullmatch(words[1]):
            where, enabled = joined(words[4], words[18]), bool(int(words[13]) & _ENABLED)
            server = Server(where, words[6] == "0", words[5] == "2", enabled)
            found.setdefault(words[1], {})[words[3]] = server
    noted = _map(ledger)
    names = [line for line in certificates.splitlines() if line and not line.startswith("#")]
    listed: dict[str, list[str]] = {}
    for line in used.splitlines():
        if line and not line.startswith("#"):
            listed.setdefault(line.rpartition(":")[0].split()[0], []).append(line.split()[0])
    return Told(
        _map(routes),
        {key: place for key, place in noted.items() if not key.startswith(_TLS)},
        found,
        {key.removeprefix(_TLS): ids for key, ids in noted.items() if key.startswith(_TLS)},
        frozenset(name for name in names if not name.startswith("*")),
        listed,
        next((name[1:] for name in names if name.startswith("*")), ""),
    )


def _map(listing: str) -> dict[str, str]:
    lines = (line.split() for line in listing.splitlines())
    return {words[1]: words[2] for words in lines if len(words) == 3}


def shown(command: str) -> str:
    """What of a command anybody may see."""
    return command.partition("\n")[0]


def complaint(answer: str) -> str:
    """What of an answer is no good news."""
    return "" if _GOOD.fullmatch(answer.strip()) else " ".join(answer.split())


# -- the difference ---------------------------------------------------------------------------------------------------


def difference(web: Web, told: Told) -> list[str]:
    """Commands for the runtime socket, in the order in which they are said."""
    places = _places(web, told)
    commands = [*_exchanged(web, told)]
    commands += [f"add map {LEDGER} {key} {place}" for key, place in places.items() if str(key) not in told.ledger]
    for key, place in places.items():
        commands += _come(place, web.servers[key], told.servers.get(place, {}), key.sticky)
    commands += _routed(web, told, places)
    for key, place in places.items():
        if not _alone(web.servers[key], told.servers.get(place, {})):
            commands += _rest(place, web.servers[key], told.servers.get(place, {}))
    leads = {str(key): place for key, place in places.items()}
    for place, there in told.servers.items():
        own = next((key for key, backend in places.items() if backend == place), None)
        commands += _go(place, there, web.servers.get(own, {}) if own else {})
    empty = {place for key, place in told.ledger.items() if key not in leads and not told.servers.get(place)}
    commands += [f"del map {LEDGER} {key}" for key, place in told.ledger.items() if key not in leads and place in empty]
    return [*commands, *_forgotten(web, told)]


def finished(web: Web, told: Told) -> bool:
    """Whether HAProxy has all that it should, and nothing else."""
    places = _places(web, told)
    late = any(_alone(web.servers[key], told.servers.get(place, {})) for key, place in places.items())
    waiting = any(_waits(route, place, told) for route, place in _targets(web, places))
    return not late and not waiting and not difference(web, told)


def follows(told: Told, task: str, serving: bool) -> bool:
    """Whether HAProxy has a task as it should be: ready and found, or sent nothing any more."""
    found = [there[task] for there in told.servers.values() if task in there]
    if serving:
        return bool(found) and all(server.serving and server.up for server in found)
    return not any(server.serving for server in found)


def without_place(web: Web, told: Told) -> set[Key]:
    """What HAProxy has no backend for: its configuration names as many as there will ever be."""
    return web.servers.keys() - _places(web, told).keys()


def _places(web: Web, told: Told) -> dict[Key, str]:
    """Each its backend; those that have one keep it, and one that still has servers of others is given to nobody."""
    held = {key: told.ledger[str(key)] for key in web.servers if str(key) in told.ledger}
    busy = {*told.ledger.values(), *(place for place, there in told.servers.items() if there)}
    free = {raw: iter([name for name in names if name not in busy]) for raw, names in _BACKENDS.items()}
    for key in web.servers:
        if key not in held and (place := next(free[key.raw], "")):
            held[key] = place
    return held


# -- servers ----------------------------------------------------------------------------------------------------------


def _come(place: str, wanted: Mapping[str, Server], there: Mapping[str, Server], sticky: bool) -> Iterator[str]:
    if not there and not sticky and not place.startswith("p"):
        yield f"disable dynamic-cookie backend {place}"
    for task, server in wanted.items():
        name, known = f"{place}/{task}", there.get(task)
        if known is None and server.serving:
            yield f"add server {name} {server.address} {_CHECK}"
            yield f"enable health {name}"
            if sticky:  # said anew for each: only servers that are there get a cookie
                yield f"enable dynamic-cookie backend {place}"
            # down until a check found it, which is at once if it is there
            yield f"enable server {name}; set server {name} health down"
        elif known is not None and server.serving and not known.serving:
            yield f"set server {name} state ready"
        elif known is not None and known.serving and known.up and known.checked:
            yield f"disable health {name}"


def _alone(wanted: Mapping[str, Server], there: Mapping[str, Server]) -> bool:
    """Whether those that should rest are all there is: of those that take their place none was found yet."""
    serving = {task for task, server in wanted.items() if server.serving}
    return bool(serving and _up(there)) and not serving & _up(there)


def _up(there: Mapping[str, Server]) -> set[str]:
    return {task for task, server in there.items() if server.serving and server.up}


def _rest(place: str, wanted: Mapping[str, Server], there: Mapping[str, Server]) -> Iterator[str]:
    for task, server in wanted.items():
        if task in there and there[task].serving and not server.serving:
            yield f"set server {place}/{task} state maint"


def _go(place: str, there: Mapping[str, Server], wanted: Mapping[str, Server]) -> Iterator[str]:
    for task in there:
        if task not in wanted:
            yield f"set server {place}/{task} state maint"
            yield f"del server {place}/{task}"


# -- routes -----------------------------------------------------------------------------------------------------------


def _targets(web: Web, places: Mapping[Key, str]) -> Iterator[tuple[str, str]]:
    """Each route and the word that is to be on the map for it; services that there is no room for have none."""
    for route, target in web.routes.items():
        if place := target if isinstance(target, str) else places.get(target):
            yield route, place


def _waits(route: str, place: str, told: Told) -> bool:
    """Whether a route that leads to somebody would lead to nobody."""
    before = told.routes.get(route, place)
    if before == place or not _BACKEND.fullmatch(place):
        return False
    return bool(_up(told.servers.get(before, {}))) and not _up(told.servers.get(place, {}))


def _routed(web: Web, told: Told, places: Mapping[Key, str]) -> Iterator[str]:
    for route, place in _targets(web, places):
        if told.routes.get(route) != place and not _waits(route, place, told):
            yield f"{'set' if route in told.routes else 'add'} map {ROUTES} {route} {place}"
    for route in told.routes:
        if route not in web.routes:
            yield f"del map {ROUTES} {route}"


# -- certificates -----------------------------------------------------------------------------------------------------


def _exchanged(web: Web, told: Told) -> Iterator[str]:
    if told.begun:
        yield f"abort ssl cert {told.begun}"
    for host, certificate in web.certificates.items():
        if not certificate.version or told.certificates.get(host) == certificate.version:
            continue
        if host not in told.loaded:
            yield f"new ssl cert {host}"
        yield f"set ssl cert {host} <<\n{certificate.pem}\n"
        yield f"commit ssl cert {host}"
        yield f"abort ssl cert {host}"  # what was refused must not be in the way of the next one
        if host not in told.listed:
            yield f"add ssl crt-list {CERTIFICATES} <<\n{host} {host}\n"
        verb = "set" if host in told.certificates else "add"
        yield f"{verb} map {LEDGER} {_TLS}{host} {certificate.version}"


def _forgotten(web: Web, told: Told) -> Iterator[str]:
    for host, entries in told.listed.items():
        if host not in web.certificates:
            yield from (f"del ssl crt-list {CERTIFICATES} {entry}" for entry in entries)
    for host in told.loaded:
        if host not in web.certificates:
            yield f"del ssl cert {host}"
    for host in told.certificates:
        if host not in web.certificates:
            yield f"del map {LEDGER} {_TLS}{host}"
