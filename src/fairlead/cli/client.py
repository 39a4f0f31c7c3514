"""Client: the command line's only door to the engine. HTTP over a unix or tcp socket, one request at a time.

    call(…)    one JSON question, one JSON answer           ps, inspect, network create …
    stream(…)  the answer's body as a file                  logs, events, save, pull
    hijack(…)  the connection itself, both ways, raw        attach, exec, run -it

Rules
    1. Whom to talk to: ``-H``, else $FAIRLEAD_HOST, else $DOCKER_HOST, else the
       first default socket that is there.
    2. A refusal is ``Refused`` with the engine's own words and status; an engine
       that is not there is ``Unavailable``. Nothing is tried twice, but for one
       thing: an older engine names the newest API it speaks, and is asked in that.
    3. Every question has a connection of its own, so a signal handler may ask one
       while another is being answered.

What it does not do: know any command.
"""

from __future__ import annotations

import json
import os
import re
import socket
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from fairlead import __version__
from fairlead.cli.http import Answer, ask, quote
from fairlead.errors import FairleadError, Invalid, Unavailable

if TYPE_CHECKING:
    from io import BufferedReader

DEFAULTS = ("/var/run/fairlead.sock", "/var/run/docker.sock")
API_VERSION = "1.51"


class Refused(FairleadError):
    """The engine said no; ``status`` is its HTTP status, ``message`` its words."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


def where(given: str = "") -> str:
    """The engine's address: as given, from the environment, or the first default socket that exists."""
    named = given or os.environ.get("FAIRLEAD_HOST") or os.environ.get("DOCKER_HOST")
    if named:
        return named if "://" in named else f"tcp://{named}"
    return "unix://" + next((path for path in DEFAULTS if os.path.exists(path)), DEFAULTS[0])


def path(*words: str) -> str:
    """``/containers/NAME/json`` from its words, each escaped."""
    return "/" + "/".join(quote(word, ":") for word in words)


class Wire(NamedTuple):
    """A hijacked connection: the socket, what was read beyond the header, and whether it is multiplexed."""

    socket: socket.socket
    early: bytes
    multiplexed: bool


class Tls(NamedTuple):
    """How to speak TLS: whether to check the engine's certificate, and the files."""

    verify: bool
    ca: str
    certificate: str
    key: str


