"""The gate: port 2377, where nodes and managers talk, and the way to it.

    node ---- TLS, the server's name is "swarm-manager" ----> manager
         <-- four zero bytes: you may come in
         length (4 bytes, most significant first), JSON   (core.session), both ways

    ask(address, message, keys)     one question, one answer         GetRoot, Join, Renew, Enroll
    open(address, keys, hello)      a session, for as long as it lasts

Rules
    1. A manager shows a manager's certificate of a root that is believed; nobody says anything to anybody else.
    2. Whoever asks may show a certificate. One that leads to no root believed now, or is over, ends the handshake, and
       the zero bytes do not come (asyncio sends no alert); one that is good but not enough for what is asked
       (``roles``), or not welcome any more, gets ``Refused``. Whoever asks believes, of the managers, those it knows.
    3. Roots and certificates may change at any time: every connection is made with those of its moment.
    4. A stranger costs little: ``LARGEST_FIRST`` bytes, ``FIRST`` seconds, ``MOST`` at once (``MOST_FROM_ONE`` of them
       from one address). A message that has begun has to be here within ``PIECE`` seconds, on every stream.
    5. A peer that does not read is closed after ``PIECE`` seconds.
    6. Nothing of a message is in an error or a log.
    7. A session ends with the certificate that it began with (a node has another long before), and what a node has open
       when it is removed, or is to manage no more, ends then (``dismiss``).

What it does not do: understand messages, or wait for signs of life (``dispatcher`` does).
"""

from __future__ import annotations

import asyncio
import datetime
import logging
import os
import socket
import ssl
from collections import Counter
from collections.abc import Awaitable, Callable, Collection
from contextlib import suppress
from typing import Any, Protocol

import msgspec
from cryptography import x509

from fairlead import errors
from fairlead.core import written
from fairlead.core.session import Answered, Asked, FromNode, Refused, ToNode
from fairlead.errors import FairleadError, Forbidden, Invalid, Unavailable
from fairlead.swarm import ca
from fairlead.swarm.ca import Identity

log = logging.getLogger(__name__)

PORT = 2377
SERVER = "swarm-manager"
LARGEST_FIRST, LARGEST = 256 << 10, 32 << 20
CONNECT, FIRST, ANSWER, PIECE = 5.0, 10.0, 20.0, 30.0
MOST, MOST_FROM_ONE = 1024, 64
LENGTH = 4
COME_IN = bytes(LENGTH)
FALLBACK = 0.1
LOOK = 600.0
"""seconds between looks at a certificate's end, at most: clocks may jump"""
EVERYWHERE = ("0.0.0.0", "::")
"""Either means all addresses of both families, as for dockerd: the first is what ``--listen-addr`` is by itself, also
where a swarm is over IPv6 alone."""
ANYBODY: tuple[str, ...] = ()
NODES = ("worker", "manager")
MANAGERS = ("manager",)

Handler = Callable[["Stream", Any], Awaitable[Any]]
"""Gets the first message. What it returns is sent, then the stream is closed; errors of ours become ``Refused``."""


class Keys(Protocol):
    """Who we are and whom we believe, as it is now."""

    def server(self) -> ssl.SSLContext:
        """Shows our certificate, asks for the other's."""

    def client(self) -> ssl.SSLContext:
        """Shows our certificate if there is one."""

    def knows(self, who: Identity, address: str) -> bool:
        """Whether a manager with a good certificate, found there, is one that we were told of."""


class Newcomer:
    """Keys of a node that has no certificate yet. ``roots``: PEM; empty: believes anybody (and says nothing secret)."""

    def __init__(self, roots: str = "") -> None:
        self._roots = roots

    def server(self) -> ssl.SSLContext:
        raise Invalid("a node without certificate serves nobody")

    def client(self) -> ssl.SSLContext:
        context = client_context(self._roots)
        if not self._roots:
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        return context

    def knows(self, who: Identity, address: str) -> bool:
        return True


def client_context(roots: str) -> ssl.SSLContext:
    """Believes these roots (PEM), and no others."""
    return _believing(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), roots)


