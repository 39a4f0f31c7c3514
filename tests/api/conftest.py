"""A server over the fake engine on a unix socket, and a client that shows everything."""

from __future__ import annotations

import asyncio
import json
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, NamedTuple

import aiohttp
import pytest

from fairlead.api import server
from fairlead.settings import Settings

from .fake_engine import fake_engine

JSON = "application/json"


class Answer(NamedTuple):
    status: int
    headers: dict[str, str]
    text: str

    @property
    def json(self) -> Any:
        return json.loads(self.text)


class Client:
    """Requests over a unix socket, spelt as they are."""

    def __init__(self, path: str, engine: Any) -> None:
        self.path, self.engine = path, engine
        self._session = aiohttp.ClientSession(connector=aiohttp.UnixConnector(path))

    async def ask(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        raw: bytes | None = None,
        kind: str | None = "application/json",
    ) -> Answer:
        data = raw if raw is not None else None if body is None else json.dumps(body).encode()
        headers = {"Content-Type": kind} if data is not None and kind else {}
        skip = ["Content-Type"]
        url = aiohttp.client.URL("http://d" + path.replace(" ", "%20"), encoded=True)
        async with self._session.request(method, url, data=data, headers=headers, skip_auto_headers=skip) as answer:
            return Answer(answer.status, dict(answer.headers), (await answer.read()).decode())

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A bare connection."""
        return await asyncio.open_unix_connection(self.path)

    async def close(self) -> None:
        await self._session.close()


@pytest.fixture
async def client() -> AsyncIterator[Client]:
    with tempfile.TemporaryDirectory() as folder:
        engine = fake_engine()
        settings = Settings(data_root=folder)
        address = f"unix://{Path(folder) / 's'}"
        async with server.serve(server.create_app(engine, settings), [server.Listener(address)]):
            asking = Client(address.removeprefix("unix://"), engine)
            yield asking
            await asking.close()
