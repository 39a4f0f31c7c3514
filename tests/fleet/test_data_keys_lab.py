"""The key that seals what managers keep changes when one of them goes: typed with docker, read out of real etcd.

anna, bert, carl    managers        dora    a worker
"""

import base64
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fairlead.core.datakeys import ZERO
from fairlead.lab import image
from fairlead.lab.topology import one_cable
from fairlead.lab.world import World
from fairlead.swarm.credentials import Credentials
from fairlead.swarm.sealedledger import sealed_with, unseal
from fleet.members import LATER, MANAGERS, NAMES, Node, Nodes, all_leave, settled, three_manage
from lane.machine import eventually

Keys = dict[str, bytes]


@pytest.fixture(scope="module")
def machines(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nodes]:
    folder = tmp_path_factory.mktemp("lab")
    image.make(folder / "busybox.tar")
    with World(one_cable(*NAMES), str(folder)) as world:
        world.start_engines(NAMES)
        nodes = {name: Node(world, world[name], folder) for name in NAMES}
        for node in nodes.values():
            node(f"import {folder / 'busybox.tar'} busybox:latest")
        yield nodes


@pytest.fixture
def three(machines: Nodes) -> Iterator[Nodes]:
    three_manage(machines)
    yield machines
    all_leave(machines)


def keys(node: Node) -> Keys:
    """What somebody who copies this disk has."""
    found = Credentials.read(node.file)
    assert found
    return dict(found.data_keys)


def kept(node: Node) -> dict[str, bytes]:
    """All values in the managers' etcd, as they lie there; none while it is started again."""
    everything = base64.b64encode(b"\0").decode()
    told = node.machine.run(
        *("curl", "-s", "--unix-socket", "/run/fairlead/swarm/etcd/client:0", "http://etcd/v3/kv/range", "-d"),
        json.dumps({"key": everything, "range_end": everything}),
        check=False,
    ).stdout
    pairs: list[dict[str, Any]] = json.loads(told or "{}").get("kvs", [])
    return {base64.b64decode(one["key"]).decode(): base64.b64decode(one.get("value", "")) for one in pairs}


def opened(keys: Keys, values: dict[str, bytes]) -> set[str]:
    """The names of those that these keys open."""
    return {name for name, value in values.items() if unseal(keys, name, value) is not None}


def moved_on(node: Node, *copies: Keys) -> dict[str, bytes]:
    """Wait until no copy opens anything; what is kept then."""

    def so() -> bool:
        values = kept(node)
        return bool(values) and len(keys(node)) == 1 and not any(opened(copy, values) for copy in copies)

    eventually(so, f"{node.name}: old keys open nothing", 2 * LATER)
    values = kept(node)
    assert opened(keys(node), values) == values.keys(), "and the new one all"
    return values


def secret_of(node: Node, service: str, container: str = "") -> str:
    """What a task of the service reads."""
    found = container or node(f"ps -q --filter name={service}").split()[0]
    return node(f"exec {found} cat /run/secrets/word").strip()


def makes(node: Node, service: str, secret: str, words: str) -> None:
    """A service of one task, on dora."""
    assert node.docker(f"secret create {secret} -", stdin=words)
    node(
        f"service create -d --name {service} --constraint node.hostname==dora --secret source={secret},target=word"
        " busybox sleep 1d"
    )


def doctor(node: Node) -> str:
    return node.machine.run("fairlead", "doctor", check=False).stdout


def leader(nodes: Nodes, *among: str) -> Node:
    def found() -> list[str]:
        roles = next((rows for name in among if (rows := nodes[name].nodes())), {})
        return [name for name, (_, role) in roles.items() if role == "Leader" and name in among]

    return nodes[eventually(found, "somebody leads", LATER)[0]]


def runs(node: Node, service: str) -> str:
    """The container of a service's task, once it runs."""
    return eventually(lambda: node(f"ps -q --filter name={service}").split()[:1], f"{service} runs", LATER)[0]


def test_what_a_manager_had_opens_nothing_once_it_is_demoted(three: Nodes) -> None:
    """Not though the leader dies half way, and nothing that runs is disturbed; nobody says a key."""
    anna, bert, carl, dora = three.values()
    makes(anna, "before", "old-word", "said before")
    task = runs(dora, "before")
    stolen = keys(carl)
    assert "secrets" in {name.partition("/")[0] for name in opened(stolen, kept(anna))}, "for as long as carl manages"
    by = leader(three, "anna", "bert")
    other = bert if by is anna else anna
    by("node demote carl")
    by.kill_engine()
    by.machine.run("pkill", "-9", "-x", "etcd", check=False)
    by.start()
    settled(other, {"anna", "bert"})
    values = moved_on(other, stolen)
    assert {"secrets", "nodes", "cluster", "leader"} <= {name.partition("/")[0] for name in values}
    eventually(lambda: set(keys(anna)) == set(keys(bert)) and keys(anna), "both have the same", LATER)
    eventually(lambda: carl.swarm["ControlAvailable"] is False and not keys(carl), "carl has none", LATER)
    assert dora("ps -q --filter name=before").split() == [task], "it runs as before"
    makes(other, "after", "new-word", "said after")
    runs(dora, "after")
    assert secret_of(dora, "after") == "said after" and secret_of(dora, "before", task) == "said before"
    assert not opened(stolen, kept(other))
    said = "".join(node.machine.log() + json.dumps(node.swarm) for node in three.values())
    said += anna.machine.run("ps", "axwwe").stdout + anna.machine.run("fairlead", "doctor", check=False).stdout
    for key in (*stolen.values(), *keys(anna).values()):
        assert not [way for way in (key.hex(), base64.b64encode(key).decode(), repr(key)) if way in said]
        assert not any(key in value for value in kept(anna).values())


