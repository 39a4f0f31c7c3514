"""What breaks between hosts, and that it mends: the store, an engine, a host, the wire.

After each: every name resolves, who should talk does, nothing differs (``doctor``), nothing is left over.
"""

import signal
import time

import pytest

from cluster.town import Host, Town
from fairlead.lab import weather
from fairlead.lab.topology import STORE
from fairlead.lab.weather import Weather
from lane.machine import eventually

SOON = 5.0
"""Seconds in which all is well again after a heal."""


@pytest.fixture
def pair(town: Town) -> tuple[Host, Host]:
    """web on node-1 and db on node-2, on RED, known to each other."""
    one, two, _ = town.hosts
    one("network create -d overlay RED")
    town.everywhere("RED")
    one("run -d --name web --net RED --restart always busybox httpd -f")
    two("run -d --name db --net RED --restart always busybox httpd -f")
    eventually(lambda: one.pings("web", "db") and two.pings("db", "web"), "they hear each other")
    return one, two


def well(*hosts: Host) -> bool:
    one, two = hosts
    return bool(one.pings("web", "db") and two.pings("db", "web")) and not one.differs() and not two.differs()


def test_with_the_store_away_cluster_networks_carry_on(town: Town, pair: tuple[Host, Host]) -> None:
    one, two = pair
    two("run -d --name third --net RED busybox sleep 1000")
    eventually(lambda: one.pings("web", "third"), "third")
    town.world[STORE].down()
    assert one.pings("web", "db") and two.pings("db", "web")
    one("network create local")
    one("run --rm --net local busybox true")
    for command in ("network create -d overlay BLUE", "run -d --net RED busybox sleep 1", "network rm RED"):
        begun = time.monotonic()
        one.docker.refused(command, *([] if "rm" in command else ["cluster store"]))
        assert time.monotonic() - begun < 10
    two("rm -f third")
    for host in pair:
        host.machine.stop_daemon(signal.SIGKILL)
        town.world.start_engines([host.machine.name])
        host.follow()
    assert one.pings("web", "db") and two.pings("db", "web")
    town.world.reboot(STORE)
    town.world.start_store()
    eventually(lambda: not one.docker.attempt("network create -d overlay BLUE").code, "a new network", 20)
    eventually(lambda: "third" not in one.members("RED"), "third is gone", SOON)
    eventually(lambda: well(one, two), "all is well", SOON)
    one("network rm local")


def test_an_engine_killed_and_back(town: Town, pair: tuple[Host, Host]) -> None:
    one, two = pair
    two.machine.stop_daemon(signal.SIGKILL)
    assert one.pings("web", "db")
    assert two.machine.run("true").returncode == 0
    one("run -d --name late --net RED busybox sleep 1000")
    town.world.start_engines([two.machine.name])
    eventually(lambda: two.pings("db", "late"), "what came meanwhile", SOON)
    eventually(lambda: well(one, two), "all is well", SOON)


def test_a_power_cut(town: Town, pair: tuple[Host, Host]) -> None:
    """The host comes back with its disk: its containers start again, perhaps at other addresses, under their names."""
    one, two = pair
    two.machine.down()
    assert not one.pings("web", "db")
    one("run --rm --net RED busybox true")
    town.world.reboot(two.machine.name)
    town.world.start_engines([two.machine.name])
    two.follow()
    eventually(lambda: well(one, two), "all is well", 4 * SOON)


@pytest.mark.parametrize("store_too", [False, True])
def test_a_partition(town: Town, pair: tuple[Host, Host], store_too: bool) -> None:
    one, two = pair
    cut = Weather().parted(one.machine.name, two.machine.name)
    if store_too:
        cut = cut.parted(one.machine.name, STORE)
    weather.change(town.world, cut)
    assert not one.pings("web", "db")
    two("run -d --name late --net RED busybox sleep 1000")
    two("rm -f late")
    two("run -d --name later --net RED busybox sleep 1000")
    weather.change(town.world, Weather())
    eventually(lambda: one.pings("web", "later"), "what came meanwhile", 2 * SOON)
    assert "late" not in one.members("RED")
    eventually(lambda: well(one, two), "all is well", SOON)


def test_a_connection_outlives_engines_and_store(town: Town, pair: tuple[Host, Host]) -> None:
    one, two = pair
    two.docker("exec -d db sh -c 'sleep 1000 | nc -l -p 7000 > /received'")
    one.docker("exec -d web sh -c '(echo before; while ! [ -e /go ]; do sleep 0.1; done; echo after) | nc db 7000'")
    eventually(lambda: "before" in two.inside("db", "cat /received").out, "the first words")
    town.world[STORE].down()
    for host in pair:
        host.machine.stop_daemon(signal.SIGKILL)
        town.world.start_engines([host.machine.name])
    one.inside("web", "touch /go")
    assert eventually(lambda: "after" in two.inside("db", "cat /received").out, "the last words")
    town.world.reboot(STORE)
    town.world.start_store()
    eventually(lambda: well(one, two), "all is well", 2 * SOON)


def test_a_flushed_firewall_and_lost_devices_heal(town: Town, pair: tuple[Host, Host]) -> None:
    one, two = pair
    for command in ("nft flush ruleset", "nsenter --net=/run/fairlead/netns/{ns} ip link del vxlan0"):
        (ns,) = [name for name in one.machine.run("ls", "/run/fairlead/netns").stdout.split() if name.startswith("1-")]
        one.machine.run(*command.format(ns=ns).split())
        eventually(lambda: well(one, two), command, SOON)
