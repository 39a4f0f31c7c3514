"""TLS on the way to the engine, with Docker's files: ca.pem, cert.pem, key.pem.

    wrap(socket, name, …) -> a socket whose shutdown(SHUT_WR) closes only our half

The standard library's ``SSLSocket.shutdown`` throws the encryption away with
the first half; ``cat x | run -i`` needs the answer that comes after it. So we
keep the TLS engine (``SSLObject``) and the socket apart, and end our half by
sending TLS's own goodbye.
"""

from __future__ import annotations

import contextlib
import os
import socket
import ssl
from typing import Any

from fairlead.errors import Invalid


def wrap(plain: socket.socket, name: str, verify: bool, ca: str, certificate: str, key: str) -> Any:
    """Shake hands; raises OSError with the reason when the two do not come together."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if not verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    elif ca:
        _load(context.load_verify_locations, ca)
    else:
        context.load_default_certs()
    if os.path.exists(certificate) or os.path.exists(key):
        _load(context.load_cert_chain, certificate, key)
    return Encrypted(plain, context, name)


def _load(deed: Any, *names: str) -> None:
    try:
        deed(*names)
    except FileNotFoundError:
        missing = next(name for name in names if not os.path.exists(name))
        raise Invalid(f"open {missing}: no such file or directory") from None
    except ssl.SSLError as problem:
        raise Invalid(f"could not read {' and '.join(names)}: {problem.reason or problem}") from None


class Encrypted:
    """As much of a socket as we use: sendall, send, recv, shutdown, fileno, pending, close."""

    def __init__(self, plain: socket.socket, context: ssl.SSLContext, name: str) -> None:
        self._plain = plain
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._sealed, self._taken = b"", 0  # of ``send``: what did not go yet, and of how much it was made
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_hostname=name)
        self._until(self._tls.do_handshake)

    def _until(self, deed: Any, *words: Any) -> Any:
        """Do it, sending what it has to say and reading what it wants to hear."""
        while True:
            try:
                done = deed(*words)
                self._flush()
                return done
            except ssl.SSLWantReadError:
                self._flush()
                data = self._plain.recv(1 << 16)
                self._incoming.write(data) if data else self._incoming.write_eof()

    def _flush(self) -> None:
        if self._sealed or self._outgoing.pending:
            self._plain.sendall(self._sealed + self._outgoing.read())
            self._sealed = b""

    def sendall(self, data: bytes) -> None:
        if data:
            self._until(self._tls.write, data)

    def send(self, data: bytes, flags: int) -> int:
        """Like a socket's. What raises ``BlockingIOError`` is to be called again with the same data."""
        if not self._taken:
            self._taken = self._tls.write(data[:16384])
            self._sealed += self._outgoing.read()
        while self._sealed:
            self._sealed = self._sealed[self._plain.send(self._sealed, flags) :]
        taken, self._taken = self._taken, 0
        return taken

    def recv(self, most: int) -> bytes:
        try:
            return bytes(self._until(self._tls.read, most))
        except (ssl.SSLEOFError, ssl.SSLZeroReturnError):  # hung up, or said goodbye
            return b""

    def pending(self) -> int:
        """Bytes already here that ``select`` cannot see."""
        return self._tls.pending() + self._incoming.pending

    def shutdown(self, how: int) -> None:
        """Our half ends; what the engine still says can be read."""
        with contextlib.suppress(ssl.SSLError):  # it wants to hear the other's goodbye, which comes later
            self._tls.unwrap()
        self._flush()

    def fileno(self) -> int:
        return self._plain.fileno()

    def close(self) -> None:
        self._plain.close()
