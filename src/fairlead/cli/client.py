"""Client: the command line's only door to the engine. HTTP over a unix or tcp socket, one request at a time.

    call(…)    one JSON question, one JSON answer           ps, inspect, network create …
    stream(…)  the answer's body as a file                  logs, events, save, pull
    hijack(…)  the connection itself, both ways, raw        attach, exec, run -it

Rules
    1. Whom to talk to: ``-H``, else $FAIRLEAD_HOST, else $DOCKER_HOST, else the
       first default socket that is there.
    2. A refusal is ``Refused`` with the engine's own words and status; an engine
       that is not there is ``Unavailable``. Nothing is tried twice.
    3. Every question has a connection of its own, so a signal handler may ask one
       while another is being answered.

What it does not do: know any command.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import socket
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

from fairlead import __version__
from fairlead.errors import FairleadError, Invalid, Unavailable

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
        return named
    return "unix://" + next((path for path in DEFAULTS if Path(path).exists()), DEFAULTS[0])


def path(*words: str) -> str:
    """``/containers/NAME/json`` from its words, each escaped."""
    return "/" + "/".join(quote(word, safe=":") for word in words)


@dataclass
class Wire:
    """A hijacked connection: the socket, what was read beyond the header, and whether it is multiplexed."""

    socket: socket.socket
    early: bytes
    multiplexed: bool


class Connection(http.client.HTTPConnection):
    """http.client over whatever socket ``Client.open`` makes."""

    def __init__(self, client: Client) -> None:
        super().__init__("engine")
        self._client = client

    def connect(self) -> None:
        self.sock = self._client.open()


class Client:
    """Speaks to one engine. ``host``: ``unix:///path`` or ``tcp://address:port``."""

    def __init__(self, host: str = "", *, tls: bool = False, verify: bool = False, certificates: str = "") -> None:
        self.host = where(host)
        self.tls = tls or verify
        self.verify = verify
        self.certificates = Path(certificates or os.environ.get("DOCKER_CERT_PATH") or Path.home() / ".docker")
        self.version = os.environ.get("DOCKER_API_VERSION") or API_VERSION

    def open(self) -> socket.socket:
        """A fresh connection; ``Unavailable`` in plain words when nobody listens."""
        protocol, _, rest = self.host.partition("://")
        try:
            if protocol == "unix":
                plain = socket.socket(socket.AF_UNIX)
                plain.connect(rest)
                return plain
            if protocol not in ("tcp", "http", "https"):
                raise Invalid(f"unable to parse docker host `{self.host}`")
            name, _, port = rest.rstrip("/").rpartition(":")
            plain = socket.create_connection((name.strip("[]") or "localhost", int(port)))
            return self._wrap(plain, name) if self.tls else plain
        except PermissionError:
            raise Unavailable(
                f"permission denied while trying to connect to the engine at {self.host}: be root or in its group"
            ) from None
        except (OSError, ValueError) as problem:
            reason = getattr(problem, "strerror", None) or problem
            raise Unavailable(
                f"Cannot connect to the engine at {self.host} ({reason}). Is the fairlead daemon running?"
            ) from None

    def _wrap(self, plain: socket.socket, name: str) -> socket.socket:
        import ssl

        context = ssl.create_default_context(cafile=str(self.certificates / "ca.pem") if self.verify else None)
        if not self.verify:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        if (self.certificates / "cert.pem").exists():
            context.load_cert_chain(self.certificates / "cert.pem", self.certificates / "key.pem")
        return context.wrap_socket(plain, server_hostname=name)

    def _target(self, where_to: str, query: Mapping[str, Any] | None) -> str:
        """The request line's path: version, escaped words, and the query with JSON where the API wants JSON."""
        pairs = []
        for key, value in (query or {}).items():
            if value is None or value == "" or value is False:
                continue
            for item in value if isinstance(value, list) else [value]:
                text = json.dumps(item) if isinstance(item, dict) else "1" if item is True else str(item)
                pairs.append((key, text))
        return f"/v{self.version}{where_to}" + (f"?{urlencode(pairs)}" if pairs else "")

    def stream(
        self, method: str, where_to: str, query: Mapping[str, Any] | None = None, body: Any = None,
        headers: Mapping[str, str] | None = None,
    ) -> http.client.HTTPResponse:  # fmt: skip
        """The answer, its body still unread. ``body``: JSON value, bytes, or an iterable of bytes (chunked)."""
        connection = Connection(self)
        sent = {"User-Agent": f"fairlead/{__version__}", **(headers or {})}
        data: bytes | Iterable[bytes] | None = body
        if isinstance(body, dict | list):
            data = json.dumps(body).encode()
            sent["Content-Type"] = "application/json"
        try:
            chunked = data is not None and not isinstance(data, bytes)
            # An engine that refuses before it has read everything hangs up on the rest; its words come all the same.
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                connection.request(method, self._target(where_to, query), data, sent, encode_chunked=chunked)
            answer = connection.getresponse()
        except (ConnectionError, http.client.HTTPException) as problem:
            connection.close()
            raise Unavailable(f"the engine at {self.host} hung up: {problem}") from None
        if answer.status >= 400:
            raise Refused(answer.status, _message(answer.read(), answer.reason))
        return answer

    def call(self, method: str, where_to: str, query: Mapping[str, Any] | None = None, body: Any = None) -> Any:
        """Ask, and read the whole answer: JSON as values, other text as str, None when there is none."""
        with self.stream(method, where_to, query, body) as answer:
            data = answer.read()
            if not data:
                return None
            if answer.headers.get_content_type() == "application/json":
                return json.loads(data)
            return data.decode(errors="replace")

    def hijack(self, where_to: str, query: Mapping[str, Any] | None = None, body: Any = None) -> Wire:
        """Post, and take over the connection once the engine agrees."""
        data = json.dumps(body).encode() if body is not None else b""
        head = [
            f"POST {self._target(where_to, query)} HTTP/1.1", "Host: engine", "Connection: Upgrade", "Upgrade: tcp",
            "Content-Type: application/json", f"Content-Length: {len(data)}", "", "",
        ]  # fmt: skip
        raw = self.open()
        raw.sendall("\r\n".join(head).encode() + data)
        buffer = b""
        while b"\r\n\r\n" not in buffer:
            piece = raw.recv(65536)
            if not piece:
                raise Unavailable(f"the engine at {self.host} hung up")
            buffer += piece
        header, _, rest = buffer.partition(b"\r\n\r\n")
        status = int(header.split(b" ", 2)[1])
        if status >= 400:
            raise Refused(status, _message(_rest_of_body(raw, header, rest), header.split(b"\r\n")[0].decode()))
        return Wire(raw, rest, b"multiplexed-stream" in header.lower())


def _rest_of_body(raw: socket.socket, header: bytes, rest: bytes) -> bytes:
    """The body of a refusal on a connection we wanted to take over."""
    length = next(
        (int(line.split(b":")[1]) for line in header.split(b"\r\n") if line.lower().startswith(b"content-length:")), 0
    )
    while len(rest) < length:
        piece = raw.recv(65536)
        if not piece:
            break
        rest += piece
    raw.close()
    return rest


def _message(body: bytes, otherwise: str) -> str:
    try:
        return str(json.loads(body)["message"])
    except (ValueError, KeyError, TypeError):
        return body.decode(errors="replace").strip() or otherwise
