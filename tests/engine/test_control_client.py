"""The engine's end of a control socket: what is said of a process that is there and does not answer."""

import asyncio
from pathlib import Path

import pytest

from fairlead.engine import controlclient
from fairlead.engine.controlclient import ControlClient
from fairlead.errors import Unavailable


async def test_a_process_that_hangs_is_said_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(controlclient, "PATIENCE", 0.05)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readline()
        writer.write(b'{"ok":true}\n')  # to the state; then it hangs, until the other side hangs up
        await reader.read()
        writer.close()

    async with await asyncio.start_unix_server(serve, tmp_path / "socket"):
        client = ControlClient(str(tmp_path / "socket"), lambda: {"do": "state"}, lambda answer: ())
        await client.connect()
        with pytest.raises(Unavailable, match=r"/socket does not answer within 0\.05 s"):
            await client.say({"do": "names"})
        await client.close()
