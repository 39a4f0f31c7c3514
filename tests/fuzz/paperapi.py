"""The whole engine and its API on paper: everything real but the machine under it.

Wired by ``wiring.Build`` itself, whose hands are replaced: no device, mount, process, registry or file of this machine
is touched, except a folder of its own. It listens on a real unix socket.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterable
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

from api.fake_engine import FakeSwarm
from engine.paper import PaperHost
from engine.runtimes import PaperRuntime
from fairlead import host, wiring, wiring_swarm
from fairlead.api import routes, server
from fairlead.core.buildcache import CacheRecord, Pruning
from fairlead.core.container import Config
from fairlead.core.imagespec import Blob, ImageRecord
from fairlead.core.life import Ended
from fairlead.core.reference import parse
from fairlead.errors import NotFound, Unsupported
from fairlead.host import archive, build, registry
from fairlead.settings import Settings
from fairlead.store.memory import MemoryStore

IMAGE = "sha256:" + "1a2b" * 16


class Host(PaperHost):
    def close(self) -> None: ...


class Runtime(PaperRuntime):
    """Every process ends well; every exec says hello."""

    def __init__(self, *rest: Any, **more: Any) -> None:
        super().__init__()
        self.play = lambda made: made.exit(0)

    def prepare(self) -> None: ...

    def leave(self) -> None: ...

    async def wait(self, id: str) -> Ended:
        return Ended(id, 0)


class Disk:
    """Layers, volumes and images without a disk."""

    driver = "overlay2"

    def __init__(self, *rest: Any) -> None:
        self.volumes: set[str] = set()

    def open(self, driver: str = "") -> None: ...

    def path(self, id: str) -> str:
        return f"/paper/{id}/merged"

    def known(self) -> list[str]:
        return sorted(self.volumes)

    def mount(self, id: str, lower: Any) -> str:
        return self.path(id)

    def umount(self, id: str) -> None: ...

    def remove(self, id: str) -> None:
        self.volumes.discard(id)

    def changes(self, id: str, lower: str) -> list[Any]:
        return []

    def size(self, *names: str) -> int:
        return 7

    def create(self, name: str) -> None:
        self.volumes.add(name)

    def fill(self, target: str, rootfs: str, path: str) -> None: ...

    def exists(self, path: str) -> bool:
        return not path.startswith("/missing")

    def make_directory(self, path: str) -> None: ...

    def inside(self, top: str, subpath: str) -> str:
        return f"{top}/{subpath}"

    # images
    @contextmanager
    def workspace(self) -> Any:
        with tempfile.TemporaryDirectory() as folder:
            yield Path(folder)

    def put(self, content: bytes) -> Blob:
        return Blob("sha256:" + f"{hash(content) & (1 << 256) - 1:064x}", len(content))

    def read(self, digest: str) -> bytes:
        return b"{}"

    def manifest(self, image: ImageRecord) -> Blob:
        return Blob("sha256:" + "2" * 64, 9)

    async def receive(self, stream: Any, folder: Path) -> Blob:
        async for _ in stream:
            pass
        raise Unsupported("no layers on paper")

    async def take_layer(self, place: Path, diff_id: str = "") -> Blob:
        raise Unsupported("no layers on paper")

    async def unpack(self, image: ImageRecord) -> str:
        return "/paper/image"

    def rootfs(self, id: str) -> Path:
        return Path("/paper/rootfs")

    def drop_rootfs(self, id: str) -> None: ...

    def write_index(self, images: Iterable[ImageRecord]) -> None: ...

    def sweep(self, images: Iterable[ImageRecord], used: Iterable[str] = ()) -> int:
        return 0

    def pack(self, id: str, lower: str, out: Any) -> None:
        raise Unsupported("no layers on paper")


class World:
    """Registries, builders and files of containers: none."""

    def __init__(self, *rest: Any) -> None: ...

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        if name == "begin":
            return _nothing_begins
        if name in ("push", "fetch", "load", "save", "get", "export"):
            return _nothing_comes
        return _nothing_is

    def size(self) -> int:
        return 0

    async def prune(self, asked: Pruning) -> tuple[list[str], int]:
        return asked.chosen([CacheRecord("ab" * 32, 1, {"layer": 1})], 1), 1


async def _nothing_is(*rest: Any, **more: Any) -> Any:
    raise NotFound("there is nothing outside of this paper")


def _nothing_begins(*rest: Any) -> Any:
    raise NotFound("there is nothing outside of this paper")


async def _nothing_comes(*rest: Any, **more: Any) -> AsyncIterator[Any]:
    raise NotFound("there is nothing outside of this paper")
    yield


class Parts:
    """The resolver and the relay: say yes."""

    def __init__(self, path: str = "", *rest: Any, **more: Any) -> None:
        self.path = path

    def adopt(self, *rest: Any) -> None: ...

    async def open(self, *those: Any, **more: Any) -> Any:
        if those and hasattr(those[0], "port"):
            return {port.id: port.port for port in those}
        return SimpleNamespace(udp=5353, tcp=5354)

    def ports(self, sandbox: str) -> Any:
        return SimpleNamespace(udp=5353, tcp=5354)

    async def _yes(self, *rest: Any) -> None: ...

    forget = set_names = unname = close = keep = exit = run = stop = _yes

    async def statistics(self) -> dict[str, Any]:
        return {}

    async def held(self) -> set[str] | None:
        return None


class Table(routes.Table):
    """Remembers the paths as they are written."""

    def __init__(self, late: Any) -> None:
        routes = [route for make in late.values() for route in make()]
        self.given = [(route.method, route.path) for route in routes]
        super().__init__(routes)


class Complaints(logging.Handler):
    """What the server logged with a traceback: faults of ours."""

    def __init__(self) -> None:
        super().__init__()
        self.heard: list[BaseException] = []

    def emit(self, record: logging.LogRecord) -> None:
        if record.exc_info and record.exc_info[1]:
            self.heard.append(record.exc_info[1])


HANDS = {
    "LinuxHost": Host,
    "SqliteStore": lambda path: MemoryStore(),
    "Oci": Runtime,
    "ResolverClient": Parts,
    "RelayClient": Parts,
    "Child": Parts,
    "Layers": Disk,
    "Layout": Disk,
    "VolumeFolders": Disk,
}
LATE_HANDS: tuple[tuple[Any, str, Any], ...] = (
    (registry, "Skopeo", World),
    (build, "Buildah", World),
    (host, archive.__name__.rpartition(".")[2], World()),
    (wiring_swarm, "swarm", lambda build: FakeSwarm()),
)
"""What is imported when it is first needed, and what would start programs."""


class Clock:
    """A second passes whenever somebody looks."""

    def __init__(self) -> None:
        self._ticks = itertools.count(1_700_000_000)

    def nanoseconds(self) -> int:
        return next(self._ticks) * 10**9

    def text(self) -> str:
        return "2026-01-02T03:04:05.000000006Z"


@asynccontextmanager
async def paper_api() -> AsyncIterator[SimpleNamespace]:
    """``socket``: where it listens; ``paths``: (method, path) of every route; ``build``; ``complaints``."""
    folder = tempfile.mkdtemp(prefix="fl-paper-", dir="/tmp")
    complaints = Complaints()
    loggers = [logging.getLogger(name) for name in ("fairlead", "aiohttp.server", "asyncio")]
    for logger in loggers:
        logger.addHandler(complaints)
        logger.propagate = False
    try:
        async with AsyncExitStack() as undo, asyncio.TaskGroup() as tasks:
            settings = Settings(data_root=f"{folder}/d", exec_root=f"{folder}/e")
            for place, name, hand in LATE_HANDS:
                undo.enter_context(patch.object(place, name, hand))
            with patch.multiple(wiring, **HANDS), patch.object(server.routes, "Table", Table):
                build = wiring.Build(settings, Clock(), undo, tasks)
                app = server.create_app(build.engine, settings)
            await _begin(build)
            background = tasks.create_task(build._bury_the_dead())
            async with server.serve(app, [server.Listener(f"unix://{folder}/s")]):
                yield SimpleNamespace(socket=f"{folder}/s", paths=app.table.given, build=build, complaints=complaints)
            background.cancel()
    finally:
        for logger in loggers:
            logger.removeHandler(complaints)
        shutil.rmtree(folder, ignore_errors=True)


async def _begin(build: Any) -> None:
    for part in (build.controller, build.endpoints, build.overlays, build.catalog):
        await part.load()
    await build.images.restore()
    await build.filesystem.restore()
    await build.volumes.restore()
    build.machine.declare()
    build.machine.ready()
    await build.predefined.ensure()
    image = ImageRecord(IMAGE, Config(cmd=("sh",), env=("PATH=/bin",)))
    await build.images.add(image, [parse("busybox:latest"), parse("other:v1")])
