"""TCP with certificates: who has one of the right CA gets in, nobody else."""

from __future__ import annotations

import ssl
import tempfile
from pathlib import Path

import aiohttp
import pytest

from fairlead.api import server
from fairlead.errors import Invalid
from fairlead.settings import Settings
from lane.certificates import certificate

from .fake_engine import fake_engine


@pytest.mark.proves(
    "CVE-2018-12608", guard=("api/server.py", "verify_mode = ssl.CERT_REQUIRED", "verify_mode = ssl.CERT_NONE")
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
