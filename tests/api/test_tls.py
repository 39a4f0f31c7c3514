"""TCP with certificates: who has one of the right CA gets in, nobody else."""

from __future__ import annotations

import asyncio
import ssl
import tempfile
from contextlib import suppress
from pathlib import Path

import aiohttp
import pytest

from fairlead.api import server
from fairlead.api.tls import Tls
from fairlead.errors import Invalid
from fairlead.settings import Settings
from lane.certificates import certificate

from .fake_engine import fake_engine


class Wire(asyncio.Transport):
    """The raw side of a connection: keeps what is sent."""

    def __init__(self) -> None:
        super().__init__()
        self.sent, self.closed = bytearray(), False

    def write(self, data: bytes) -> None:  # type: ignore[override]
        self.sent += data

    def close(self) -> None:
        self.closed = True

    abort = close

    def is_closing(self) -> bool:
        return self.closed


class Guest(asyncio.Protocol):
    """What is inside: remembers what it was told."""

    def __init__(self) -> None:
        self.heard: list[bytes] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.heard.append(data)

    def eof_received(self) -> bool:
        self.heard.append(b"(end)")
        return True


async def test_a_client_that_ends_its_half_still_listens() -> None:
    with tempfile.TemporaryDirectory() as name:
        ca = certificate(Path(name), "ca")
        ours = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        ours.load_cert_chain(*certificate(Path(name), "server", ca))
        theirs = ssl.create_default_context(cafile=ca[0])
    came, goes, wire, guest = ssl.MemoryBIO(), ssl.MemoryBIO(), Wire(), Guest()
    client = theirs.wrap_bio(came, goes, server_hostname="127.0.0.1")
    side = Tls(guest, ours)
    side.connection_made(wire)

    def exchange() -> None:
        side.data_received(goes.read())
        came.write(bytes(wire.sent))
        wire.sent.clear()

    for _ in range(3):
        with suppress(ssl.SSLWantReadError):
            client.do_handshake()
        exchange()
    client.write(b"x" * 100_000)
    exchange()
    with suppress(ssl.SSLWantReadError):
        client.unwrap()
    exchange()
    assert b"".join(guest.heard) == b"x" * 100_000 + b"(end)" and not wire.closed
    side.write(b"and yet")
    exchange()
    assert client.read(100) == b"and yet"
    side.close()
    assert wire.closed


@pytest.mark.proves(
    "CVE-2018-12608", guard=("api/tls.py", "verify_mode = ssl.CERT_REQUIRED", "verify_mode = ssl.CERT_NONE")
)
@pytest.mark.parametrize(("who", "gets_in"), [("client", True), ("stranger", False), ("", False)])
async def test_only_clients_of_the_ca_get_in(who: str, gets_in: bool) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        ca, other = certificate(folder, "ca"), certificate(folder, "other")
        files = {
            "ca": ca,
            "server": certificate(folder, "server", ca),
            "client": certificate(folder, "client", ca),
            "stranger": certificate(folder, "stranger", other),
        }
        settings = Settings(
            data_root=name,
            hosts=("tcp://127.0.0.1:0",),
            tlsverify=True,
            tlscacert=files["ca"][0],
            tlscert=files["server"][0],
            tlskey=files["server"][1],
        )
        mine = ssl.create_default_context(cafile=files["ca"][0])
        if who:
            mine.load_cert_chain(*files[who])
        app = server.create_app(fake_engine(), settings)
        async with server.serve(app, server.listeners(settings)) as (address,):
            async with aiohttp.ClientSession() as session:
                url = address.replace("tcp://", "https://") + "/_ping"
                try:
                    async with session.get(url, ssl=mine) as answer:
                        assert gets_in and await answer.text() == "OK"
                except aiohttp.ClientError:
                    assert not gets_in


def test_a_missing_certificate_is_named() -> None:
    settings = Settings(hosts=("tcp://127.0.0.1:0",), tls=True, tlscert="/nosuch/cert.pem", tlskey="/nosuch/key.pem")
    with pytest.raises(Invalid, match=r"/nosuch/cert\.pem"):
        server.listeners(settings)
