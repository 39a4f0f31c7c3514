"""How the daemon tells the resolver and the relay what to do: lines of JSON over a unix socket.

    daemon  --{"do":"names",…}\\n-->  process
            <--{"ok":true,…}\\n-----

Every line is answered by one line, in order, after the deed is done: when a
container's names were acknowledged, they are being served. Several lines may
be sent at once and cost one round trip. Whoever says "watch" gets, after the
answer, a line for each thing that happens (``News``) for as long as it listens.

Rules
    1. Only root talks to us: the socket's mode is 0600 from its first moment.
    2. A line is at most ``LONGEST`` bytes; a client with a longer one, or one
       that does not read its answers, is cut off. Nothing else cuts a client off.
    3. What goes wrong is answered ``{"ok":false,"error":…,"errno":…}``; the
       state is as before the line.
    4. A dead process's socket file is replaced, a living one's is not.
"""

from __future__ import annotations

import errno
import json
import os
import socket
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any

from fairlead.engine.loop import READ, WRITE, Loop, allow_many_files, reason
from fairlead.errors import Conflict, FairleadError, Invalid

LONGEST = 64 << 20
UNKNOWN = "unknown request"
_CHUNK = 1 << 18

Deed = Callable[[dict[str, Any]], dict[str, Any] | None]


class News:
    """What a process tells those who watch it, without being asked."""

    def __init__(self) -> None:
        self.watchers: set[_Client] = set()

    def tell(self, line: Mapping[str, Any]) -> None:
        for client in tuple(self.watchers):
            client.push(_encoded(line))


def run(part: str, words: Sequence[str], deeds: Callable[[Loop], Mapping[str, Deed]], news: News | None = None) -> int:
    """``fairlead PART --socket PATH``: serve until told to "exit". 0: as told, 1: somebody serves there, 2: usage."""
    if len(words) != 2 or words[0] != "--socket":
        print(f"usage: fairlead {part} --socket PATH", file=sys.stderr)
        return 2
    allow_many_files()
    loop = Loop()

    def exit(said: dict[str, Any]) -> None:
        loop.later(0, loop.stop)  # when this was answered

    try:
        control = Control(loop, words[1], {**deeds(loop), "exit": exit}, news)
    except (FairleadError, OSError) as error:
        print(f"fairlead {part}: {error}", file=sys.stderr)
        return 1
    try:
        loop.run()
    finally:
        control.close()
    return 0


class Control:
    """The listening socket and its clients; ``deeds`` maps the word after "do" to what is done."""

    def __init__(self, loop: Loop, path: str, deeds: Mapping[str, Deed], news: News | None = None) -> None:
        self._loop = loop
        self._path = path
        self._deeds = deeds
        self._news = news or News()
        self._socket = _listen(path)
        self._clients: set[_Client] = set()
        loop.watch(self._socket, self._accept)

    def _accept(self) -> None:
        try:
            sock, _ = self._socket.accept()
        except OSError:
            return
        sock.setblocking(False)
        self._clients.add(_Client(self._loop, sock, self._answer, self._gone))

    def _gone(self, client: _Client) -> None:
        self._clients.discard(client)
        self._news.watchers.discard(client)

    def _answer(self, client: _Client, line: bytes) -> bytes:
        try:
            request = json.loads(line)
            if not isinstance(request, dict) or request.get("do") not in self._deeds:
                raise Invalid(UNKNOWN)
            result = self._deeds[request["do"]](request) or {}
            result = {"ok": True, **result}
            if request["do"] == "watch":
                self._news.watchers.add(client)
        except FairleadError as error:
            result = {"ok": False, "error": error.message}
        except OSError as error:
            result = {"ok": False, "error": reason(error), "errno": errno.errorcode.get(error.errno or 0, "")}
        except KeyError as error:
            result = {"ok": False, "error": f"missing field {error.args[0]!r}"}
        except (ValueError, TypeError, AttributeError, RecursionError) as error:
            result = {"ok": False, "error": f"bad request: {error}"}
        return _encoded(result)

    def close(self) -> None:
        """No more clients; the file goes, so that nobody waits for us."""
        with suppress(OSError):
            os.unlink(self._path)
        for client in tuple(self._clients):
            client.close()
        self._loop.unwatch(self._socket)
        self._socket.close()


class _Client:
    """One daemon's connection: bytes in, whole lines answered, bytes out."""

    def __init__(
        self,
        loop: Loop,
        sock: socket.socket,
        answer: Callable[[_Client, bytes], bytes],
        gone: Callable[[_Client], None],
    ) -> None:
        self._loop, self._socket, self._answer, self._gone = loop, sock, answer, gone
        self._in = bytearray()
        self._out = bytearray()
        loop.watch(sock, self._ready)

    def _ready(self) -> None:
        try:
            self._flush()
            data = self._socket.recv(_CHUNK)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self.close()
            return
        searched = len(self._in)
        self._in += data
        if b"\n" in data:
            *lines, rest = bytes(self._in).split(b"\n")
            self._in = bytearray(rest)
            for line in lines:
                self._out += self._answer(self, line)
        elif searched > LONGEST:
            self.close()
            return
        self._send()

    def push(self, line: bytes) -> None:
        """Say something unasked."""
        self._out += line
        self._send()

    def _send(self) -> None:
        try:
            self._flush()
        except OSError:
            self.close()
            return
        if len(self._out) > LONGEST:
            self.close()

    def _flush(self) -> None:
        waiting = bool(self._out)
        while self._out:
            try:
                del self._out[: self._socket.send(self._out)]
            except BlockingIOError:
                break
        if waiting and self._socket.fileno() >= 0:
            self._loop.watch(self._socket, self._ready, READ | WRITE if self._out else READ)

    def close(self) -> None:
        self._gone(self)
        self._loop.unwatch(self._socket)
        self._socket.close()


def _encoded(line: Mapping[str, Any]) -> bytes:
    return json.dumps(line, separators=(",", ":")).encode() + b"\n"


def _listen(path: str) -> socket.socket:
    """A listening unix socket at ``path``; ``Conflict`` when somebody answers there already."""
    probe = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    with probe, suppress(ConnectionRefusedError, FileNotFoundError):
        probe.connect(path)
        raise Conflict(f"somebody serves {path} already")
    with suppress(FileNotFoundError):
        os.unlink(path)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    before = os.umask(0o177)
    try:
        sock.bind(path)
    finally:
        os.umask(before)
    sock.listen(16)
    sock.setblocking(False)
    return sock
