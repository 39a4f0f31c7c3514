"""The HTTP routing mesh: which host name and path lead to which tasks, and what HAProxy is told about it.

    label com.docker.ucp.mesh.http=8080=http://red.example.com --routes--> "8080=red.example.com/" in each task's row
    rows of the mesh's network --wanted--> Web <--difference--> Web <--read-- what HAProxy says it has
                                              '--> commands for its runtime socket

    routes.map     red.example.com/ -> b0          a request's host name and path; the longest that fits
    ledger.map     <service>:8080   -> b0          which backend is whose: HAProxy keeps it, so nobody else need
    backend b0     one server for each task, added and removed while requests pass

HAProxy starts with a fixed configuration and no route at all; everything else is said to it while it runs, so that no
change of any service drops a request, and there is nothing to reload.

Rules
    1. What is wanted comes before what is not: servers that come, then routes, then servers that leave; and those not
       before one of the others was found (``finished`` tells). No backend is without anybody, for no moment, while the
       tasks before and the tasks after have somebody.
    2. A task that serves no more gets no new requests, not even of clients with its cookie, and leaves when its row
       does. One that still has requests then leaves with a later difference.
    3. Of two services that want the same name and path the one with the smaller id has it.
    4. A new server is sent requests once HAProxy itself could connect to it (``Server.up``): a task without a health
       check is said to serve before it listens.
    5. Labels' words end in HAProxy's socket: what is not plainly a name, a path, a number is refused.

What it does not do: talk to HAProxy (``engine.webmesh``), choose who serves.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from fairlead.core.service import (
    ContainerSpec,
    EndpointSpec,
    Global,
    Mode,
    NetworkAttachment,
    ServicePort,
    ServiceSpec,
    TaskSpec,
)
from fairlead.core.serving import ROUTE, Backend
from fairlead.errors import Invalid

NAME = "ucp-hrm"
"""of the network and of the service, as UCP called them"""
LABELS = ("com.docker.ucp.mesh.http", "fairlead.http")
"""and with a number behind it, for more: ``fairlead.http.1``"""
IMAGE = "fairlead/http-mesh:latest"
"""made by each node of its own haproxy"""
SYSTEM = "com.fairlead.system"
"""a service that is part of the swarm's works"""
PORT = 80
"""of HAProxy in its container"""
FOLDER = "/etc/fairlead"
CONFIG, ROUTES, LEDGER = f"{FOLDER}/haproxy.cfg", f"{FOLDER}/routes.map", f"{FOLDER}/ledger.map"
SOCKET = "/run/haproxy.sock"
COMMAND = ("/haproxy", "-db", "-f", CONFIG)
STOP, GRACE = "SIGUSR1", 30_000_000_000
"""HAProxy ends when its clients have their answers; nanoseconds that it has for that"""
BACKENDS = 128
"""services that one mesh has room for"""
COOKIE = "FAIRLEAD"
_CHECK = "check inter 2s fastinter 500ms downinter 200ms fall 3 rise 1"
_LABEL = re.compile(rf"(?:{'|'.join(map(re.escape, LABELS))})(?:\.[0-9]+)?")
_SHORT = re.compile(r"([0-9]{1,5})=https?://(.+)")
_PLACE = re.compile(
    r"(?P<host>[a-z0-9](?:[a-z0-9.-]{0,251}[a-z0-9])?)(?::[0-9]{1,5})?(?P<path>/[A-Za-z0-9._~/%+-]{0,200})?"
)


class Key(NamedTuple):
    """What has a backend of its own."""

    service: str
    port: int
    sticky: bool = False

    def __str__(self) -> str:
        return f"{self.service}:{self.port}{':sticky' if self.sticky else ''}"


class Server(NamedTuple):
    """``address``: ``10.0.1.5:8080`` or ``[fd00::5]:8080``. ``up``: of one that HAProxy has, whether it answers."""

    address: str
    serving: bool = True
    up: bool = False


class Web(NamedTuple):
    """Who answers what."""

    routes: dict[str, Key]
    """host name and path -> whose it is"""
    servers: dict[Key, dict[str, Server]]
    """task -> where it is"""


class Told(NamedTuple):
    """What HAProxy has: ``routes`` and ``ledger`` (``Key`` as text) lead to backends, by name."""

    routes: dict[str, str]
    ledger: dict[str, str]
    servers: dict[str, dict[str, Server]]


