"""HTTP/1.1 as a client needs it: one question on a fresh socket, one answer whose body is a file.

    ask(socket, head, body) -> Answer        Answer.status, .reason, .headers, .early
    Answer.body()           -> a file        as long as it says, chunked, or until the other end hangs up

The standard library's http.client takes longer to import (with the parser for
e-mail that it brings) than ``docker ps`` takes altogether. This is the part of
the protocol that an Engine API speaks.

What it does not do: redirects, cookies, keep-alive, trailers, 100 Continue (nobody asked for it).
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from fairlead.errors import Unavailable

PIECE = 1 << 16
LONGEST_HEAD = 1 << 20
SAFE = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.-~")


def quote(text: str, also: str = "") -> str:
    """Percent-encoded UTF-8; letters, digits, ``_.-~`` and ``also`` stay."""
    safe = SAFE.union(also.encode())
    return "".join(chr(byte) if byte in safe else f"%{byte:02X}" for byte in text.encode(errors="surrogateescape"))


class Answer:
    """An answer, its body still unread. ``early``: what was read beyond the head."""

    def __init__(self, wire: Any, head: bytes, early: bytes, bodyless: bool) -> None:
        first, *lines = head.decode("latin-1").split("\r\n")
        _, _, rest = first.partition(" ")
        code, _, self.reason = rest.partition(" ")
        if not (first.startswith("HTTP/1.") and code.isdigit()):
            raise Unavailable(f"no HTTP was spoken: {first[:80]!r}")
        self.status = int(code)
        pairs = (line.partition(":") for line in lines)
        self.headers = {name.strip().lower(): value.strip() for name, _, value in pairs}
        self.wire, self.early, self._bodyless = wire, early, bodyless or self.status in (204, 304)

    def body(self) -> io.BufferedReader:
        """The body as a file; closing it closes the connection."""
        chunked = "chunked" in self.headers.get("transfer-encoding", "").lower()
        length = self.headers.get("content-length", "")
        if self._bodyless:
            length, chunked = "0", False
        left = 0 if chunked else int(length) if length.isdigit() else None
        return io.BufferedReader(_Body(self.wire, self.early, left, chunked), PIECE)


class _Body(io.RawIOBase):
    """``left``: bytes until the end (of the chunk, when chunked); None: until the other end hangs up."""

    def __init__(self, wire: Any, early: bytes, left: int | None, chunked: bool) -> None:
        self._wire, self._buffer, self._left, self._chunked = wire, early, left, chunked
        self._first = True

    def readable(self) -> bool:
        return True

    def readinto(self, into: Any) -> int:
        if self._chunked and self._left == 0:
            self._next_chunk()
        if self._left == 0:
            return 0
        most = len(into) if self._left is None else min(len(into), self._left)
        data, self._buffer = self._buffer[:most], self._buffer[most:]
        data = data or self._wire.recv(most)
        if not data and self._left:
            raise Unavailable("the engine hung up in the middle of its answer")
        into[: len(data)] = data
        if self._left is not None:
            self._left -= len(data)
        return len(data)

    def _next_chunk(self) -> None:
        if not self._first:
            self._line()  # the end of the chunk before
        self._first = False
        size = self._line().partition(b";")[0]
        try:
            self._left = int(size, 16)
        except ValueError:
            raise Unavailable("the engine hung up in the middle of its answer") from None
        if self._left == 0:
            self._chunked = False

    def _line(self) -> bytes:
        while b"\r\n" not in self._buffer:
            more = self._wire.recv(PIECE)
            if not more:
                break
            self._buffer += more
        line, _, self._buffer = self._buffer.partition(b"\r\n")
        return line

    def close(self) -> None:
        if not self.closed:
            self._wire.close()
        super().close()


def ask(
    wire: Any, method: str, target: str, headers: Mapping[str, str], body: bytes | Iterable[bytes] | None = None
) -> Answer:
    """Send one request and read the head of its answer. An iterable body is sent in chunks as it comes."""
    if isinstance(body, bytes) or (method == "POST" and body is None):
        length = {"Content-Length": str(len(body or b""))}
    else:
        length = {} if body is None else {"Transfer-Encoding": "chunked"}
    lines = [f"{method} {target} HTTP/1.1", "Host: engine"]
    lines += [f"{name}: {value}" for name, value in {**headers, **length}.items()]
    head = "\r\n".join([*lines, "", ""]).encode()
    # An engine that refuses before it has read everything hangs up on the rest; its words come all the same.
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        wire.sendall(head + body if isinstance(body, bytes) else head)
        if not isinstance(body, bytes | None):
            for piece in _chunks(body):
                wire.sendall(piece)
    return _head(wire, bodyless=method == "HEAD")


def _chunks(body: Iterable[bytes]) -> Iterator[bytes]:
    for piece in body:
        if piece:
            yield b"%x\r\n%b\r\n" % (len(piece), piece)
    yield b"0\r\n\r\n"


def _head(wire: Any, *, bodyless: bool) -> Answer:
    buffer = b""
    while b"\r\n\r\n" not in buffer:
        piece = wire.recv(PIECE)
        if not piece or len(buffer) > LONGEST_HEAD:
            raise Unavailable("the engine hung up" if not buffer else "no HTTP was spoken")
        buffer += piece
    head, _, rest = buffer.partition(b"\r\n\r\n")
    return Answer(wire, head, rest, bodyless)
