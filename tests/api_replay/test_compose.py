"""Docker Compose v2 with a file of two networks: up, ps, exec, logs, scale, restart, down."""

import json
from collections.abc import Iterator

import pytest

from api_replay.replay import DATA
from lane.compose import Compose
from lane.engines import Engine, clean
from lane.images import PAGE
from lane.machine import eventually

pytestmark = pytest.mark.lab


@pytest.fixture
def shop(engine: Engine) -> Iterator[Compose]:
    try:
        compose = Compose(engine.docker, DATA / "two_networks.yaml")
    except FileNotFoundError as missing:
        pytest.skip(str(missing))
    compose("up -d")
    yield compose
    compose("down -v -t 0")
    clean(engine)


def test_a_shop(engine: Engine, shop: Compose) -> None:
    listed = [json.loads(line) for line in shop("ps --format json").lines]
    assert {(one["Service"], one["State"]) for one in listed} == {
        ("counter", "running"),
        ("shelf", "running"),
        ("passer-by", "running"),
    }
    assert engine.machine.page(engine.machine.address, 18080) == PAGE

    def at(service: str, line: str) -> str:
        return shop.attempt(["exec", "-T", service, "sh", "-c", line]).everything

    assert at("counter", "hostname") == "counter"
    assert "10.9.8.7" in at("counter", "cat /etc/hosts")
    assert "inet 10.77.5.10/24" in at("counter", "ip -4 addr")
    eventually(lambda: "PONG" in at("counter", "nc -w 1 $SHELF 6379"), "counter reaches the shelf by its name")
    for name in ("counter", "www", "shop.example", "shop-counter-1"):
        assert "Welcome" in at("passer-by", f"wget -q -O- http://{name}/")
    assert "bad address" in at("passer-by", "ping -c1 -W1 shelf")
    assert "walking" in shop("logs passer-by")
    assert "unreachable" in at("shelf", f"ping -c1 -W1 {engine.machine.lan.address}")

    street = engine.docker.json("network inspect shop_street")[0]
    assert street["Labels"]["tier"] == "front" and len(street["Containers"]) == 2


def test_it_changes_and_goes(engine: Engine, shop: Compose) -> None:
    assert "Running" in shop("up -d")  # nothing to do
    shop("up -d --scale passer-by=3 --no-recreate")
    assert len(shop("ps -q passer-by").lines) == 3
    before = engine.docker.field("shop-shelf-1", ".State.StartedAt")
    shop("restart -t 0 shelf")
    assert engine.docker.field("shop-shelf-1", ".State.StartedAt") != before
    assert shop("port counter 80").out.endswith(":18080")
    shop("pause shelf")
    assert "Paused" in engine.docker(["ps", "--filter", "name=shop-shelf-1", "--format", "{{.Status}}"])
    shop("unpause shelf")
    assert "sleep 1000" in shop("top passer-by")
    ran = shop("run --rm -T passer-by echo hello")
    assert "hello" in ran
    shop("down -v -t 0")
    assert engine.docker("ps -aq").out == ""
    assert "shop" not in engine.docker("network ls")
    assert engine.docker("volume ls -q").out == ""