class Client:
    """Speaks to one engine. ``host``: ``unix:///path`` or ``tcp://address:port``. ``typed``: the command, for
    complaints (``fairlead run``)."""

    def __init__(self, host: str = "", tls: Tls | None = None) -> None:
        self.host = where(host)
        self.tls = tls
        self.version = os.environ.get("DOCKER_API_VERSION") or API_VERSION
        self.typed = "fairlead"

    def open(self) -> socket.socket:
        """A fresh connection; ``Unavailable`` in plain words when nobody listens."""
        protocol, _, rest = self.host.partition("://")
        if protocol not in ("unix", "tcp", "http", "https"):
            raise Invalid(f"unable to resolve the engine: invalid bind address format: {self.host}")
        try:
            if protocol == "unix":
                plain = socket.socket(socket.AF_UNIX)
                plain.connect(rest)
                return plain
            name, port = _address(rest, 2376 if self.tls else 2375)
            plain = socket.create_connection((name, port))
            return self._wrap(plain, name) if self.tls or protocol == "https" else plain
        except PermissionError:
            raise Unavailable(
                f"permission denied while trying to connect to the engine at {self.host}: be root or in its group"
            ) from None
        except (OSError, ValueError) as problem:
            reason = getattr(problem, "strerror", None) or problem
            raise Unavailable(
                f"Cannot connect to the Docker daemon at {self.host}. Is the fairlead daemon running? ({reason})"
            ) from None

    def _wrap(self, plain: socket.socket, name: str) -> Any:
        from fairlead.cli.tls import wrap

        return wrap(plain, name, *(self.tls or Tls(True, "", "", "")))

    def _target(self, where_to: str, query: Mapping[str, Any] | None) -> str:
        """The request line's path: version, escaped words, and the query with JSON where the API wants JSON."""
        pairs = []
        for key, value in (query or {}).items():
            if value is None or value == "" or value is False:
                continue
            for item in value if isinstance(value, list) else [value]:
                text = json.dumps(item) if isinstance(item, dict) else "1" if item is True else str(item)
                pairs.append(f"{quote(key)}={quote(text)}")
        return f"/v{self.version}{where_to}" + (f"?{'&'.join(pairs)}" if pairs else "")

    def _ask(
        self, method: str, where_to: str, query: Mapping[str, Any] | None, body: Any, headers: Mapping[str, str]
    ) -> Answer:
        """The answer to one question, whatever its status."""
        sent = {"User-Agent": f"fairlead/{__version__}", **headers}
        data: bytes | Iterable[bytes] | None = body
        if isinstance(body, dict | list):
            data = json.dumps(body).encode()
            sent["Content-Type"] = "application/json"
        wire = self.open()
        try:
            return ask(wire, method, self._target(where_to, query), sent, data)
        except (ConnectionError, Unavailable) as problem:
            wire.close()
            raise Unavailable(f"the engine at {self.host}: {problem}") from None

    def answer(
        self, method: str, where_to: str, query: Mapping[str, Any] | None = None, body: Any = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:  # fmt: skip
        """The answer, its body unread; a refusal is raised. ``body``: JSON value, bytes, or an iterable of bytes (sent
        in chunks). An engine older than we are is asked again in its own version."""
        answer = self._ask(method, where_to, query, body, headers or {})
        if answer.status < 400:
            return answer
        with answer.body() as text:
            problem = Refused(answer.status, _message(text.read(), answer.reason))
        older = re.search(r"too new. Maximum supported API version is ([\d.]+)", problem.message)
        if older and older[1] != self.version and not os.environ.get("DOCKER_API_VERSION"):
            self.version = older[1]
            return self.answer(method, where_to, query, body, headers)
        raise problem

    def stream(self, method: str, where_to: str, *more: Any, **words: Any) -> BufferedReader:
        """The answer's body as a file."""
        return self.answer(method, where_to, *more, **words).body()

    def call(
        self, method: str, where_to: str, query: Mapping[str, Any] | None = None, body: Any = None,
        headers: Mapping[str, str] | None = None,
    ) -> Any:  # fmt: skip
        """Ask, and read the whole answer: JSON as values, other text as str, None when there is none."""
        answer = self.answer(method, where_to, query, body, headers)
        with answer.body() as file:
            data = file.read()
        if not data:
            return None
        if answer.headers.get("content-type", "").startswith("application/json"):
            return json.loads(data)
        return data.decode(errors="replace")

    def hijack(self, where_to: str, query: Mapping[str, Any] | None = None, body: Any = None) -> Wire:
        """Post, and take over the connection once the engine agrees."""
        upgrade = {"Connection": "Upgrade", "Upgrade": "tcp", "Content-Type": "application/json"}
        answer = self.answer("POST", where_to, query, body, upgrade)
        return Wire(answer.wire, answer.early, "multiplexed-stream" in answer.headers.get("content-type", ""))


def _address(text: str, otherwise: int) -> tuple[str, int]:
    """(name, port) of ``host:port/``; an IPv6 address stands in brackets."""
    plain = text.partition("/")[0]
    name, colon, port = plain.rpartition(":")
    if not colon or port.endswith("]"):
        name, port = plain, str(otherwise)
    return name.strip("[]") or "localhost", int(port)


def _message(body: bytes, otherwise: str) -> str:
    try:
        return str(json.loads(body)["message"]).strip()
    except (ValueError, KeyError, TypeError):
        return body.decode(errors="replace").strip() or otherwise
