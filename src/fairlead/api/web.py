"""Requests and answers, as handlers see them.

    connection ---> Request ---> handler ---> Response     whole, sent when the handler has returned
                                         ---> Streamed     sent while it runs (``http.streaming``)
                                         ---> Taken        nothing: the handler has the connection (``hijack``)

Rules
    1. An answer is sent once. A handler that fails after its stream has begun has no other: the connection is cut.
    2. A stream is in chunks; to clients of HTTP/1.0 it goes as it is and ends with the connection.
    3. Nothing of a request can end a header of an answer: line ends in a value are our fault, and an error.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from functools import cached_property
from typing import Any
from urllib import parse

import msgspec

from fairlead import __version__
from fairlead.api.bodies import Body
from fairlead.api.heads import CHUNKED, Head
from fairlead.core.protocol import Protocol

NEWEST, OLDEST = (1, 51), (1, 24)
"""API versions we speak."""

HEADERS = {
    "Api-Version": f"{NEWEST[0]}.{NEWEST[1]}",
    "Docker-Experimental": "false",
    "Ostype": "linux",
    "Server": f"Fairlead/{__version__} (linux)",
}
"""On every answer."""

REASONS = {
    **{200: "OK", 201: "Created", 202: "Accepted", 204: "No Content", 206: "Partial Content"},
    **{301: "Moved Permanently", 304: "Not Modified", 400: "Bad Request", 401: "Unauthorized", 403: "Forbidden"},
    **{404: "Not Found", 405: "Method Not Allowed", 406: "Not Acceptable", 408: "Request Timeout", 409: "Conflict"},
    **{413: "Request Entity Too Large", 417: "Expectation Failed", 431: "Request Header Fields Too Large"},
    **{500: "Internal Server Error", 501: "Not Implemented", 503: "Service Unavailable"},
}
BODILESS = (204, 304)


class Connection(Protocol):
    """What a request came through (``connection``)."""

    gone: bool
    """The client has closed its half, or the whole connection."""

    async def write(self, data: bytes) -> None:
        """Send; returns when the client can take more. ``ConnectionResetError`` when it is gone."""

    def hand_over(self, to: asyncio.Protocol) -> None:
        """Make ``to`` the protocol of the transport; see there."""

    def connection_lost(self, exc: Exception | None) -> None: ...


class Query(dict[str, str]):
    """The parameters of a request; of one that is given several times, the first."""

    def __init__(self, text: str) -> None:
        self._pairs = parse.parse_qsl(text, keep_blank_values=True) if text else []
        super().__init__(reversed(self._pairs))

    def getall(self, name: str) -> list[str]:
        return [value for key, value in self._pairs if key == name]


class Request:
    """One request. ``names`` holds the parts of the path that its route names, ``api`` the version of the API."""

    def __init__(self, head: Head, body: Body, connection: Connection) -> None:
        self.head = head
        self.method = head.method
        self.content = body
        self.connection = connection
        target = head.target
        if not target.startswith("/"):  # a proxy's form: http://host/path
            target = "/" + target.partition("://")[2].partition("/")[2]
        self.raw_path, _, self._query = target.partition("#")[0].partition("?")
        self.path = parse.unquote(self.raw_path) if "%" in self.raw_path else self.raw_path
        self.names: dict[str, str] = {}
        self.api: tuple[int, int] = NEWEST
        self.abandonable = False
        """Its handler may be given up when the client hangs up."""
        self.answered: Streamed | None = None
        """A stream that has begun: there will be no other answer."""

    @cached_property
    def query(self) -> Query:
        return Query(self._query)

    def header(self, name: str, default: str = "") -> str:
        return self.head.headers.get(name.lower(), default)

    @property
    def body_exists(self) -> bool:
        return self.content.length != 0

    @property
    def content_length(self) -> int | None:
        """Bytes of the body, as far as its head tells."""
        told = self.content.length != CHUNKED and "content-length" in self.head.headers
        return self.content.length if told else None

    def pieces(self) -> AsyncIterator[bytes]:
        """The body as it comes."""
        return self.content.pieces()


Handler = Callable[[Request], Awaitable["Answer"]]


# -- answers ------------------------------------------------------------------------------------


class Answer:
    """What a handler returns."""

    def __init__(self, status: int = 200, headers: Mapping[str, str] | None = None) -> None:
        self.status = status
        self.headers = dict(headers or {})

    async def send(self, request: Request, keep: bool) -> None:
        """Send what was not sent. ``keep``: the connection goes on afterwards."""
        raise TypeError(f"{type(self).__name__} cannot be sent")


class Response(Answer):
    """A whole answer; ``text`` goes as plain text in UTF-8."""

    def __init__(
        self,
        body: bytes = b"",
        status: int = 200,
        headers: Mapping[str, str] | None = None,
        *,
        text: str | None = None,
        content_type: str = "",
    ) -> None:
        super().__init__(status, headers)
        self.body = body if text is None else text.encode("utf-8", "replace")
        if content_type or text is not None:
            self.headers["Content-Type"] = content_type or "text/plain; charset=utf-8"

    async def send(self, request: Request, keep: bool) -> None:
        if self.status not in BODILESS:
            self.headers["Content-Length"] = str(len(self.body))
        head = head_of(self, request.head.version, keep)
        await request.connection.write(head if request.method == "HEAD" else head + self.body)


class Streamed(Answer):
    """An answer in pieces. ``write`` returns when the client can take more."""

    def __init__(self, request: Request, status: int, content_type: str) -> None:
        super().__init__(status, {"Content-Type": content_type})
        self._request = request
        self._chunked = request.head.version >= (1, 1)
        self._ended = False

    @property
    def prepared(self) -> bool:
        """The head was sent."""
        return self._request.answered is self

    async def start(self) -> None:
        if not self.prepared:
            request, self._request.answered = self._request, self
            if self._chunked:
                self.headers["Transfer-Encoding"] = "chunked"
            await request.connection.write(head_of(self, request.head.version, self._chunked and request.head.keeps))

    async def write(self, data: bytes) -> None:
        await self.start()
        if data:
            await self._request.connection.write(b"%x\r\n%b\r\n" % (len(data), data) if self._chunked else data)

    async def end(self) -> None:
        """Nothing more will come."""
        await self.start()
        if self._chunked and not self._ended:
            await self._request.connection.write(b"0\r\n\r\n")
        self._ended = True

    async def send(self, request: Request, keep: bool) -> None:
        await self.end()


class Taken(Answer):
    """Stands for an answer given by hand (a hijack), or that nobody would read: there is nothing to do but close."""

    async def send(self, request: Request, keep: bool) -> None:
        return None


def head_of(answer: Answer, version: tuple[int, int], keep: bool) -> bytes:
    """The head of an answer, as bytes."""
    headers = {**HEADERS, **answer.headers, "Date": _date()}
    if keep != (version >= (1, 1)):
        headers["Connection"] = "keep-alive" if keep else "close"
    lines = [f"HTTP/1.{version[1]} {answer.status} {REASONS.get(answer.status, '')}"]
    for name, value in headers.items():
        if "\r" in value or "\n" in value:
            raise ValueError(f"a line end within the header {name}")
        lines.append(f"{name}: {value}")
    return ("\r\n".join(lines) + "\r\n\r\n").encode("utf-8", "surrogateescape")


def _date() -> str:
    """Now, as HTTP writes it."""
    return time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime())


# -- routes -------------------------------------------------------------------------------------


class Route(msgspec.Struct, frozen=True):
    """A method and a path with names in it, and who answers."""

    method: str
    path: str
    handler: Handler


def get(path: str, handler: Any) -> Route:
    return Route("GET", path, handler)


def head(path: str, handler: Any) -> Route:
    return Route("HEAD", path, handler)


def post(path: str, handler: Any) -> Route:
    return Route("POST", path, handler)


def put(path: str, handler: Any) -> Route:
    return Route("PUT", path, handler)


def delete(path: str, handler: Any) -> Route:
    return Route("DELETE", path, handler)