# -- labels -----------------------------------------------------------------------------------------------------------


def routes(labels: Mapping[str, str]) -> tuple[str, ...]:
    """What a service's labels ask for, as its tasks' rows tell it; raises ``Invalid``."""
    return tuple(_route(name, value) for name, value in sorted(labels.items()) if _LABEL.fullmatch(name))


def _route(name: str, value: str) -> str:
    """``8080=http://red.example.com/path``, or ``external_route=http://…,internal_port=8080,sticky_sessions=…``."""
    words = dict(word.partition("=")[::2] for word in value.split(","))
    sticky = "sticky_sessions" in words
    if "external_route" in words:
        value = f"{words.get('internal_port', '')}={words['external_route']}"
    short = _SHORT.fullmatch(value.partition(",")[0])
    place = _PLACE.fullmatch(_lowered(short[2])) if short else None
    if short is None or place is None or not 0 < int(short[1]) < 1 << 16:
        raise Invalid(f"label {name}={value}: expected 8080=http://name.example.com, the port being the container's")
    return f"{int(short[1])}={place['host']}{place['path'] or '/'}{';sticky' if sticky else ''}"


def _lowered(place: str) -> str:
    host, slash, path = place.partition("/")
    return host.lower() + slash + path


def service(port: int) -> ServiceSpec:
    """The mesh's own service: a HAProxy on every node, answering on this port of every node."""
    container = ContainerSpec(image=IMAGE, command=COMMAND, stop_signal=STOP, stop_grace_period=GRACE)
    template = TaskSpec(container_spec=container, networks=(NetworkAttachment(target=NAME),))
    published = ServicePort(protocol="tcp", target_port=PORT, published_port=port)
    labels = {SYSTEM: "true"}
    return ServiceSpec(
        name=NAME, labels=labels, task_template=template, mode=Mode(everywhere=Global()),
        endpoint_spec=EndpointSpec(mode="vip", ports=(published,)),
    )  # fmt: skip


def files() -> dict[str, str]:
    """What its image has besides haproxy itself."""
    return {CONFIG: config(), ROUTES: "", LEDGER: ""}


# -- what should be ---------------------------------------------------------------------------------------------------


def wanted(tasks: Iterable[Backend]) -> Web:
    """Of the tasks on the mesh's network."""
    found: dict[str, Key] = {}
    servers: dict[Key, dict[str, Server]] = {}
    for task in sorted(tasks, key=lambda task: (task.part.service, task.part.task)):
        for match in filter(None, map(ROUTE.fullmatch, task.part.routes)):
            key = Key(task.part.service, int(match["port"]), bool(match["sticky"]))
            address = f"{task.ipv4}:{key.port}" if task.ipv4 else f"[{task.ipv6}]:{key.port}"
            servers.setdefault(key, {})[task.part.task] = Server(address, task.part.serving)
            found.setdefault(match["place"], key)
    return Web(found, servers)


# -- what is ----------------------------------------------------------------------------------------------------------

QUESTIONS = (f"show map {ROUTES}", f"show map {LEDGER}", "show servers state")


def read(routes: str, ledger: str, servers: str) -> Told:
    """Of the answers to ``QUESTIONS``."""
    found: dict[str, dict[str, Server]] = {}
    for line in servers.splitlines():
        words = line.split()
        if len(words) > 18 and re.fullmatch("b[0-9]+", words[1]):
            where = f"[{words[4]}]" if ":" in words[4] else words[4]
            server = Server(f"{where}:{words[18]}", serving=words[6] == "0", up=words[5] == "2")
            found.setdefault(words[1], {})[words[3]] = server
    return Told(_map(routes), _map(ledger), found)


def _map(listing: str) -> dict[str, str]:
    lines = (line.split() for line in listing.splitlines())
    return {words[1]: words[2] for words in lines if len(words) == 3}


# -- the difference ---------------------------------------------------------------------------------------------------


def difference(web: Web, told: Told) -> list[str]:
    """Commands for the runtime socket, in the order in which they are said."""
    places = _places(web, told)
    commands = [f"add map {LEDGER} {key} {place}" for key, place in places.items() if str(key) not in told.ledger]
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
    return commands


