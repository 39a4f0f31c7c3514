"""Tasks on their nodes, as typed: what a service asks for arrives; what becomes of a task when its container, its
engine or its node fails.

boss    manages      hand    works
"""

import shlex
from pathlib import Path

import pytest

from fleet.hosts import Fleet, Host
from lane.client import path_of
from lane.machine import eventually

HOSTS = ("boss", "hand")
IMAGES = ("busybox",)
PATIENT = ["sh", "-c", "trap 'exit 0' TERM; echo here is $(hostname); sleep 10000 & wait"]
AT_HAND = ["--constraint", "node.hostname==hand"]


@pytest.fixture(scope="module")
def client() -> str:
    return path_of("docker")


@pytest.fixture(scope="module")
def boss(hosts: Fleet) -> Host:
    hosts.swarm(1)
    return hosts["boss"]


@pytest.fixture(scope="module")
def hand(hosts: Fleet) -> Host:
    return hosts["hand"]


def create(boss: Host, name: str, *words: str, run: list[str] = PATIENT) -> None:
    boss.docker(["service", "create", "--detach", "--name", name, *words, "busybox", *run], timeout=60)


def fates(host: Host, service: str) -> list[tuple[str, str]]:
    """(state, error) of every task, newest first."""
    form = "{{.CurrentState}}|{{.Error}}"
    lines = host.docker(["service", "ps", "--no-trunc", "--format", form, service]).lines
    return [(line.split("|")[0].split()[0], line.split("|")[1].strip('"')) for line in lines]


def container(host: Host, service: str) -> str:
    """The one that runs for it."""
    (name,) = host.tasks(service)
    return host(f"ps -q --no-trunc --filter name={name}")


def test_what_a_service_asks_for_arrives(boss: Host, hand: Host, tmp_path: Path) -> None:
    (tmp_path / "password").write_text("hush")
    (tmp_path / "settings").write_text('{{.Service.Name}} in slot {{.Task.Slot}}, says {{env "WHO"}}\n')
    boss(f"secret create password {tmp_path}/password")
    boss(f"config create --template-driver golang settings {tmp_path}/settings")
    create(
        boss, "full", *AT_HAND, *shlex.split(
            "--secret source=password,target=pw,uid=7,mode=0400 --config source=settings,target=/etc/full.conf"
            " --env WHO={{.Node.Hostname}} --hostname {{.Service.Name}}-{{.Task.Slot}} --container-label mine=1"
            " --mount type=volume,source=data,target=/data --mount type=tmpfs,target=/tmp --read-only --init"
            " --limit-memory 64M --publish mode=host,target=80,published=8088 --stop-grace-period 3s"
        ),
        run=["httpd", "-f", "-p", "80"],
    )  # fmt: skip
    boss.converged("full", 1)
    id = container(hand, "full")
    told = hand.docker(
        ["exec", id, "sh", "-c", "stat -c '%a %u' /run/secrets/pw; cat /run/secrets/pw /etc/full.conf"]
    ).out
    assert told.split("\n") == ["400 7", "hushfull in slot 1, says hand"]
    assert hand.docker(["exec", id, "hostname"]).out == "full-1"
    assert "Read-only file system" in hand.docker.attempt(["exec", id, "touch", "/etc/full.conf"]).err
    (inspected,) = hand.docker.json(["inspect", id])  # type: ignore[misc]
    assert inspected["HostConfig"]["Memory"] == 64 << 20 and inspected["HostConfig"]["Init"] is True
    labels = inspected["Config"]["Labels"]
    assert (labels["mine"], labels["com.docker.swarm.service.name"]) == ("1", "full")
    assert inspected["Name"] == f"/full.1.{labels['com.docker.swarm.task.id']}"
    assert boss("service ps full --format {{.Ports}}") == "*:8088->80/tcp"
    files = ["find", f"{hand.engine.base}/exec/swarm/files", "-type", "f"]
    assert len(hand.engine.machine.inside(files).lines) == 2
    boss("service rm full")
    eventually(lambda: not hand("ps -aq"), "its container is gone", 30)
    eventually(lambda: not hand.engine.machine.inside(files).lines, "and its secret")


def test_logs_of_all_tasks_wherever_they_run(boss: Host, hand: Host) -> None:
    create(boss, "talk", "--replicas", "4")
    placed = boss.converged("talk", 4)
    lines = eventually(
        lambda: len(told := boss("service logs talk").splitlines()) == 4 and told, "everybody has said something"
    )
    assert sorted(line.split("|")[0].split("@")[1].strip() for line in lines) == sorted(node for _, node in placed)
    assert {line.split(".")[0] + line.split(".")[1] for line in lines} == {f"talk{slot}" for slot in range(1, 5)}
    assert all("| here is " in line for line in lines)
    boss("service rm talk")


def test_a_container_that_somebody_kills_or_removes_is_replaced(boss: Host, hand: Host) -> None:
    create(boss, "victim", *AT_HAND, "--restart-delay", "100ms")
    boss.converged("victim", 1)
    for deed in ("kill", "rm -f"):
        before = container(hand, "victim")
        hand(f"{deed} {before}")
        eventually(lambda: ("Failed", "task: non-zero exit (137)") in fates(boss, "victim"), "it has failed", 30)
        eventually(lambda: hand.tasks("victim") and container(hand, "victim") != before, "another one", 30)  # noqa: B023
    boss("service rm victim")


def test_tasks_go_on_while_their_engine_is_away(boss: Host, hand: Host) -> None:
    create(boss, "stay", *AT_HAND, "--replicas", "3")
    boss.converged("stay", 3)
    before = sorted(hand("ps -q").split())
    hand.engine.restart()
    eventually(lambda: boss.nodes()["hand"][0] == "Ready", "it is back", 60)
    assert sorted(hand("ps -q").split()) == before
    hand.engine.kill()
    boss("service scale --detach stay=1")
    hand.engine.start()
    eventually(lambda: len(hand.tasks("stay")) == 1, "what was decided meanwhile is done", 60)
    assert set(hand("ps -q").split()) < set(before)
    eventually(lambda: [state for state, _ in fates(boss, "stay")] == ["Running"], "the others are told of no more")
    boss("service rm stay")


def test_what_is_sick_is_replaced_and_what_cannot_be_had_is_rejected(boss: Host, hand: Host) -> None:
    check = "--health-cmd false --health-interval 500ms --health-retries 1 --restart-delay 1s --stop-grace-period 1s"
    create(boss, "sick", *AT_HAND, *shlex.split(check), run=["sleep", "1000"])
    sick = ("Failed", "task: non-zero exit (137): dockerexec: unhealthy container")
    eventually(lambda: sick in fates(boss, "sick"), "it was found to be sick", 60)
    boss("service rm sick")
    boss.docker(
        ["service", "create", "--detach", "--name", "none", "--restart-condition", "none", "nothing:7"], timeout=60
    )
    eventually(lambda: ("Rejected", "No such image: nothing:7") in fates(boss, "none"), "it is rejected", 60)
    boss("service rm none")


def test_a_node_that_leaves_keeps_nothing(boss: Host, hand: Host) -> None:
    create(boss, "web", "--mode", "global")
    boss.converged("web", 2)
    hand("swarm leave")
    assert not hand("ps -aq")
    eventually(lambda: boss.nodes()["hand"][0] == "Down", "it is down at once", 5)  # three missed beats: 15 s
    boss("service rm web")
