"""Builds: a context and its Dockerfile in, an image out. buildah does it, in a storage of its own.

    context tar ---> workspace          images the Dockerfile starts from ---> buildah's storage
                        |                                   |
                        +-------- buildah build ------------+---> "dir:" folder ---> our blobs

    <data root>/build/{root,run}     its storage: also the cache of later builds

Rules
    1. Nothing is pulled by the builder: the engine offers every base image.
    2. ``RUN`` has no machine of its own: it runs under ``chroot`` isolation. The network is
       that of a namespace the engine made for it (``Place``), or the host's.
    3. The result gets its configuration byte for byte, so its id is what Docker says.
    4. What the builder says is told in Docker's words (``core.narration``).
"""

from __future__ import annotations

import asyncio
import os
import resource
import secrets
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from msgspec.structs import replace

from fairlead.core import buildwords, complaints, dockerfile, heredocs
from fairlead.core.buildcache import Pruning
from fairlead.core.container import Config
from fairlead.core.imagespec import Blob, BuildPlace, BuildRequest, Fetched, ImageRecord, StepContainer, read_config
from fairlead.core.narration import Narration, Told
from fairlead.errors import FairleadError, Internal, Invalid
from fairlead.host import command, moved, rooted
from fairlead.host.buildstorage import BuildStorage
from fairlead.host.hearing import Ear
from fairlead.host.images import Layout
from fairlead.host.registry import Skopeo

_CAPABILITIES = ("CAP_AUDIT_WRITE", "CAP_MKNOD", "CAP_NET_RAW")
"""What Docker lets programs do and buildah by itself does not."""
_LIMIT = 1_048_576
"""Open files and processes that buildah asks for by itself."""

OWN_MOUNTS = ("unshare", "--mount", "--propagation", "slave")
"""The builder's storage mounts itself and its layers; what it forgets goes with its mount namespace."""


class Buildah:
    """The builder. ``driver`` tells which storage driver works on this data root (``overlay2`` or ``vfs``)."""

    def __init__(
        self, folder: str, layout: Layout, skopeo: Skopeo, driver: Callable[[], str], now: Callable[[], str]
    ) -> None:
        self.folder = Path(folder)
        self.now = now
        self._layout = layout
        self._skopeo = skopeo
        self._driver = driver
        self._running = 0

    @property
    def storage_driver(self) -> str:
        return "overlay" if self._driver() == "overlay2" else "vfs"

    def words(self, *rest: str) -> list[str]:
        """buildah with our storage, and what it is to do."""
        home = ["--root", str(self.folder / "root"), "--runroot", str(self.folder / "run")]
        return [*OWN_MOUNTS, "buildah", *home, "--storage-driver", self.storage_driver, *rest]

    @property
    def home(self) -> str:
        """How skopeo is told of our storage."""
        return f"[{self.storage_driver}@{self.folder / 'root'}+{self.folder / 'run'}]"

    @property
    def storage(self) -> BuildStorage:
        return BuildStorage(self.folder / "root", self.storage_driver)

    @asynccontextmanager
    async def begin(self, request: BuildRequest, stream: AsyncIterable[bytes]) -> AsyncIterator[Run]:
        """Receive a context; the run has everything until the block is left."""
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with self._layout.workspace() as folder:
            await _receive(stream, folder)
            run = Run(self, self._layout, self._skopeo, request, folder)
            self._running += 1
            try:
                yield run
            except BaseException:
                if self._running == 1:
                    await command.run(self.words("rm", "--all"), env=self._layout.environment())
                raise
            finally:
                self._running -= 1

    async def prune(self, asked: Pruning) -> tuple[list[str], int]:
        """Throw the cache away, or what was asked of it; ids of what is gone, and bytes freed.

        While a build runs its records are in use, and nobody can say which: only what no image needs goes then."""
        size, before = await asyncio.to_thread(self.size), self.storage.records()
        if asked.everything:
            everything = [] if self._running else [("rm", "--all"), ("rmi", "--all", "--force")]
            for words in (everything or [("rmi", "--prune")]) if self.folder.exists() else ():
                await command.run(self.words(*words), env=self._layout.environment())
        else:
            for id in asked.chosen(before, self._free()) if before else ():
                await self._drop(id)
        left = {record.id for record in self.storage.records()}
        gone = [record.id for record in before if record.id not in left]
        return gone, max(0, size - await asyncio.to_thread(self.size))

    async def _drop(self, id: str) -> None:
        """One record alone. (buildah would take all it was built on along.)"""
        words = ["delete", f"containers-storage:{self.home}@{id}"]
        if not self._running:
            with suppress(FairleadError):  # what a container of a step lies on stays
                await self._skopeo.command(words, self.folder, before=OWN_MOUNTS)

    def _free(self) -> int:
        disk = os.statvfs(self.folder)
        return disk.f_bavail * disk.f_frsize

    def size(self) -> int:
        """Bytes of all files of the cache."""
        total = 0
        for folder, _, names in os.walk(self.folder / "root"):
            for name in names:
                try:
                    total += os.lstat(os.path.join(folder, name)).st_size
                except FileNotFoundError:
                    continue
        return total


