"""TCP with certificates: who has one of the right CA gets in, nobody else."""

from __future__ import annotations

import ssl
import subprocess
import tempfile
from pathlib import Path

import aiohttp
import pytest

from fairlead.api import server
from fairlead.errors import Invalid
from fairlead.settings import Settings

from .fake_engine import fake_engine

Pair = tuple[str, str]

# What Python 3.13 asks of a chain by itself: RFC 5280 to the letter.
EXTENSIONS = """
[req]
distinguished_name = who
prompt = no
[who]
CN = {name}
[ca]
basicConstraints = critical, CA:TRUE
keyUsage = critical, keyCertSign
subjectKeyIdentifier = hash
[end]
basicConstraints = critical, CA:FALSE
subjectAltName = IP:127.0.0.1
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
"""


def certificate(folder: Path, name: str, issuer: Pair | None = None) -> Pair:
    """Files of a certificate for 127.0.0.1 and its key, signed by ``issuer`` or by itself (then it is a CA)."""
    config, cert, key = (str(folder / f"{name}{suffix}.pem") for suffix in ("-config", "", "-key"))
    Path(config).write_text(EXTENSIONS.format(name=name))
    curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-noenc"]
    signer = ["-CA", issuer[0], "-CAkey", issuer[1], "-extensions", "end"] if issuer else ["-extensions", "ca"]
    words = ["openssl", "req", "-x509", "-days", "2", "-config", config, *curve, *signer, "-keyout", key, "-out", cert]
    done = subprocess.run(words, capture_output=True, text=True, timeout=30)
    assert done.returncode == 0, done.stderr
    return cert, key


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
