"""A lab from up to down, as typed: many hosts, bad weather, power cuts, and nothing left.

outside --+-- lan --+-- one          lan -- r1 -- far -- two   (a topology from a file)
                    +-- two
"""

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from fairlead.lab.image import PAGE
from fairlead.lab.machine import SOURCE

pytestmark = [pytest.mark.kernel, pytest.mark.skipif(os.geteuid() != 0, reason="namespaces need root")]


class Lab:
    """Types ``fairlead lab …`` with labs kept in a folder of the test's own."""

    def __init__(self, labs: Path) -> None:
        self.environment = {**os.environ, "PYTHONPATH": str(SOURCE), "FAIRLEAD_LABS": str(labs)}

    def attempt(self, line: str, typed: str = "") -> subprocess.CompletedProcess[str]:
        """``typed``: on its terminal."""
        words, own = [sys.executable, "-m", "fairlead", "lab", *line.split()], self.environment
        return subprocess.run(words, capture_output=True, text=True, env=own, timeout=120, check=False, input=typed)

    def __call__(self, line: str) -> str:
        done = self.attempt(line)
        assert done.returncode == 0, f"{line}: exit {done.returncode}\n{done.stdout}{done.stderr}"
        return done.stdout

    def hears(self, here: str, there: str) -> bool:
        return self.attempt(f"exec {here} ping -c1 -W1 {there}").returncode == 0


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    before = set(os.listdir("/sys/class/net"))
    typed = Lab(tmp_path / "labs")
    yield typed
    typed.attempt("down")
    assert list((tmp_path / "labs").iterdir()) == []
    assert not subprocess.run(["pgrep", "-f", str(tmp_path)], capture_output=True, check=False).stdout
    digest = hashlib.sha256(str(tmp_path / "labs" / "lab").encode()).hexdigest()[:8]
    assert not list(Path("/sys/fs/cgroup").glob(f"**/fairlead-lab-{digest}-*"))
    assert set(os.listdir("/sys/class/net")) == before


def test_up_map_weather_and_power_cuts(lab: Lab) -> None:
    lab("up --hosts 2")
    assert "is there already" in lab.attempt("up").stderr
    assert lab("exec one hostname") == "one\n"
    assert lab.attempt("exec one grep -q nothing /etc/hostname").returncode == 1
    docker_host = lab("env two").splitlines()[0].removeprefix("export DOCKER_HOST=")
    assert Path(docker_host.removeprefix("unix://")).is_socket()
    assert lab("exec two fairlead run --rm busybox cat /www/index.html") == PAGE
    assert lab("exec two fairlead run -itd --name idle busybox").strip() and "idle" in lab("exec two fairlead ps")
    assert lab.attempt("shell two", "hostname; exit 7\n").stdout == "two\n"
    assert lab.hears("one", "two")
    lab("partition one two")
    assert not lab.hears("one", "two") and lab.hears("one", "outside")
    lab("heal")
    assert lab.hears("two", "one")
    lab("kill two")
    assert "two is switched off" in lab.attempt("exec two true").stderr
    assert " `- two      192.168.77.12    off" in lab("map").splitlines()
    lab("reboot two")
    assert lab("map").count("engine up") == 2 and lab.hears("one", "two")
    assert Path(docker_host.removeprefix("unix://")).is_socket(), "what was said before the power cut holds"
    assert lab("ip two") == "192.168.77.12\n"
    assert lab("ls").splitlines()[1].split()[:3] == ["lab", "2", "2"]
    lab("down")
    assert "there is no lab lab" in lab.attempt("map").stderr


def test_a_lab_whose_making_was_cut_short_is_seen_and_ended(lab: Lab) -> None:
    labs = Path(lab.environment["FAIRLEAD_LABS"])
    words = [sys.executable, "-m", "fairlead", "lab", "up", "--hosts", "2"]
    with subprocess.Popen(words, stderr=subprocess.PIPE, text=True, env=lab.environment) as making:
        assert making.stderr and "machines stand" in making.stderr.readline()
        making.send_signal(signal.SIGSTOP)  # a maker that is at work, for as long as we look
        try:
            assert "is being made at this moment" in lab.attempt("down").stderr
            assert "the lab lab is unfinished" in lab.attempt("map").stderr
        finally:
            making.kill()
    assert lab("ls").splitlines()[1].split() == ["lab", "?", "unfinished", str(labs / "lab")]
    assert "end it with `fairlead lab down`" in lab.attempt("up").stderr
    lab("down")
    assert list(labs.iterdir()) == []


def test_a_killed_engine_comes_back_with_its_containers_networks(lab: Lab) -> None:
    lab("up --hosts 1 --option=--bip=10.55.0.1/24")
    lab("exec one fairlead network create RED")
    lab("kill --engine one")
    assert "no engine" in lab("map")
    lab("reboot --engine one")
    assert "RED" in lab("exec one fairlead network ls")
    bridge = json.loads(lab("exec one fairlead network inspect bridge"))[0]
    assert bridge["IPAM"]["Config"][0]["Subnet"] == "10.55.0.0/24"


def test_hosts_behind_a_router_and_on_six_only(lab: Lab, tmp_path: Path) -> None:
    (tmp_path / "t.toml").write_text(
        '[wires.lan]\nsubnet6 = "fd77:77::/64"\n[wires.far]\nsubnet6 = "fd99::/64"\nmtu = 1400\n'
        '[hosts.one]\n[hosts.two]\nwires = ["far"]\n[routers.r1]\nwires = ["lan", "far"]\n'
    )
    lab(f"up --no-engines --topology {tmp_path}/t.toml")
    assert lab("ip two") == "fd99::c\n"
    assert lab.hears("one", "two") and lab.hears("two", "outside")
    lab("partition one two")
    assert not lab.hears("one", "two") and lab.hears("two", "r1")


@pytest.mark.skipif(not shutil.which("tcpdump"), reason="no tcpdump")
def test_capture_shows_the_wire(lab: Lab) -> None:
    lab("up --hosts 2 --no-engines")
    words = [sys.executable, "-m", "fairlead", "lab", "capture", "two", "-c2", "icmp"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=lab.environment) as watching:
        assert watching.stderr and watching.stdout
        assert any(b"listening on eth0" in line for line in watching.stderr)
        assert lab.hears("one", "192.168.77.12")
        seen = watching.stdout.read()
    assert b"192.168.77.11 > 192.168.77.12: ICMP echo request" in seen


def test_loss_is_a_share(lab: Lab) -> None:
    lab("up --hosts 2 --no-engines")
    lab("loss two 100")
    assert not lab.hears("one", "two")
    lab("loss two 0")
    assert lab.hears("one", "two")
    assert "no such machine: six" in lab.attempt("loss six 5").stderr
