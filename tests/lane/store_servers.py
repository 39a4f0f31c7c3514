"""Real etcd, Consul and ZooKeeper on pretend machines: started, killed, cut off."""

import os
import socket
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path

from fairlead.host.netns import inside
from fairlead.lab import keyvalue
from fairlead.lab.world import World


class Server:
    """One server on the machine of its name. It keeps its data when it is killed and started again."""

    def __init__(self, world: World, kind: str, node: str, peers: Mapping[str, str] | None = None, *more: str) -> None:
        self.world, self.kind, self.node = world, kind, node
        self.machine = world[node]
        folder = self.machine.folder / "data"
        self._command = keyvalue.command(kind, folder, self.machine.address4, peers, *more)
        self._process: subprocess.Popen[bytes] | None = None
        self.port = keyvalue.PORTS[kind]

    @property
    def place(self) -> str:
        return f"{self.machine.address4}:{self.port}"

    def start(self) -> "Server":
        self._process = self.machine.start(*self._command, log=self.kind)
        return self

    def wait(self) -> "Server":
        """Until it accepts connections (which may be before it serves)."""
        until = time.monotonic() + 30
        while time.monotonic() < until:
            with inside(f"/proc/{self.machine.pid}/ns/net"), socket.socket() as probe:
                if probe.connect_ex((self.machine.address4, self.port)) == 0:
                    return self
            time.sleep(0.02)
        raise AssertionError(f"{self.kind} does not listen:\n{self.machine.log(self.kind)[-3000:]}")

    def kill(self) -> None:
        """kill -9, and wait until it is gone."""
        assert self._process
        children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children").read_text().split()
        for child in children:  # nsenter waits for one
            os.kill(int(child), 9)
        self._process.wait()

    def cut(self) -> None:
        self.world.cut(self.node)

    def heal(self) -> None:
        self.world.cut(self.node, up=True)
