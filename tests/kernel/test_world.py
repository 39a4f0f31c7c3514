"""A world is machines of their own, and leaves nothing: not when closed, not when its maker is killed.

outside --+-- lan0 --+-- one
                     +-- two
"""

import os
import select
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from fairlead.errors import Internal, Unavailable
from fairlead.lab.machine import SOURCE
from fairlead.lab.topology import one_cable
from fairlead.lab.world import World
from lane.machine import eventually

pytestmark = [pytest.mark.kernel, pytest.mark.skipif(os.geteuid() != 0, reason="namespaces need root")]


def links() -> set[str]:
    return set(os.listdir("/sys/class/net"))


def test_machines_reach_each_other_and_nothing_is_left(tmp_path: Path) -> None:
    before = links()
    with World(one_cable("one", "two"), str(tmp_path)) as world:
        one, two = world.hosts
        assert one.run("hostname").stdout == "one\n"
        assert one.run("ls", "/sys/class/net").stdout.split() == ["eth0", "lo"]
        assert one.run("cat", "/etc/resolv.conf").stdout == f"nameserver {world.outside.address4}\n"
        for address in (two.address4, two.address6, world.outside.address6):
            one.run("ping", "-c1", "-W2", address)
        world.cut("two")
        assert one.run("ping", "-c1", "-W1", two.address4, check=False).returncode
        one.start("sleep", "1000")
        pids = [machine.pid for machine in world.machines.values()]
        assert links() == before
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids)
    assert list(tmp_path.iterdir()) == []


ASKED = """
import socket, sys
asking = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
asking.settimeout(2)
asking.connect((sys.argv[1], 53))
for _ in range(20):
    asking.send(b"where is registry-1.docker.io?")
    try:
        asking.recv(1)
    except ConnectionRefusedError:
        pass
"""


def test_that_nobody_serves_names_is_said_to_each_question(tmp_path: Path) -> None:
    with World(base=str(tmp_path)) as world:
        world["one"].run(sys.executable, "-c", ASKED, world.outside.address4)


def test_orphans_are_buried(tmp_path: Path) -> None:
    with World(base=str(tmp_path)) as world:
        (one,) = world.hosts
        one.run("setsid", "--fork", "true")

        def zombies() -> list[str]:
            states = one.run("ps", "-eo", "stat=,comm=").stdout.split("\n")
            return [line for line in states if line.startswith("Z") and "true" in line]

        eventually(lambda: not zombies(), "all are buried")


def test_a_killed_maker_takes_its_world_along(tmp_path: Path) -> None:
    program = (
        "import sys\nfrom fairlead.lab.world import World\nwith World(base=sys.argv[1]) as world:\n"
        "    print(*(m.pid for m in world.machines.values()), flush=True)\n    sys.stdin.read()\n"
    )
    maker = subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(SOURCE)},
    )
    assert maker.stdout is not None and maker.stdin is not None
    watchers = [os.pidfd_open(int(pid)) for pid in maker.stdout.readline().split()]
    maker.send_signal(signal.SIGKILL)
    maker.wait()
    maker.stdin.close()
    for watcher in watchers:  # a pidfd becomes readable when its process ends
        assert select.select([watcher], [], [], 10)[0], "an anchor did not notice that its maker is gone"
        os.close(watcher)


def test_a_bad_command_tells_its_words(tmp_path: Path) -> None:
    with World(base=str(tmp_path)) as world:
        with pytest.raises(Internal, match="one: ls /nonexistent: exit 2"):
            world["one"].run("ls", "/nonexistent")


def test_an_engine_that_dies_shows_its_log(tmp_path: Path) -> None:
    with World(base=str(tmp_path)) as world:
        with pytest.raises(Unavailable, match="unknown flag: --nosuch"):
            world["one"].start_daemon("--nosuch")


def test_an_engine_that_does_not_answer_is_ended_all_the_same(tmp_path: Path) -> None:
    with World(base=str(tmp_path)) as world:
        one = world["one"]
        one.start_daemon()
        pid = one.run("cat", "/run/fairlead.pid").stdout.strip()
        one.run("rm", "/run/docker.sock")
        one.stop_daemon(signal.SIGKILL)
        assert one.run("kill", "-0", pid, check=False).returncode
        one.stop_daemon(signal.SIGKILL)
        one.start_daemon()