def server_context(roots: str) -> ssl.SSLContext:
    context = _believing(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), roots)
    context.verify_mode = ssl.CERT_OPTIONAL
    context.num_tickets = 0  # a resumed session would be believed by what was believed when it began
    return context


def _believing(context: ssl.SSLContext, roots: str) -> ssl.SSLContext:
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    if roots:
        context.load_verify_locations(cadata=roots)
    return context


class Stream:
    """A connection, whichever side opened it. ``identity``: of the certificate that the other side showed."""

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        decoder: msgspec.json.Decoder[Any],
    ) -> None:
        self._reader, self._writer, self._decoder = reader, writer, decoder
        self.peer, self.here = (_plain(writer.get_extra_info(end)) for end in ("peername", "sockname"))
        """The other side's address, and ours as the other side reaches it."""
        shown = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
        self.certificate = x509.load_der_x509_certificate(shown) if shown else None
        self.identity: Identity | None = None
        if self.certificate is not None:
            with suppress(Invalid):
                self.identity = ca.identity(self.certificate)

    async def receive(self, within: float | None = None, largest: int = LARGEST) -> Any:
        """The next message. ``within``: seconds until it has begun. Raises ``Unavailable`` (it is over, or nothing
        came) and ``Invalid`` (that is no message); the stream is of no use then."""
        try:
            async with asyncio.timeout(within):
                head = await self._reader.readexactly(LENGTH)
            length = int.from_bytes(head)
            if length > largest:
                raise Invalid(f"a message of {length} bytes is too long: {largest} at most")
            async with asyncio.timeout(PIECE):
                body = await self._reader.readexactly(length)
        except TimeoutError:
            raise Unavailable(f"nothing was heard from {self.peer}") from None
        except (asyncio.IncompleteReadError, OSError) as error:
            raise Unavailable(f"the connection with {self.peer} ended{_words(error)}") from None
        try:
            return self._decoder.decode(body)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            raise Invalid("this is no message") from None

    async def send(self, message: msgspec.Struct) -> None:
        """Whole, and in turn. Raises ``Unavailable``."""
        body = msgspec.json.encode(message)
        try:
            self._writer.write(len(body).to_bytes(LENGTH) + body)
            async with asyncio.timeout(PIECE):
                await self._writer.drain()
        except (OSError, RuntimeError) as error:  # TimeoutError is an OSError
            self.abort()
            raise Unavailable(f"the connection with {self.peer} ended{_words(error)}") from None

    async def close(self) -> None:
        """Says what is still to be said, for a second at most."""
        try:
            self._writer.close()
            async with asyncio.timeout(1):
                await self._writer.wait_closed()
        except TimeoutError:
            self.abort()
        except (OSError, RuntimeError) as error:
            log.debug("%s was gone already: %s", self.peer, error)

    def abort(self) -> None:
        with suppress(AttributeError):  # asyncio's, of a transport that has ended by itself
            self._writer.transport.abort()


# -- the way there -----------------------------------------------------------------------------------------------------


async def ask(address: str, message: msgspec.Struct, keys: Keys) -> Any:
    """The answer to one question. ``address``: ``host:port``. Raises what the manager raised, or ``Unavailable``,
    ``Forbidden``."""
    stream = await open(address, keys)
    try:
        await stream.send(message)
        answer = await stream.receive(ANSWER)
    finally:
        await stream.close()
    return agreed(answer)


async def open(address: str, keys: Keys) -> Stream:
    """A stream to the manager there, after both sides know each other."""
    host, port = parted(address)
    stream: Stream | None = None
    try:
        async with asyncio.timeout(CONNECT):
            reader, writer = await asyncio.open_connection(
                host, port, ssl=keys.client(), server_hostname=SERVER, limit=LARGEST_FIRST
            )
            stream = Stream(reader, writer, _FROM_MANAGER)
            if await reader.readexactly(LENGTH) != COME_IN:
                raise Invalid(f"{address} is no manager of a swarm")
            if stream.identity is not None and not keys.knows(stream.identity, address):
                raise Forbidden(f"{address} is no manager that this node knows of")
            return stream
    except BaseException as error:
        if stream is not None:
            stream.abort()
        if isinstance(error, OSError | asyncio.IncompleteReadError):
            raise _barred(address, error, shown=stream is not None) from None
        raise


