"""The HTTP routing mesh: which names lead to which tasks, as the labels of services ask for it.

    label com.docker.ucp.mesh.http=8080=http://red.example.com --routes--> "8080=red.example.com/" in each task's row
    rows of the mesh's network, secrets --wanted--> Web, which HAProxy is told (``core.proxywords``)

| label                                                      | in a row                                       |
|------------------------------------------------------------|------------------------------------------------|
| ``8080=http://red.example.com/api``                        | ``8080=red.example.com/api``                   |
| ``8080=https://red.example.com,certificate=red``           | ``8080=https://red.example.com/;tls=red``      |
| ``8443=https://red.example.com``, ``8443=sni://…``         | ``8443=sni://red.example.com/``                |
| ``http://red.example.com,redirect=https://red.example.com``| ``0=red.example.com/;to=https://red…/``        |
| ``8080=http://``                                           | ``8080=http://`` : whatever nobody else has    |

Rules
    1. Of two services that want the same name and path the one with the smaller id has it.
    2. Labels' words end in HAProxy's socket: what is not plainly a name, a path, a number is refused.
    3. A row names secrets and never has what is in them.

What it does not do: talk to HAProxy (``engine.webmesh``), choose who serves.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
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
from fairlead.core.written import joined
from fairlead.errors import Invalid

NAME = "ucp-hrm"
"""of the network and of the service, as UCP called them"""
LABELS = ("com.docker.ucp.mesh.http", "fairlead.http")
"""and with a word behind it, for more: ``fairlead.http.1``"""
IMAGE = "fairlead/http-mesh:latest"
"""made by each node of its own haproxy"""
SYSTEM = "com.fairlead.system"
"""a service that is part of the swarm's works"""
PORT, TLS_PORT = 80, 443
"""of HAProxy in its container"""
COMMAND = ("/haproxy", "-db", "-f", "/etc/fairlead/haproxy.cfg")
STOP, GRACE = "SIGUSR1", 30_000_000_000
"""HAProxy ends when its clients have their answers; nanoseconds that it has for that"""
EXPECTED = "expected 8080=http://name.example.com, the port being the container's"
_LABEL = re.compile(rf"(?:{'|'.join(map(re.escape, LABELS))})(?:\.[A-Za-z0-9_-]+)?")
_OPTIONS = ("internal_port", "sticky_sessions", "certificate", "key", "redirect", "include_forwarded_for")
_URL = re.compile(
    r"(?P<scheme>https?|sni)://"
    r"(?P<host>[a-z0-9](?:[a-z0-9.-]{0,251}[a-z0-9])?)?(?P<port>:[0-9]{1,5})?(?P<path>/[A-Za-z0-9._~/%+-]{0,200})?"
)


class Key(NamedTuple):
    """What has a backend of its own. ``raw``: TLS is not ended here, its bytes are passed on."""

    service: str
    port: int
    sticky: bool = False
    raw: bool = False

    def __str__(self) -> str:
        return f"{self.service}:{self.port}{':sticky' if self.sticky else ''}{':raw' if self.raw else ''}"


class Server(NamedTuple):
    """``address``: ``10.0.1.5:8080`` or ``[fd00::5]:8080``. Of one that HAProxy has: ``up``, whether it answers;
    ``checked``, whether HAProxy goes on looking."""

    address: str
    serving: bool = True
    up: bool = False
    checked: bool = False


class Certificate(NamedTuple):
    """``version``: ids of the secrets; "" when they are not known here, and what is there may stay."""

    version: str = ""
    pem: str = ""

    def __repr__(self) -> str:
        return f"Certificate({self.version})"


class Web(NamedTuple):
    """Who answers what."""

    routes: dict[str, Key | str]
    """``http://red.example.com/api``, ``https://…``, ``sni://…``  -> whose it is, or a word of HAProxy's own: a URL to
    go to instead, or ``TERMINATED``"""
    servers: dict[Key, dict[str, Server]]
    """task -> where it is"""
    certificates: dict[str, Certificate]
    """by host name"""


class File(NamedTuple):
    """A secret: its id and what is in it."""

    id: str
    data: bytes

    def __repr__(self) -> str:
        return f"File({self.id})"


TERMINATED = "terminated"
"""where TLS is ended: HAProxy has the certificate"""


# -- labels -----------------------------------------------------------------------------------------------------------


def leads(label: str) -> bool:
    """Whether a label of that name says what leads to a service."""
    return bool(_LABEL.fullmatch(label))


def routes(labels: Mapping[str, str], ports: Sequence[ServicePort] = ()) -> tuple[str, ...]:
    """What a service's labels ask for, as its tasks' rows tell it; raises ``Invalid``.

    ``ports``: that it publishes; where there is one, no label need name it.
    """
    targets = {port.target_port for port in ports}
    found: dict[str, None] = {}
    for name, value in sorted(labels.items()):
        if leads(name):
            try:
                found.update(dict.fromkeys(_routes(value, str(*targets) if len(targets) == 1 else "")))
            except Invalid as problem:
                raise Invalid(f"label {name}={value}: {problem.message}") from None
    return tuple(found)


def certificates(labels: Mapping[str, str]) -> set[str]:
    """Names of the secrets that a service's labels name, one, or two with a comma, for each certificate."""
    try:
        found = filter(None, map(ROUTE.fullmatch, routes(labels, (ServicePort(target_port=1),))))
    except Invalid:
        return set()
    return {match["tls"] for match in found if match["tls"]}


def secrets(labels: Mapping[str, str]) -> set[str]:
    """Names of all of those."""
    return {name for names in certificates(labels) for name in names.split(",")}


