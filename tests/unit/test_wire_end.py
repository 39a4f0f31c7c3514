"""The last words of a process are heard, though it left input unread."""

import asyncio
import socket
from pathlib import Path

from fairlead.host.conmon import Wire


async def test_what_was_said_before_the_end_is_read_after_a_reset(tmp_path: Path) -> None:
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    listening.bind(str(tmp_path / "attach"))
    listening.listen()
    wire = Wire(str(tmp_path))
    keeper, _ = listening.accept()
    await wire.write(b"input that nobody reads")
    keeper.send(b"\x02last words")
    keeper.close()
    async with asyncio.timeout(5):
        assert await wire.read() == (1, b"last words")
        assert await wire.read() is None
    wire.close()
    listening.close()
