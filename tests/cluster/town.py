"""What a cluster test has in its hands: hosts to type on, and the store's machine."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from msgspec.structs import replace

from fairlead.lab import image as busybox
from fairlead.lab.machine import Machine
from fairlead.lab.topology import Topology, one_cable
from fairlead.lab.world import World
from lane.client import Docker
from lane.machine import Result, eventually


def topology(store: str) -> Topology:
    """Three hosts; the first two share 172.17.0.0/16, half each, as people do who route between them (S100)."""
    plan = one_cable("node-1", "node-2", "node-3", store=store)
    halves = {
        "node-1": ("--bip=172.17.0.1/17", "--fixed-cidr=172.17.0.0/17"),
        "node-2": ("--bip=172.17.128.1/17", "--fixed-cidr=172.17.128.0/17"),
    }
    hosts = {name: replace(host, options=halves.get(name, ())) for name, host in plan.hosts.items()}
    return replace(plan, hosts=hosts)


@contextmanager
def raised(store: str, folder: Path) -> Iterator["Town"]:
    """A town with busybox on every host, while the block lasts. ``folder``: must exist."""
    image = folder / "busybox.tar"
    busybox.make(image)
    with World(topology(store), str(folder)) as world:
        world.start_store()
        world.start_engines(world.topology.hosts)
        town = Town(world, folder)
        for host in town.hosts:
            with image.open("rb") as tar:
                command = [host.docker.binary, "import", "-c", 'CMD ["sh"]', "-", "busybox"]
                subprocess.run(command, stdin=tar, env=host.docker.env, check=True, capture_output=True)
        yield town


class Host:
    """One host. ``host("network ls")`` types docker there; it must succeed."""

    def __init__(self, machine: Machine, folder: Path) -> None:
        self.machine = machine
        self.docker = Docker(f"unix://{machine.socket}", folder / f"client-{machine.name}")

    def __call__(self, command: str) -> str:
        return self.docker(command).out

    def follow(self) -> None:
        """The machine was rebooted: its engine is elsewhere."""
        self.docker.env["DOCKER_HOST"] = f"unix://{self.machine.socket}"

    def inside(self, container: str, script: str) -> Result:
        return self.docker.sh(container, script)

    def pings(self, container: str, target: str) -> Result:
        return self.inside(container, f"ping -c1 -W1 {target}")

    def network(self, name: str) -> dict:
        (found,) = self.docker.json(f"network inspect {name}")
        return found

    def members(self, network: str) -> dict[str, str]:
        """Name -> address of everybody on a network, wherever they run."""
        return {one["Name"]: one["IPv4Address"].split("/")[0] for one in self.network(network)["Containers"].values()}

    def differs(self) -> str:
        """What ``doctor`` finds; nothing when all is well."""
        done = self.machine.run("fairlead", "doctor", check=False)
        return done.stdout if done.returncode else ""


class Town:
    """Three hosts and their store."""

    def __init__(self, world: World, folder: Path) -> None:
        self.world = world
        self.hosts = [Host(machine, folder) for machine in world.hosts]

    def everywhere(self, network: str) -> None:
        """Wait until every host has heard of a network."""
        for host in self.hosts:
            eventually(lambda host=host: network in host("network ls --format {{.Name}}").split(), f"{network} known")

    def gone(self, network: str) -> None:
        for host in self.hosts:
            eventually(
                lambda host=host: network not in host("network ls --format {{.Name}}").split(), f"{network} gone"
            )

    def clean(self) -> None:
        """No container and no network of a test is left; every host's kernel is as its engine wants it."""
        for host in self.hosts:
            found = host("ps -aq").split()
            if found:
                host(f"rm -f {' '.join(found)}")
        shared = self.hosts[0]("network ls -q --filter driver=overlay").split()
        for network in shared:
            eventually(lambda network=network: not self.hosts[0].docker.attempt(f"network rm {network}").code, network)
        for host in self.hosts:
            eventually(lambda host=host: not host("network ls -q --filter driver=overlay"), "no overlay network left")
            eventually(lambda host=host: not host.differs(), f"doctor finds nothing on {host.machine.name}")
            assert not host.machine.run("ls", "/run/fairlead/netns", check=False).stdout.split()
