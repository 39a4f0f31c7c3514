"""Hosts know of each other by gossip: who lives, who failed, who came back; with the store away, and without gossip."""

import json
import signal
from pathlib import Path

import pytest

from cluster.town import Host, Town
from fairlead.lab import weather
from fairlead.lab.topology import STORE
from lane.machine import eventually

ALIVE = {"node-1": "alive", "node-2": "alive", "node-3": "alive"}


def sees(host: Host) -> dict[str, str]:
    return {one["Host"]: one["State"] for one in json.loads(host.machine.ask("/fairlead/cluster/hosts"))}


def agreed(town: Town, states: dict[str, str], but: str = "") -> None:
    for host in town.hosts:
        if host.machine.name != but:
            eventually(lambda host=host: sees(host) == states, f"{host.machine.name} sees {states}", 30)


def test_who_fails_is_missed_within_seconds_and_welcomed_back(town: Town) -> None:
    """Seen by the stock client too: a warning of info, an event."""
    one, two, _ = town.hosts
    agreed(town, ALIVE)
    assert "of the cluster" not in one("info")
    two.machine.stop_daemon(signal.SIGKILL)
    agreed(town, ALIVE | {"node-2": "failed"}, but="node-2")
    assert "WARNING: host node-2 of the cluster (192.168.77.12:7946) has not answered" in one.docker("info").err
    assert "node-2 failed" in one.machine.run("fairlead", "doctor").stdout
    listed = one.machine.run("fairlead", "cluster", "hosts", "--format", "{{.Host}} {{.State}}").stdout.splitlines()
    assert listed == ["node-1 * alive", "node-2 failed", "node-3 alive"]
    town.world.start_engines(["node-2"])
    agreed(town, ALIVE)
    words = ["events", "--since", "5m", "--until", "0s", "--filter", "type=node", "--format"]

    def changes() -> list[tuple[str, str]]:
        """As far as the last whole second: that is what docker makes of ``0s``."""
        told = one.docker([*words, "{{json .Actor.Attributes}}"]).out.splitlines()
        return [(event["name"], event.get("state.new", "")) for event in map(json.loads, told)]

    eventually(lambda: changes()[-2:] == [("node-2", "down"), ("node-2", "ready")], "both are told in events", 5)


def test_with_the_store_away_hosts_still_know_who_lives_and_find_each_other_again(town: Town) -> None:
    agreed(town, ALIVE)
    town.world[STORE].down()
    for host in town.hosts:
        host.machine.stop_daemon(signal.SIGKILL)
    town.world.start_engines([host.machine.name for host in town.hosts])  # nobody remembers but their disks
    agreed(town, ALIVE)
    town.world.reboot(STORE)
    town.world.start_store()


def test_a_partition_of_any_length_heals(town: Town) -> None:
    agreed(town, ALIVE)
    before = weather.outlook(town.world)
    weather.change(town.world, before.parted("node-1,node-2", "node-3"))
    agreed(town, ALIVE | {"node-3": "failed"}, but="node-3")
    eventually(lambda: list(sees(town.hosts[2]).values()).count("failed") == 2, "node-3 misses both", 30)
    weather.change(town.world, before)
    agreed(town, ALIVE)


def test_the_key_is_rotated_while_everybody_talks(town: Town) -> None:
    one = town.hosts[0]
    agreed(town, ALIVE)
    keys = [json.loads(host.machine.ask("/fairlead/cluster/keys")) for host in town.hosts]
    assert keys[0] == keys[1] == keys[2] and keys[0][0]["Hosts"] == sorted(ALIVE)
    one.machine.run("fairlead", "cluster", "rotate-key")
    (after,) = json.loads(town.hosts[2].machine.ask("/fairlead/cluster/keys"))
    assert after["Used"] and after["Hosts"] == sorted(ALIVE) and after["Fingerprint"] != keys[0][0]["Fingerprint"]
    agreed(town, ALIVE)


def test_an_engine_whose_gossip_port_is_taken_works_and_says_so(town: Town) -> None:
    one, two, _ = town.hosts
    two.machine.stop_daemon()
    enough = Path(two.machine.folder) / "enough"
    thief = two.machine.start("python3", "-c", HOLD, "192.168.77.12", str(enough), log="thief")
    eventually(lambda: two.machine.run("ss", "-Hltn", "sport = :7946").stdout, "the port is taken")
    try:
        town.world.start_engines(["node-2"])
        words = "gossip cannot listen: listen tcp 192.168.77.12:7946: bind: address already in use"
        eventually(lambda: words in two.docker("info").err, "the warning", 20)
        one("network create -d overlay RED")
        town.everywhere("RED")
        one("run -d --name web --net RED busybox sleep 1000")
        two("run -d --name db --net RED busybox sleep 1000")
        eventually(lambda: two.pings("db", "web"), "networks work without gossip", 20)
    finally:
        enough.touch()
        thief.wait(10)
    agreed(town, ALIVE)


HOLD = """
import os, socket, sys, time
held = socket.socket()
held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
held.bind((sys.argv[1], 7946))
held.listen()
while not os.path.exists(sys.argv[2]):
    time.sleep(0.1)
"""


@pytest.fixture(autouse=True)
def kept_for_root(town: Town) -> None:
    """The keys on disk are nobody else's to read, whatever a test does."""
    for host in town.hosts:
        notes = Path(host.machine.folder) / "data" / "gossip.json"
        eventually(notes.exists, "notes on disk")
        assert notes.stat().st_mode & 0o777 == 0o600