def test_another_root_another_key_and_a_manager_that_leaves_too(three: Nodes) -> None:
    anna, bert, carl, _ = three.values()
    first = keys(anna)
    anna("swarm ca --rotate --quiet")
    moved_on(anna, first)
    second = keys(anna)
    settled(anna, MANAGERS)
    carl("swarm leave --force")
    moved_on(anna, first, second)
    values = kept(bert)
    assert opened(keys(bert), values) == values.keys()


def test_a_manager_that_is_locked_meanwhile_is_waited_for_and_has_it_when_it_is_unlocked(three: Nodes) -> None:
    anna, bert, carl, dora = three.values()
    (key,) = re.findall(r"SWMKEY-1-\S+", anna("swarm update --autolock=true"))
    manages = (anna, bert, carl)
    eventually(
        lambda: all("ENCRYPTED PRIVATE KEY" in node.file.read_text() for node in manages),
        "their keys are sealed",
        LATER,
    )
    before, sealed = kept(anna), json.loads(bert.file.read_text())["data_keys"]
    assert {sealed_with(value) for value in before.values()} == set(sealed) and ZERO not in sealed
    for one in sealed.values():
        assert not opened({id: base64.b64decode(one)[:32] for id in sealed}, before), "the file alone opens nothing"
    carl.power_off()
    carl.power_on()
    assert carl.state == "locked"
    node = dora.swarm["NodeID"]
    anna(f"node promote {node}")
    settled(bert, {"anna", "bert", "dora"})
    bert(f"node demote {node}")
    waits = "is used when others have it, too: " + carl.swarm["NodeID"]
    eventually(lambda: any(waits in node.machine.log() for node in (anna, bert)), "carl is waited for", LATER)
    eventually(
        lambda: "on manager carl" in doctor(bert) and "docker node rm carl" in doctor(anna), "doctors say so", LATER
    )
    used = {sealed_with(value) for value in kept(anna).values()}
    assert used == {sealed_with(value) for value in before.values()}, "until then, the one before is used"
    assert carl.docker.attempt("swarm unlock", stdin=f"{key}\n")
    settled(carl, MANAGERS)
    eventually(lambda: not used & {sealed_with(value) for value in kept(carl).values()}, "another key", 2 * LATER)
    assert "data key" not in doctor(anna) + doctor(bert)
    assert carl.docker("secret create word -", stdin="words") and "word" in anna("secret ls")


def test_a_swarm_that_is_begun_anew_by_one_manager_has_another_key(three: Nodes, tmp_path: Path) -> None:
    anna, bert, carl, _ = three.values()
    stolen = keys(bert)
    assert anna.docker("secret create word -", stdin="words")
    eventually(lambda: "word" in carl("secret ls"), "carl has heard of it", LATER)
    anna.power_off()
    bert.power_off()
    carl("swarm init --force-new-cluster")
    settled(carl, {"carl"})
    moved_on(carl, stolen)
    assert "word" in carl("secret ls")
    for node in (anna, bert):
        node.power_on()
    eventually(lambda: {status for status, _ in carl.nodes().values()} == {"Ready"}, "all are back", LATER)
    carl("node promote anna")
    settled(anna, {"anna", "carl"})
    values = kept(anna)
    assert opened(keys(anna), values) == values.keys()


def test_a_manager_that_comes_back_with_a_disk_of_before(three: Nodes) -> None:
    """It asks the others, by its certificate; and while it cannot, it says what it lacks."""
    anna, bert, carl, dora = three.values()
    old = carl.file.read_bytes()
    first = keys(carl)
    node = dora.swarm["NodeID"]
    anna(f"node promote {node}")
    settled(bert, MANAGERS | {"dora"})
    bert(f"node demote {node}")
    moved_on(anna, first)
    eventually(lambda: keys(carl) == keys(anna), "carl has it", LATER)
    carl.kill_engine()
    carl.file.write_bytes(old)
    carl.machine.run("nft", "add", "table", "inet", "wall")
    carl.machine.run("nft", "add", "chain", "inet", "wall", "out", "{ type filter hook output priority -10; }")
    carl.machine.run("nft", "add", "rule", "inet", "wall", "out", "tcp", "dport", "2377", "reject")
    carl.start()
    eventually(lambda: "does not have the data key" in carl.swarm["Error"], "it says why", LATER)
    assert "swarm leave --force" in carl.swarm["Error"]
    carl.machine.run("nft", "delete", "table", "inet", "wall")
    settled(carl, MANAGERS)
    assert keys(carl) == keys(anna) and not carl.swarm["Error"]
