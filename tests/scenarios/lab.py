"""What a scenario has in its hands: the client, the host it types on, and the world outside."""

import re

from lane.client import Docker
from lane.engines import Engine
from lane.machine import Lan, Machine, Result

LONG = re.compile(r"^[0-9a-f]{64}$")
SHORT = re.compile(r"^[0-9a-f]{12}$")


class Lab:
    def __init__(self, lan: Lan, engine: Engine) -> None:
        self.outside: Lan = lan
        self.engine = engine
        self.docker: Docker = engine.docker
        self.host: Machine = engine.machine

    def run(self, words: str) -> str:
        """``docker run -d`` and the like: must print one long id, which is returned."""
        printed = self.docker(f"run {words}").out
        assert LONG.match(printed), printed
        return printed

    def address(self, container: str, network: str = "bridge") -> str:
        return self.docker.field(container, f'(index .NetworkSettings.Networks "{network}").IPAddress')

    def inside(self, container: str, command: str) -> Result:
        """Type a command in a container; its exit code is the caller's to judge."""
        return self.docker.sh(container, command)

    def pings(self, container: str, target: str) -> Result:
        return self.inside(container, f"ping -c1 -W1 {target}")

    def resolves(self, container: str, name: str) -> bool:
        """Does a program in the container find an address for the name (whether or not it answers)?"""
        return "bad address" not in self.inside(container, f"ping -c1 -W1 {name}")

    def put_right(self, said: int) -> list[str]:
        """What the engine says it put right when it was started again, in the log from that byte on."""
        lines = self.engine.log.read_bytes()[said:].decode().splitlines()
        return [line for line in lines if "put right after a restart" in line]

    def network(self, name: str) -> dict:
        (found,) = self.docker.json(f"network inspect {name}")
        return found

    def members(self, network: str) -> dict[str, str]:
        """Name -> IPv4 address of everybody on a network."""
        return {one["Name"]: one["IPv4Address"].split("/")[0] for one in self.network(network)["Containers"].values()}

    def ports(self, container: str) -> list[str]:
        return self.docker(f"port {container}").lines
