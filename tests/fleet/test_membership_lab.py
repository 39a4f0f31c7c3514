"""Who is in a swarm, in which role, and what becomes of it when managers are lost: typed with docker, on real engines.

anna, bert, carl    managers, or workers        dora    a worker
"""

import datetime
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from fairlead.lab.topology import one_cable
from fairlead.lab.world import World
from fairlead.swarm import ca
from fleet.members import LATER, MANAGERS, NAMES, Node, Nodes, all_leave, settled, three_manage
from lane import cfssl
from lane.machine import eventually

NO_LEADER = "The swarm does not have a leader."


@pytest.fixture(scope="module")
def machines(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nodes]:
    folder = tmp_path_factory.mktemp("lab")
    with World(one_cable(*NAMES), str(folder)) as world:
        world.start_engines(NAMES)
        yield {name: Node(world, world[name], folder) for name in NAMES}


@pytest.fixture
def nodes(machines: Nodes) -> Iterator[Nodes]:
    """Machines in no swarm."""
    yield machines
    all_leave(machines)


@pytest.fixture
def three(nodes: Nodes) -> Nodes:
    three_manage(nodes)
    return nodes


def test_founded_joined_and_left(nodes: Nodes) -> None:
    anna, bert, carl, dora = nodes.values()
    assert anna.swarm["LocalNodeState"] == "inactive"
    assert "This node is not a swarm manager" in anna.refuses("node ls")
    anna("swarm init")
    assert anna.nodes() == {"anna": ("Ready", "Leader")}, "at once"
    assert "already part of a swarm" in anna.refuses("swarm init")
    shown = anna.swarm
    assert (shown["LocalNodeState"], shown["ControlAvailable"]) == ("active", True)
    assert shown["NodeAddr"] == anna.address and shown["Nodes"] == shown["Managers"] == 1
    assert shown["RemoteManagers"] == [{"NodeID": shown["NodeID"], "Addr": f"{anna.address}:2377"}]
    bert.joins(anna, "manager")
    dora.joins(anna)
    settled(bert, {"anna", "bert"})
    eventually(lambda: {status for status, _ in anna.nodes().values()} == {"Ready"}, "all are ready", LATER)
    assert len(dora.swarm["RemoteManagers"]) == 2
    assert "Worker nodes can't be used to view or modify cluster state" in dora.refuses("node ls")
    assert "already part of a swarm" in dora.refuses(f"swarm join --token {anna.token('worker')} {anna.address}")
    dora("swarm leave")
    assert dora.state == "inactive" and not dora.file.exists()
    eventually(lambda: anna.nodes().get("dora", "")[:1] == ("Down",), "dora is down", LATER)
    assert "participating as a manager" in bert.refuses("swarm leave")
    bert("swarm leave --force")
    eventually(lambda: anna.nodes().get("bert") == ("Down", "Unreachable"), "bert is down", LATER)
    anna("node demote bert")
    anna("node rm bert dora")
    assert set(anna.nodes()) == {"anna"}
    assert "Removing the last manager erases all current state" in anna.refuses("swarm leave")
    anna("swarm leave --force")
    assert anna.state == "inactive" and not (anna.machine.folder / "data" / "swarm" / "etcd").exists()
    assert "not part of a swarm" in anna.refuses("swarm leave --force")
    carl("swarm init")  # what was is forgotten on all sides
    anna.joins(carl, "manager")
    settled(anna, {"anna", "carl"})


def test_who_has_no_good_token_stays_outside(nodes: Nodes) -> None:
    anna, bert, carl, dora = nodes.values()
    anna("swarm init")
    carl("swarm init")
    token = anna.token("worker")
    head, _, secret = token.rpartition("-")
    here = f"{anna.address}:2377"
    assert "invalid join token" in bert.refuses(f"swarm join --token nonsense {here}")
    assert "valid join token is necessary" in bert.refuses(f"swarm join --token {head}-{'0' * 25} {here}")
    assert "remote CA does not match fingerprint" in bert.refuses(f"swarm join --token {token} {carl.address}:2377")
    assert 'dial tcp 192.168.77.14:2377: connect: connection refused"' in bert.refuses(
        f"swarm join --token {token} {dora.address}:2377"
    )
    anna("swarm join-token --rotate worker")
    assert "valid join token is necessary" in bert.refuses(f"swarm join --token {token} {here}")
    assert bert.state == "inactive" and not bert.file.exists()
    bert.joins(anna)
    assert secret not in anna.token("worker")