class Run:
    """One build under way, in its workspace."""

    def __init__(self, builder: Buildah, layout: Layout, skopeo: Skopeo, request: BuildRequest, folder: Path) -> None:
        self._builder = builder
        self._layout = layout
        self._skopeo = skopeo
        self._request = request
        self._folder = folder
        text = self._dockerfile()
        dockerfile.check(text, request.dockerfile, request.target)
        self._recipe = dockerfile.recipe(text, request.arguments, request.target, request.labels)
        self.bases = dockerfile.bases(self._recipe.text, request.arguments)
        self.runs = any(line.word == "RUN" for stage in self._recipe.stages for line in stage.lines)
        self._images: dict[str, str] = {}
        self._bases: dict[str, Config] = {}
        whole, remove, force = builder.storage.whole, request.remove, request.force_remove
        self._narration = Narration(self._recipe, self._images, whole, _new_id, builder.now, remove, force)
        self._mark = f"build-{secrets.token_hex(16)}"
        self._error: FairleadError | None = None

    def opening(self) -> Iterator[str]:
        """What is told before the first image is looked for."""
        return self._narration.opening()

    def _dockerfile(self) -> str:
        wanted = self._request.dockerfile
        if ".." in wanted.split("/"):
            raise Internal(f"forbidden path outside the build context: {wanted} ()")
        try:
            with rooted.root(str(self._folder / "context")) as top:
                return rooted.read_in(top, wanted).decode(errors="replace")
        except OSError:
            raise Internal(f"Cannot locate specified Dockerfile: {wanted}") from None

    async def offer(self, image: ImageRecord, base: str, name: str) -> None:
        """Put one of our images into the builder's storage under a name; ``base`` is what the Dockerfile calls it."""
        self._images[base], self._bases[base] = image.id, image.config
        folder = self._folder / f"base{self.bases.index(base)}"
        folder.mkdir(exist_ok=True)
        self._layout.layout_in(folder, image)
        words = ["copy", "--quiet", f"oci:{folder.name}:image", f"containers-storage:{self._builder.home}{name}"]
        await self._skopeo.command(words, self._folder, before=OWN_MOUNTS)

    async def run(self, place: BuildPlace | None) -> AsyncIterator[str]:
        """What is to be told, in Docker's words; ``FairleadError`` with the reason when a step fails.

        ``place``: the network of the steps; None: the host's."""
        words = self._builder.words(*self._options(place), *self._write(), "context")
        ear, told, narration = Ear(), list[str](), self._narration
        try:
            process = await command.start(
                [*moved.command(place.namespace, place.folder), *words] if place else words,
                cwd=str(self._folder), env=self._layout.environment(), stdout=ear.out, stderr=ear.error,
            )  # fmt: skip
        except BaseException:
            ear.close()
            raise
        try:
            async for line, complaint in ear.lines():
                told = [*told[-20:], line.rstrip()]
                shown = narration.hear_error(line) if complaint else narration.hear(line)
                if shown and not self._is_reason(line, complaint):
                    yield shown
            if await process.wait():
                if last := narration.broken():
                    yield last
                self._error = buildwords.failure(narration, told)
                raise self._error
        finally:
            await command.end(process)
            ear.close()

    def _write(self) -> list[str]:
        """The Dockerfile for the builder, its here-documents beside it; the option that says where they are."""
        text, files = heredocs.without(self._recipe, self._request.arguments, self._bases)
        (self._folder / "Dockerfile").write_text(text)
        for path, content in files.items():
            place = self._folder / heredocs.CONTEXT / path
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(content)
            place.chmod(0o644)
        return [f"--build-context={heredocs.CONTEXT}={self._folder / heredocs.CONTEXT}"] if files else []

    def _is_reason(self, line: str, complaint: bool) -> bool:
        """The builder's last words become the error, and are told with it."""
        return complaint and line.startswith(("Error: ", "error: "))

    def _options(self, place: BuildPlace | None) -> list[str]:
        request = self._request
        words = ["build", "--isolation=chroot", "--format=docker", "--pull-never", "--layers"]
        words += ["--file=Dockerfile", "--network=host", "--skip-unused-stages=false"]
        words += ["--signature-policy", self._layout.policy, f"--cap-add={','.join(_CAPABILITIES)}"]
        words += ["--no-hosts", f"--volume={place.folder}/hosts:/etc/hosts"] if place else []
        words += [] if request.force_remove else ["--force-rm=false", f"--cgroup-parent={self._mark}"]
        words += ["--no-cache"] if request.no_cache else []
        words += [f"--platform={request.platform}"] if request.platform else []
        words += [f"--memory={request.memory}b"] if request.memory > 0 else []
        words += [f"--shm-size={request.shm_size}b"] if request.shm_size > 0 else []
        words += [f"--build-arg={key}={value}" for key, value in request.arguments.items() if value is not None]
        words += _lower_limits()
        return [*words, "--identity-label=false"]

    async def images(self, known: Mapping[str, Blob]) -> list[Fetched]:
        """The image of each step so far, the result last, their blobs ours. ``known``: layers we have, by diff id.

        Layers are fetched from the last image backwards: it has all of its stage."""
        made = dict(self._narration.made)
        if self._narration.result:
            made[self._narration.result] = made.pop(self._narration.result, "")
        self._builder.storage.used([*made, *(id.removeprefix("sha256:") for id in self._images.values())])
        contents = {id: self._builder.storage.configuration(id) for id in made}
        stacks = {id: read_config(content)[1] for id, content in contents.items()}
        layers = {id: known[id] for id in {each for stack in stacks.values() for each in stack} & known.keys()}
        for blob in layers.values():
            self._layout.keep(blob.digest)
        for id in reversed(made):
            if not layers.keys() >= set(stacks[id]):
                fetched = await self._fetch(id, layers)
                layers |= {blob.diff_id: blob for blob in fetched.layers}
        return [
            Fetched(self._layout.put(contents[id]), tuple(layers[each] for each in stacks[id]), parent=_id(parent))
            for id, parent in made.items()
        ]

    @asynccontextmanager
    async def containers(self) -> AsyncIterator[list[StepContainer]]:
        """Those of the steps that stay, with what they wrote, until the block is left."""
        storage = self._builder.storage
        broken, files = storage.container(self._mark)
        try:
            yield [self._container(told, storage, files) for told in self._narration.kept if told.image]
        finally:
            if broken:
                await command.run(self._builder.words("rm", broken), env=self._layout.environment())

    def _container(self, told: Told, storage: BuildStorage, broken: str) -> StepContainer:
        line, image = told.line, _id(told.image)
        made = StepContainer(id=told.id, image=image, command=told.command, created=told.begun)
        if line.word != "RUN":
            before = next((base for name, base in self._bases.items() if self._images[name] == image), None)
            before = before or read_config(storage.configuration(told.image))[0].config
            return replace(made, command=buildwords.nothing(line.word, line.rest, before, told.shell))
        made = replace(made, env=dockerfile.arguments(self._recipe, told.stage, line, self._request.arguments))
        if told.result:
            return replace(made, started=told.begun, finished=told.ended, files=storage.image_files(told.result))
        code = getattr(self._error, "exit_code", None)
        if code is None:
            return replace(made, code=complaints.NOT_FOUND, error=self._error.message if self._error else "")
        return replace(made, started=told.begun, finished=told.ended, code=code, files=broken)

    async def _fetch(self, id: str, layers: Mapping[str, Blob]) -> Fetched:
        """An image of the builder's storage with its layers, those we have aside."""
        words = ["push", "--quiet", "--disable-compression", "--signature-policy", self._layout.policy]
        words = self._builder.words(*words, id, f"dir:{id}")
        done = await command.run(words, cwd=str(self._folder), env=self._layout.environment())
        if done.code:
            raise Internal(f"cannot take over the built image: {done.err.strip()}")
        return await self._skopeo.adopt(self._folder / id, layers_here=layers)


