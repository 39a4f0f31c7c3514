"""POST /build/prune: what its filters and bounds ask of the builder."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import quote

import aiohttp
import pytest

from fairlead.api import build, server
from fairlead.api.routes import Table
from fairlead.core.buildcache import Pruning, Spare

HOUR = 3600 * 10**9
NOW = 1_700_000_000 * 10**9


class Builds:
    def __init__(self) -> None:
        self.asked: list[Pruning] = []

    async def prune(self, asked: Pruning) -> tuple[list[str], int]:
        self.asked.append(asked)
        return ["ab"], 7


@pytest.fixture
async def ask(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Any]:
    monkeypatch.setattr("fairlead.api.times.now", lambda: NOW)
    builds: Any = Builds()
    app = server.App(Table(build.routes(SimpleNamespace(builds=builds))))  # type: ignore[arg-type]
    listening = server.serve(app, [server.Listener(f"unix://{tmp_path / 's'}")])
    session = aiohttp.ClientSession(connector=aiohttp.UnixConnector(str(tmp_path / "s")))
    async with asyncio.timeout(10), listening, session:

        async def one(query: str, version: str = "") -> Any:
            url = aiohttp.client.URL(f"http://d{version}/build/prune?{query}", encoded=True)
            async with session.post(url) as answer:
                said = await answer.json()
            return builds.asked.pop() if answer.status == 200 else (answer.status, said["message"]), said

        yield one


def filters(**given: str) -> str:
    return "filters=" + quote(json.dumps({name.replace("_", "-"): [value] for name, value in given.items()}))


@pytest.mark.parametrize(
    ("query", "asked"),
    [
        ("", Pruning()),
        ("all=1", Pruning()),
        (filters(until="24h"), Pruning(until=NOW - 24 * HOUR)),
        (filters(unused_for="24h"), Pruning(until=NOW - 24 * HOUR)),
        (filters(type="regular", label="x"), Pruning()),
        (filters(type="exec.cachemount"), Pruning(impossible=True)),
        (filters(inuse="true"), Pruning(impossible=True)),
        (filters(description="x", until="1h"), Pruning(until=NOW - HOUR, impossible=True)),
        ("keep-storage=5", Pruning(spare=Spare(reserved=5))),
        ("keep-storage=5&reserved-space=6&max-used-space=7&min-free-space=8", Pruning(spare=Spare(6, 7, 8))),
    ],
)
async def test_what_is_asked(ask: Any, query: str, asked: Pruning) -> None:
    assert await ask(query) == (asked, {"CachesDeleted": ["ab"], "SpaceReclaimed": 7})


async def test_an_id_is_an_expression(ask: Any) -> None:
    asked, _ = await ask(filters(id="^b[0-9]"))
    assert asked.named("b2c") and not asked.named("ab2c")


async def test_the_names_of_new_are_unknown_to_old_versions(ask: Any) -> None:
    assert (await ask("reserved-space=6&keep-storage=5", "/v1.47"))[0] == Pruning(spare=Spare(reserved=5))


@pytest.mark.parametrize(
    ("query", "message"),
    [
        (
            filters(until="1h", unused_for="2h"),
            'failed to prune build cache: conflicting filters: "until" and "unused-for"',
        ),
        (filters(unused_for="x"), 'failed to prune build cache: "unused-for" filter expects a duration'),
        ("keep-storage=x", 'keep-storage is in bytes and expects an integer, got x: strconv.Atoi: parsing "x"'),
    ],
)
async def test_what_makes_no_sense(ask: Any, query: str, message: str) -> None:
    (status, said), _ = await ask(query)
    assert status == 400 and said.startswith(message)
