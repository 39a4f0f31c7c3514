"""The daemon is killed; containers, their names and their ports do not notice, and it finds everything again."""

import socket
from collections.abc import Iterator

import pytest

from lane.engines import Engine, clean
from lane.fixtures import Starter
from lane.images import PAGE
from lane.machine import eventually
from robustness.footprint import footprint, same_as

pytestmark = pytest.mark.lab


@pytest.fixture
def engine_with(mortal: Engine) -> Iterator[Engine]:
    before = footprint(mortal)
    yield mortal
    if not mortal.answers():
        mortal.start()
    clean(mortal)
    same_as(mortal, before)


def shop(engine: Engine) -> None:
    engine.docker("network create RED")
    engine.docker("run -d --name web --net RED --network-alias www -p 8080:80 nginx")
    engine.docker("run -d --name client --net RED busybox sleep 1000")


def listed(engine: Engine) -> list[str]:
    return engine.docker(["ps", "-a", "--no-trunc", "--format", "{{.ID}} {{.Names}} {{.Ports}} {{.State}}"]).lines


def test_containers_outlive_the_daemon(engine_with: Engine) -> None:
    engine = engine_with
    shop(engine)
    eventually(lambda: engine.machine.page("127.0.0.1", 8080) == PAGE, "the page")
    before = listed(engine)
    pids = [engine.docker.field(name, ".State.Pid") for name in ("web", "client")]
    engine.kill()
    assert engine.machine.page("127.0.0.1", 8080) == PAGE
    assert engine.machine.lan.page(engine.machine.address, 8080) == PAGE
    engine.start()
    assert listed(engine) == before
    assert [engine.docker.field(name, ".State.Pid") for name in ("web", "client")] == pids
    for name in ("web", "www"):
        assert engine.docker.sh("client", f"wget -q -O- http://{name}/").out + "\n" == PAGE
    assert set(_members(engine, "RED")) == {"web", "client"}


def test_names_resolve_while_the_daemon_is_down(engine_with: Engine) -> None:
    engine = engine_with
    engine.docker("network create RED")
    engine.docker("run -d --name web --net RED nginx")
    script = "while :; do timeout 1 wget -q -O- http://web/ >/dev/null && echo found || echo lost; sleep 0.1; done"
    engine.docker(["run", "-d", "--name", "asker", "--net", "RED", "busybox", "sh", "-c", script])
    eventually(lambda: "found" in engine.docker("logs asker"), "a first answer")
    already = len(engine.docker("logs asker").lines)
    engine.kill()
    log = next((engine.base / "data" / "containers").glob("*/*-json.log"))
    sizes = {path: path.stat().st_size for path in (engine.base / "data" / "containers").glob("*/*.log")}
    assert log in sizes
    eventually(lambda: sum(path.stat().st_size for path in sizes) > sum(sizes.values()) + 500, "more answers")
    engine.start()
    answers = engine.docker("logs asker").lines[already:]
    assert len(answers) > 3 and "lost" not in answers


def test_an_end_while_nobody_looked(engine_with: Engine) -> None:
    engine = engine_with
    engine.docker(
        ["run", "-d", "--name", "short", "-i", "busybox", "sh", "-c", "echo begun; sleep 2; echo over; exit 7"]
    )
    engine.kill()
    end = eventually(lambda: not _alive(engine, "sleep") or None, "the end of the container", 20)
    assert end
    engine.start()
    eventually(lambda: engine.docker.field("short", ".State.Status") == "exited", "exited")
    assert engine.docker.field("short", ".State.ExitCode") == "7"
    assert engine.docker("logs short").lines == ["begun", "over"]


def test_a_returned_daemon_commands_its_containers(engine_with: Engine) -> None:
    engine = engine_with
    shop(engine)
    engine.docker("network create BLUE")
    engine.restart()
    docker = engine.docker
    assert docker("exec client echo hello").out == "hello"
    docker("network connect BLUE web")
    docker("network disconnect RED web")
    assert docker.sh("client", "ping -c1 -W1 web").code != 0
    docker("network connect RED web")
    assert docker.sh("client", "ping -c1 -W1 web").code == 0
    docker("restart -t 0 client")
    assert docker.sh("client", "ping -c1 -W1 web").code == 0
    docker("stop -t 0 web")
    assert docker.field("web", ".State.Status") == "exited"
    assert not engine.machine.reaches("127.0.0.1", 8080)
    docker("start web")
    assert engine.machine.page("127.0.0.1", 8080) == PAGE


