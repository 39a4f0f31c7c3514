"""One client's connection: requests come in one after the other, each is answered before the next is looked at.

    bytes ---> [ahead] ---> head complete? ---> a task: handler ---> answer ---> next, or close
                  |                               ^
                  +--- body of the request -------+        the rest stays ahead: the next request, or,
                                                           of attach and exec start, the stream's first bytes

Rules
    1. Bytes behind a request are kept, at most ``KEPT`` of them, then reading stops. ``hand_over`` gives them, and the
       transport, to a stream. When attach or exec start is answered without that, the connection is closed: what was
       kept is nobody's.
    2. A client that closes its half while a request runs is *gone*, but still gets its answer; dockerd answers alike.
       What may be abandoned has ``GRACE`` to finish, and is cancelled. A body that was not complete is the answer.
    3. A head must be complete ``HEAD_SECONDS`` after its first byte; an idle connection is closed after
       ``IDLE_SECONDS``.
    4. The body of a request that is already refused is read on for ``LINGER``: else clients that send head and body
       one after the other hear a broken pipe instead of the answer.
    5. What is no HTTP is answered in plain text, and the connection closed; it never reaches a handler.

What it does not do: know what is in a stream (``hijack``), or what the paths mean (``server``).
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import cast

from fairlead.api import heads
from fairlead.api.bodies import Body
from fairlead.api.web import Answer, Request, Taken
from fairlead.core.patterns import pattern
from fairlead.errors import Invalid

log = logging.getLogger("fairlead.api")

HEAD_SECONDS = 20
IDLE_SECONDS = 600
KEPT = 64 << 10
GRACE = 0.3
"""Seconds a handler gets to finish an answer for a client that closed its half."""
LINGER = 1.0

_HIJACKS = pattern(
    r"POST (/v[0-9.]+)?/(containers/[^/]+/attach|exec/[^/]+/start)|GET (/v[0-9.]+)?/containers/[^/]+/attach/ws"
)
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


class Connection(asyncio.Protocol):
    """A connection whose requests are answered by ``handle``; it is in ``connections`` as long as it is open."""

    def __init__(self, handle: Callable[[Request], Awaitable[Answer]], connections: set[Connection]) -> None:
        self._handle = handle
        self._connections = connections
        self._loop = asyncio.get_running_loop()
        self.transport: asyncio.Transport | None = None
        self.gone = False
        """The client has closed its half, or the whole connection."""
        self.lost: asyncio.Future[None] = self._loop.create_future()
        """Done when nothing of the connection is left."""
        self.closing = self._paused = self._given_up = False
        self._ahead = bytearray()
        self._request: Request | None = None
        self.task: asyncio.Task[None] | None = None
        """answers the request that runs"""
        self._timer: asyncio.TimerHandle | None = None
        self._within_head = False
        self._writable = asyncio.Event()
        self._writable.set()

    # -- bytes in -------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self._connections.add(self)
        peer = transport.get_extra_info("socket")
        if peer is not None and peer.family != socket.AF_UNIX:
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        self._timer = self._loop.call_later(IDLE_SECONDS, self._give_up)

    def data_received(self, data: bytes) -> None:
        if self._request is None:
            self._ahead += data
            self._next()
        else:
            self._follow(self._request, data)

    def _follow(self, request: Request, data: bytes) -> None:
        """What comes behind the head of a request that runs."""
        if not request.content.complete:
            try:
                data = request.content.feed(data)
            except Invalid as error:
                self.closing, data = True, b""
                request.content.fail(error)
        self._ahead += data
        if len(self._ahead) >= KEPT:
            self._flow(False)

    def _flow(self, on: bool) -> None:
        if self._paused == on and self.transport is not None and not self.transport.is_closing():
            self._paused = not on
            (self.transport.resume_reading if on else self.transport.pause_reading)()

    def _next(self) -> None:
        """Begin with the next request, if its head is complete."""
        while self._ahead.startswith(b"\r\n"):
            del self._ahead[:2]
        end = self._ahead.find(b"\r\n\r\n")
        if end < 0:
            self._expect_head()
            return
        raw, rest = bytes(self._ahead[:end]), bytes(self._ahead[end + 4 :])
        self._ahead.clear()
        self._stop_timer()
        if end > heads.LARGEST:
            self._refuse(heads.TooLarge("the head of the request is too large"))
            return
        try:
            head = heads.parse(raw)
        except heads.Malformed as error:
            self._refuse(error)
            return
        invite = (lambda: self._say(_CONTINUE)) if head.expects else None
        request = self._request = Request(head, Body(head.length, self._flow, invite), self)
        self._flow(True)
        self._follow(request, rest)
        self.task = self._loop.create_task(self._serve(request))

    def _expect_head(self) -> None:
        if not heads.could_be(bytes(self._ahead[:32])) and self._ahead:
            self._refuse(heads.Malformed("malformed HTTP request"))
        elif len(self._ahead) > heads.LARGEST:
            self._refuse(heads.TooLarge("the head of the request is too large"))
        elif bool(self._ahead) != self._within_head or self._timer is None:
            self._stop_timer()
            self._within_head = bool(self._ahead)
            if self._within_head:
                self._timer = self._loop.call_later(HEAD_SECONDS, self._give_up)
            else:
                self._timer = self._loop.call_later(IDLE_SECONDS, self._give_up)

    def _stop_timer(self) -> None:
        self._within_head = False
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _give_up(self) -> None:
        """The client took too long."""
        self._timer = None
        self.abort()

    def _refuse(self, error: Invalid) -> None:
        log.debug("refused what is no request: %s", error)
        words = f"{error.status} {error.message}\n".encode()
        self._ahead.clear()
        self._stop_timer()
        self._say(
            b"HTTP/1.1 %d Bad Request\r\nContent-Type: text/plain; charset=utf-8\r\nConnection: close\r\n"
            b"Content-Length: %d\r\n\r\n%b" % (error.status, len(words), words)
        )
        self._close()

    # -- one request ----------------------------------------------------------------------------

    async def _serve(self, request: Request) -> None:
        """Answer, then go on or close. Never raises, but when it is cancelled from outside."""
        keep = False
        try:
            keep = await self._answer(request)
        except asyncio.CancelledError:
            if not self._given_up:
                self._close()
                raise
        except ConnectionError:
            pass
        except Exception:
            log.exception("%s %s", request.method, request.path)
        if self.transport is None or self.transport.get_protocol() is not self:
            return  # handed over, or lost
        self._request = self.task = None
        if keep and not self.gone and not self.closing:
            self._next()
        else:
            self._close()

    async def _answer(self, request: Request) -> bool:
        """Whether the connection can go on."""
        answer = await self._handle(request)
        if isinstance(answer, Taken) or request.answered not in (None, answer):
            return False
        keep = request.head.keeps and not self.closing and not self.gone and not self.hijackable(request)
        await answer.send(request, keep)
        body = request.content
        if body.complete:
            return keep
        if body.invite is not None:  # it was never asked for, so it will not come
            return False
        body.unwanted()
        with suppress(TimeoutError):
            async with asyncio.timeout(LINGER):
                await body.finished()
        return keep and body.complete

    @staticmethod
    def hijackable(request: Request) -> bool:
        """Its connection may become a stream; nothing else may follow it."""
        path = request.raw_path
        if "/attach" not in path and not path.endswith("/start"):
            return False  # and the first answer waits for no expression to be compiled
        return _HIJACKS.fullmatch(f"{request.method} {path}") is not None

    # -- bytes out ------------------------------------------------------------------------------

    async def write(self, data: bytes) -> None:
        """Send; returns when the client can take more. ``ConnectionResetError`` when it is gone."""
        if self.transport is None or self.transport.is_closing():
            raise ConnectionResetError("the client hung up")
        self.transport.write(data)
        if not self._writable.is_set():
            await self._writable.wait()

    def _say(self, data: bytes) -> None:
        if self.transport is not None and not self.transport.is_closing():
            self.transport.write(data)

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    # -- the ends -------------------------------------------------------------------------------

    def eof_received(self) -> bool:
        if self._request is None:
            return False
        self._request.content.fail(Invalid("unexpected EOF"))
        self._leave()
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        self.transport = None
        self._connections.discard(self)
        self.lost.set_result(None)
        self._writable.set()
        self._stop_timer()
        if self._request is not None:
            self._request.content.fail(ConnectionResetError("the client hung up"))
        self._leave()

    def _leave(self) -> None:
        self.gone = True
        request = self._request
        if request is not None:
            self._loop.call_later(GRACE, lambda: self._abandon(request, request.abandonable))

    def _abandon(self, request: Request, may: bool) -> None:
        """Cancel a request that is still the one that runs."""
        if may and self._request is request and self.task is not None:
            self._given_up = True
            self.task.cancel()

    def end(self) -> None:
        """The engine closes: what is idle or a stream is ended, what changes something goes on."""
        self.closing = True
        request = self._request
        if request is None:
            self._close()
        else:
            self._loop.call_later(
                GRACE, lambda: self._abandon(request, request.abandonable or self.hijackable(request))
            )

    def _close(self) -> None:
        if self.transport is not None:
            self.transport.close()

    def abort(self) -> None:
        """Close now, whatever was not sent yet."""
        if self.task is not None:
            self._given_up = True
            self.task.cancel()
        if self.transport is not None:
            self.transport.abort()

    # -- hijack ---------------------------------------------------------------------------------

    def hand_over(self, to: asyncio.Protocol) -> None:
        """Make ``to`` the protocol of the transport, with the bytes (and the end) that were kept for it.

        ``to`` must pass ``connection_lost`` on to this object, which still counts as open until then.
        """
        transport = self.transport
        if transport is None or transport.is_closing():
            raise ConnectionResetError("connection closed")
        kept = bytes(self._ahead)
        self._ahead.clear()
        transport.set_protocol(to)
        to.connection_made(transport)
        self._flow(True)
        if kept:
            to.data_received(kept)
        if self.gone:
            to.eof_received()
