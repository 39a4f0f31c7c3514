"""Builds: a context and its Dockerfile in, an image out. buildah does it, in a storage of its own.

    context tar ---> workspace          images the Dockerfile starts from ---> buildah's storage
                        |                                   |
                        +-------- buildah build ------------+---> "dir:" folder ---> our blobs

    <data root>/build/{root,run}     its storage: also the cache of later builds

Rules
    1. Nothing is pulled by the builder: the engine offers every base image.
    2. ``RUN`` has no machine of its own: it runs under ``chroot`` isolation, with the
       host's network, or with none (``networkmode=none``).
    3. The result gets its configuration byte for byte, so its id is what Docker says.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import re
import resource
from collections.abc import AsyncIterable, AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from fairlead.core import dockerfile
from fairlead.core.imagespec import BuildRequest, Fetched, ImageRecord
from fairlead.errors import FairleadError, Internal, Invalid, NotFound
from fairlead.host import command, rooted
from fairlead.host.images import Layout
from fairlead.host.registry import Skopeo

_STEP = re.compile(r"(?:\[\d+/\d+\] )?STEP (\d+)/(\d+): (.*)")
_MADE = re.compile(r"--> (?:Using cache )?([0-9a-f]{11,64})")
_NOISE = (
    "Getting image source signatures", "Copying blob ", "Copying config ", "Writing manifest to", "Storing signat",
    "subprocess exited with status ", 'Error: building at STEP "', 'error building at STEP "',
)  # fmt: skip
_UNUSED = re.compile(r"\[Warning\] one or more build args were not consumed: \[(.*)\]")
_MISSING = re.compile(r'copier: stat: "/?(.*)": no such file or directory')
_EXIT = re.compile(r"subprocess exited with status (\d+)|exit status (\d+)")
_LIMIT = 1_048_576
"""Open files and processes that buildah asks for by itself."""

OWN_MOUNTS = ("unshare", "--mount", "--propagation", "slave")
"""The builder's storage mounts itself and its layers; what it forgets goes with its mount namespace."""


