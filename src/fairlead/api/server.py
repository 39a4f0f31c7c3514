"""The server: listeners, the way in, and the one place where errors become answers.

    listener ---> connection ---> dispatch ---> route module ---> engine
                                     |
                                     +--- version, headers, errors, clients that hang up

    create_app(engine, settings)          aiohttp application, nothing opened yet
    async with serve(app, listeners)      sockets open; closed in order on the way out

Access control is Docker's: who may open the unix socket (mode 660, group) and,
over TCP, who has a certificate of the right CA (``--tlsverify``). Behind that
everybody is root, so nothing else is asked; but what arrives is still treated
as hostile (sizes, depths, times: ``http``, ``connection``).

Rules
    1. A handler raises ``FairleadError`` or answers. Whatever else it raises is
       our fault: logged with its traceback, answered as 500 without it.
    2. GET handlers, and those marked ``abandonable``, are cancelled when their client
       hangs up. All others finish what they began.
    3. On the way out streams are ended at once (a follower must not hold the
       engine), what changes something gets ``LAST_SECONDS``.
    4. A socket path is taken over only when nobody listens on it.
    5. Sockets that systemd opened (``fd://``) are served and left to it.
"""

from __future__ import annotations

import asyncio
import grp
import logging
import os
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from fairlead.api import (
    build,
    container_files,
    containers,
    doctor,
    execs,
    explain,
    http,
    images,
    networks,
    plan,
    routes,
    streams,
    swarm_absent,
    system,
    tls,
    volumes,
)
from fairlead.api.connection import IDLE_SECONDS, LARGEST_HEAD, Connection
from fairlead.errors import Conflict, FairleadError, Internal, Invalid
from fairlead.settings import Settings

if TYPE_CHECKING:
    from fairlead.engine.engine import Engine

log = logging.getLogger("fairlead.api")

GRACE = 0.3
"""Seconds a handler gets to finish an answer for a client that closed its half."""
LINGER = 1.0
"""Seconds in which the body of a request that is already refused is still read: else clients that send the head and the
body one after the other hear a broken pipe instead of the answer."""
LAST_SECONDS = 10
"""How long ``serve`` waits, on its way out, for requests that change something. Streams are ended at once."""
FIRST_HANDED = 3
"""Number of the first socket that systemd hands over."""
TABLE = web.AppKey("table", routes.Table)
CLOSING = web.AppKey("closing", asyncio.Event)


@dataclass(frozen=True, slots=True)
class Listener:
    """A socket to listen on: ``unix:///path``, ``tcp://address:port`` or systemd's ``fd://``; TLS with a context."""

    address: str
    tls: ssl.SSLContext | None = None
    group: str = ""


def create_app(engine: Engine, settings: Settings) -> web.Application:
    """The application over an engine; ``serve`` opens its sockets."""
    app = web.Application(client_max_size=http.LARGEST_BODY)
    log.addFilter(_is_ours)
    app[CLOSING] = asyncio.Event()
    app[TABLE] = routes.Table(
        [
            *networks.routes(engine),
            *containers.routes(engine, settings),
            *container_files.routes(engine),
            *streams.routes(engine),
            *execs.routes(engine),
            *images.routes(engine),
            *volumes.routes(engine),
            *build.routes(engine),
            *system.routes(engine, settings),
            *swarm_absent.routes(engine),
            *plan.routes(engine),
            *doctor.routes(engine),
            *explain.routes(engine),
        ]
    )
    app.router.add_route("*", "/{path:.*}", dispatch, expect_handler=_expect)
    return app


async def _expect(request: web.Request) -> None:
    """``Expect: 100-continue`` is answered, anything else refused; aiohttp's own refusal chokes on some bytes."""
    if request.headers.get("Expect", "").lower() != "100-continue":
        raise web.HTTPExpectationFailed
    if request.version >= (1, 1):
        await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        request.writer.output_size = 0  # it was no answer yet


