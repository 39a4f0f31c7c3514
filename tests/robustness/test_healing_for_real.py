"""Somebody breaks what is ours on a machine at work: within a second it is as it was, and an event tells it."""

import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from lane.engines import Engine, clean
from lane.images import PAGE
from lane.machine import eventually
from robustness.footprint import footprint, same_as

pytestmark = pytest.mark.lab
SECOND = 1.0


@pytest.fixture(scope="module")
def shop(mortal: Engine) -> Iterator[Engine]:
    """web on RED, published; client beside it; plain on the default network."""
    if not mortal.answers():
        mortal.start()
    clean(mortal)
    mortal.docker("network create RED")
    mortal.docker("run -d --name web --net RED -p 8080:80 nginx")
    mortal.docker("run -d --name client --net RED busybox sleep 1000")
    mortal.docker("run -d --name plain -p 8082:80 nginx")
    eventually(lambda: works(mortal), "the shop")
    yield mortal
    clean(mortal)


def works(engine: Engine) -> bool:
    """Names, both published ports, and the way between containers."""
    lan, address = engine.machine.lan, engine.machine.address
    pages = [lan.page(address, port, patience=0) for port in (8080, 8082)]
    return pages == [PAGE, PAGE] and engine.docker.sh("client", "timeout 1 wget -q -O- http://web/").out + "\n" == PAGE


def device_of(engine: Engine, container: str) -> str:
    """The host's end of a container's first interface."""
    number = engine.docker.sh(container, "cat /sys/class/net/eth0/iflink").out
    return next(line.split()[1].split("@")[0].rstrip(":") for line in _links(engine) if line.startswith(f"{number}:"))


def _links(engine: Engine) -> list[str]:
    return engine.machine.must("ip -o link show").lines


def bridge(engine: Engine) -> str:
    return "br-" + engine.docker.field("RED", ".Id", "network")[:12]


def subnet(engine: Engine) -> str:
    return engine.docker.field("RED", "range .IPAM.Config}}{{.Subnet}}{{end", "network")


def child(engine: Engine, part: str) -> None:
    """Kill one of the engine's helpers."""
    for pid, _ in engine.processes().items():
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        if part.encode() in words and b"fairlead" in words:
            os.kill(pid, signal.SIGKILL)
            return
    raise AssertionError(f"no {part}")


BREAK: dict[str, tuple[Callable[[Engine], object], str]] = {
    "flushed firewall": (lambda e: e.machine.must("nft flush ruleset"), "skeleton"),
    "deleted veth": (lambda e: e.machine.must(f"ip link del {device_of(e, 'web')}"), "link"),
    "unplugged veth": (lambda e: e.machine.must(f"ip link set {device_of(e, 'web')} nomaster"), "link"),
    "veth down": (lambda e: e.machine.must(f"ip link set {device_of(e, 'web')} down"), "link"),
    "deleted bridge": (lambda e: e.machine.must(f"ip link del {bridge(e)}"), "link"),
    "deleted docker0": (lambda e: e.machine.must("ip link del docker0"), "link"),
    "lost gateway address": (lambda e: e.machine.must(f"ip addr flush dev {bridge(e)}"), "address"),
    "lost connected route": (lambda e: e.machine.must(f"ip route del {subnet(e)} dev {bridge(e)}"), "address"),
    "lost namespace mount": (
        lambda e: e.machine.inside(["umount", e.docker.field("web", ".NetworkSettings.SandboxKey")]),
        "namespace",
    ),
    "forwarding off": (lambda e: e.machine.must("sysctl -q -w net.ipv4.ip_forward=0"), "sysctl"),
    "route_localnet off": (
        lambda e: e.machine.inside(f"sysctl -q -w net.ipv4.conf.{bridge(e)}.route_localnet=0"),
        "sysctl",
    ),
}


@pytest.mark.parametrize("what", BREAK)
def test_healed_within_a_second_and_told(shop: Engine, what: str) -> None:
    deed, kind = BREAK[what]
    before = {
        kind: found for kind, found in footprint(shop).items() if kind != "processes"
    }  # our own execs come and go
    since = time.time()
    deed(shop)
    told = eventually(lambda: _told(shop, since, kind), f"{what}: an event", 2 * SECOND)
    assert told - since < SECOND, f"{what}: after {told - since:.2f} s"
    eventually(lambda: works(shop), f"{what}: all works", 3)
    same_as(shop, before)
    report = shop.http().call("GET", "/fairlead/doctor").json
    assert report["Healthy"], report["Findings"]  # type: ignore[index, call-overload]


