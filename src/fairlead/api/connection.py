"""One client's connection: aiohttp's, with the four things Docker's API needs and HTTP servers do not give.

    bytes ---> [ head of attach / exec start? ] --no--> aiohttp's parser
                       |yes
                       +--> exactly that request to the parser; what follows is kept
                            until ``hijack`` hands the transport to a stream

Rules
    1. Bytes that came along with the head of a hijacked request are the start of
       its stream. They are kept apart, at most ``KEPT`` of them, then reading stops.
    2. A client that closes its half while a request runs is *gone* (``gone`` is
       done) but still gets its answer; dockerd cancels and answers alike. If its
       body was not complete, the answer is that.
    3. A head must be complete ``HEAD_SECONDS`` after its first byte.
    4. When such a request is answered without a hijack, the connection is closed
       (``server`` does it): what was kept is nobody's.

What it does not do: know what is in the stream (``hijack``).
"""

from __future__ import annotations

import asyncio
import re
from typing import Any

from aiohttp import web

from fairlead.errors import Invalid

HEAD_SECONDS = 20
IDLE_SECONDS = 600
LARGEST_HEAD = 64 << 10
KEPT = 64 << 10

_HIJACKS = re.compile(rb"POST (/v[0-9.]+)?/(containers/[^/ ?]+/attach|exec/[^/ ?]+/start)[? ]")
_MAYBE = re.compile(rb"P(O(S(T( .*)?)?)?)?", re.DOTALL)
_LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*([0-9]{1,9})[ \t]*\r\n", re.IGNORECASE)
_CHUNKED = re.compile(rb"\r\ntransfer-encoding:", re.IGNORECASE)


class Connection(web.RequestHandler):
    """aiohttp's protocol for one connection, with the rules above."""

    __slots__ = ("_body", "_early", "_head_timer", "_holding", "_kept", "_kept_eof", "gone")

    def __init__(self, manager: web.Server, *, loop: asyncio.AbstractEventLoop, **options: Any) -> None:
        super().__init__(manager, loop=loop, **options)
        self.gone: asyncio.Future[None] = loop.create_future()
        """Done when the client has closed its half or the whole connection."""
        self._body: Any = None
        """of the request that came last"""
        self._early = b""
        self._holding = False
        self._kept = bytearray()
        self._kept_eof = False
        self._head_timer: asyncio.TimerHandle | None = None

    # -- bytes ------------------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        if self._holding:
            self._keep(data)
            return
        if self._busy():
            self._parse(data)
            return
        data, self._early = self._early + data, b""
        if self._may_hijack(data):
            self._sort(data)
        else:
            self._parse(data)
        self._watch_head()

    def _parse(self, data: bytes) -> None:
        super().data_received(data)
        if self._messages:
            self._body = self._messages[-1][1]

    def _busy(self) -> bool:
        """A request is being read or answered: what arrives is its body, or pipelined, and aiohttp's business."""
        idle = self._waiter is not None and not self._waiter.done()
        return self._request_count > 0 and not idle

    def _may_hijack(self, data: bytes) -> bool:
        if _HIJACKS.match(data):
            return True
        return b"\r\n" not in data and _MAYBE.fullmatch(data) is not None and len(data) < 8192

    def _sort(self, data: bytes) -> None:
        """Give the parser one whole request, keep the rest; wait for more when it is not whole yet."""
        end = data.find(b"\r\n\r\n")
        if end < 0 and len(data) < LARGEST_HEAD:
            self._early = data
            return
        if end < 0 or _CHUNKED.search(data, 0, end + 2):
            self._parse(data)
            return
        length = _LENGTH.search(data, 0, end + 2)
        whole = end + 4 + (int(length[1]) if length else 0)
        if len(data) < whole and whole < LARGEST_HEAD:
            self._early = data
            return
        self._holding = True
        self._parse(data[:whole])
        if len(data) > whole:
            self._keep(data[whole:])

    def _keep(self, data: bytes) -> None:
        self._kept += data
        if len(self._kept) >= KEPT and self.transport is not None:
            self.transport.pause_reading()

    # -- the ends ---------------------------------------------------------------------------

    def eof_received(self) -> bool | None:  # type: ignore[override]
        self._tell_gone()
        if self._holding:
            self._kept_eof = True
            return True
        if self._busy():
            self._cut_body()
            self.close()
            return True
        return None

    def _cut_body(self) -> None:
        """Whoever waits for more of a body that ended too early is told."""
        if self._body is not None and not self._body.is_eof():
            self._body.set_exception(Invalid("unexpected EOF"))
            self._body.feed_eof()  # else aiohttp goes on to read what nobody wanted

    def connection_lost(self, exc: BaseException | None) -> None:
        self._tell_gone()
        self._stop_timer()
        super().connection_lost(exc)

    def _tell_gone(self) -> None:
        if not self.gone.done():
            self.gone.set_result(None)

    # -- slow heads -------------------------------------------------------------------------

    def _watch_head(self) -> None:
        if self._busy():
            self._stop_timer()
        elif self._head_timer is None:
            self._head_timer = self._loop.call_later(HEAD_SECONDS, self._give_up)

    def _stop_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _give_up(self) -> None:
        self._head_timer = None
        if not self._busy() and self.transport is not None:
            self.transport.abort()

    # -- hijack -----------------------------------------------------------------------------

    @property
    def holding(self) -> bool:
        """This connection's request may be hijacked; if it is not, nothing may follow its answer."""
        return self._holding

    def hand_over(self, to: asyncio.Protocol) -> None:
        """Make ``to`` the protocol of the transport, with the bytes (and the end) that were kept for it.

        ``to`` must pass ``connection_lost`` on to this object, which still counts as open until then.
        """
        transport = self.transport
        if transport is None or transport.is_closing():
            raise ConnectionResetError("connection closed")
        kept, self._kept = bytes(self._kept), bytearray()
        transport.set_protocol(to)
        to.connection_made(transport)
        if len(kept) >= KEPT:
            transport.resume_reading()
        if kept:
            to.data_received(kept)
        if self._kept_eof:
            to.eof_received()