def _barred(address: str, error: BaseException, *, shown: bool) -> FairleadError:
    """What went wrong on the way; ``shown``: they had seen each other's certificates by then."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return Forbidden(f"{address} is no manager of this swarm: {error.verify_message}")
    if isinstance(error, TimeoutError):
        return Unavailable(f"{address} does not answer")
    if shown:
        return Forbidden(f"the manager at {address} does not accept the certificate of this node")
    return Unavailable(f"{address} cannot be reached{_words(error)}")


def parted(address: str) -> tuple[str, int]:
    """Of a manager: ``host:port``, ``[host]:port`` or ``host`` (then the usual port). Raises ``Invalid``."""
    host, port = written.parted(address, PORT)
    if not port:
        raise Invalid(f'invalid port in address "{address}"')
    return host, port


def agreed(answer: Any) -> Any:
    if isinstance(answer, Refused):
        kind = getattr(errors, answer.kind, None)
        raise (kind if isinstance(kind, type) and issubclass(kind, FairleadError) else FairleadError)(answer.message)
    return answer


def refusal(error: FairleadError) -> Refused:
    return Refused(error.message, type(error).__name__)


def _words(error: BaseException) -> str:
    number = getattr(error, "errno", None)
    said = os.strerror(number).lower() if number and not isinstance(error, ssl.SSLError) else str(error)
    if isinstance(error, asyncio.IncompleteReadError):
        said = ""
    return f": {said}" if said else ""


def _plain(end: Any) -> str:
    """The address of a socket's end ("?" of one that is gone): an IPv4 one as such, though the socket is of both."""
    address = str((end or "?")[0])
    return address.removeprefix("::ffff:") if "." in address else address


# -- the listener ------------------------------------------------------------------------------------------------------


