"""Stock ``serf`` agents on this machine's loopback, on ports of their own."""

import asyncio
import base64
import json
import os
import shutil
import signal
import socket
import subprocess
from pathlib import Path

CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "fairlead"
SERF = shutil.which("serf") or shutil.which(str(CACHE / "serf/usr/bin/serf"))


def free_port() -> int:
    """A port free for datagrams and streams, just now."""
    while True:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagrams, socket.socket() as streams:
            datagrams.bind(("127.0.0.1", 0))
            port = datagrams.getsockname()[1]
            try:
                streams.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port


class Agent:
    """One ``serf agent``; its log lies in ``folder``."""

    def __init__(self, name: str, folder: Path, key: bytes | None, tags: dict[str, str]) -> None:
        self.name = name
        self.port = free_port()
        self._rpc = f"127.0.0.1:{free_port()}"
        self._log = folder / f"{name}.log"
        self._key = key
        self._tags = tags
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        command = [SERF, "agent", f"-node={self.name}", f"-bind=127.0.0.1:{self.port}", f"-rpc-addr={self._rpc}"]
        command += ["-profile=local", "-log-level=debug"]
        for key, value in self._tags.items():
            command += ["-tag", f"{key}={value}"]
        if self._key:
            command.append("-encrypt=" + base64.b64encode(self._key).decode())
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log)

    def kill(self) -> None:
        """As a power failure would."""
        self._end(signal.SIGKILL)

    def leave(self) -> None:
        """As its owner would: an interrupted agent says goodbye."""
        self._end(signal.SIGINT)

    def _end(self, how: signal.Signals) -> None:
        if self._process:
            self._process.send_signal(how)
            self._process.wait(20)
            self._process = None

    def log(self) -> str:
        return self._log.read_text()

    async def ask(self, *words: str) -> str:
        """What ``serf WORDS`` prints."""
        command = [SERF, *words[:1], f"-rpc-addr={self._rpc}", *words[1:]]
        process = await asyncio.create_subprocess_exec(*command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        return (await process.communicate())[0].decode()

    async def members(self) -> dict[str, tuple[str, dict[str, str]]]:
        """Name -> status, tags; as ``serf members`` shows them."""
        text = await self.ask("members", "-format=json")
        rows = json.loads(text)["members"] if text.startswith("{") else []
        return {row["name"]: (row["status"], row["tags"] or {}) for row in rows}
