"""Docker Compose v2 as a user has it: on PATH, as a plugin, or out of the Debian tree of the peers."""

import os
import shutil
from pathlib import Path

from lane.client import Docker
from lane.engines import peers_root
from lane.machine import Result, run, typed


def compose_command() -> list[str]:
    """The words that start ``docker-compose``."""
    for candidate in (os.environ.get("DOCKER_COMPOSE"), shutil.which("docker-compose")):
        if candidate:
            return [candidate]
    root = Path(peers_root())
    libraries = f"{root}/usr/lib/x86_64-linux-gnu:{root}/usr/lib/aarch64-linux-gnu"
    loader = next(path for path in (root / "usr/lib").rglob("ld-linux*.so.*"))
    binary = root / "usr/libexec/docker/cli-plugins/docker-compose"
    return [str(loader), "--library-path", libraries, str(binary)]


class Compose:
    """Types ``docker compose -f FILE ...`` against one engine."""

    def __init__(self, docker: Docker, file: Path) -> None:
        self.docker, self.words = docker, [*compose_command(), "-f", str(file), "--progress", "plain"]

    def attempt(self, command: str | list[str], timeout: float = 120) -> Result:
        return run([*self.words, *typed(command)], env=self.docker.env, timeout=timeout)

    def __call__(self, command: str | list[str]) -> Result:
        result = self.attempt(command)
        assert result.code == 0, repr(result)
        return result