def test_it_comes_back_after_a_graceful_stop_too(engine_with: Engine) -> None:
    engine = engine_with
    shop(engine)
    before = listed(engine)
    engine.stop()
    assert engine.machine.page("127.0.0.1", 8080) == PAGE
    engine.start()
    assert listed(engine) == before


def test_a_stop_with_nothing_running_leaves_no_process(engine_with: Engine) -> None:
    engine = engine_with
    before = _parts(engine)
    shop(engine)
    engine.stop()
    assert _parts(engine) == {"resolver", "relay"}, "they serve web and client"
    assert _last_words(engine) == "stopped; containers go on"
    engine.start()
    engine.docker("rm -f web client")
    engine.stop()
    assert _last_words(engine) == "stopped", "none does"
    eventually(lambda: not _parts(engine), "the last process")
    engine.start()
    if "relay" in before:
        engine.docker("run -d --name web --net RED -p 8080:80 nginx")  # the footprint is to be as it was


def test_systemd_is_told_when_the_api_answers_and_when_it_ends(
    another: Starter, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = another(33)
    engine.stop()
    place = engine.base / "notify.sock"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(place))
        systemd.settimeout(60)
        environment = {**engine.environment(), "NOTIFY_SOCKET": str(place)}
        monkeypatch.setattr(engine, "environment", lambda: environment)
        engine.start()
        assert systemd.recv(100) == b"READY=1"
        engine.stop()
        assert systemd.recv(100) == b"STOPPING=1"


def test_a_restart_policy_after_the_daemon_returns(engine_with: Engine) -> None:
    engine = engine_with
    engine.docker("run -d --name always --restart always busybox sleep 1000")
    first = engine.docker.field("always", ".State.Pid")
    engine.docker(["exec", "always", "kill", "-9", "1"])  # ignored: a first process is immune to its own
    engine.docker("kill always")
    assert engine.docker.field("always", ".State.Status") == "exited"
    engine.docker("start always")
    engine.restart()
    assert engine.docker.field("always", ".State.Running") == "true"
    assert engine.docker.field("always", ".State.Pid") != first


def test_without_live_restore_containers_end_with_the_engine(another: Starter) -> None:
    """What dockerd does by itself; who comes back is what a real one was seen to bring back."""
    engine = another(32, "--live-restore=false")
    for policy in ("no", "always", "unless-stopped", "on-failure"):
        engine.docker(f"run -d --name ran-{policy} --restart {policy} --stop-timeout 0 busybox sleep 1000")
        engine.docker(f"run -d --name stopped-{policy} --restart {policy} busybox sleep 1000")
        engine.docker(f"stop -t 0 stopped-{policy}")
    engine.docker("run -d --rm --name gone --stop-timeout 0 busybox sleep 1000")
    engine.docker("run -d --name paused --stop-timeout 0 busybox sleep 1000")
    engine.docker("pause paused")
    engine.stop()
    eventually(lambda: not engine.processes(), "no process of it is left")
    left = [path.name for path in (engine.base / "exec").rglob("*") if path.suffix in (".pid", ".sock")]
    assert not left and not list((engine.base / "exec" / "netns").iterdir())
    engine.start()
    up = set(engine.docker("ps --format {{.Names}}").lines)
    assert up == {"ran-always", "stopped-always", "ran-unless-stopped", "ran-on-failure", "stopped-on-failure"}
    assert "gone" not in engine.docker("ps -a --format {{.Names}}").lines
    assert engine.docker.field("paused", ".State.ExitCode") == "137"


def test_a_flushed_firewall_comes_back(engine_with: Engine) -> None:
    engine = engine_with
    shop(engine)
    eventually(lambda: engine.machine.page("127.0.0.1", 8080) == PAGE, "the page")
    engine.machine.must("nft flush ruleset")
    eventually(lambda: engine.machine.page("127.0.0.1", 8080, patience=0) == PAGE, "the rules are back", 3)


def _last_words(engine: Engine) -> str:
    return engine.log.read_text().splitlines()[-1].partition(" fairlead: ")[2]


def _members(engine: Engine, network: str) -> list[str]:
    found = engine.docker.json(f"network inspect {network}")[0]["Containers"]  # type: ignore[index]
    return [one["Name"] for one in found.values()]


def _alive(engine: Engine, program: str) -> bool:
    """Does a program run in any container of the machine?"""
    listed = engine.machine.inside("ps -e -o comm").lines
    return program in listed


def _parts(engine: Engine) -> set[str]:
    """Which processes of the engine run."""
    commands = engine.machine.inside("ps -e -o args").lines
    return {line.partition("-m fairlead ")[2].split()[0] for line in commands if "-m fairlead " in line}