def _places(web: Web, told: Told) -> dict[Key, str]:
    """Each its backend; those that have one keep it, and one that still has servers of others is given to nobody."""
    held = {key: told.ledger[str(key)] for key in web.servers if str(key) in told.ledger}
    busy = {*told.ledger.values(), *(place for place, there in told.servers.items() if there)}
    free = (name for name in (f"b{number}" for number in range(BACKENDS)) if name not in busy)
    for key in web.servers:
        if key not in held and (place := next(free, "")):
            held[key] = place
    return held


def _come(place: str, wanted: Mapping[str, Server], there: Mapping[str, Server], sticky: bool) -> Iterator[str]:
    if not there and not sticky:
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


def finished(web: Web, told: Told) -> bool:
    """Whether HAProxy has all that it should, and nothing else."""
    late = any(_alone(web.servers[key], told.servers.get(place, {})) for key, place in _places(web, told).items())
    return not late and not difference(web, told)


def _alone(wanted: Mapping[str, Server], there: Mapping[str, Server]) -> bool:
    """Whether those that should rest are all there is: of those that take their place none was found yet."""
    up = {task for task, server in there.items() if server.serving and server.up}
    serving = {task for task, server in wanted.items() if server.serving}
    return bool(serving and up) and not serving & up


def _rest(place: str, wanted: Mapping[str, Server], there: Mapping[str, Server]) -> Iterator[str]:
    for task, server in wanted.items():
        if task in there and there[task].serving and not server.serving:
            yield f"set server {place}/{task} state maint"


def _routed(web: Web, told: Told, places: Mapping[Key, str]) -> Iterator[str]:
    for route, key in web.routes.items():
        place = places.get(key)
        if place is None or told.routes.get(route) == place:
            continue
        yield f"{'set' if route in told.routes else 'add'} map {ROUTES} {route} {place}"
    for route in told.routes:
        if route not in web.routes:
            yield f"del map {ROUTES} {route}"


def follows(told: Told, task: str, serving: bool) -> bool:
    """Whether HAProxy has a task as it should be: ready and found, or sent nothing any more."""
    found = [there[task] for there in told.servers.values() if task in there]
    if serving:
        return bool(found) and all(server.serving and server.up for server in found)
    return not any(server.serving for server in found)


def _go(place: str, there: Mapping[str, Server], wanted: Mapping[str, Server]) -> Iterator[str]:
    for task in there:
        if task not in wanted:
            yield f"set server {place}/{task} state maint"
            yield f"del server {place}/{task}"


# -- the configuration that it starts with ----------------------------------------------------------------------------


def config() -> str:
    """HAProxy's whole configuration file."""
    backends = "".join(_BACKEND.format(name=f"b{number}", cookie=COOKIE) for number in range(BACKENDS))
    return _HEAD + backends


_HEAD = f"""\
global
    log stdout format raw daemon notice
    maxconn 9000
    stats socket {SOCKET} mode 600 level admin
    hard-stop-after 30s

defaults
    mode http
    log global
    timeout connect 3s
    timeout client 60s
    timeout server 60s
    timeout http-request 10s
    timeout http-keep-alive 10s
    # a WebSocket
    timeout tunnel 1h
    option forwardfor
    # whom nobody could connect to did not get the request: another one does, at once
    option redispatch 1
    retries 3
    retry-on conn-failure empty-response

frontend web
    # two sockets: an IPv4 client is called 192.0.2.1, not ::ffff:192.0.2.1
    bind 0.0.0.0:{PORT}
    bind :::{PORT} v6only
    http-request set-var(txn.host) req.hdr(host),field(1,:),lower
    http-request set-var-fmt(txn.place) "%[var(txn.host)]%[path]"
    http-request set-header X-Forwarded-Proto http
    # who closed without an answer may have done what was asked: such a request is not made twice
    http-request disable-l7-retry if !{{ method GET HEAD OPTIONS }}
    use_backend %[var(txn.place),map_beg({ROUTES})]
    default_backend nobody

backend nobody
    http-request set-var(txn.ledger) str(),map({LEDGER})
    http-request return status 404 content-type text/plain string "no service has this name and path"
"""
_BACKEND = """
backend {name}
    balance roundrobin
    cookie {cookie} insert indirect nocache httponly
    dynamic-cookie-key fairlead
"""