def _new_id() -> str:
    """64 hex digits; never digits alone at the front, so that no short id looks like a number (Docker's rule)."""
    while (id := secrets.token_hex(32))[:12].isdigit():
        pass
    return id


def _id(digits: str) -> str:
    return f"sha256:{digits}" if digits else ""


async def _receive(stream: AsyncIterable[bytes], folder: Path) -> None:
    """The context: a tar, plain or compressed. Docker's client ends some without a trailer: tar gets one from us."""
    with open(folder / "context.tar", "w+b") as file:
        async for piece in stream:
            file.write(piece)
        size = file.tell()
        file.seek(0)
        if file.read(512)[257:262] == b"ustar":
            file.seek(size)
            file.write(bytes(-size % 512 + 1024))
    (folder / "context").mkdir()
    if not (folder / "context.tar").stat().st_size:
        return
    words = ["tar", "--extract", "--file=context.tar", "--directory=context", "--no-same-owner"]
    done = await command.run(words, cwd=str(folder))
    if done.code:
        raise Invalid(f"Error processing tar file: {done.err.strip()}")
    os.unlink(folder / "context.tar")


def _lower_limits() -> list[str]:
    """Our own limits where they are below what buildah asks for: to raise one takes CAP_SYS_RESOURCE.

    Before Debian 13, buildah itself lowers the processes to ``pid_max``.
    """
    files, processes = (resource.getrlimit(each)[1] for each in (resource.RLIMIT_NOFILE, resource.RLIMIT_NPROC))
    if processes >= 0:
        processes = min(processes, int(Path("/proc/sys/kernel/pid_max").read_text()))
    ours = {"nofile": files, "nproc": processes}
    return [f"--ulimit={name}={limit}:{limit}" for name, limit in ours.items() if 0 <= limit < _LIMIT]