def _is_ours(record: logging.LogRecord) -> bool:
    """Bytes that are no HTTP, or end too early, are their sender's fault, and no traceback in our log."""
    return not (record.exc_info and isinstance(record.exc_info[1], HttpProcessingError | Invalid))


# -- one request --------------------------------------------------------------------------


async def dispatch(request: web.Request) -> web.StreamResponse:
    """Find the handler, call it, and turn what it raises into an answer."""
    try:
        version, path = routes.split_version(request.path)
        request[http.VERSION] = version
        if "//" in request.rel_url.raw_path:  # as it was spelled: a %2F stays one, or cleaning would never end
            return web.Response(status=301, headers={"Location": routes.clean(request.rel_url.raw_path)})
        if request.method == "OPTIONS":
            return _with_headers(web.Response())
        found = request.app[TABLE].find(request.method, path)
        request.match_info.update(found.names)
        response = await _call(found.handler, request)
    except routes.TooOld as error:
        response = web.Response(text=error.message, status=error.status)
    except FairleadError as error:
        level = logging.ERROR if isinstance(error, Internal) else logging.DEBUG
        log.log(level, "%s %s: %s", request.method, request.path, error.message)
        response = http.failure(error)
    except ConnectionError:
        if request.transport is not None and not request.transport.is_closing():
            raise
        return http.Taken()  # the client has left: that is no error of ours, and nobody would read it
    except asyncio.CancelledError:
        raise
    except Exception:
        log.exception("%s %s", request.method, request.path)
        response = http.failure(Internal("internal error; the engine's log has the details"))
    if getattr(request.protocol, "holding", False):
        response.force_close()
    return _with_headers(response)


def _with_headers(response: web.StreamResponse) -> web.StreamResponse:
    if not response.prepared:
        for name, value in http.HEADERS.items():
            response.headers.setdefault(name, value)
    return response


async def _call(handler: http.Handler, request: web.Request) -> web.StreamResponse:
    """The handler's answer. It is given up when its client leaves, if it may be; a stream also when we close."""
    gone = getattr(request.protocol, "gone", None)
    may_leave = request.method in ("GET", "HEAD") or getattr(handler, "abandonable", False)
    hijacks = getattr(request.protocol, "holding", False)
    if gone is None or not (may_leave or hijacks):
        return await handler(request)
    work = asyncio.ensure_future(handler(request))
    closing = asyncio.ensure_future(request.app[CLOSING].wait())
    try:
        await asyncio.wait({work, closing, *([gone] if may_leave else [])}, return_when=asyncio.FIRST_COMPLETED)
        if not work.done():
            await asyncio.wait({work}, timeout=GRACE)
        return work.result() if work.done() else http.Taken()
    finally:
        closing.cancel()
        if not work.done():
            work.cancel()
            with suppress(asyncio.CancelledError, Exception):
                await work


# -- listening ----------------------------------------------------------------------------


@asynccontextmanager
async def serve(app: web.Application, listeners: Iterable[Listener]) -> AsyncIterator[list[str]]:
    """Open every listener and serve ``app`` on them; yields their addresses (a port of 0 made concrete)."""
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=LAST_SECONDS)
    async with AsyncExitStack() as undo:
        await runner.setup()
        undo.push_async_callback(runner.cleanup)
        undo.callback(app[CLOSING].set)
        opened = []
        for listener in listeners:
            opened += await _listen(listener, _factory(runner, listener.tls), undo)
        yield opened


def _factory(runner: web.AppRunner, context: ssl.SSLContext | None) -> Callable[[], asyncio.Protocol]:
    manager = runner.server
    assert manager is not None
    loop = asyncio.get_running_loop()

    def connection() -> Connection:
        return Connection(
            manager,
            loop=loop,
            keepalive_timeout=IDLE_SECONDS,
            access_log=None,
            logger=log,
            max_line_size=LARGEST_HEAD,
            max_field_size=LARGEST_HEAD,
            auto_decompress=False,
            lingering_time=LINGER,
        )

    return connection if context is None else lambda: tls.Tls(connection(), context)


