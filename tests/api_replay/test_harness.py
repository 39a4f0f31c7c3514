"""An engine started by other people's test harnesses: with dockerd's options, ended by INT, gone without a trace."""

import json
import signal
from collections.abc import Iterator

import pytest

from lane.engines import Dockerd, Engine
from lane.fixtures import Starter
from lane.images import import_images
from lane.machine import Lan

pytestmark = pytest.mark.lab

OPTIONS: dict[str, list[str]] = {
    "bip": ["--bip=10.9.0.1/24", "--fixed-cidr=10.9.0.128/25", "--mtu", "1400", "--icc=false"],
    "ipv6": ["--ipv6", "--fixed-cidr-v6=fd00:9::/64", "--ip6tables=true", "--ip", "127.0.0.1"],
    "pools": ["--debug", "--default-address-pool", "base=10.200.0.0/16,size=24", "--ip-masq=false"],
    "no firewall": ["--iptables=false", "--ip6tables=false", "--ip-forward=false"],
    "no bridge": ["--bridge=none", "--selinux-enabled=false", "--live-restore=false", "--experimental"],
}


@pytest.fixture
def harness(lan: Lan, kind: type[Engine]) -> Iterator[Starter]:
    """Machines whose engine is called as moby's and Compose's own tests call dockerd."""

    class Called(kind):  # type: ignore[misc, valid-type]
        def command(self) -> list[str]:
            base, program = self.base, ["dockerd"] if kind is Dockerd else super().command()[:4]
            containerd = [] if kind is Dockerd else ["--containerd", "/var/run/docker/containerd/containerd.sock"]
            return [
                *(*program, "--config-file", "/dev/null", "--data-root", f"{base}/data", "--exec-root", f"{base}/exec"),
                *("--pidfile", f"{base}/daemon.pid", "--userland-proxy=false", *containerd),
                *("--containerd-namespace", "d1", "--containerd-plugins-namespace", "d1p"),
                *("--host", f"unix://{self.socket}", *self.options),
            ]

    starter = Starter(lan, Called)
    yield starter
    starter.close()


@pytest.mark.parametrize("options", OPTIONS)
def test_start_use_interrupt(harness: Starter, options: str) -> None:
    engine = harness.machine(21, *OPTIONS[options])
    engine.start()
    usual = {*engine.machine.links()}
    assert usual == {"lo", "eth0"} | ({"docker0"} if options != "no bridge" else set())
    import_images(engine.docker, engine.base, ("busybox",))
    use(engine, options)
    assert {*engine.machine.links()} == usual
    engine.kill(signal.SIGINT)
    assert engine.daemon is not None and engine.daemon.returncode == 0
    assert engine.processes() == {}
    assert mounted(engine) == set()
    assert {*engine.machine.links()} == usual
    gone = {"daemon.pid", "docker.sock"}
    assert not gone & {path.name for path in engine.base.iterdir()}
    sockets = [path for path in (engine.base / "exec").rglob("*") if path.is_socket()]
    assert not [path for path in sockets if path.parent.name != "containerd"]
    engine.start()
    assert engine.docker("network ls -q").lines and engine.docker("ps -aq").out == ""


def use(engine: Engine, options: str) -> None:
    """What a harness does in between; nothing of it may be left."""
    engine.docker("network create red")
    red = json.loads(engine.docker(["network", "inspect", "-f", "{{json .IPAM.Config}}", "red"]).out)[0]
    assert red["Subnet"].startswith("10.200." if options == "pools" else "172.")
    engine.docker("run -d --name one --network red -p 8080:80 busybox sleep 1000")
    assert engine.docker("run --rm --network red busybox ping -c1 -W1 one")
    if options == "bip":
        engine.docker("run -d --name two busybox sleep 1000")
        assert engine.docker.field("two", ".NetworkSettings.IPAddress") == "10.9.0.128"
        assert "mtu 1400" in engine.docker("exec two ip link show eth0")
    elif options == "ipv6":
        engine.docker("run -d --name two -p 8081:80 busybox sleep 1000")
        assert engine.docker.field("two", ".NetworkSettings.GlobalIPv6Address").startswith("fd00:9::")
        assert engine.docker("port two").out == "80/tcp -> 127.0.0.1:8081"
    engine.docker(["rm", "-f", *engine.docker("ps -aq").lines])
    engine.docker("network rm red")


def mounted(engine: Engine) -> set[str]:
    """Mount points below the engine's folders."""
    lines = engine.machine.inside("cat /proc/mounts").lines
    folders = (f"{engine.base}/data/", f"{engine.base}/exec/", "/run/netns/", "/run/docker/")
    return {place for place in (line.split()[1] for line in lines) if place.startswith(folders)}
