"""Engines inside pretend machines: ours, and the ones we compare with.

    Engine.start()   the daemon runs and answers _ping
    Engine.kill()    SIGKILL to the daemon alone; its containers stay
    Engine.stop()    SIGTERM, and wait
    Engine.close()   the machine and all in it are gone

``fairlead`` runs on this machine's own files, ``dockerd`` and ``podman`` from a Debian tree named by ``SID_ROOT``
(or built once with mmdebstrap into the cache).
"""

import http.client
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path

from lane.client import CACHE, Docker
from lane.machine import FOLLOW, SLOWER, Lan, Machine, eventually, run

PEERS = (
    "docker.io,docker-cli,containerd,docker-compose,podman,netavark,aardvark-dns,crun,runc,conmon,iproute2,iptables,"
    "nftables,iperf3,procps,ca-certificates"
)


class Http(http.client.HTTPConnection):
    """HTTP over a unix socket."""

    def __init__(self, path: Path, timeout: float = 120) -> None:
        super().__init__("localhost", timeout=timeout)
        self.path = str(path)

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)

    def call(self, method: str, path: str, body: object = None, raw: bytes | None = None, kind: str = "") -> "Answer":
        data = raw if raw is not None else (json.dumps(body).encode() if body is not None else None)
        headers = {"Content-Type": kind or "application/json"} if data is not None else {}
        self.request(method, path, data, headers)
        answer = self.getresponse()
        return Answer(answer.status, answer.read(), dict(answer.getheaders()))


class Answer:
    def __init__(self, status: int, data: bytes, headers: dict[str, str]) -> None:
        self.status, self.data, self.headers = status, data, headers

    @property
    def json(self) -> object:
        return json.loads(self.data) if self.data.strip() else None


class Engine:
    """A daemon in a machine. Sub-classes say where its files are and how it is called."""

    kind = ""
    root = "/"

    def __init__(self, lan: Lan, last: int = 11, options: Sequence[str] = ()) -> None:
        self.machine = Machine(lan, last, root=self.root)
        self.base, self.options = self.machine.base, list(options)
        self.socket = self.base / "docker.sock"
        self.log = self.base / "daemon.log"
        self.daemon: subprocess.Popen[bytes] | None = None
        self.docker = Docker(f"unix://{self.socket}", self.base / "client")

    def command(self) -> list[str]:
        raise NotImplementedError

    def environment(self) -> dict[str, str]:
        path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
        source = {"PYTHONPATH": os.environ["PYTHONPATH"]} if "PYTHONPATH" in os.environ else {}
        return {"PATH": path, "HOME": "/root", "TMPDIR": "/var/tmp", "LANG": "C.UTF-8", **source}

    def start(self, timeout: float = 60) -> float:
        """Start the daemon; returns the seconds until it answered."""
        assert threading.current_thread() is threading.main_thread(), "it ends with the *thread* that it follows"
        begun = time.perf_counter()
        with open(self.log, "ab") as log:
            words = [*FOLLOW, *self.machine.command(self.command())]
            self.daemon = subprocess.Popen(
                words, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=self.environment(), start_new_session=True
            )
        while not self.answers():
            if self.daemon.poll() is not None or time.perf_counter() - begun > timeout * SLOWER:
                tail = self.log.read_text(errors="replace")[-4000:]
                raise AssertionError(f"{self.kind} did not come up ({self.daemon.poll()}):\n{tail}")
            time.sleep(0.005)
        return time.perf_counter() - begun

    def answers(self) -> bool:
        try:
            return Http(self.socket, 5).call("GET", "/_ping").status == 200
        except OSError:
            return False
        except http.client.HTTPException:
            return False

    def http(self) -> Http:
        return Http(self.socket)

    @property
    def daemon_pid(self) -> int:
        """The daemon as the real machine numbers it: the child of nsenter."""
        assert self.daemon is not None
        children = Path(f"/proc/{self.daemon.pid}/task/{self.daemon.pid}/children").read_text().split()
        return int(children[0])

    def kill(self, number: int = signal.SIGKILL) -> None:
        """Send the daemon, and nothing else, a signal, and wait until it is gone."""
        if self.daemon is None or self.daemon.poll() is not None:
            return
        os.kill(self.daemon_pid, number)
        self.daemon.wait(60)

    def stop(self) -> float:
        """End the daemon as an administrator does; returns the seconds it took."""
        begun = time.perf_counter()
        self.kill(signal.SIGTERM)
        return time.perf_counter() - begun

    def restart(self) -> float:
        self.kill()
        return self.start()

    def close(self) -> None:
        self.machine.close()
        if self.daemon is not None:
            self.daemon.kill()
            self.daemon.wait()

    def processes(self) -> dict[int, str]:
        """Every process of the machine (its first one aside): pid as seen from here -> program name."""
        space = os.readlink(f"/proc/{self.machine.pid}/ns/pid")
        found = {}
        for entry in Path("/proc").iterdir():
            if not entry.name.isdigit() or int(entry.name) == self.machine.pid:
                continue
            try:
                if os.readlink(entry / "ns/pid") == space:
                    found[int(entry.name)] = (entry / "comm").read_text().strip()
            except OSError:
                continue
        return found


