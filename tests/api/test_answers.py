"""Requests that dockerd 28.5.2 refuses (and a few it takes), with its status and words: ``answers.tsv``.

Each row was sent to a real dockerd that had containers ``ra`` (running) and
``rc`` (exited). Long hexadecimal ids in its answers are written ``ID``.
Only what the API layer and ``core.validate`` decide is here: the engine behind is a fake.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from .conftest import Client

ROWS = [line.split("\t") for line in (Path(__file__).parent / "answers.tsv").read_text().splitlines()]


@pytest.mark.parametrize(
    ("method", "path", "body", "kind", "status", "text"), ROWS, ids=[" ".join(row[:3])[:90] for row in ROWS]
)
async def test_dockerd_says(
    client: Client, method: str, path: str, body: str, kind: str, status: str, text: str
) -> None:
    for name in ("ra", "rb", "rc"):
        await client.ask("POST", f"/containers/create?name={name}", {"Image": "busybox"})
        await client.ask("POST", f"/containers/{name}/start")
    await client.ask("POST", "/containers/rc/kill")
    answer = await client.ask(
        method, path, raw=body.encode() if body != "-" else None, kind=kind if kind != "-" else None
    )
    assert (answer.status, re.sub("[0-9a-f]{64}", "ID", answer.text.strip())) == (int(status), text)