def _told(engine: Engine, since: float, kind: str) -> float:
    """When the repair of such an object was told, 0: not yet."""
    repairs = engine.http().call("GET", "/fairlead/doctor").json["Repairs"]  # type: ignore[index, call-overload]
    times = [r["Time"] / 1e9 for r in repairs if r["Time"] / 1e9 > since and kind in r["Object"].split()[0]]
    return min(times, default=0)


@pytest.mark.parametrize("part", ["resolver", "relay"])
def test_a_killed_helper_is_replaced(shop: Engine, part: str) -> None:
    child(shop, part)
    begun = time.monotonic()
    eventually(lambda: works(shop), f"all works without the first {part}", 3)
    assert time.monotonic() - begun < 2 * SECOND
    eventually(lambda: shop.http().call("GET", "/fairlead/doctor").json["Healthy"], "well", 3)  # type: ignore[index, call-overload]


def test_a_namespace_whose_mount_was_lost_is_the_same_one(shop: Engine) -> None:
    """Not a new one beside the process: that would never hear of it."""
    key = shop.docker.field("web", ".NetworkSettings.SandboxKey")
    number = shop.machine.inside(["stat", "-L", "-c", "%i", key]).out
    shop.machine.inside(["umount", key])
    eventually(lambda: shop.machine.inside(["stat", "-L", "-c", "%i", key]).out == number, "the same namespace", 3)


LEFT: dict[str, tuple[Callable[[Engine, str], object], Callable[[Engine, str], object]]] = {
    "folder": (
        lambda e, id: (e.base / "data/containers" / id).mkdir(),
        lambda e, id: (e.base / "data/containers" / id).rmdir(),
    ),
    "mount": (
        lambda e, id: e.machine.inside(["sh", "-c", 'mkdir -p "$1" && mount -t tmpfs none "$1"', "sh", _layer(e, id)]),
        lambda e, id: e.machine.inside(["sh", "-c", 'umount "$1" && rmdir -p "$1"', "sh", _layer(e, id)]),
    ),
    "control group": (lambda e, id: _group(e, id).mkdir(), lambda e, id: _group(e, id).rmdir()),
    "process": (
        lambda e, id: e.machine.inside(
            ["setsid", "-f", "sh", "-c", "exec >/dev/null 2>&1; sleep 3; :", "conmon", "--cid", id, *_exits(e)]
        ),
        lambda e, id: None,
    ),
}


def _layer(engine: Engine, id: str) -> str:
    return f"{engine.base}/data/layers/{id}/merged"


def _exits(engine: Engine) -> list[str]:
    return ["--exit-dir", f"{engine.base}/exec/exits"]


def _group(engine: Engine, id: str) -> Path:
    top = Path("/sys/fs/cgroup")
    place = next(path for path in (top / "freezer", top) if path.is_dir())
    return place / engine.machine.cgroup.strip("/") / id


@pytest.mark.parametrize("what", LEFT)
def test_the_doctor_sees_what_is_left(shop: Engine, what: str) -> None:
    """Of a container that is gone: nothing repairs that while the engine runs, so it is told."""
    leave, take = LEFT[what]
    id = "f" * 64
    leave(shop, id)
    findings = shop.http().call("GET", "/fairlead/doctor").json["Findings"]  # type: ignore[index, call-overload]
    take(shop, id)
    assert any(f["What"] == "stray" and f["Object"].startswith(what) for f in findings), findings
    eventually(lambda: shop.http().call("GET", "/fairlead/doctor").json["Healthy"], "well", 5)  # type: ignore[index, call-overload]


THEIRS = {
    "route": ("ip route add {web}/32 dev lo", "ip route del {web}/32", "{web}/32 dev lo"),
    "policy rule": ("ip rule add priority 9 from {web} prohibit", "ip rule del priority 9", "rule 9: from {web}"),
    "firewall": ("iptables-nft -P FORWARD DROP", "nft delete table ip filter", "ip filter FORWARD"),
}


@pytest.mark.parametrize("what", THEIRS)
def test_the_doctor_names_what_others_put_in_the_way(shop: Engine, what: str) -> None:
    """It is theirs: nothing of it is repaired."""
    web = shop.docker.field("web", "range .NetworkSettings.Networks}}{{.IPAddress}}{{end")
    done, undone, word = (text.format(web=web) for text in THEIRS[what])
    shop.machine.must(done)
    findings = shop.http().call("GET", "/fairlead/doctor").json["Findings"]  # type: ignore[index, call-overload]
    shop.machine.must(undone)
    assert [f["What"] for f in findings] == ["foreign"] * len(findings) and findings, findings
    assert any(word in f["Found"] and f["Why"] for f in findings), findings
    eventually(lambda: shop.http().call("GET", "/fairlead/doctor").json["Healthy"], "well", 5)  # type: ignore[index, call-overload]
