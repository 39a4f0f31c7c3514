"""Containers of a build's steps: which stay, what they are, and what can be done with them. Proved on dockerd."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from lane.engines import Engine, clean
from lane.machine import Result

pytestmark = pytest.mark.lab

TEXT = 'FROM busybox\nENV A=b\nRUN echo hi > /x\nCOPY Dockerfile /y\nRUN rm /x; echo said; exit {code}\nCMD ["sh"]\n'
LISTED = ["ps", "-a", "--no-trunc", "--format", "{{.Command}} {{.State}}"]
NOP = "/bin/sh -c '#(nop) '"


@pytest.fixture
def building(engine: Engine) -> Iterator[Engine]:
    engine.docker.env["DOCKER_BUILDKIT"] = "0"
    yield engine
    clean(engine)


def build(engine: Engine, folder: Path, code: int, *words: str) -> Result:
    (folder / "Dockerfile").write_text(TEXT.format(code=code))
    return engine.docker.attempt(["build", "--no-cache", *words, str(folder)])


def test_nothing_stays_of_a_build_that_works(building: Engine, tmp_path: Path) -> None:
    done = build(building, tmp_path, 0)
    assert done and done.out.count(" ---> Removed intermediate container ") == 4
    assert building.docker(LISTED).lines == []


def test_every_container_stays_that_is_not_to_be_removed(building: Engine, tmp_path: Path) -> None:
    docker, done = building.docker, build(building, tmp_path, 0, "--rm=false")
    assert done and "Removed" not in done
    assert docker(LISTED).lines == [
        f'"{NOP} \'CMD [\\"sh\\"]\'" created',
        "\"/bin/sh -c 'rm /x; echo said; exit 0'\" exited",
        "\"/bin/sh -c 'echo hi > /x'\" exited",
        f"\"{NOP} 'ENV A=b'\" created",
    ]
    running = [line.split()[-1] for line in done.lines if "Running in" in line]
    assert docker("ps -aq").lines == running[::-1]
    assert [docker(f"diff {id}").lines for id in running] == [[], ["A /x"], ["D /x"], []]
    docker(f"rm {' '.join(running)}")


def test_the_container_of_a_step_that_failed_stays(building: Engine, tmp_path: Path) -> None:
    docker, done = building.docker, build(building, tmp_path, 7)
    assert done.code == 7 and done.err.endswith("returned a non-zero code: 7")
    id = docker("ps -aq").out
    assert done.lines[-2:] == [f" ---> Running in {id}", "said"]
    told = "{{.State.Status}} {{.State.ExitCode}} {{.Path}} {{.Config.Env}} {{.Config.Entrypoint}} {{.Config.Hostname}}"
    path = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    assert docker.field(id, told.removeprefix("{{").removesuffix("}}")) == f"exited 7 /bin/sh [{path} A=b] [] {id}"
    assert docker.field(id, ".HostConfig.LogConfig.Type}} {{.HostConfig.NetworkMode}} {{.Config.Healthcheck.Test") == (
        "none bridge [NONE]"
    )
    assert docker(f"diff {id}").lines == ["D /x"]
    docker.refused(f"logs {id}", "configured logging driver does not support reading")
    docker.refused(["rmi", docker.field(id, ".Image")], "conflict: unable to delete")
    docker(["commit", "-c", 'CMD ["cat", "/y"]', id, "look"])
    assert docker("run --rm look").lines[0] == "FROM busybox"
    assert docker.attempt(f"start -a {id}").code == 7
    docker(f"rm {id}")
    docker("rmi look")


def test_forced_removal_takes_that_one_too(building: Engine, tmp_path: Path) -> None:
    done = build(building, tmp_path, 7, "--force-rm")
    assert done.lines[-1].startswith(" ---> Removed intermediate container ")
    assert building.docker(LISTED).lines == []


def test_a_program_that_is_not_there_leaves_a_container_that_never_ran(building: Engine, tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text('FROM busybox\nRUN ["nosuch", "x"]\n')
    done = building.docker.attempt(["build", str(tmp_path)])
    assert done.code == 1 and done.err.endswith(
        "failed to create task for container: failed to create shim task: OCI runtime create failed: runc create"
        ' failed: unable to start container process: error during container init: exec: "nosuch": executable file not'
        " found in $PATH"
    )
    assert building.docker(LISTED).lines == ['"nosuch x" created']
    assert building.docker.field(building.docker("ps -aq").out, ".State.ExitCode") == "127"


def test_a_quiet_build_that_fails_says_all(building: Engine, tmp_path: Path) -> None:
    done = build(building, tmp_path, 7, "-q")
    assert done.code == 7 and "Step 5/6 : RUN rm /x; echo said; exit 7" in done and "said" in done.everything.split()
    assert build(building, tmp_path, 0, "-q").out.startswith("sha256:")


def test_what_history_says(building: Engine, tmp_path: Path) -> None:
    id = build(building, tmp_path, 0, "-q").out
    lines = building.docker(["history", "--no-trunc", "--format", "{{.CreatedBy}}|{{.Comment}}", id]).lines
    lines[2] = lines[2].partition(" file:")[0]
    assert lines == [
        '/bin/sh -c #(nop)  CMD ["sh"]|',
        "/bin/sh -c rm /x; echo said; exit 0|",
        "/bin/sh -c #(nop) COPY",
        "/bin/sh -c echo hi > /x|",
        "/bin/sh -c #(nop)  ENV A=b|",
        "|Imported from -",
    ]
    assert building.docker.field(id, ".Comment}}{{.Config.OnBuild}}{{.Config.Labels") == "[]map[]"
    assert building.docker.field(id, ".DockerVersion") != ""
