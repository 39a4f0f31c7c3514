"""Docker's client and ours, asked the same of one engine: the same words on both streams, the same exit code."""

import re
import sys
from pathlib import Path

import pytest

from lane.client import Docker, docker_binary
from lane.machine import run, typed
from scenarios.lab import Lab

COMMANDS = [
    "ps -a --no-trunc",
    "ps -a --format 'table {{.Names}}\\t{{.Ports}}\\t{{.Label \"k\"}}\\t{{.Networks}}'",
    "ps --format '{{json .}}'",
    "ps --format json",
    "images --format '{{json .}} {{json .Digest}}'",
    "system df -v",
    "images --digests",
    "images --format json",
    "network ls --format json",
    "network ls --format '{{json}}'",
    "volume ls --format 'table {{.Name}}\\t{{.Size}}'",
    "history --no-trunc busybox",
    "inspect web",
    "inspect -f '{{range $k, $v := .NetworkSettings.Networks}}{{$k}}={{$v.IPAddress}} {{end}}' web",
    "inspect -f '{{.NetworkSettings.Ports}} {{.Config.ExposedPorts}} {{.Config.Env}}' web",
    "inspect -f '{{.State.Nope}}' web",
    "inspect -f '{{.ID}} {{.State}} {{.Mounts}} {{.State.Health}}' web",
    "inspect -f '{{.HostConfig.RestartPolicy}} {{.HostConfig.LogConfig}} {{.HostConfig.NanoCPUs}}' web",
    "inspect -f '{{.Id}} {{.HostConfig.RestartPolicy}}' web",
    "inspect -f '{{with index .NetworkSettings.Networks \"bridge\"}}{{.}}{{end}}' web",
    "network inspect -f '{{.}}' bridge",
    "image inspect -f '{{.ID}} {{.Config}} {{.RootFS}} {{.Metadata}} {{.Variant}}' nginx",
    "volume inspect -f '{{.}}' vol",
    "inspect vol Nosuch",
    "inspect nosuch",
    "network inspect bridge nosuch",
    "port web",
    "port web 81",
    "top web -o pid,comm",
    "logs --tail x nosuch",
    "stats --no-stream --format '{{.Name}} {{.PIDs}}' web",
    "system df --format '{{.Type}} {{.TotalCount}} {{.Active}}'",
    "version --format '{{json .Server}}'",
    "run --rm busybox sh -c 'echo out; echo err >&2; exit 7'",
    "run --rm busybox nosuch",
    "run --cpus x busybox",
    "exec web sh -c 'exit 5'",
    "cp web:/nosuch .",
    "cp nosuch web:/",
    "start nosuch",
    "rename nosuch a",
    "network rm -f nosuch",
    "ps --nosuch",
    "ps -az",
    "stop -t",
    "rm",
    "rename a",
    "nosuch",
    "network nosuch",
]


@pytest.fixture
def pair(lab: Lab, tmp_path: Path) -> tuple[Docker, Docker]:
    """Docker's client and ours, which calls itself docker when it is called so."""
    version = run([docker_binary(), "--version"]).out
    if "version 28." not in version:
        pytest.skip(f"these are the words of Docker 28, not of: {version}")
    (tmp_path / "docker").symlink_to(Path(sys.executable).parent / "fairlead")
    lab.docker("run -d --name web -p 8080:80 --expose 99 --label k=v -v vol:/x nginx")
    host = lab.engine.docker.host
    return Docker(host, tmp_path / "a", docker_binary()), Docker(host, tmp_path / "b", str(tmp_path / "docker"))


def plain(text: str) -> str:
    """Without what passes: `3 seconds ago`, with the blanks that make up for its length."""
    text, spans = re.subn(r"(Less than a second|About an? \w+|\d+ (second|minute)s?)( ago)? *", "<span>", text)
    return re.sub(" {3,}", "   ", text) if spans else text  # a table's columns are as wide as the spans in them


def test_one_engine_two_clients(pair: tuple[Docker, Docker]) -> None:
    theirs, ours = pair
    differ = []
    for words in COMMANDS:
        one, other = theirs.attempt(typed(words)), ours.attempt(typed(words))
        if (one.code, plain(one.out), plain(one.err)) != (other.code, plain(other.out), plain(other.err)):
            differ.append(f"{words}\n  docker: {one!r}\n  ours:   {other!r}")
    assert not differ, "\n".join(differ)
