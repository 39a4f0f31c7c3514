"""The daemon is killed at a moment within each operation; started again, it finishes or undoes, and nothing leaks.

Its own steps are taken one by one in ``test_every_step``. Here other programs are in the middle of theirs: the moments
are milliseconds after the request; where they fall differs from machine to machine.
"""

import threading
from collections.abc import Callable

import pytest

from lane.engines import Engine, clean
from robustness.footprint import footprint, same_as

pytestmark = [pytest.mark.lab, pytest.mark.slow]

MOMENTS = [20, 60]


OPERATIONS: dict[str, tuple[list[str], str]] = {
    "network create": ([], "network create GREEN"),
    "network rm": (["network create GREEN"], "network rm GREEN"),
    "create": ([], "create --name other --net RED busybox sleep 1000"),
    "run": ([], "run -d --name other --net RED -p 8088:80 busybox sleep 1000"),
    "start": (["create --name other --net RED -p 8088:80 busybox sleep 1000"], "start other"),
    "connect": (["network create GREEN"], "network connect GREEN steady"),
    "disconnect": (["network create GREEN", "network connect GREEN steady"], "network disconnect GREEN steady"),
    "stop": (["run -d --name other --net RED -p 8088:80 busybox sleep 1000"], "stop -t 0 other"),
    "kill": (["run -d --name other --net RED -p 8088:80 busybox sleep 1000"], "kill other"),
    "rm": (["run -d --name other --net RED -p 8088:80 busybox sleep 1000"], "rm -f other"),
    "restart": (["run -d --name other --net RED -p 8088:80 busybox sleep 1000"], "restart -t 0 other"),
}


@pytest.mark.parametrize("operation", OPERATIONS)
def test_killed_half_way(mortal: Engine, operation: str) -> None:
    prepare, command = OPERATIONS[operation]
    if not mortal.answers():
        mortal.start()
        clean(mortal)
    untouched = footprint(mortal)
    for moment in MOMENTS:
        mortal.docker("network create RED")
        mortal.docker("run -d --name steady --net RED busybox sleep 1000")
        pid = mortal.docker.field("steady", ".State.Pid")
        for line in prepare:
            mortal.docker(line)
        _killed_during(mortal, lambda command=command: mortal.docker.attempt(command, timeout=20), moment / 1000)
        where = f"{operation}, killed after {moment} ms"
        _consistent(mortal, pid, where)
        clean(mortal)
        same_as(mortal, untouched)


def _killed_during(engine: Engine, operation: Callable[[], object], moment: float) -> None:
    worker = threading.Thread(target=operation)
    worker.start()
    worker.join(0.03 + moment)  # the client itself takes some 30 ms to ask
    engine.kill()
    worker.join()
    engine.start()


def _consistent(engine: Engine, pid: str, where: str) -> None:
    """The engine answers, the bystander is untouched, and what is there can be used."""
    docker = engine.docker
    assert docker.field("steady", ".State.Pid") == pid, where
    assert docker("exec steady true").code == 0, where
    for name in docker(["ps", "-a", "--format", "{{.Names}}"]).lines:
        state = docker.field(name, ".State.Status")
        assert state in ("created", "running", "exited"), (where, name, state)
        if state != "running":
            started = docker.attempt(f"start {name}")
            assert started.code == 0, (where, repr(started))
        assert docker.sh("steady", f"ping -c1 -W1 {name}").code == 0, (where, name)
    created = docker.attempt("network create GREEN")
    assert created.code == 0 or "already exists" in created, where
    if "steady" not in docker("network inspect GREEN"):
        docker("network rm GREEN")
