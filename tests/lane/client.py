"""The stock ``docker`` client: found, or unpacked from Debian's package; and one who types on it.

Debian 12's package is called docker.io and holds the client beside the daemon; from Debian 13 on it is docker-cli. We
take the one file we need out of the package and install nothing. With ``--client fairlead``, every ``docker …`` of the
lanes is typed at our own command instead.
"""

import functools
import json
import os
import pty
import select
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from lane.machine import Result, run, typed

CACHE = Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser() / "fairlead-tests"


chosen = ""
"""The client that ``--client`` named; "": the stock one."""


def choose(client: str) -> None:
    """``docker``, ``fairlead``, or a path: what the lanes type at from now on."""
    global chosen
    chosen = "" if client == "docker" else path_of(client)


def path_of(client: str) -> str:
    """Where ``docker`` (the stock one), ``fairlead`` or any other client is."""
    if client == "docker":
        return docker_binary()
    found = str(Path(sys.executable).parent / "fairlead") if client == "fairlead" else client
    if not os.access(found, os.X_OK):
        raise FileNotFoundError(f"no client {found}")
    return found


def default() -> str:
    """The client that the lanes type at."""
    return chosen or docker_binary()


@functools.cache
def docker_binary() -> str:
    """Path of a docker client: ``$DOCKER_CLIENT``, PATH, or our cache (filled from Debian's archive)."""
    for candidate in (os.environ.get("DOCKER_CLIENT"), shutil.which("docker"), str(CACHE / "docker")):
        if candidate and os.access(candidate, os.X_OK):
            return candidate
    CACHE.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        for package in ("docker-cli", "docker.io"):
            if run(["apt-get", "download", package], cwd=folder).code:
                continue
            for archive in Path(folder).glob(f"{package}_*.deb"):
                run(["dpkg", "-x", str(archive), f"{folder}/tree"], timeout=120)
            binary = Path(folder, "tree/usr/bin/docker")
            if binary.exists():
                shutil.copy2(binary, CACHE / "docker")
                return str(CACHE / "docker")
    raise FileNotFoundError("no docker client: install Debian's package docker-cli (docker.io before Debian 13)")


class Docker:
    """Types ``docker ...`` against one engine. ``docker("run -d nginx")`` must succeed; ``.refused`` must not."""

    def __init__(self, host: str, config: Path, binary: str = "") -> None:
        self.host, self.binary = host, binary or default()
        config.mkdir(parents=True, exist_ok=True)
        clean = {name: value for name, value in os.environ.items() if not name.startswith(("DOCKER_", "FAIRLEAD_"))}
        clean.pop("PYTHONDONTWRITEBYTECODE", None)  # our own command starts as it does for users: compiled
        self.env = {**clean, "DOCKER_HOST": host, "DOCKER_CONFIG": str(config)}

    def attempt(self, command: str | Sequence[str], *, stdin: str = "", timeout: float = 60) -> Result:
        return run([self.binary, *typed(command)], env=self.env, stdin=stdin, timeout=timeout)

    def __call__(self, command: str | Sequence[str], **kwargs: object) -> Result:
        result = self.attempt(command, **kwargs)  # type: ignore[arg-type]
        assert result.code == 0, repr(result)
        return result

    def refused(self, command: str | Sequence[str], *words: str, code: int | None = None) -> Result:
        """It must fail, and say all of ``words``."""
        result = self.attempt(command)
        assert result.code != 0, f"not refused: {result!r}"
        assert code is None or result.code == code, repr(result)
        for word in words:
            assert word in result, f"does not say {word!r}: {result!r}"
        return result

    def json(self, command: str | Sequence[str]) -> object:
        return json.loads(self(command).out)

    def field(self, reference: str, path: str, kind: str = "") -> str:
        """One field of an object, by a template path such as ``.State.Pid``."""
        flag = [f"--type={kind}"] if kind else []
        return self(["inspect", *flag, "--format", "{{" + path + "}}", reference]).out

    def sh(self, container: str, script: str) -> Result:
        """Type a line at a container's shell; its exit code is ours to judge."""
        return self.attempt(["exec", container, "sh", "-c", script])

    def terminal(self, command: str | Sequence[str], keys: str = "", timeout: float = 20) -> Result:
        """The same at a real terminal (``-it``): type ``keys`` and read all that appears until the client ends."""
        words = [self.binary, *typed(command)]
        ours, theirs = pty.openpty()
        process = subprocess.Popen(words, stdin=theirs, stdout=theirs, stderr=theirs, env=self.env)
        os.close(theirs)
        seen, end = b"", time.monotonic() + timeout
        try:
            os.write(ours, keys.encode())
            while time.monotonic() < end:
                if not select.select([ours], [], [], 0.1)[0]:
                    if process.poll() is not None:
                        break
                    continue
                try:
                    more = os.read(ours, 65536)
                except OSError:  # the other end was closed: the client has ended
                    break
                if not more:
                    break
                seen += more
            process.wait(max(0.1, end - time.monotonic()))
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
            os.close(ours)
        return Result(words, process.returncode, seen.decode(errors="replace").replace("\r\n", "\n"), "")