def test_promoted_and_demoted(nodes: Nodes) -> None:
    anna, bert, carl, dora = nodes.values()
    anna("swarm init")
    for node in (bert, carl, dora):
        node.joins(anna)
    anna("node promote bert carl")
    for node in (anna, bert, carl):
        settled(node, MANAGERS)
    bert("node demote anna")
    settled(bert, {"bert", "carl"})
    assert "Worker nodes can't be used" in anna.refuses("node ls")
    assert not (anna.machine.folder / "data" / "swarm" / "etcd").exists()
    bert("node demote carl")
    settled(bert, {"bert"})
    assert "attempting to demote the last manager of the swarm" in bert.refuses("node demote bert")
    bert("node promote anna")
    settled(anna, {"anna", "bert"})


def test_a_demotion_that_would_lose_the_majority_is_refused(three: Nodes) -> None:
    anna, _bert, carl, _ = three.values()
    carl.power_off()
    eventually(lambda: anna.managers() == {"anna", "bert"}, "carl is missed", LATER)
    why = anna.refuses("node demote bert")
    assert "loss of quorum" in why and "of the 2 managers that would be left, 1 can be reached" in why
    anna("node demote carl")
    settled(anna, {"anna", "bert"})
    carl.power_on()
    eventually(lambda: anna.nodes().get("carl") == ("Ready", ""), "carl is back, as a worker", LATER)


def test_engines_that_were_killed_are_in_the_swarm_again(three: Nodes) -> None:
    before = {name: node.swarm["NodeID"] for name, node in three.items()}
    for node in three.values():
        node.kill_engine()
    for node in three.values():
        node.start()
    for name in ("anna", "bert", "carl"):
        settled(three[name], MANAGERS)
    assert {name: node.swarm["NodeID"] for name, node in three.items()} == before
    eventually(lambda: {status for status, _ in three["bert"].nodes().values()} == {"Ready"}, "all ready", LATER)


def test_one_manager_recovers_a_swarm_that_lost_its_majority(three: Nodes) -> None:
    """And those that come back do not vote in what was."""
    anna, bert, carl, _dora = three.values()
    anna("config create before /etc/hostname")
    eventually(lambda: "before" in carl("config ls"), "carl has heard of it", LATER)
    anna.power_off()
    bert.power_off()
    eventually(lambda: NO_LEADER in carl.refuses("node ls"), "carl is alone", LATER)
    assert NO_LEADER in carl.refuses("config create during /etc/hostname")
    eventually(lambda: NO_LEADER in carl.swarm["Error"], "info says so", LATER)
    assert carl.swarm["LocalNodeState"] == "active"
    rehearsed = carl.machine.run(
        *("curl", "-s", "--unix-socket", "/run/docker.sock", "-H", "Content-Type: application/json", "-d"),
        *('{"ListenAddr": "0.0.0.0:2377", "ForceNewCluster": true}', "http://d/swarm/init?dryrun=1"),
    ).stdout
    assert "a majority, 2 of them, is not there" in rehearsed and "becomes a worker: anna" in rehearsed
    carl("swarm init --force-new-cluster")
    settled(carl, {"carl"})
    assert "before" in carl("config ls")
    carl("config create after /etc/hostname")
    anna.power_on()
    bert.power_on()
    eventually(lambda: {status for status, _ in carl.nodes().values()} == {"Ready"}, "all are back", LATER)
    settled(carl, {"carl"})
    assert "Worker nodes can't be used" in anna.refuses("node ls")
    carl("node promote anna bert")
    settled(bert, MANAGERS)
    assert {"before", "after"} <= set(bert("config ls").split())


def test_another_root_while_everything_goes_on(three: Nodes) -> None:
    anna, bert, _, dora = three.values()
    old, token = anna("swarm ca"), anna.token("worker")
    anna("swarm ca --rotate --quiet")
    new = anna("swarm ca")
    assert new != old and new.startswith("-----BEGIN CERTIFICATE-----")
    for name in ("anna", "bert", "carl"):
        settled(three[name], MANAGERS)
    assert anna.token("worker") != token

    def certified() -> bool:
        notes = [json.loads(node.file.read_text()) for node in three.values()]
        return all(one["roots"].strip() == new.strip() for one in notes)

    eventually(certified, "nobody believes the old root any more", LATER)
    gone = dora.swarm["NodeID"]
    dora("swarm leave")
    anna(f"node rm --force {gone}")
    dora.joins(bert)
    anna("node promote dora")
    settled(dora, {"anna", "bert", "carl", "dora"})
    for node in three.values():  # every etcd, too, lives with the new one alone
        node.kill_engine()
        node.power_off()
    for node in three.values():
        node.power_on()
    settled(bert, {"anna", "bert", "carl", "dora"})


