"""What breaks between hosts, and that it mends: the store, an engine, a host, the wire.

Three stories, and a player with a model (``cluster.chaos``).
"""

import signal
import time

import pytest

from cluster import looks
from cluster.chaos import KINDS, SOON, Chaos
from cluster.town import Host, Town
from fairlead.lab.topology import STORE
from lane.machine import eventually, strain


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
        assert time.monotonic() - begun < 10 * strain()
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


def test_the_way_out_stays_when_the_engine_is_killed(town: Town, pair: tuple[Host, Host]) -> None:
    one, _ = pair
    one("run -d --name shop --net RED -p 8099:80 busybox httpd -f -h /etc")
    port = f"http://{one.machine.address4}:8099/passwd"
    page = ("timeout", "2", "busybox", "wget", "-qO-", port)
    before = one.inside("shop", "ip address; ip route").out
    assert "eth1" in before
    eventually(lambda: "root" in town.world.outside.run(*page, check=False).stdout, "shop answers")
    one.machine.stop_daemon(signal.SIGKILL)
    town.world.start_engines([one.machine.name])
    one.follow()
    assert one.inside("shop", "ip address; ip route").out == before
    assert "root" in town.world.outside.run(*page).stdout


def test_a_host_gone_for_good(town: Town, pair: tuple[Host, Host]) -> None:
    """Nobody gives back what a dead host has, until somebody says that it is dead."""
    one, two = pair
    two.machine.down()
    one("rm -f web")
    one.docker.refused("network rm RED", "has active endpoints")
    one.docker.refused("network disconnect RED db", "No such container: db")
    one("network disconnect -f RED db")
    eventually(lambda: not one.members("RED"), "db is struck")
    one("network rm RED")
    town.world.reboot(two.machine.name)
    town.world.start_engines([two.machine.name])
    two.follow()
    eventually(lambda: "RED" not in two("network ls"), "there, too")
    eventually(lambda: "RED not found" in two.docker.field("db", ".State.Error"), "and says why it does not run")


def test_one_harm_of_each_kind(town: Town) -> None:
    """``scripts/test chaos --minutes 60`` goes on for as long as you like."""
    before = looks.footprint(town.hosts)
    chaos = Chaos(town, seed=1)
    for kind in chaos.dice.sample(KINDS, len(KINDS)):
        chaos.round(kind)
    town.clean()
    looks.same(town.hosts, before)


def test_a_connection_outlives_engines_and_store(town: Town, pair: tuple[Host, Host]) -> None:
    one, two = pair
    two.docker("exec -d db sh -c 'sleep 1000 | nc -l -p 7000 > /received'")
    eventually(lambda: ":7000" in two.inside("db", "netstat -ltn").out, "somebody listens")
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