class Gate:
    """``welcome``: raises why a node with a good certificate may not come in all the same (it was removed, or has not
    the role any more). ``roles``: who may ask what it asks. ``now``: the time of day."""

    def __init__(
        self,
        keys: Keys,
        welcome: Callable[[Identity, Collection[str]], Awaitable[None]],
        now: Callable[[], datetime.datetime] = lambda: datetime.datetime.now(datetime.UTC),
    ) -> None:
        self._keys, self._welcome, self._now = keys, welcome, now
        self._open: dict[Stream, Collection[str]] = {}
        """with what it took to begin"""
        self._limits: dict[Stream, asyncio.TimerHandle] = {}
        self._handlers: dict[type, tuple[Handler, Collection[str]]] = {}
        self._socket: socket.socket | None = None
        self._strangers: Counter[str] = Counter()

    def on(self, kind: type, handler: Handler, roles: Collection[str] = ANYBODY) -> None:
        """What to do when a connection begins with that. ``roles``: whose certificate it takes; none: nobody's."""
        self._handlers[kind] = (handler, roles)

    def listen(self, address: str) -> str:
        """Takes the port (0: any); the address it got. Raises ``Unavailable``."""
        host, port = written.parted(address, PORT)
        both = host in EVERYWHERE and socket.has_dualstack_ipv6()
        host, family = ("::", socket.AF_INET6) if both or ":" in host else (host, socket.AF_INET)
        try:
            self._socket = socket.create_server((host, port), family=family, backlog=MOST, dualstack_ipv6=both)
        except OSError as error:
            raise Unavailable(f"cannot listen on {address}: {error.strerror or error}") from None
        self._socket.setblocking(False)
        return written.joined(*self._socket.getsockname()[:2])

    async def run(self) -> None:
        """Until cancelled; then every connection is closed, and the port free."""
        if self._socket is None:
            raise Invalid("listen first")
        loop = asyncio.get_running_loop()
        with self._socket:
            async with asyncio.TaskGroup() as group:
                while True:
                    try:
                        caller, address = await loop.sock_accept(self._socket)
                    except OSError as error:  # out of files: those that are open will end
                        log.warning("cannot take a connection: %s", error)
                        await asyncio.sleep(FALLBACK)
                        continue
                    group.create_task(self._meet(caller, _plain(address)))

    async def _meet(self, caller: socket.socket, address: str) -> None:
        if self._strangers.total() >= MOST or self._strangers[address] >= MOST_FROM_ONE:
            log.warning("too many connections at once: one from %s is closed", address)
            caller.close()
            return
        self._strangers[address] += 1
        stream = first = None
        try:
            async with asyncio.timeout(FIRST):
                stream = await self._secured(caller)
                first = await stream.receive(largest=LARGEST_FIRST)
        except (OSError, FairleadError) as error:
            log.debug("a connection from %s came to nothing: %s", address, error)
        finally:
            self._strangers[address] -= 1
            if not self._strangers[address]:
                del self._strangers[address]
            if first is None:
                stream.abort() if stream else caller.close()
        if stream is not None and first is not None:
            await self._answer(stream, first)

    async def _secured(self, caller: socket.socket) -> Stream:
        """``connect_accepted_socket``, not a server's ``ssl``: that one would keep the certificates it began with."""
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader(limit=LARGEST_FIRST)
        protocol = asyncio.StreamReaderProtocol(reader)
        transport, _ = await loop.connect_accepted_socket(lambda: protocol, caller, ssl=self._keys.server())
        transport.write(COME_IN)
        return Stream(reader, asyncio.StreamWriter(transport, protocol, reader, loop), _FROM_NODE)

    async def _answer(self, stream: Stream, first: Any) -> None:
        try:
            answer = await self._handled(stream, first)
            if answer is not None:
                await stream.send(answer)
        except Unavailable as error:
            log.debug("an answer did not arrive: %s", error.message)
        finally:
            await stream.close()

    async def _handled(self, stream: Stream, first: Any) -> Any:
        try:
            handler, roles = await self._admitted(stream.identity, type(first))
            self._open[stream] = roles
            if roles == NODES and stream.certificate is not None:
                self._limit(stream, stream.certificate.not_valid_after_utc)
            return await handler(stream, first)
        except FairleadError as error:
            return refusal(error)
        except Exception:
            log.exception("a conversation with %s failed", stream.peer)
            return Refused("internal error", "Internal")
        finally:
            self._open.pop(stream, None)
            if stream in self._limits:
                self._limits.pop(stream).cancel()

    def _limit(self, stream: Stream, end: datetime.datetime) -> None:
        """Looked at again and again, until it is over."""
        if (left := (end - self._now()).total_seconds()) > 0:
            self._limits[stream] = asyncio.get_running_loop().call_later(min(left, LOOK), self._limit, stream, end)
            return
        log.info("the certificate with which %s came is over", stream.peer)
        stream.abort()

    def dismiss(self, node: str, *, still: Collection[str] = ()) -> None:
        """Ends what a node has open. ``still``: but for what takes no more than that."""
        for stream, roles in list(self._open.items()):
            if stream.identity is not None and stream.identity.node == node and roles and roles != still:
                stream.abort()

    async def _admitted(self, who: Identity | None, kind: type) -> tuple[Handler, Collection[str]]:
        if kind not in self._handlers:
            raise Invalid("this is nothing to begin with")
        handler, roles = self._handlers[kind]
        if roles and who is None:
            raise Forbidden("a certificate of this swarm is needed")
        if roles and who and who.role not in roles:
            raise Forbidden(f"this takes a {' or '.join(roles)}, and the certificate is a {who.role}'s")
        if roles and who:
            await self._welcome(who, roles)
        return handler, roles


_FROM_NODE: msgspec.json.Decoder[Any] = msgspec.json.Decoder(Asked | FromNode)
_FROM_MANAGER: msgspec.json.Decoder[Any] = msgspec.json.Decoder(Answered | ToNode)
