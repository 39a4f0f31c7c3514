"""Tour: the labs of Docker networking, step by step, on hosts of one's own.

    for each step:   what it shows   ->   the line that is typed, and where   ->   what came of it

Every line is really typed; nothing that is shown was written beforehand. A step
says what its answer has to hold, and the tour stops at the first that does not
(so the tour is a test, too).

What it leaves behind: nothing. What it does not do: teach the command line; ``-h`` does.
"""

from __future__ import annotations

import re
import shlex
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass

from fairlead.errors import Internal
from fairlead.lab import demo, picture, weather
from fairlead.lab.topology import OUTSIDE
from fairlead.lab.weather import Weather
from fairlead.lab.world import World

Show = Callable[[str], None]
PATIENCE = 10.0
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


def walk(world: World, show: Show, pause: Callable[[], None]) -> None:
    """Type the tour; ``Internal`` at the first step that does not hold. ``pause`` is called between steps."""
    tar = world.folder / "busybox.tar"
    demo.busybox_image(tar)
    for host in world.hosts:
        host.run("fairlead", "import", str(tar), "busybox:latest")
    steps = (*ONE_HOST, *(MANY_HOSTS if world.topology.store else ()))
    for number, step in enumerate(steps, 1):
        pause()
        show(f"\n{number}/{len(steps)}  {step.title}\n  {step.where}$ {step.line.removesuffix(' || true')}")
        for line in _answer(world, step).splitlines():
            show(f"    {line}")


def _answer(world: World, step: Step) -> str:
    """What came of it; asked again for a while, since one host's deed takes its time to reach another."""
    until = time.monotonic() + PATIENCE
    while True:
        answer, ended_well = _command(world, step.line) if step.where == "lab" else _typed(world, step)
        if ended_well and re.search(step.holds, answer, re.MULTILINE):
            return answer
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
