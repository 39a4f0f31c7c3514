"""What a test of swarm mode has in its hands: named hosts on one LAN, an engine on each, and who types there.

with fleet(ENGINES["fairlead"], lan, "docker", "manager1", "worker1") as hosts:
    hosts["manager1"]("swarm init")
"""

import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

from lane.client import default
from lane.engines import Engine
from lane.images import import_images
from lane.machine import Lan, Result, eventually

FIRST = 31
"""last byte of the first host's address on the LAN"""
SLOW = 90.0
"""Seconds in which fifteen containers start on a machine that has other things to do."""
IMAGES = ("busybox", "ubuntu", "nginx", "redis", "flask")
PROMPT = ("STOPSIGNAL SIGKILL",)
"""For images: nothing in ours heeds SIGTERM, and where nobody asks how tasks end, ten seconds each are too long."""


class Host:
    """One host. ``host("node ls")`` types docker there; it must succeed, and what it printed is returned."""

    def __init__(self, engine: Engine, name: str) -> None:
        self.engine, self.name = engine, name
        self.docker, self.machine, self.address = engine.docker, engine.machine, engine.machine.address

    def __call__(self, command: str) -> str:
        return self.docker(command, timeout=SLOW).out

    def inside(self, container: str, script: str) -> Result:
        """Type a line at the shell of a container of this host; how it ends is the caller's to judge."""
        return self.docker.sh(container, script)

    def network(self, name: str) -> dict[str, Any]:
        (found,) = self.docker.json(f"network inspect {name}")  # type: ignore[misc]
        return found

    def networks(self) -> dict[str, list[str]]:
        """Name -> short id, driver, scope, as ``network ls`` has them."""
        lines = self("network ls").splitlines()[1:]
        return {words[1]: [words[0], *words[2:]] for words in map(str.split, lines)}

    def tasks(self, service: str) -> list[str]:
        """Names of the containers that run for a service on this host."""
        return [name for name in self("ps --format {{.Names}}").split() if name.startswith(f"{service}.")]

    def address_of(self, task: str, network: str) -> str:
        """Of a container on this host."""
        words = ["inspect", "--format", f"{{{{json .NetworkSettings.Networks.{network}.IPAddress}}}}", task]
        return self.docker(words).out.strip('"')

    # What a manager tells

    def nodes(self) -> dict[str, tuple[str, str, str]]:
        """Hostname -> status, availability, manager status."""
        form = "{{.Hostname}}|{{.Status}}|{{.Availability}}|{{.ManagerStatus}}"
        lines = self.docker(["node", "ls", "--format", form], timeout=SLOW).lines
        return {line.split("|")[0]: tuple(line.split("|")[1:]) for line in lines}  # type: ignore[misc]

    def replicas(self, service: str) -> str:
        """``2/2``."""
        words = ["service", "ls", "--filter", f"name={service}", "--format", "{{.Name}} {{.Replicas}}"]
        return dict(line.split()[:2] for line in self.docker(words, timeout=SLOW).lines).get(service, "")

    def placed(self, service: str, state: str = "Running") -> list[tuple[str, str]]:
        """(task, node) of a service's tasks in such a state that shall be in it."""
        form = "{{.Name}}|{{.Node}}|{{.DesiredState}}|{{.CurrentState}}"
        lines = self.docker(["service", "ps", "--no-trunc", "--format", form, service], timeout=SLOW).lines
        rows = [[cell.strip() for cell in line.split("|")] for line in lines]
        return [(row[0], row[1]) for row in rows if row[2] == state and row[3].startswith(state)]

    def converged(self, service: str, count: int) -> list[tuple[str, str]]:
        """Wait until exactly so many tasks run; what is placed where."""

        def all_run() -> bool:
            return self.replicas(service) == f"{count}/{count}" and len(self.placed(service)) == count

        try:
            eventually(all_run, f"{service} {count}/{count}", SLOW)
        except AssertionError:
            raise AssertionError(self("service ls") + "\n" + self(f"service ps --no-trunc {service}")) from None
        return self.placed(service)


class Fleet(dict[str, Host]):
    """Hosts by name."""

    def __init__(self, lan: Lan) -> None:
        super().__init__()
        self.outside = lan

    def swarm(self, managers: int, *names: str) -> None:
        """Found a swarm on the first and let the others join: so many managers, then workers. No names: everybody."""
        first, *others = [self[name] for name in names or self]
        first(f"swarm init --advertise-addr {first.address}")
        for number, host in enumerate(others, 1):
            token = first(f"swarm join-token -q {'manager' if number < managers else 'worker'}")
            host(f"swarm join --token {token} --advertise-addr {host.address} {first.address}:2377")
        eventually(
            lambda: [status for status, _, _ in first.nodes().values()] == ["Ready"] * (1 + len(others)), "ready"
        )

    def everywhere(self, port: int, path: str = "/") -> dict[str, str]:
        """Host -> the page that the world outside gets from a port of it."""
        return {name: self.outside.page(host.address, port, path) for name, host in self.items()}


@contextmanager
def fleet(
    kind: type[Engine],
    lan: Lan,
    client: str,
    *names: str,
    images: tuple[str, ...] = IMAGES,
    more: tuple[str, ...] = (),
) -> Iterator[Fleet]:
    """Hosts of these names, with images and no swarm yet; gone at the end. ``client``: path of what is typed.

    ``more``: what each image has besides, as lines of a Dockerfile.
    """
    hosts = Fleet(lan)
    engines: list[Engine] = []

    def furnish(engine: Engine) -> None:
        engine.docker.binary = default()
        import_images(engine.docker, engine.base, images, more)
        engine.docker.binary = client

    try:
        for last, name in enumerate(names, FIRST):
            engines.append(kind(lan, last))
            engines[-1].machine.inside(["hostname", name])
            engines[-1].start()
            hosts[name] = Host(engines[-1], name)
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(furnish, engines))
        yield hosts
    finally:
        for engine in engines:
            engine.close()


def token_form(text: str) -> str:
    """The token in a text, which must have Docker's form."""
    found = re.search(r"SWMTKN-1-[0-9a-z]{50}-[0-9a-z]{25}", text)
    assert found, text
    return found[0]
