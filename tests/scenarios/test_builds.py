"""Steps of ``docker build`` run where containers do: on the default network, on the one that is named, or nowhere."""

from pathlib import Path

import pytest

from lane.engines import Dockerd, Engine, clean
from lane.machine import Result

pytestmark = pytest.mark.lab

LOOK = 'RUN ip -4 addr | grep inet; timeout 3 wget -qO- http://web/ || echo no""body\n'


def built(engine: Engine, folder: Path, *words: str) -> Result:
    (folder / "Dockerfile").write_text(f"FROM nginx\n{LOOK}")
    engine.docker.env["DOCKER_BUILDKIT"] = "0"
    return engine.docker(["build", "--no-cache", *words, str(folder)])


def test_a_build_has_the_network_it_asks_for(engine: Engine, tmp_path: Path) -> None:
    engine.docker("network create --subnet 10.77.0.0/24 RED")
    engine.docker("run -d --name web --network RED nginx")
    try:
        for words, address, page in (
            ([], "inet 172.17.0.", "nobody"),
            (["--network", "RED"], "inet 10.77.0.3/24", "Welcome"),
            (["--network", "container:web"], "inet 10.77.0.2/24", "Welcome"),
            (["--network", "none"], "inet 127.0.0.1/8", "nobody"),
            (["--network", "host"], f"inet {engine.machine.address}", "nobody"),
        ):
            told = built(engine, tmp_path, *words)
            assert address in told and page in told, repr(told)
        engine.docker.refused(["build", "--no-cache", "--network", "nosuch", str(tmp_path)], "network nosuch not found")
    finally:
        clean(engine)


def test_the_cache_of_builds_goes_by_age_or_as_a_whole(engine: Engine, tmp_path: Path) -> None:
    nothing = "Total reclaimed space: 0B"
    try:
        built(engine, tmp_path, "--network", "none")
        assert engine.docker("builder prune --force --filter until=24h").out == nothing
        if not isinstance(engine, Dockerd):  # whose classic builder has no cache but its images
            assert engine.docker("builder prune --force").out.startswith("Deleted build cache objects:\n")
        assert engine.docker("builder prune --force --all").out == nothing
    finally:
        clean(engine)
