"""Chaos: people use a cluster while it is broken and mended, and after each heal it is what the model says.

    round    a few moves (run, rm, connect, …) -> harm -> what must go on, goes on; a few moves -> heal -> judge
    harm     an engine killed, a power cut, a partition, the store away, or everything at once
    judge    within SOON seconds of a heal: names and addresses lead to whom they should, and to nobody else; every
             engine has the store again, so that what people do next is not refused;
             forwarding tables are the peers'; every host lists the same; ``doctor`` finds nothing

The seed decides the moves and the harm. On failure: the seed, the story so far, what differs.

    PYTHONPATH=tests python -m cluster.chaos --minutes 30 --seed 1 --store consul     (partitions up to 10 minutes)
"""

import argparse
import random
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from cluster import looks
from cluster.town import Host, Town, raised
from fairlead.lab import weather
from fairlead.lab.topology import STORE
from fairlead.lab.weather import Weather
from lane.machine import eventually, strain

SOON = 5.0
"""Seconds in which all is well again once engines answer, the store serves and containers run; on a machine
that has more to do than processors, as many times longer."""
MOST = 9
"""containers at a time: each talks to each"""
PATIENCE = 60.0
KINDS = ("engine", "power", "partition", "store", "everything")


class Broken(AssertionError):
    """The cluster is not what the model says."""


@dataclass
class Box:
    """A container that should run."""

    host: Host
    networks: set[str]


@dataclass
class Harm:
    """What is broken now."""

    told: str
    off: set[str] = field(default_factory=set)
    """hosts without power"""
    dead: set[str] = field(default_factory=set)
    """hosts without an engine"""
    cut: Weather = field(default_factory=Weather)
    store: bool = False
    """the store is away"""

    def usable(self, host: Host) -> bool:
        return host.machine.name not in self.off | self.dead

    def dark(self, host: Host) -> bool:
        """Whether it cannot ask the store."""
        return self.store or tuple(sorted((host.machine.name, STORE))) in self.cut.cuts

    def parts(self, one: Host, other: Host) -> bool:
        """Whether nothing can pass between two hosts."""
        names = {one.machine.name, other.machine.name}
        return bool(names & self.off) or tuple(sorted(names)) in self.cut.cuts