def test_a_root_of_ones_own(nodes: Nodes, tmp_path: Path) -> None:
    anna, bert, *_ = nodes.values()
    anna("swarm init")
    bert.joins(anna)
    made = ca.Authority.found(datetime.datetime.now(datetime.UTC))
    (tmp_path / "ca.crt").write_bytes(made.certificate)
    (tmp_path / "ca.key").write_bytes(made.key)
    anna(f"swarm ca --rotate --quiet --ca-cert {tmp_path}/ca.crt --ca-key {tmp_path}/ca.key")
    assert anna("swarm ca").strip() == made.certificate.decode().strip()
    eventually(lambda: {status for status, _ in anna.nodes().values()} == {"Ready"}, "both are there", LATER)
    assert made.key.decode() not in anna.machine.run("cat", str(bert.file)).stdout


def test_a_root_whose_key_is_nowhere_in_the_swarm(nodes: Nodes, tmp_path: Path) -> None:
    """dora's machine has it, and a program there that speaks CFSSL signs whatever managers ask for."""
    anna, bert, carl, dora = nodes.values()
    anna("swarm init")
    bert.joins(anna, "manager")
    made = ca.Authority.found(datetime.datetime.now(datetime.UTC))
    (tmp_path / "ca.crt").write_bytes(made.certificate)
    (tmp_path / "ca.key").write_bytes(made.key)
    (tmp_path / "old.crt").write_text(anna("swarm ca"))
    (tmp_path / "believed.crt").write_bytes((tmp_path / "old.crt").read_bytes() + b"\n" + made.certificate)
    url = f"https://{dora.address}:8888/api/v1/cfssl/sign"
    rotate = f"swarm ca --rotate --quiet --ca-cert {tmp_path}/ca.crt --external-ca"
    wish = f"{rotate} protocol=cfssl,url={url},cacert={tmp_path}/ca.crt"
    assert "reachable external CA" in anna.refuses(wish)
    words = [sys.executable, cfssl.__file__, str(tmp_path), dora.address, "8888"]
    pipe = subprocess.PIPE
    with subprocess.Popen(dora.machine.enter(*words), stdin=pipe, stdout=pipe, text=True) as serving:
        assert serving.stdout and serving.stdout.readline() == "ready\n"
        anna(wish)
        assert anna("swarm ca").strip() == made.certificate.decode().strip()
        carl.joins(bert)
        asked = (tmp_path / "asked").read_text().splitlines()
    assert len(asked) >= 3, "another for each of the two, and the first for the third"
    assert f"cfssl: {url}" in anna("info")
    eventually(lambda: [status for status, _ in anna.nodes().values()] == ["Ready"] * 3, "all are there", LATER)
    dora.refuses(f"swarm join --token {anna.token('worker')} {anna.address}:2377")  # nobody signs any more
    another = f"swarm update --external-ca protocol=cfssl,url=https://x,cacert={tmp_path}/old.crt"
    assert "reachable external CA" in anna.refuses(another)
    for node in (anna, bert, carl):
        assert made.key.decode() not in node.machine.run("cat", str(node.file)).stdout