class Fairlead(Engine):
    kind = "fairlead"

    def command(self) -> list[str]:
        base = self.base
        return [
            *(sys.executable, "-m", "fairlead", "daemon"),
            *("--data-root", f"{base}/data", "--exec-root", f"{base}/exec", "--pidfile", f"{base}/daemon.pid"),
            *("-H", f"unix://{self.socket}", "--cgroup-parent", self.machine.cgroup, *self.options),
        ]


class Dockerd(Engine):
    """Real dockerd with its containerd."""

    kind = "dockerd"

    def __init__(self, lan: Lan, last: int = 11, options: Sequence[str] = ()) -> None:
        self.root = peers_root()
        super().__init__(lan, last, options)

    def command(self) -> list[str]:
        base = self.base
        (base / "daemon.json").write_text("{}")
        return [
            *("dockerd", "--config-file", f"{base}/daemon.json"),
            *("--data-root", f"{base}/data", "--exec-root", f"{base}/exec", "--pidfile", f"{base}/daemon.pid"),
            *("-H", f"unix://{self.socket}", "--cgroup-parent", self.machine.cgroup),
            *("--exec-opt", "native.cgroupdriver=cgroupfs", *self.options),
        ]


class Podman(Engine):
    """Podman's Docker-compatible service with netavark and aardvark-dns."""

    kind = "podman"

    def __init__(self, lan: Lan, last: int = 11, options: Sequence[str] = ()) -> None:
        self.root = peers_root()
        super().__init__(lan, last, options)

    def command(self) -> list[str]:
        base = self.base
        (base / "networks").mkdir(exist_ok=True)
        (base / "containers.conf").write_text(
            f'[network]\nnetwork_backend="netavark"\nfirewall_driver="nftables"\nnetwork_config_dir="{base}/networks"\n'
            '[engine]\ncgroup_manager="cgroupfs"\nevents_logger="file"\nruntime="crun"\n'
            '[containers]\nlog_driver="k8s-file"\n'
        )
        (base / "storage.conf").write_text(
            f'[storage]\ndriver="overlay"\ngraphroot="{base}/data"\nrunroot="/run/containers/storage"\n'
        )
        return ["podman", "--log-level", "warn", "system", "service", "--time", "0", f"unix://{self.socket}"]

    def environment(self) -> dict[str, str]:
        files = {"CONTAINERS_CONF": f"{self.base}/containers.conf"}
        files["CONTAINERS_STORAGE_CONF"] = f"{self.base}/storage.conf"
        return {**super().environment(), **files, "PODMAN_IGNORE_CGROUPSV1_WARNING": "1"}


ENGINES: dict[str, type[Engine]] = {"fairlead": Fairlead, "real": Dockerd, "dockerd": Dockerd, "podman": Podman}


def peers_root() -> str:
    """The Debian tree with dockerd, podman, compose: ``$SID_ROOT``, else one built in the cache (1.5 GB, a minute)."""
    named = os.environ.get("SID_ROOT")
    if named:
        return str(Path(named).resolve())
    root = CACHE / "sid"
    if not (root / "usr/sbin/dockerd").exists():
        shutil.rmtree(root, ignore_errors=True)
        root.parent.mkdir(parents=True, exist_ok=True)
        if not shutil.which("mmdebstrap"):
            raise FileNotFoundError(f"install mmdebstrap, or set SID_ROOT to a Debian sid tree with {PEERS}")
        unchecked = '--aptopt=Acquire::Check-Valid-Until "false"'
        words = ["mmdebstrap", "--variant=minbase", unchecked, f"--include={PEERS}", "sid", str(root), _mirror()]
        done = run(words, timeout=1800)
        assert done.code == 0, f"set SID_ROOT to a Debian sid tree with {PEERS}:\n{done.err[-2000:]}"
    return str(root)


def _mirror() -> str:
    """The Debian mirror that this machine's apt uses."""
    folder = Path("/etc/apt")
    for path in [folder / "sources.list", *sorted((folder / "sources.list.d").glob("*"))]:
        for line in path.read_text().splitlines() if path.is_file() else []:
            found = re.match(r"(?:URIs:|deb(?: \[.*\])?)\s+(https?://\S+/debian/?)(\s|$)", line)
            if found:
                return found[1]
    return "http://deb.debian.org/debian"


def clean(engine: Engine) -> None:
    """Remove every container, network and volume that somebody made; then see that nothing is left of them."""
    docker = engine.docker
    if ids := docker("ps -aq").lines:
        docker(["rm", "-fv", *ids])
    docker("network prune -f")
    if volumes := docker("volume ls -q").lines:  # "prune -a" is no word of Debian 12's client
        docker(["volume", "rm", *volumes])
    eventually(lambda: not strangers(engine), f"only its own devices: {strangers(engine)}")


def strangers(engine: Engine) -> list[str]:
    """Devices of the machine's network that belong to no default network."""
    usual = {"lo", "eth0", "docker0"}
    return [name for name in engine.machine.links() if name not in usual]
