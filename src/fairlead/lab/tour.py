"""Tour: the labs of Docker networking, step by step, on hosts of one's own.

    for each step:   what it shows   ->   the line that is typed, and where   ->   what came of it

Every line is really typed; nothing that is shown was written beforehand. A step
says what its answer has to hold, and the tour stops at the first that does not
(so the tour is a test, too). What an answer holds under a name, later lines may
use: ``(?P<token>...)`` and ``{token}``.

Three chapters: one host; hosts that share a store; other hosts, that become a swarm.

What it leaves behind: nothing. What it does not do: teach the command line; ``-h`` does.
"""

from __future__ import annotations

import re
import shlex
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from fairlead.errors import Internal
from fairlead.lab import image, picture, weather
from fairlead.lab.topology import OUTSIDE
from fairlead.lab.weather import Weather
from fairlead.lab.world import World

Show = Callable[[str], None]
PATIENCE = 30.0
"""Seconds in which what one host did is seen on another."""


@dataclass(frozen=True, slots=True)
class Step:
    """``where``: a host, ``outside``, or ``lab`` for its own commands; ``holds``: a pattern that the answer matches."""

    title: str
    where: str
    line: str
    holds: str = ""


ONE_HOST = (
    Step("A network is a bridge with a subnet of its own.", "one", "fairlead network create RED", r"^[0-9a-f]{64}$"),
    Step("A container on it …", "one", "fairlead run -d --name web --network RED -p 8080:80 busybox httpd -f -h /www"),
    Step(
        "… and another, that finds it by name.", "one", "fairlead run --rm --network RED busybox ping -c1 web", "0% pa"
    ),
    Step("On another network nobody knows it.", "one", "fairlead run --rm busybox ping -c1 web || true", "bad address"),
    Step("The published port, from outside.", OUTSIDE, "busybox wget -qO- http://one:8080", "Hello"),
    Step("Why does that work? Ask.", "one", "fairlead explain world host:8080", "web"),
    Step("Is all as it should be?", "one", "fairlead doctor", "all is well"),
)
MANY_HOSTS = (
    Step("One network over three hosts …", "one", "fairlead network create -d overlay BLUE", r"^[0-9a-f]{64}$"),
    Step("… is there on all of them.", "three", "fairlead network ls", "BLUE"),
    Step("A container here …", "one", "fairlead run -d --name near --network BLUE busybox sleep 1d"),
    Step("… and one there.", "two", "fairlead run -d --name far --network BLUE busybox sleep 1d"),
    Step("They find each other by name.", "one", "fairlead exec near ping -c1 -W2 far", "0% packet loss"),
    Step("Each host shows the others' endpoints.", "one", "fairlead network inspect BLUE", '"ep-[0-9a-f]{64}"'),
    Step("All of it, drawn.", "lab", "map", "far"),
    Step("Now the wire between one and two is cut.", "lab", "partition one two"),
    Step("Nobody gets through …", "one", "fairlead exec near ping -c1 -W1 far || true", "100% packet loss"),
    Step("… until it is mended.", "lab", "heal"),
    Step("As before.", "one", "fairlead exec near ping -c1 -W2 far", "0% packet loss"),
    Step("The engine on two is killed …", "lab", "kill --engine two"),
    Step("… and its containers do not notice.", "one", "fairlead exec near ping -c1 -W2 far", "0% packet loss"),
)
SWARM = (
    Step("Three hosts without a store. One founds a swarm …", "one", "fairlead swarm init", r"(?P<token>SWMTKN-1-\S+)"),
    Step("… another joins it …", "two", "fairlead swarm join --token {token} one:2377", "as a worker"),
    Step("… and a third.", "three", "fairlead swarm join --token {token} one:2377", "as a worker"),
    Step("All are there.", "one", "fairlead node ls", r"three +Ready"),
    Step("A network for services, and for containers.", "one", "fairlead network create -d overlay --attachable GREEN"),
    Step(
        "A service of three tasks: what is wanted, wherever it runs.",
        "one",
        "fairlead service create -q --name web --replicas 3 --network GREEN -p 8080:80 busybox httpd -f -p 80 -h /www",
    ),
    Step("One on each host.", "one", "fairlead service ps web", r"two +Running +Running"),
    Step("Its port is every host's, its task wherever.", OUTSIDE, "busybox wget -qO- http://three:8080", "Hello"),
    Step("Its name has one address, whoever answers.", "two", "fairlead run --rm --network GREEN busybox ping -c1 web"),
    Step("A host is to be emptied …", "one", "fairlead node update --availability drain three", "three"),
    Step("… its task starts elsewhere …", "one", "fairlead service ps web", r"\\_ web\.\d .*three +Shutdown +Shutdown"),
    Step("… and its port answers as before.", OUTSIDE, "busybox wget -qO- http://three:8080", "Hello"),
    Step("The service goes, and all of it everywhere.", "one", "fairlead service rm web", "web"),
)


def chapters(store: bool, etcd: bool) -> tuple[tuple[Step, ...], ...]:
    """What is walked on hosts (with a store or without), and what on other hosts afterwards (managers need etcd)."""
    first = (*ONE_HOST, *(MANY_HOSTS if store else ()))
    return (first, SWARM) if etcd else (first,)


def walk(world: World, steps: Sequence[Step], show: Show, pause: Callable[[], None], before: int, all_: int) -> None:
    """Type steps; ``Internal`` at the first that does not hold. ``pause`` is called between steps.

    ``before``: how many were walked already, of ``all_``.
    """
    image.give(world.hosts, world.folder)
    kept: dict[str, str] = {}
    for number, step in enumerate(steps, before + 1):
        for name, text in kept.items():
            step = replace(step, line=step.line.replace(f"{{{name}}}", text))
        pause()
        show(f"\n{number}/{all_}  {step.title}\n  {step.where}$ {step.line.removesuffix(' || true')}")
        answer, held = _answer(world, step)
        kept |= held
        for line in answer.splitlines():
            show(f"    {line}")


def _answer(world: World, step: Step) -> tuple[str, dict[str, str]]:
    """What came of it; asked again for a while, since one host's deed takes its time to reach another."""
    until = time.monotonic() + PATIENCE
    while True:
        answer, ended_well = _command(world, step.line) if step.where == "lab" else _typed(world, step)
        if ended_well and (found := re.search(step.holds, answer, re.MULTILINE)):
            return answer, found.groupdict()
        if time.monotonic() > until:
            raise Internal(f"{step.where}$ {step.line}: this should say {step.holds!r}\n{answer}\n{_logs(world)}")
        time.sleep(0.2)


def _typed(world: World, step: Step) -> tuple[str, bool]:
    may_fail = step.line.endswith("|| true")
    words = shlex.split(step.line.removesuffix("|| true"))
    done = world[step.where].run(*words, check=False)
    return done.stdout + done.stderr, may_fail or not done.returncode


def _command(world: World, line: str) -> tuple[str, bool]:
    word, *names = line.split()
    if word == "partition":
        weather.change(world, weather.outlook(world).parted(*names))
    elif word == "heal":
        weather.change(world, Weather())
    elif word == "kill":
        world[names[-1]].stop_daemon(signal.SIGKILL)
    else:
        states = {machine.name: picture.state(machine) for machine in world.hosts}
        return picture.draw(world.topology, weather.outlook(world), states), True
    return "", True


def _logs(world: World) -> str:
    return "\n".join(line for host in world.hosts for line in host.log().splitlines()[-5:])