def test_managers_that_lock_themselves(three: Nodes) -> None:
    anna, _bert, carl, _dora = three.values()
    (key,) = re.findall(r"SWMKEY-1-\S+", anna("swarm update --autolock=true"))
    assert anna("swarm unlock-key -q") == key

    def sealed() -> list[bool]:
        return ["ENCRYPTED PRIVATE KEY" in node.file.read_text() for node in three.values()]

    eventually(lambda: sealed() == [True, True, True, False], "the keys of managers are sealed", LATER)
    carl.power_off()
    carl.power_on()
    assert carl.state == "locked"
    for command in ("node ls", "swarm leave", "swarm init"):
        assert "Swarm is encrypted and needs to be unlocked" in carl.refuses(command)
    wrong = key[:-3] + ("AAA" if key[-3:] != "AAA" else "BBB")
    assert "invalid key provided" in carl.docker.attempt("swarm unlock", stdin=f"{wrong}\n")
    assert carl.docker.attempt("swarm unlock", stdin=f"{key}\n")
    settled(carl, MANAGERS)
    assert "swarm is not locked" in carl.docker.attempt("swarm unlock", stdin=f"{key}\n")
    new = anna("swarm unlock-key --rotate -q")
    eventually(lambda: carl("swarm unlock-key -q") == new, "carl has heard of it", LATER)
    carl.kill_engine()
    carl.start()
    assert carl.state == "locked"
    eventually(
        lambda: not carl.machine.run("ls", "/run/fairlead/swarm/certificates", check=False).stdout, "no open key"
    )
    assert not carl.docker.attempt("swarm unlock", stdin=f"{key}\n")
    assert carl.docker.attempt("swarm unlock", stdin=f"{new}\n")
    settled(carl, MANAGERS)
    anna("swarm update --autolock=false")
    eventually(lambda: sealed() == [False] * 4, "nothing is sealed", LATER)
    assert "no unlock key is set" in anna.refuses("swarm unlock-key -q")


def test_no_secret_is_in_a_log_a_process_list_or_a_doctor_s_words(three: Nodes) -> None:
    anna, bert, _carl, dora = three.values()
    (key,) = re.findall(r"SWMKEY-1-\S+", anna("swarm update --autolock=true"))
    secrets = [key, *(anna.token(role).rpartition("-")[2] for role in ("worker", "manager"))]
    anna("swarm ca --rotate --quiet")
    secrets += [anna.token(role).rpartition("-")[2] for role in ("worker", "manager")]
    dora("swarm leave")
    dora.joins(bert)
    assert anna.docker("secret create guarded -", stdin="words nobody reads")
    for node in three.values():
        etcd = node.machine.folder / "data" / "swarm" / "etcd"
        kept = b"".join(place.read_bytes() for place in etcd.rglob("*") if place.is_file())
        assert (node is dora) == (not kept) and b"nobody reads" not in kept and b"PRIVATE KEY" not in kept
        said = "".join(
            node.machine.run(*words, check=False).stdout
            for words in (("ps", "axwwe"), ("fairlead", "doctor"), ("cat", "/run/fairlead/swarm/etcd.log"))
        )
        said += node.machine.log() + json.dumps(node.swarm)
        found = [secret for secret in (*secrets, "PRIVATE KEY") if secret in said]
        assert not found, f"{node.name}: {found}"
        assert not (node.file.stat().st_mode | node.file.parent.stat().st_mode) & 0o077, "root's alone"


def moves(node: Node, last: int) -> None:
    """Another address, on the same wire."""
    machine = node.machine
    old = machine.run("ip", "-4", "-brief", "address", "show", "eth0").stdout.split()[2]
    machine.run("ip", "address", "delete", old, "dev", "eth0")
    machine.run("ip", "address", "add", f"{old.rpartition('.')[0]}.{last}/24", "dev", "eth0")


def test_a_manager_s_address_changes(three: Nodes) -> None:
    anna, bert, *_ = three.values()
    before = bert.swarm["NodeID"]
    moves(bert, 112)
    try:
        settled(anna, MANAGERS)
        eventually(
            lambda: {"NodeID": before, "Addr": "192.168.77.112:2377"} in anna.swarm["RemoteManagers"], "told", LATER
        )
        eventually(lambda: bool(bert.tries("config create there /etc/hostname")), "bert takes part", LATER)
        eventually(lambda: "there" in anna.tries("config ls"), "anna has heard of it", LATER)
    finally:
        moves(bert, 12)
    settled(bert, MANAGERS)


def test_all_managers_addresses_change_at_once(three: Nodes) -> None:
    """Nobody knows where anybody is, and there is no majority to ask; the worker is told, too."""
    anna, bert, carl, dora = three.values()
    for at, node in enumerate((anna, bert, carl)):
        moves(node, 121 + at)
    try:
        for node in (anna, bert, carl):
            settled(node, MANAGERS)
        eventually(
            lambda: {status for status, _ in carl.nodes().values()} == {"Ready"}, "the worker has found them", LATER
        )
        told = {manager["Addr"] for manager in dora.swarm["RemoteManagers"]}
        assert told == {f"192.168.77.{last}:2377" for last in (121, 122, 123)}
    finally:
        for at, node in enumerate((anna, bert, carl)):
            moves(node, 11 + at)
    settled(anna, MANAGERS)
