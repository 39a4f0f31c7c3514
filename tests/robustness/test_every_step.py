"""The daemon is killed before each step of an operation, one after the other; started again, it finishes or undoes.

    (daemon with a death in it, robustness.dying)
    prepare -> "die at step n" -> command -> dead?  the bystander resolves names and answers at its port
                                                    start; the bystander has noticed nothing
                                                    doctor: all is well
                                                    the command again: works, or was done
               until nothing dies                   tidy up: nothing is left behind

The network has room for five containers only, so an address that is lost each time would soon be missed.
"""

import itertools
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from lane.engines import Engine, Fairlead, clean
from lane.fixtures import Starter
from lane.images import PAGE
from lane.machine import Lan, eventually
from robustness.conftest import warm_up
from robustness.footprint import footprint, same_as
from security.attack import Seat

pytestmark = [pytest.mark.lab, pytest.mark.slow]
RUN = "run -d --name other --net RED -p 8088:80 busybox sleep 1000"

OPERATIONS: dict[str, tuple[list[str], str, str]] = {
    "network create": ([], "network create GREEN", "already exists"),
    "network rm": (["network create GREEN"], "network rm GREEN", "not found"),
    "run and publish": ([], RUN, "already in use"),
    "connect": (["network create GREEN"], "network connect GREEN guest", "already"),
    "disconnect": (
        ["network create GREEN", "network connect GREEN guest"],
        "network disconnect GREEN guest",
        "is not connected",
    ),
    "rm": ([RUN], "rm -f other", "nothing"),
}
"""what is typed before, what is killed, and how the same is refused when it was done already"""


class Dying(Fairlead):
    """The daemon of ``robustness.dying``."""

    def command(self) -> list[str]:
        words = super().command()
        return [words[0], str(Path(__file__).with_name("dying.py")), str(self.base), *words[3:]]

    def die_at(self, step: int) -> None:
        (self.base / "death").write_text(str(step))

    def live(self) -> None:
        (self.base / "death").unlink(missing_ok=True)

    def steps(self) -> list[str]:
        place = self.base / "steps"
        return place.read_text().splitlines() if place.exists() else []


@pytest.fixture(scope="module")
def dying(lan: Lan, kind: type[Engine]) -> Iterator[Dying]:
    if kind.kind != "fairlead":
        pytest.skip("no other engine survives it")
    starter = Starter(lan, Dying)
    try:
        engine = starter(32, images=("busybox", "nginx"))
        warm_up(engine)
        yield engine  # type: ignore[misc]
    finally:
        starter.close()


@pytest.mark.parametrize("operation", OPERATIONS)
def test_killed_at_every_step(dying: Dying, operation: str) -> None:
    prepare, command, done = OPERATIONS[operation]
    dying.live()
    if not dying.answers():
        dying.start()
    clean(dying)
    dying.docker("network create --subnet 10.99.0.0/29 RED")
    dying.docker("run -d --name steady --net RED --network-alias www -p 8081:80 nginx")
    dying.docker("run -d --name guest --net RED busybox sleep 1000")
    bystander = Bystander(dying)
    untouched = footprint(dying)
    for step in itertools.count(1):
        for line in prepare:
            dying.docker(line)
        dying.die_at(step)
        dying.docker.attempt(command, timeout=20)
        dead = not dying.answers()
        last = dying.steps()[-1]
        dying.live()
        where = f"{operation}, killed before step {step}: {last}" if dead else f"{operation}, alive after {step} steps"
        if dead:
            bystander.lives(where)
            assert dying.daemon is not None and dying.daemon.wait(10), where
            dying.start()
        bystander.lives(where)
        _well(dying, where)
        again = dying.docker.attempt(command)
        assert again.code == 0 or done in again or "No such container" in again, (where, again)
        _tidy(dying)
        same_as(dying, untouched, where=where)
        if not dead:
            break
    clean(dying)
    assert step > 3, f"{operation} has steps"


class Bystander:
    """A container that has nothing to do with it: its process, its names, its port."""

    def __init__(self, engine: Dying) -> None:
        self.engine = engine
        self.pid = engine.docker.field("steady", ".State.Pid")
        self.seat = Seat(engine, "steady")
        eventually(lambda: engine.machine.lan.page(engine.machine.address, 8081) == PAGE, "the page")

    def lives(self, where: str) -> None:
        assert self.seat.within(lambda: _ask(b"\3www")), f"{where}: names do not resolve"
        assert self.engine.machine.lan.page(self.engine.machine.address, 8081) == PAGE, where
        if self.engine.answers():
            assert self.engine.docker.field("steady", ".State.Pid") == self.pid, where


def _ask(name: bytes) -> bool:
    """Whether 127.0.0.11 knows the name, asked from where the thread is."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(2)
        sock.sendto(b"\1\2\1\0\0\1\0\0\0\0\0\0" + name + b"\0\0\1\0\1", ("127.0.0.11", 53))
        return sock.recv(600)[3] & 15 == 0


def _well(engine: Engine, where: str) -> None:
    """Doctor finds nothing, at once: what a death left was put right before the engine answered."""
    report = engine.http().call("GET", "/fairlead/doctor").json
    assert report["Healthy"], (where, report["Findings"])  # type: ignore[index, call-overload]


def _tidy(engine: Engine) -> None:
    docker = engine.docker
    if "other" in docker("ps -a --format {{.Names}}"):
        started = docker.attempt("start other")
        assert started.code == 0, started
        docker("rm -f other")
    if "GREEN" in docker("network ls --format {{.Name}}"):
        docker.attempt("network disconnect GREEN guest")
        docker("network rm GREEN")


def test_the_steps_are_those_of_the_world(dying: Dying) -> None:
    """A run touches the store, the kernel, the firewall, the disk, programs, and both helpers; or we count nothing."""
    dying.live()
    if not dying.answers():
        dying.start()
    clean(dying)
    dying.docker("network create RED")
    dying.die_at(10_000)
    dying.docker(RUN)
    kinds = {step.rpartition(".")[0] for step in dying.steps()}
    dying.live()
    clean(dying)
    assert kinds >= {"SqliteStore", "Netlink", "Nft", "Namespaces", "Layers", "Bundle", "Popen", "ControlClient"}, kinds
