"""The attach socket's client: what happens to those who wait when it is closed."""

import asyncio
import os
import socket
from pathlib import Path

import pytest

from fairlead.host.conmon import Wire

pytestmark = pytest.mark.kernel


@pytest.fixture
def conmon(tmp_path: Path) -> socket.socket:
    """Somebody who listens where conmon would."""
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    listening.bind(str(tmp_path / "attach"))
    listening.listen()
    return listening


async def test_closing_wakes_the_reader_before_the_number_is_free(conmon: socket.socket, tmp_path: Path) -> None:
    wire = Wire(str(tmp_path))
    number = wire._socket.fileno()
    reading = asyncio.create_task(wire.read())
    await asyncio.sleep(0)
    wire.close()
    with open(os.devnull) as other:
        assert other.fileno() != number, "the loop still watches this number"
    async with asyncio.timeout(5):
        assert await reading is None
    assert wire._socket.fileno() == -1
    conmon.close()


async def test_two_writers_wait_for_the_same_room(conmon: socket.socket, tmp_path: Path) -> None:
    wire = Wire(str(tmp_path))
    peer, _ = conmon.accept()
    writing = [asyncio.create_task(wire.write(letter * 400_000)) for letter in (b"a", b"b")]
    await asyncio.sleep(0)
    got = b""
    async with asyncio.timeout(10):
        while len(got) < 800_000:
            peer.setblocking(False)
            try:
                got += peer.recv(65536)
            except BlockingIOError:
                await asyncio.sleep(0)
        await asyncio.gather(*writing)
    assert got == b"a" * 400_000 + b"b" * 400_000
    wire.close()
    peer.close()
    conmon.close()
