"""World: pretend machines on this one, for the lab, the demo and the tests. Nothing of the real machine is touched.

    with World(one_cable("one", "two")) as world:
        one = world["one"]
        one.start_daemon("--mtu", "1400")                    # returns when the engine answers _ping
        one.run("docker", "network", "create", "RED")        # typed on that machine
        world.outside.run("curl", "-s", one.address4 + ":8080")

Each machine is a ``lab.machine``; one more, the underlay, holds the switches.

Rules
    1. If the maker dies, by any signal, its worlds end: the anchors read the end
       of their standard input. Only ``keep`` breaks that tie, on request; a kept
       world is written down in its folder and found again by ``World.found``.
    2. What is left to remove by hand are our folder and our cgroups. Both have
       names of this world; nothing is found by looking similar.
    3. All bad weather (``lab.weather``) happens in the underlay, so that nothing an
       engine does on its machine, a flushed ruleset say, ends it.

What it leaves behind: nothing; a machine that would not go is reported, after all others have gone.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType

import msgspec

from fairlead.errors import Forbidden, Internal, Invalid, NotFound, Unavailable
from fairlead.lab import keyvalue
from fairlead.lab.machine import PATIENCE, Machine
from fairlead.lab.topology import OUTSIDE, STORE, UNDERLAY, Topology, one_cable

BOOK = "world.json"


class Noted(msgspec.Struct, frozen=True):
    """What is written down of a kept world."""

    topology: Topology
    pids: dict[str, int]
    options: tuple[str, ...] = ()
    """what every engine is told"""


class World:
    """Machines on their wires, as the topology says; a context manager that leaves nothing.

    ``folder``: where to live; must not exist. Without it a new one is made below ``base``.
    """

    def __init__(self, topology: Topology | None = None, base: str | None = None, folder: Path | None = None) -> None:
        self.topology = topology or one_cable("one")
        self.options: tuple[str, ...] = ()
        self._base = base
        self.folder = folder or Path()
        self.machines: dict[str, Machine] = {}
        self.kept = False
        self._claim = -1
        """a lock that says to others: somebody is making this; it ends with us, however we end"""

    def __enter__(self) -> World:
        require_root()
        if self.folder == Path():
            self.folder = Path(tempfile.mkdtemp(prefix="fl", dir=self._base))
        else:
            self.folder.mkdir(parents=True)
        self.folder.chmod(0o711)
        self._claim = claim(self.folder)
        try:
            self._build()
        except BaseException:
            self.down()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self.kept:
            self.down()

    def __getitem__(self, name: str) -> Machine:
        if name not in self.machines or name == UNDERLAY:
            raise NotFound(f"no such machine: {name} (there are {', '.join(self.topology.nodes)})")
        return self.machines[name]

    @property
    def outside(self) -> Machine:
        return self.machines[OUTSIDE]

    @property
    def hosts(self) -> list[Machine]:
        """The machines that may run an engine, in order."""
        return [self.machines[name] for name in self.topology.hosts]

    def _build(self) -> None:
        self._describe()
        for machine in self.machines.values():
            machine.up()
        self._ip(UNDERLAY, self.topology.switches())
        for node in self.topology.nodes:
            self._plug(node)

    def _describe(self) -> None:
        plan = self.topology
        first = next(iter(plan.wires))
        resolver = plan.address(OUTSIDE, first, 4) or plan.address(OUTSIDE, first, 6)
        at = {node: [plan.address(node, plan.wires_of(node)[0], family) for family in (4, 6)] for node in plan.nodes}
        known = "\n".join(f"{address} {node}" for node, both in at.items() for address in both if address)
        self.machines[UNDERLAY] = Machine(UNDERLAY, self.folder / UNDERLAY)
        for node, (address4, address6) in at.items():
            self.machines[node] = Machine(node, self.folder / node, address4, address6, resolver, known)

    def _plug(self, node: str) -> None:
        """Lay a machine's cables and set its network up."""
        machine = self.machines[node]
        settings = "/proc/sys/net"
        self._ip(UNDERLAY, self.topology.cables(node, machine.pid))
        # No waiting for a second machine with our address: until that ends, IPv6 would not carry the first packets.
        devices = [f"eth{number}" for number, _ in enumerate(self.topology.wires_of(node))]
        machine.run("tee", *(f"{settings}/ipv6/conf/{device}/accept_dad" for device in devices), input="0")
        if node == OUTSIDE:  # nobody serves names there: that is said to each question, not to six and then to none
            machine.run("tee", f"{settings}/ipv4/icmp_ratelimit", f"{settings}/ipv6/icmp/ratelimit", input="0")
        if self.topology.forwards(node):
            machine.run("tee", f"{settings}/ipv4/ip_forward", f"{settings}/ipv6/conf/all/forwarding", input="1")
        self._ip(node, self.topology.stack(node))

    def _ip(self, node: str, lines: Iterable[str]) -> None:
        """A batch of iproute2 in one machine's network, but with the real machine's process ids."""
        self.type_in(node, ["ip", "-batch", "-"], "\n".join(lines) + "\n")

    def type_in(
        self, node: str, argv: list[str], text: str = "", check: bool = True
    ) -> subprocess.CompletedProcess[str]:
        """Type a command with the real machine's processes and files in one machine's network."""
        words = ["nsenter", f"--target={self.machines[node].pid}", "--net", "--", *argv]
        done = subprocess.run(words, input=text, capture_output=True, text=True, check=False)
        if check and done.returncode:
            raise Internal(f"{node}: {' '.join(argv)}: {done.stderr.strip()}")
        return done

    def cut(self, node: str, up: bool = False) -> None:
        """Pull a machine's cables out of the switches; ``up`` plugs them in again."""
        ports = self.topology.ports(node).values()
        self._ip(UNDERLAY, [f"link set {port} {'up' if up else 'down'}" for port in ports])

    def reboot(self, node: str) -> None:
        """Power off, and on again: the machine keeps its disk, nothing else. Starts no engine."""
        machine = self[node]
        machine.down()
        for port in self.topology.ports(node).values():  # the kernel takes its time to forget a dead network's cables
            self.type_in(UNDERLAY, ["ip", "link", "del", port], check=False)
        machine.up()
        self._plug(node)

    def start_store(self) -> None:
        """Serve the store that the topology asks for; ``Unavailable`` when it does not come up."""
        kind = self.topology.store
        machine = self[STORE]
        address = machine.address4 or machine.address6
        serving = machine.start(*keyvalue.command(kind, machine.folder / "data", address), log=kind)
        until = time.monotonic() + PATIENCE
        while not machine.run("ss", "-Hltn", f"sport = :{keyvalue.PORTS[kind]}", check=False).stdout:
            if serving.poll() is not None or time.monotonic() > until:
                raise Unavailable(f"{kind} does not come up:\n" + "\n".join(machine.log(kind).splitlines()[-15:]))
            time.sleep(0.05)

    @property
    def cluster_options(self) -> tuple[str, ...]:
        """What an engine is told so that it is one of a cluster; nothing without a store."""
        if not self.topology.store:
            return ()
        machine = self[STORE]
        url = keyvalue.url(self.topology.store, machine.address4 or f"[{machine.address6}]", path="/network")
        return f"--cluster-store={url}", "--cluster-advertise=eth0:2376"

    def start_engines(self, names: Iterable[str], *options: str) -> None:
        """Start the engines of these hosts, all at once; return when all answer. ``options``: what all are told."""
        self.options = options
        started = []
        for name in names:
            own = self.topology.hosts[name].options
            words = (*self.cluster_options, *options, *own)
            started.append((self[name], self[name].start_daemon(*words, wait=False)))
        for machine, starting in started:
            machine.wait_ready(starting)

    def keep(self) -> None:
        """Let the world live on without its maker, and write it down."""
        for machine in self.machines.values():
            machine.keep()
        noted = Noted(self.topology, {name: machine.pid for name, machine in self.machines.items()}, self.options)
        fresh = self.folder / f"{BOOK}.new"
        fresh.write_bytes(msgspec.json.encode(noted))
        fresh.rename(self.folder / BOOK)
        self.kept = True
        self._unclaim()

    def _unclaim(self) -> None:
        if self._claim >= 0:
            os.close(self._claim)
            self._claim = -1

    @classmethod
    def found(cls, folder: Path) -> World:
        """The kept world that lives in a folder; ``Invalid`` when there is none."""
        try:
            noted = msgspec.json.decode((folder / BOOK).read_bytes(), type=Noted)
        except (OSError, msgspec.MsgspecError):
            raise Invalid(f"{folder} holds no kept world: `fairlead lab up` makes one") from None
        world = cls(noted.topology, folder=folder)
        world.options, world.kept = noted.options, True
        world._describe()
        for name, machine in world.machines.items():
            machine.pid = noted.pids.get(name, 0)
        return world

    @classmethod
    def cut_short(cls, folder: Path) -> World:
        """What is left when a maker was killed before ``keep``; ``Unavailable`` while one is at work.

        Its machines ended with it; their cgroups and the folder did not.
        """
        world = cls(folder=folder)
        world._claim = claim(folder)
        world.machines = {one.name: Machine(one.name, one) for one in sorted(folder.iterdir()) if one.is_dir()}
        return world

    def down(self) -> None:
        """End all machines and remove what is left; keeps going and reports everything that would not go."""
        troubles: list[Exception] = []
        for machine in reversed(self.machines.values()):
            try:
                machine.down()
            except Exception as problem:
                troubles.append(problem)
        self.machines.clear()
        shutil.rmtree(self.folder, ignore_errors=not self.folder.exists())
        self._unclaim()
        if troubles:
            raise ExceptionGroup("the world would not go", troubles)


def claim(folder: Path) -> int:
    """Take the lock of a world that is being made; ``Unavailable`` when somebody has it."""
    held = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(held)
        raise Unavailable(f"{folder} is being made at this moment: wait for it, or end that first") from None
    return held


def require_root() -> None:
    """Say what is missing before anything is made."""
    if os.geteuid():
        raise Forbidden("namespaces need root: run it with sudo")
    missing = [name for name in ("unshare", "nsenter", "ip", "nft") if not shutil.which(name)]
    if missing:
        raise Unavailable(f"missing: {', '.join(missing)} (scripts/setup installs them)")
