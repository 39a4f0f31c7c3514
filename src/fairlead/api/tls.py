"""TLS whose two directions end one by one, as ``docker run -i … < file`` over tcp needs it.

    socket <-- records --> Tls <-- bytes --> Connection, later perhaps a hijacked Stream

A client that has nothing more to say sends *close notify* and goes on listening. The event loop's own TLS takes that
for the end of everything; here it is ``eof_received``, and what is written afterwards still reaches the client.

Rules
    1. The handshake is over within ``HANDSHAKE_SECONDS``, or the connection is.
    2. Who is refused (no certificate, or a stranger's) hears it in TLS's own alert; nothing inside hears of them.
    3. Whoever is paused pauses the other side: nothing is kept here but what one read brought.

What it leaves behind on failure: a closed connection.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Iterable
from contextlib import suppress
from typing import Any, cast

from fairlead.errors import Invalid
from fairlead.settings import Settings

log = logging.getLogger("fairlead.api")

HANDSHAKE_SECONDS = 20
PIECE = 64 << 10


class Tls(asyncio.Protocol, asyncio.Transport):
    """The protocol of a socket, and the transport of the protocol ``inside``."""

    def __init__(self, inside: asyncio.BaseProtocol, context: ssl.SSLContext) -> None:
        asyncio.Transport.__init__(self)
        self._inside = cast(asyncio.Protocol, inside)
        self._context = context
        self._came, self._goes = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._came, self._goes, server_side=True)
        self._ready = self._heard_all = self._said_all = self._closing = False

    # -- the socket's protocol ------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._raw = cast(asyncio.Transport, transport)
        self._timer = asyncio.get_running_loop().call_later(HANDSHAKE_SECONDS, self._raw.abort)

    def data_received(self, data: bytes) -> None:
        self._came.write(data)
        if self._ready or self._shake_hands():
            self._read()

    def eof_received(self) -> bool:
        """The socket will bring no more, with or without a *close notify*."""
        if self._ready:
            self._hear_end()
        return self._ready

    def connection_lost(self, exc: Exception | None) -> None:
        self._timer.cancel()
        self._closing = True
        if self._ready:
            self._inside.connection_lost(exc)

    def pause_writing(self) -> None:
        if self._ready:
            self._inside.pause_writing()

    def resume_writing(self) -> None:
        if self._ready:
            self._inside.resume_writing()

    def _shake_hands(self) -> bool:
        """Whether the two have come together."""
        try:
            self._tls.do_handshake()
        except ssl.SSLWantReadError:
            self._flush()
            return False
        except ssl.SSLError as error:
            log.debug("TLS handshake: %s", error)
            self._flush()
            self._raw.close()
            return False
        self._flush()
        self._timer.cancel()
        self._ready = True
        self._inside.connection_made(self)
        return True

    def _read(self) -> None:
        while not self._heard_all:
            try:
                data = self._tls.read(PIECE)
            except ssl.SSLWantReadError:
                break
            except ssl.SSLZeroReturnError:
                data = b""
            except ssl.SSLError:
                self._raw.abort()
                return
            if data:
                self._inside.data_received(data)
            else:
                self._hear_end()
        self._flush()

    def _hear_end(self) -> None:
        if not self._heard_all:
            self._heard_all = True
            if not self._inside.eof_received():
                self.close()

    def _flush(self) -> None:
        if self._goes.pending:
            self._raw.write(self._goes.read())

    # -- the inner protocol's transport ---------------------------------------------------------

    def write(self, data: bytes | bytearray | memoryview) -> None:
        rest = memoryview(data)
        while rest and not self._said_all:
            try:
                rest = rest[self._tls.write(rest) :]
            except ssl.SSLError:
                self._raw.abort()
                return
        self._flush()

    def writelines(self, list_of_data: Iterable[Any]) -> None:
        self.write(b"".join(list_of_data))

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        """Say that nothing more will come; the client may go on."""
        if not self._said_all:
            self._said_all = True
            with suppress(ssl.SSLError):
                self._tls.unwrap()
            self._flush()

    def close(self) -> None:
        if not self._closing:
            self._closing = True
            self.write_eof()
            self._raw.close()

    def abort(self) -> None:
        self._closing = True
        self._raw.abort()

    def is_closing(self) -> bool:
        return self._closing or self._raw.is_closing()

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        if name == "sslcontext":
            return self._context
        return self._tls if name == "ssl_object" else self._raw.get_extra_info(name, default)

    def pause_reading(self) -> None:
        self._raw.pause_reading()

    def resume_reading(self) -> None:
        self._raw.resume_reading()

    def is_reading(self) -> bool:
        return self._raw.is_reading()

    def get_write_buffer_size(self) -> int:
        return self._raw.get_write_buffer_size()

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        self._raw.set_write_buffer_limits(high, low)

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self._inside = cast(asyncio.Protocol, protocol)

    def get_protocol(self) -> asyncio.BaseProtocol:
        return self._inside


def server_context(settings: Settings) -> ssl.SSLContext:
    """TLS 1.2 or later; with ``--tlsverify`` only for clients with a certificate of the CA. ``Invalid`` names a bad
    file."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(settings.tlscert, settings.tlskey)
    except (OSError, ssl.SSLError) as error:
        raise Invalid(
            f"failed to load X509 key pair (cert: {settings.tlscert!r}, key: {settings.tlskey!r}): {error}"
        ) from error
    if settings.tlsverify:
        try:
            context.load_verify_locations(settings.tlscacert)
        except (OSError, ssl.SSLError) as error:
            raise Invalid(f"could not read CA certificate {settings.tlscacert!r}: {error}") from error
        context.verify_mode = ssl.CERT_REQUIRED
    return context