def _routes(value: str, published: str) -> Iterator[str]:
    """``8080=http://red.example.com/path``, or ``external_route=http://…,internal_port=8080,sticky_sessions=…``."""
    options: dict[str, str] = {}
    places: list[tuple[str, str]] = []
    for word in value.split(","):
        first, _, rest = word.partition("=")
        if first in _OPTIONS:
            options[first] = rest
        elif first == "external_route":
            places.append(("", rest))
        elif "://" in word:
            places.append((first, rest) if rest else ("", word))
        else:
            raise Invalid(f"{word}: {EXPECTED}" if places else EXPECTED)
    if not places:
        raise Invalid(EXPECTED)
    for port, url in places:
        yield _route(port or options.get("internal_port", "") or published, url, options)


def _route(port: str, url: str, options: Mapping[str, str]) -> str:
    match = _parsed(url)
    scheme, host, path = match["scheme"], match["host"] or "", match["path"] or ""
    if path and not host:
        raise Invalid(f"{url}: a path needs a name before it")
    tls = ",".join(filter(None, (options.get("certificate", ""), options.get("key", ""))))
    raw = scheme == "sni" or (scheme == "https" and not tls)
    if "redirect" in options:
        place = _place("http" if raw else scheme, host, path)
        return f"0={place}{_tls(scheme, host, tls)};to={_target(options['redirect'])}"
    if not re.fullmatch("[0-9]{1,5}", port) or not 0 < int(port) < 1 << 16:
        raise Invalid(EXPECTED)
    if raw and (path.strip("/") or "sticky_sessions" in options):
        raise Invalid(f"{url}: TLS is passed on unread, so neither a path nor a cookie is seen; give it a certificate")
    sticky = ";sticky" if "sticky_sessions" in options else ""
    return f"{int(port)}={_place('sni' if raw else scheme, host, '' if raw else path)}{sticky}{_tls(scheme, host, tls)}"


def _parsed(url: str) -> re.Match[str]:
    scheme, slashes, place = url.partition("://")
    host, slash, path = place.partition("/")
    match = _URL.fullmatch(f"{scheme}{slashes}{host.lower()}{slash}{path}")
    if match is None:
        raise Invalid(EXPECTED)
    return match


def _place(scheme: str, host: str, path: str) -> str:
    if not host:
        return f"{scheme}://"
    return f"{'' if scheme == 'http' else scheme + '://'}{host}{path or '/'}"


def _tls(scheme: str, host: str, names: str) -> str:
    if not names:
        return ""
    if scheme != "https" or not host:
        raise Invalid("a certificate goes with https:// and a name")
    if not ROUTE.fullmatch(f"1=https://{host}/;tls={names}"):
        raise Invalid(f"{names}: expected the name of a secret")
    return f";tls={names}"


def _target(url: str) -> str:
    match = _parsed(url)
    if match["scheme"] == "sni" or not match["host"]:
        raise Invalid(f"redirect={url}: expected https://name.example.com")
    return f"{match['scheme']}://{match['host']}{match['port'] or ''}{match['path'] or '/'}"


# -- the mesh's own service -------------------------------------------------------------------------------------------


def service(port: int, tls_port: int = 0) -> ServiceSpec:
    """A HAProxy on every node, answering on these ports of every node; 0: no HTTPS."""
    container = ContainerSpec(image=IMAGE, command=COMMAND, stop_signal=STOP, stop_grace_period=GRACE)
    template = TaskSpec(container_spec=container, networks=(NetworkAttachment(target=NAME),))
    asked = [(PORT, port), *([(TLS_PORT, tls_port)] if tls_port else [])]
    published = tuple(ServicePort(protocol="tcp", target_port=own, published_port=at) for own, at in asked)
    return ServiceSpec(
        name=NAME, labels={SYSTEM: "true"}, task_template=template, mode=Mode(everywhere=Global()),
        endpoint_spec=EndpointSpec(mode="vip", ports=published),
    )  # fmt: skip


# -- what should be ---------------------------------------------------------------------------------------------------


def wanted(tasks: Iterable[Backend], known: Mapping[str, File] = {}) -> Web:
    """Of the tasks on the mesh's network. ``known``: secrets, by name."""
    web = Web({}, {}, {})
    for task in sorted(tasks, key=lambda task: (task.part.service, task.part.task)):
        for match in filter(None, map(ROUTE.fullmatch, task.part.routes)):
            place = url(match["place"])
            if match["tls"]:
                host = place.split("/")[2]
                web.certificates.setdefault(host, _certificate(match["tls"], known))
                web.routes.setdefault(f"sni://{host}/", TERMINATED)
            if match["to"]:
                web.routes.setdefault(place, match["to"].removesuffix("/"))
                continue
            key = Key(task.part.service, int(match["port"]), bool(match["sticky"]), place.startswith("sni:"))
            address = joined(task.ipv4 or task.ipv6, key.port)
            web.servers.setdefault(key, {})[task.part.task] = Server(address, task.part.serving)
            web.routes.setdefault(place, key)
    return web


def url(place: str) -> str:
    """Of a row's place."""
    return place if "://" in place else f"http://{place}"


def _certificate(names: str, known: Mapping[str, File]) -> Certificate:
    """Of one secret with everything, or of two: certificates, key."""
    files = [known.get(name) for name in names.split(",")]
    there = [file for file in files if file]
    if len(there) < len(files):
        return Certificate()
    text = "\n".join(file.data.decode(errors="replace") for file in there)
    lines = [line.strip() for line in text.splitlines()]
    return Certificate("+".join(file.id for file in there), "\n".join(filter(None, lines)))