class Chaos:
    """One run on a standing town. ``lengths``: how many seconds a partition may last."""

    def __init__(
        self,
        town: Town,
        seed: int,
        lengths: tuple[float, ...] = (10,),
        say: Callable[[str], object] = lambda line: None,
    ) -> None:
        self.town, self.seed, self.dice, self.lengths, self.say = town, seed, random.Random(seed), lengths, say
        self.boxes: dict[str, Box] = {}
        self.networks: list[str] = []
        self.story: list[str] = []
        self.slowest = 0.0
        """seconds from a heal until all was well"""
        self._numbers = 0

    # -- a round --------------------------------------------------------------------------

    def round(self, kind: str) -> None:
        try:
            for _ in range(3):
                self.move(Harm("nothing"))
            self.judge("before harm")
            harm = self.harm(kind)
            self.goes_on(harm)
            for _ in range(3):
                self.move(harm)
            self.heal(harm)
            self.judge(f"after {harm.told}")
        except Exception as error:
            story = "\n  ".join(self.story[-40:])
            raise Broken(f"seed {self.seed}, so far:\n  {story}\n{error!r}") from error

    def harm(self, kind: str) -> Harm:
        hosts = [host.machine.name for host in self.town.hosts]
        harm = Harm(kind)
        if kind in ("engine", "everything"):
            harm.dead = set(self.dice.sample(hosts, self.dice.randint(1, 2)))
        if kind in ("power", "everything"):
            harm.off = {self.dice.choice(hosts)}
        if kind in ("partition", "everything"):
            one, other = self.dice.sample([*hosts, STORE], 2)
            harm.cut = Weather().parted(one, other)
        harm.store = kind in ("store", "everything")
        self.tell(f"harm: {harm}")
        for host in self.town.hosts:
            if host.machine.name in harm.dead:
                host.machine.stop_daemon(signal.SIGKILL)
            if host.machine.name in harm.off:
                host.machine.down()
        weather.change(self.town.world, harm.cut)
        if harm.store:
            self.town.world[STORE].down()
        return harm

    def heal(self, harm: Harm) -> None:
        if harm.cut.cuts:
            seconds = self.dice.choice(self.lengths)
            self.tell(f"parted for {seconds:g} s")
            time.sleep(seconds)
        world = self.town.world
        weather.change(world, Weather())
        if harm.store:
            world.reboot(STORE)
            world.start_store()
        for name in sorted(harm.off):
            world.reboot(name)
        world.start_engines(sorted(harm.off | harm.dead))
        for host in self.town.hosts:
            host.follow()
        for host in self.town.hosts:
            own = [name for name, box in self.boxes.items() if box.host is host]
            run = lambda host=host, own=own: looks.running(host) == set(own)  # noqa: E731
            eventually(run, f"the containers of {host.machine.name} run", PATIENCE)
        self.tell("healed")

    def judge(self, when: str) -> None:
        """All is as it should be, within ``SOON`` seconds from now."""
        begun = time.monotonic()
        while True:
            looked = time.monotonic() - begun
            wrong = self.wrong()
            if not wrong:
                break
            if looked > SOON * strain():
                raise Broken(f"{when}, {looked:.1f} s later:\n" + "\n".join(wrong))
            self.tell(f"not yet well {looked:.1f} s {when}: {wrong[0].splitlines()[0]} ({len(wrong)} such)")
        self.slowest = max(self.slowest, looked)
        self.tell(f"well {looked:.1f} s {when}")

    # -- looking ----------------------------------------------------------------------------

    def wrong(self) -> list[str]:
        """What differs from the model, everywhere; what people would notice is looked at first."""
        truth = looks.truth(self.town.hosts)
        found = [] if set(truth) == set(self.boxes) else [f"running: {sorted(truth)}, not {sorted(self.boxes)}"]
        found += self.unheard(list(self.boxes), truth, strangers=True)
        found += looks.without_store(self.town.hosts)
        found += looks.lists(self.town.hosts, self.networks, truth)
        found += looks.tables(self.town.hosts, truth)
        with ThreadPoolExecutor() as pool:
            return found + [told for told in pool.map(Host.differs, self.town.hosts) if told]

    def goes_on(self, harm: Harm) -> None:
        """Who talked still talks, unless the harm lies between them: what the engines and the store do is no matter."""
        lit = {name: box for name, box in self.boxes.items() if harm.usable(box.host)}
        truth = looks.truth([host for host in self.town.hosts if harm.usable(host)])
        wrong = self.unheard(list(lit), truth, apart=harm.parts)
        if wrong:
            raise Broken(f"during {harm.told}:\n" + "\n".join(wrong))

    def unheard(
        self,
        names: list[str],
        truth: looks.Truth,
        strangers: bool = False,
        apart: Callable[[Host, Host], bool] = lambda one, other: False,
    ) -> list[str]:
        """The reachability matrix against the model: each container calls each of the others by name.

        ``strangers``: and by address those it must not reach.
        """

        def calls(name: str) -> list[str]:
            box, others = self.boxes[name], [other for other in names if other != name]
            near = {other for other in others if box.networks & self.boxes[other].networks}
            wanted = {
                other: {truth[other][net].address for net in box.networks & set(truth[other])}
                for other in near
                if not apart(box.host, self.boxes[other].host)
            }
            forbidden = {other: set[str]() for other in others if strangers and other not in near}
            for other in forbidden.copy():
                forbidden |= {attached.address: set() for attached in truth[other].values()}
            return looks.calls(box.host, name, wanted | forbidden)

        with ThreadPoolExecutor(4) as pool:
            return [line for lines in pool.map(calls, [name for name in names if name in truth]) for line in lines]

    # -- moves ------------------------------------------------------------------------------

    def move(self, harm: Harm) -> None:
        """One thing that people do, where it can be done now; what needs the store is refused without it."""
        usable = [host for host in self.town.hosts if harm.usable(host)]
        if not usable:
            return
        host = self.dice.choice(usable)
        own = [name for name, box in self.boxes.items() if box.host is host]
        if harm.dark(host):
            self.dice.choice([self.refused, self.remove])(host, own)
        elif len(self.networks) < 2:
            self.network(host)
        elif len(self.boxes) < 4:
            self.run(host, own)
        else:
            self.dice.choice([self.run, self.run, self.remove, self.connect, self.disconnect, self.restart])(host, own)

    def network(self, host: Host) -> None:
        name = f"net{self._number()}"
        host(f"network create -d overlay {name}")
        self.networks.append(name)
        self.tell(f"{host.machine.name}: network {name}")
        self.town.everywhere(name)

    def run(self, host: Host, own: list[str]) -> None:
        if len(self.boxes) >= MOST:
            return self.remove(host, own)
        name, network = f"box{self._number()}", self.dice.choice(self.networks)
        # A host that was cut off may not have heard of the network yet.
        line = f"run -d --name {name} --net {network} --restart always busybox sleep 100000"
        eventually(lambda: network in host("network ls --format {{.Name}}").split(), f"{network} known")
        host(line)
        self.boxes[name] = Box(host, {network})
        return self.tell(f"{host.machine.name}: {line}")

    def refused(self, host: Host, own: list[str]) -> None:
        """The store cannot be asked: that is said, soon, and nothing is left of the attempt."""
        name, begun = f"box{self._number()}", time.monotonic()
        host.docker.refused(f"run -d --name {name} --net {self.dice.choice(self.networks)} busybox sleep 1")
        if time.monotonic() - begun > 15 * strain():
            raise Broken(f"refused only after {time.monotonic() - begun:.1f} s")
        host.docker.attempt(f"rm -f {name}")
        self.tell(f"{host.machine.name}: nothing runs while the store is away")

    def remove(self, host: Host, own: list[str]) -> None:
        if own:
            name = self.dice.choice(own)
            host(f"rm -f {name}")
            del self.boxes[name]
            self.tell(f"{host.machine.name}: rm {name}")

    def restart(self, host: Host, own: list[str]) -> None:
        if own:
            name = self.dice.choice(own)
            host(f"restart -t 0 {name}")
            self.tell(f"{host.machine.name}: restart {name}")

    def connect(self, host: Host, own: list[str]) -> None:
        able = [name for name in own if len(self.boxes[name].networks) < len(self.networks)]
        if able:
            name = self.dice.choice(able)
            network = self.dice.choice([net for net in self.networks if net not in self.boxes[name].networks])
            host(f"network connect {network} {name}")
            self.boxes[name].networks.add(network)
            self.tell(f"{host.machine.name}: connect {network} {name}")

    def disconnect(self, host: Host, own: list[str]) -> None:
        able = [name for name in own if len(self.boxes[name].networks) > 1]
        if able:
            name = self.dice.choice(able)
            network = self.dice.choice(sorted(self.boxes[name].networks))
            host(f"network disconnect {network} {name}")
            self.boxes[name].networks.discard(network)
            self.tell(f"{host.machine.name}: disconnect {network} {name}")

    def tell(self, text: str) -> None:
        self.story.append(text)
        self.say(text)

    def _number(self) -> int:
        self._numbers += 1
        return self._numbers


def main() -> int:
    parser = argparse.ArgumentParser(prog="cluster.chaos")
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--store", default="etcd")
    asked = parser.parse_args()
    begun = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="fl-chaos-") as folder, raised(asked.store, Path(folder)) as town:
        before, rounds = looks.footprint(town.hosts), 0
        say = lambda line: print(f"{time.monotonic() - begun:6.0f} s  {line}", flush=True)  # noqa: E731
        chaos = Chaos(town, asked.seed, say=say)
        while (left := asked.minutes * 60 - (time.monotonic() - begun)) > 0:
            chaos.lengths = tuple(length for length in (10, 10, 60, 600) if length < max(left, 11))
            chaos.round(chaos.dice.choice(KINDS))
            rounds += 1
        town.clean()
        looks.same(town.hosts, before)
        print(f"{rounds} rounds; well again after {chaos.slowest:.1f} s at most; nothing left", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
