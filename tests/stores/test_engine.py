"""An engine that is told of a cluster store: it starts without it, says so, and sees it come and go."""

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from fairlead.lab import image
from fairlead.lab.machine import Machine
from fairlead.lab.world import World
from lane.store_servers import Server


@pytest.fixture
def engine(world: World) -> Iterator[Machine]:
    machine = world["engine"]
    yield machine
    machine.stop_daemon()


def info(engine: Machine) -> dict[str, object]:
    shown: dict[str, object] = json.loads(engine.ask("/v1.40/info"))
    return shown


def warned(engine: Machine) -> str:
    warnings = info(engine)["Warnings"] or []
    assert isinstance(warnings, list)
    return " ".join(text for text in warnings if "cluster store" in text)


def wait_until(engine: Machine, trouble: bool) -> None:
    until = time.monotonic() + 15
    while bool(warned(engine)) != trouble:
        assert time.monotonic() < until, warned(engine)
        time.sleep(0.05)


def test_a_store_that_is_not_there_yet(engine: Machine, world: World) -> None:
    server = Server(world, "etcd", "late")
    engine.start_daemon(f"--cluster-store=etcd://{server.place}/network", "--cluster-advertise=eth0:2376")
    assert info(engine)["ClusterStore"] == f"etcd://{server.place}/network"
    assert info(engine)["ClusterAdvertise"] == f"{engine.address4}:2376"
    wait_until(engine, trouble=True)
    told = warned(engine)
    assert f"{server.place}: connection refused" in told and f"curl http://{server.place}/health" in told
    engine.run("docker", "network", "create", "local")

    server.start()
    wait_until(engine, trouble=False)
    server.kill()
    wait_until(engine, trouble=True)
    engine.run("docker", "network", "rm", "local")


def test_the_narrowest_way_to_others_says_how_large_packets_may_be(
    engine: Machine, world: World, tmp_path: Path
) -> None:
    """Where routers lead on, a device's own MTU says too little."""
    engine.run(*f"ip route add 10.99.0.0/16 via {world.outside.address4} dev eth0 mtu 1400".split())
    engine.run(*["ip", "-6", "route", "add", "fd99::/64", "dev", "eth0", "mtu", "1300"])
    try:
        engine.start_daemon(f"--cluster-store=boltdb://{tmp_path}/ways.db", "--cluster-advertise=eth0:2376")
        image.give([engine], tmp_path)
        engine.run("docker", "network", "create", "-d", "overlay", "RED")
        size = "docker run --rm --net RED busybox cat /sys/class/net/eth0/mtu"
        assert engine.run(*size.split()).stdout == "1350\n"
        engine.run("docker", "network", "rm", "RED")
    finally:
        engine.run(*["ip", "route", "del", "10.99.0.0/16"])
        engine.run(*["ip", "-6", "route", "del", "fd99::/64"])


@pytest.mark.parametrize(
    ("options", "words", "refused"),
    [
        ([], "--cluster-store makes no networks of many hosts without --cluster-advertise beside it", True),
        (["--cluster-advertise=127.0.0.1:2376"], "requires cluster-advertise(127.0.0.1) to be", False),
    ],
)
def test_what_is_wrong_with_the_own_address_is_said(
    engine: Machine, tmp_path: Path, options: list[str], words: str, refused: bool
) -> None:
    engine.start_daemon(f"--cluster-store=boltdb://{tmp_path}/shared.db", *options)
    told = info(engine)["Warnings"]
    assert isinstance(told, list) and any(words in text and "ip -brief address" in text for text in told)
    assert words in engine.log()
    made = engine.run("docker", "network", "create", "-d", "overlay", "RED", check=False)
    assert bool(made.returncode) == refused and (words in made.stderr) == refused
    if not refused:
        engine.run("docker", "network", "rm", "RED")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--cluster-advertise=eth9:2376"], "(eth9): no interface of this name has an address; there are eth0"),
        (["--cluster-store-opt=kv.cacertfile=/nowhere"], "kv.cacertfile=/nowhere: no such file"),
    ],
)
def test_what_makes_no_sense_stops_the_start(engine: Machine, options: list[str], words: str) -> None:
    failing = engine.start_daemon("--cluster-store=consul://192.0.2.1", *options, wait=False)
    assert failing.wait(20) == 1
    assert words in engine.log().splitlines()[-1]
