"""The server: listeners, the way in, and the one place where errors become answers.

    listener ---> connection ---> dispatch ---> route module ---> engine
                                     |
                                     +--- version, headers, errors, clients that hang up

    create_app(engine, settings)          the routes, nothing opened yet
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
import logging
import os
import socket
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib import parse

import msgspec

from fairlead.api import directory, http, routes, web
from fairlead.api.connection import GRACE, Connection
from fairlead.errors import Conflict, FairleadError, Internal, Invalid
from fairlead.settings import Settings

if TYPE_CHECKING:
    from ssl import SSLContext

    from fairlead.engine.engine import Engine

log = logging.getLogger("fairlead.api")

LAST_SECONDS = 10
"""How long ``serve`` waits, on its way out, for requests that change something. Streams are ended at once."""
FIRST_HANDED = 3
"""Number of the first socket that systemd hands over."""


class Listener(msgspec.Struct, frozen=True):
    """A socket to listen on: ``unix:///path``, ``tcp://address:port`` or systemd's ``fd://``; TLS with a context."""

    address: str
    tls: SSLContext | None = None
    group: str = ""


class App:
    """The routes over an engine, and the connections that are open; ``serve`` opens its sockets."""

    def __init__(self, table: routes.Table) -> None:
        self.table = table
        self._open: set[Connection] = set()

    def connection(self) -> Connection:
        """The protocol of one more client."""
        return Connection(self.dispatch, self._open)

    async def close(self) -> None:
        """End streams at once, and what changes something when it is done or ``LAST_SECONDS`` have passed."""
        for one in self._open:
            one.end()
        work = [one.task for one in self._open if one.task is not None]
        if work:
            await asyncio.wait(work, timeout=LAST_SECONDS)
        if self._open:
            await asyncio.wait([one.lost for one in self._open], timeout=GRACE)
        for one in [*self._open]:
            one.abort()

    # -- one request --------------------------------------------------------------------------

    async def dispatch(self, request: web.Request) -> web.Answer:
        """Find the handler, call it, and turn what it raises into an answer."""
        try:
            request.api, path = routes.split_version(request.path)
            if "//" in request.raw_path:  # as it was spelled: a %2F stays one, or cleaning would never end
                return web.Response(status=301, headers={"Location": routes.clean(request.raw_path)})
            if request.method == "OPTIONS":
                return web.Response()
            found = self.table.find(request.method, path)
            request.names = found.names
            request.abandonable = request.method in ("GET", "HEAD") or getattr(found.handler, "abandonable", False)
            return await found.handler(request)
        except routes.TooOld as error:
            return web.Response(text=f"{error.message}\n", status=error.status)
        except FairleadError as error:
            level = logging.ERROR if isinstance(error, Internal) else logging.DEBUG
            log.log(level, "%s %s: %s", request.method, request.path, error.message)
            return http.failure(error)
        except ConnectionError:
            if not request.connection.gone:
                raise
            return web.Taken()  # the client has left: that is no error of ours, and nobody would read it
        except Exception:
            log.exception("%s %s", request.method, request.path)
            return http.failure(Internal("internal error; the engine's log has the details"))


def create_app(engine: Engine, settings: Settings) -> App:
    """All routes over an engine."""
    return App(routes.Table(late=directory.late(engine, settings)))


# -- listening ----------------------------------------------------------------------------


@asynccontextmanager
async def serve(app: App, listeners: Iterable[Listener]) -> AsyncIterator[list[str]]:
    """Open every listener and serve ``app`` on them; yields their addresses (a port of 0 made concrete)."""
    async with AsyncExitStack() as undo:
        undo.push_async_callback(app.close)
        opened = []
        for listener in listeners:
            opened += await _listen(listener, _factory(app, listener.tls), undo)
        yield opened


def _factory(app: App, context: SSLContext | None) -> Callable[[], asyncio.Protocol]:
    if context is None:
        return app.connection
    from fairlead.api.tls import Tls

    return lambda: Tls(app.connection(), context)


async def _listen(listener: Listener, factory: Callable[[], Any], undo: AsyncExitStack) -> list[str]:
    loop = asyncio.get_running_loop()
    scheme, _, path = listener.address.partition("://")
    if scheme == "fd":
        return [await _serve_handed(one, factory, undo) for one in _handed_over(path)]
    if scheme == "unix":
        opened = _unix_socket(path, listener.group)
        undo.callback(_unlink, path)
        server = await loop.create_unix_server(factory, sock=opened, backlog=1024)
        address = listener.address
    elif scheme == "tcp":
        where = parse.urlsplit(listener.address)
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
        number = int(group) if group.isdigit() else _group(group)
        if number is not None:
            with suppress(PermissionError):
                os.chown(path, -1, number)
    except OSError as error:
        opened.close()
        raise Conflict(f"failed to load listeners: can't create unix socket {path}: {error.strerror}") from error
    except BaseException:
        opened.close()
        raise
    opened.setblocking(False)
    return opened


def _group(name: str) -> int | None:
    """Its number by /etc/group, where dockerd looks, too: other name services may be far away, or not there yet."""
    with suppress(OSError):
        for line in Path("/etc/group").read_text(errors="replace").splitlines():
            fields = line.split(":")
            if fields[0] == name and fields[2:] and fields[2].isdigit():
                return int(fields[2])
    return None


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
    context = _tls_context(settings) if settings.use_tls else None
    return [
        Listener(
            host, context if host.startswith("tcp://") else None, settings.group if host.startswith("unix") else ""
        )
        for host in settings.hosts
    ]


def _tls_context(settings: Settings) -> SSLContext:
    from fairlead.api.tls import server_context  # few engines are asked over TCP, and all would wait for OpenSSL

    return server_context(settings)
