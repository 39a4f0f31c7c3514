"""Hostile requests: whatever arrives, the answer is a refusal in JSON, never a fault of ours."""

from __future__ import annotations

import asyncio
import json
import tempfile
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fairlead.api import server
from fairlead.settings import Settings

from .conftest import Client
from .fake_engine import fake_engine

TEXT = st.text(max_size=12) | st.sampled_from(["²", "٣", "１", "\x00", "..", "%", "a/b"])
JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=6,
)
NAMES = ["Image", "Cmd", "HostConfig", "NetworkingConfig", "EndpointsConfig", "IPAMConfig", "IPv4Address", "Memory"]
NAMES += ["Name", "Driver", "IPAM", "Config", "Subnet", "Labels", "Options", "Container", "EndpointConfig", "Force"]
NAMES += ["Binds", "PortBindings", "Links", "ExtraHosts", "RestartPolicy", "Healthcheck", "ConfigFrom", "Network"]
BODIES = st.dictionaries(
    st.sampled_from(NAMES), st.recursive(JUNK, lambda i: st.dictionaries(st.sampled_from(NAMES), i))
)
RAW = st.binary(max_size=40) | BODIES.map(lambda body: json.dumps(body).encode())
QUERY = st.dictionaries(
    st.sampled_from(
        ["filters", "limit", "all", "size", "name", "t", "signal", "verbose", "scope", "condition", "h", "w"]
    ),
    TEXT | st.builds(json.dumps, JUNK) | st.sampled_from(['{"name":["(a+)+$"]}', '{"publish":["1-99999"]}', "9" * 30]),
    max_size=3,
)
ROUTES = [
    ("GET", "/containers/json"),
    ("POST", "/containers/create"),
    ("GET", "/containers/{}/json"),
    ("POST", "/containers/{}/start"),
    ("POST", "/containers/{}/stop"),
    ("POST", "/containers/{}/kill"),
    ("POST", "/containers/{}/update"),
    ("POST", "/containers/prune"),
    ("DELETE", "/containers/{}"),
    ("GET", "/networks"),
    ("GET", "/networks/{}"),
    ("POST", "/networks/create"),
    ("POST", "/networks/{}/connect"),
    ("POST", "/networks/{}/disconnect"),
    ("POST", "/networks/prune"),
    ("POST", "/swarm/init"),
    ("POST", "/swarm/join"),
]


@settings(max_examples=150, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.tuples(st.sampled_from(ROUTES), TEXT | st.just("ra"), QUERY, RAW), min_size=1, max_size=8))
def test_no_request_is_a_fault_of_ours(requests: list[tuple[tuple[str, str], str, dict[str, str], bytes]]) -> None:
    asyncio.run(send(requests))


async def send(requests: list[Any]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        engine = fake_engine()
        address = str(Path(folder) / "s")
        app = server.create_app(engine, Settings(data_root=folder))
        async with server.serve(app, [server.Listener(f"unix://{address}")]):
            client = Client(address, engine)
            await client.ask("POST", "/containers/create?name=ra", {"Image": "busybox"})
            for (method, path), name, query, raw in requests:
                where = path.format(quote(name, safe="")) + "?" + urlencode(query)
                answer = await client.ask(method, where, raw=raw if method != "GET" else None)
                assert "internal error" not in answer.text, (method, where, raw)
            await client.close()


@pytest.mark.proves("CVE-2020-7219", guard=("api/http.py", "        if size > limit:", "        if False:"))
async def test_a_body_too_large_is_refused(client: Client) -> None:
    answer = await client.ask("POST", "/networks/create", raw=b'{"Name":"' + b"x" * (17 << 20) + b'"}')
    assert answer.status == 400
    assert "larger than" in answer.json["message"]


async def test_a_body_too_deep_is_refused(client: Client) -> None:
    for depth in (5000, 200_000):
        answer = await client.ask("POST", "/networks/create", raw=b'{"Name":' + b"[" * depth)
        assert answer.status == 400
        closed = await client.ask("POST", "/networks/create", raw=b'{"a":' + b"[" * depth + b"]" * depth + b"}")
        assert closed.status == 400


async def test_a_filter_cannot_stop_the_engine(client: Client) -> None:
    """A pattern with which backtracking would take longer than the universe is compared as text."""
    await client.ask("POST", "/containers/create?name=" + "a" * 60, {"Image": "busybox"})
    for pattern in ("(a+)+$!", "(a|a)*b", "a*a*a*a*a*a*a*a*a*a*b"):
        wanted = quote(json.dumps({"name": [pattern]}))
        answer = await asyncio.wait_for(client.ask("GET", f"/containers/json?all=1&filters={wanted}"), 5)
        assert answer.json == []
    wanted = quote(json.dumps({"name": ["^a{3}.*a$"]}))
    assert len((await client.ask("GET", f"/containers/json?all=1&filters={wanted}")).json) == 1


async def test_a_slash_within_a_name_is_no_way_to_go_round_in_circles(client: Client) -> None:
    """The client follows redirects: one that leads to itself never ends."""
    for path in ("/containers/%2F/json", "/containers//%2F%2F//json"):
        assert (await client.ask("GET", path)).status == 404


async def test_digits_that_are_no_numbers(client: Client) -> None:
    """``"²".isdigit()`` is true, ``int("²")`` is not."""
    body = {"Image": "busybox", "ExposedPorts": {"²/tcp": {}, "80-²/tcp": {}}}
    assert (await client.ask("POST", "/containers/create?name=odd", body)).status == 201
    assert (await client.ask("POST", "/containers/odd/start")).status == 204
    assert (await client.ask("GET", "/containers/json")).status == 200
    assert (await client.ask("GET", "/containers/odd/json")).status == 200
    assert (await client.ask("POST", "/containers/odd/kill?signal=" + quote("²"))).status == 400