async def _listen(listener: Listener, factory: Callable[[], Any], undo: AsyncExitStack) -> list[str]:
    loop = asyncio.get_running_loop()
    where = urlsplit(listener.address)
    if where.scheme == "fd":
        return [await _serve_handed(one, factory, undo) for one in _handed_over(where.netloc)]
    if where.scheme == "unix":
        path = where.path
        opened = _unix_socket(path, listener.group)
        undo.callback(_unlink, path)
        server = await loop.create_unix_server(factory, sock=opened, backlog=1024)
        address = listener.address
    elif where.scheme == "tcp":
        try:
            server = await loop.create_server(factory, where.hostname or "127.0.0.1", where.port or 0, backlog=1024)
        except OSError as error:
            raise Conflict(f"failed to load listeners: listen {listener.address}: {error.strerror}") from error
        host, port = server.sockets[0].getsockname()[:2]
        address = f"tcp://[{host}]:{port}" if ":" in host else f"tcp://{host}:{port}"
    else:
        raise Invalid(f"invalid protocol: {listener.address}")
    undo.callback(server.close)
    return [address]


def _handed_over(which: str) -> list[socket.socket]:
    """The sockets systemd opened for us: all, or the one numbered ``which``."""
    ours = os.environ.get("LISTEN_PID") == str(os.getpid())
    numbers = range(FIRST_HANDED, FIRST_HANDED + int(os.environ.get("LISTEN_FDS", "0") if ours else 0))
    if not numbers:
        raise Conflict(
            "failed to load listeners: no sockets found via socket activation: make sure the service was started by"
            " systemd"
        )
    if which in ("", "*"):
        return [socket.socket(fileno=number) for number in numbers]
    if not which.isdigit() or int(which) not in numbers:
        raise Conflict(f"failed to load listeners: failed to use listening socket fd://{which}: systemd opened no such")
    return [socket.socket(fileno=int(which))]


async def _serve_handed(opened: socket.socket, factory: Callable[[], Any], undo: AsyncExitStack) -> str:
    os.set_inheritable(opened.fileno(), False)
    opened.setblocking(False)
    loop = asyncio.get_running_loop()
    if opened.family == socket.AF_UNIX:
        server = await loop.create_unix_server(factory, sock=opened, backlog=1024)
    else:
        server = await loop.create_server(factory, sock=opened, backlog=1024)
    undo.callback(server.close)
    return f"fd://{opened.fileno()}"


def _unix_socket(path: str, group: str) -> socket.socket:
    """A socket bound at ``path``, mode 660, of ``group``. A dead one is replaced, a living one is ``Conflict``."""
    opened = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        if os.path.exists(path):
            _refuse_living(path)
            os.unlink(path)
        os.makedirs(os.path.dirname(path) or "/", mode=0o755, exist_ok=True)
        before = os.umask(0o117)
        try:
            opened.bind(path)
        finally:
            os.umask(before)
        with suppress(KeyError, PermissionError):
            if group:
                os.chown(path, -1, int(group) if group.isdigit() else grp.getgrnam(group).gr_gid)
    except OSError as error:
        opened.close()
        raise Conflict(f"failed to load listeners: can't create unix socket {path}: {error.strerror}") from error
    except BaseException:
        opened.close()
        raise
    opened.setblocking(False)
    return opened


def _refuse_living(path: str) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1)
        try:
            probe.connect(path)
        except OSError:
            return
    raise Conflict(f"failed to load listeners: {path}: another engine listens there")


def _unlink(path: str) -> None:
    with suppress(FileNotFoundError):
        os.unlink(path)


def listeners(settings: Settings) -> list[Listener]:
    """What the settings say about where to listen, with certificates loaded; ``Invalid`` names a bad file."""
    context = tls_context(settings) if settings.use_tls else None
    return [
        Listener(
            host, context if host.startswith("tcp://") else None, settings.group if host.startswith("unix") else ""
        )
        for host in settings.hosts
    ]


def tls_context(settings: Settings) -> ssl.SSLContext:
    """TLS 1.2 or later; with ``--tlsverify`` only for clients with a certificate of the CA."""
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
