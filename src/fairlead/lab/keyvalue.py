"""Key-value stores for labs and tests: Debian's own servers, as command lines.

    etcd         3.4 or 3.5      of this Debian
    zookeeper    3.8 or newer    of this Debian
    consul       1.8.7           of Debian 11, the last that had it

``scripts/setup --stores`` brings them: ZooKeeper as a package, the other two
unpacked into the cache, so that no service of theirs starts on this machine.

What it does not do: start anything (``lab.machine`` does), or keep their data
safe: times are short and memory is small, as befits a lab.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from fairlead.errors import Invalid, Unavailable

PORTS = {"etcd": 2379, "consul": 8500, "zookeeper": 2181}
SCHEMES = {"etcd": "etcd", "consul": "consul", "zookeeper": "zk"}
ZOOKEEPER_JAR = Path("/usr/share/java/zookeeper.jar")
TLS_JAR = Path("/usr/share/java/netty-codec.jar")
"""What Debian's list of ZooKeeper's needs lacks for TLS."""


def url(kind: str, *addresses: str, path: str = "") -> str:
    """What ``--cluster-store`` is told: ``consul://10.0.0.10:8500/network``."""
    return f"{SCHEMES[kind]}://{','.join(f'{address}:{PORTS[kind]}' for address in addresses)}{path}"


def program(kind: str) -> str:
    """Path of a server's program; ``Unavailable`` saying how to get it."""
    if kind not in PORTS:
        raise Invalid(f"unknown store {kind!r}: there are {', '.join(PORTS)}")
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "fairlead"
    name = "java" if kind == "zookeeper" else kind
    found = shutil.which(name, path=f"{os.environ.get('PATH', os.defpath)}:/usr/bin:{cache / kind / 'usr/bin'}")
    if not found or (kind == "zookeeper" and not ZOOKEEPER_JAR.exists()):
        raise Unavailable(f"{kind} is not installed: run scripts/setup --stores")
    return found


def command(kind: str, folder: Path, address: str, peers: Mapping[str, str] | None = None, *more: str) -> list[str]:
    """The command that serves ``kind`` at ``address`` on its usual port, with its data in ``folder``.

    ``peers``: name -> address of all members, this one included (etcd only). ``more`` is added to the command.
    """
    folder.mkdir(parents=True, exist_ok=True)
    return [program(kind), *_COMMANDS[kind](folder, address, dict(peers or {"one": address})), *more]


def _etcd(folder: Path, address: str, peers: dict[str, str]) -> list[str]:
    name = next(name for name, place in peers.items() if place == address)
    at = {name: f"http://[{place}]" if ":" in place else f"http://{place}" for name, place in peers.items()}
    return [
        f"--name={name}",
        f"--data-dir={folder}/etcd",
        f"--listen-client-urls={at[name]}:2379",
        f"--advertise-client-urls={at[name]}:2379",
        f"--listen-peer-urls={at[name]}:2380",
        f"--initial-advertise-peer-urls={at[name]}:2380",
        f"--initial-cluster={','.join(f'{name}={place}:2380' for name, place in at.items())}",
        "--logger=zap",
    ]


def _consul(folder: Path, address: str, peers: dict[str, str]) -> list[str]:
    times = "performance { raft_multiplier = 1 } disable_update_check = true"
    return [
        *("agent", "-server", "-bootstrap", f"-data-dir={folder}/consul", f"-bind={address}", f"-client={address}"),
        *("-dns-port=-1", "-serf-wan-port=-1", f"-hcl={times}"),
    ]


def _zookeeper(folder: Path, address: str, peers: dict[str, str]) -> list[str]:
    settings = {
        "dataDir": f"{folder}/zookeeper",
        "clientPort": "2181",
        "clientPortAddress": address,
        "tickTime": "1000",
        "admin.enableServer": "false",
    }
    file = folder / "zoo.cfg"
    file.write_text("".join(f"{name}={value}\n" for name, value in settings.items()))
    return ["-Xmx128m", "-XX:+UseSerialGC", "-cp", f"{ZOOKEEPER_JAR}:{TLS_JAR}", _MAIN, str(file)]


_MAIN = "org.apache.zookeeper.server.quorum.QuorumPeerMain"
_COMMANDS = {"etcd": _etcd, "consul": _consul, "zookeeper": _zookeeper}