class Buildah:
    """The builder. ``driver`` tells which storage driver works on this data root (``overlay2`` or ``vfs``)."""

    def __init__(self, folder: str, layout: Layout, skopeo: Skopeo, driver: Callable[[], str]) -> None:
        self.folder = Path(folder)
        self._layout = layout
        self._skopeo = skopeo
        self._driver = driver
        self._numbers = itertools.count(1)
        self._running = 0

    @property
    def storage_driver(self) -> str:
        return "overlay" if self._driver() == "overlay2" else "vfs"

    def words(self, *rest: str) -> list[str]:
        """buildah with our storage, and what it is to do."""
        home = ["--root", str(self.folder / "root"), "--runroot", str(self.folder / "run")]
        return [*OWN_MOUNTS, "buildah", *home, "--storage-driver", self.storage_driver, *rest]

    @asynccontextmanager
    async def begin(self, request: BuildRequest, stream: AsyncIterable[bytes]) -> AsyncIterator[Run]:
        """Receive a context; the run has everything until the block is left."""
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with self._layout.workspace() as folder:
            await _receive(stream, folder)
            name = f"localhost/build-{os.getpid()}-{next(self._numbers)}:latest"
            run = Run(self, self._layout, self._skopeo, request, folder, name)
            self._running += 1
            try:
                yield run
                await run.clean()
            except BaseException:
                if self._running == 1:
                    await command.run(self.words("rm", "--all"), env=self._layout.environment())
                raise
            finally:
                self._running -= 1

    async def prune(self) -> int:
        """Throw the cache away (while a build runs only what no image needs); bytes freed."""
        before = await asyncio.to_thread(self.size)
        if self.folder.exists():
            everything = [] if self._running else [("rm", "--all"), ("rmi", "--all", "--force")]
            for words in everything or [("rmi", "--prune")]:
                await command.run(self.words(*words), env=self._layout.environment())
        return max(0, before - await asyncio.to_thread(self.size))

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

    def __init__(
        self, builder: Buildah, layout: Layout, skopeo: Skopeo, request: BuildRequest, folder: Path, name: str
    ) -> None:
        self._builder = builder
        self._layout = layout
        self._skopeo = skopeo
        self._request = request
        self._folder = folder
        self._name = name
        text = self._dockerfile()
        dockerfile.check(text, request.dockerfile, request.target)
        self.bases = dockerfile.bases(text, request.arguments)

    def _dockerfile(self) -> str:
        wanted = self._request.dockerfile
        if ".." in wanted.split("/"):
            raise Internal(f"forbidden path outside the build context: {wanted} ()")
        try:
            with rooted.root(str(self._folder / "context")) as top:
                return rooted.read_in(top, wanted).decode(errors="replace")
        except OSError:
            raise Internal(f"Cannot locate specified Dockerfile: {wanted}") from None

    async def offer(self, image: ImageRecord, name: str) -> None:
        """Put one of our images into the builder's storage under a name."""
        folder = self._folder / f"base{self.bases.index(name) if name in self.bases else len(os.listdir(self._folder))}"
        folder.mkdir(exist_ok=True)
        self._layout.layout_in(folder, image)
        builder = self._builder
        home = f"{builder.storage_driver}@{builder.folder / 'root'}+{builder.folder / 'run'}"
        words = ["copy", "--quiet", f"oci:{folder.name}:image", f"containers-storage:[{home}]{name}"]
        await self._skopeo.command(words, self._folder, before=OWN_MOUNTS)

    async def run(self) -> AsyncIterator[str]:
        """Output line by line, in Docker's words; ``FairleadError`` with the reason when a step fails."""
        words = self._builder.words(*self._options(), "context")
        words[1:1] = ["--net"] if self._request.network == "none" else []
        process = await command.start(
            words, cwd=str(self._folder), env=self._layout.environment(), stderr=asyncio.subprocess.STDOUT
        )
        told: list[str] = []
        step = ""
        try:
            async for line in command.lines(process.stdout):
                found = _STEP.match(line)
                step = found[3].strip() if found else step
                told = [*told[-20:], line.rstrip()]
                shown = self._shown(line)
                if shown:
                    yield shown
            if await process.wait():
                raise _failure(step, told)
        finally:
            await command.end(process)

    def _options(self) -> list[str]:
        """The network is that of the builder: the host's, or an empty one that it is started in."""
        request = self._request
        _check_network(request.network)
        words = ["build", "--isolation=chroot", "--format=docker", "--pull-never", "--layers", f"--tag={self._name}"]
        words += [f"--file=context/{request.dockerfile.lstrip('/')}", "--network=host"]
        words += ["--signature-policy", self._layout.policy]
        words += ["--no-cache"] if request.no_cache else []
        words += [f"--target={request.target}"] if request.target else []
        words += [f"--platform={request.platform}"] if request.platform else []
        words += [f"--memory={request.memory}b"] if request.memory > 0 else []
        words += [f"--shm-size={request.shm_size}b"] if request.shm_size > 0 else []
        words += [f"--build-arg={key}={value}" for key, value in request.arguments.items() if value is not None]
        words += [f"--label={key}={value}" for key, value in request.labels.items()]
        words += [f"--add-host={host}" for host in request.extra_hosts]
        words += _lower_limits()
        return [*words, "--identity-label=false"]

    def _shown(self, line: str) -> str:
        """A line of buildah's as the classic builder would say it; "" for what it would not."""
        plain = line.strip()
        step = _STEP.match(plain)
        if step:
            return f"Step {step[1]}/{step[2]} : {step[3]}\n"
        made = _MADE.fullmatch(plain)
        if made:
            cached = " ---> Using cache\n" if "Using cache" in plain else ""
            return f"{cached} ---> {made[1][:12]}\n"
        unused = _UNUSED.fullmatch(plain)
        if unused:
            return f"[Warning] One or more build-args [{unused[1]}] were not consumed\n"
        bookkeeping = self._name in plain or plain.startswith(_NOISE) or re.fullmatch(r"[0-9a-f]{64}", plain)
        return "" if bookkeeping else line

    async def result(self) -> Fetched:
        """The built image, its blobs ours."""
        words = self._builder.words(
            "push", "--quiet", "--disable-compression", "--signature-policy", self._layout.policy
        )
        done = await command.run(
            [*words, self._name, "dir:result"], cwd=str(self._folder), env=self._layout.environment()
        )
        if done.code:
            raise Internal(f"cannot take over the built image: {done.err.strip()}")
        return await self._skopeo.adopt(self._folder / "result")

    async def clean(self) -> None:
        """The name goes, the layers stay as cache."""
        environment = self._layout.environment()
        await command.run(self._builder.words("untag", self._name), env=environment)


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


def _check_network(mode: str) -> None:
    if mode in ("", "default", "bridge", "host", "none"):
        return
    raise NotFound(f"network {mode} not found: a build has the host's network or none")


def _failure(step: str, told: list[str]) -> FairleadError:
    """Docker's words for a step that failed."""
    last = next((line for line in reversed(told) if line.strip()), "the build failed")
    word, _, rest = step.partition(" ")
    codes = [found[1] or found[2] for line in told if (found := _EXIT.search(line))]
    if word.upper() == "RUN" and codes:
        shown = rest.strip() if rest.strip().startswith("[") else f"'/bin/sh -c {rest.strip()}'"
        return Invalid(f"The command {shown} returned a non-zero code: {codes[0]}")
    missing = _MISSING.search(last)
    if missing:
        return Invalid(
            f"{word.upper()} failed: file not found in build context or excluded by .dockerignore:"
            f" stat {missing[1]}: file does not exist"
        )
    return Invalid(re.sub(r"^[Ee]rror:? ?(building at STEP \".*?\": )?", "", last) or last)
