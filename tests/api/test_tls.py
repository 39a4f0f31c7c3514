"""TCP with certificates: who has one of the right CA gets in, nobody else."""

from __future__ import annotations

import ipaddress
import ssl
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path

import aiohttp
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from fairlead.api import server
from fairlead.errors import Invalid
from fairlead.settings import Settings

from .fake_engine import fake_engine

Pair = tuple[x509.Certificate, ec.EllipticCurvePrivateKey]


def certificate(name: str, issuer: Pair | None = None) -> Pair:
    """A certificate for 127.0.0.1, signed by ``issuer`` or by itself (then it is a CA)."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    signer, signing_key = (issuer[0].subject, issuer[1]) if issuer else (subject, key)
    now = datetime.now(UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(signer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=issuer is None, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
    )
    return builder.sign(signing_key, hashes.SHA256()), key


def save(folder: Path, name: str, pair: Pair) -> tuple[str, str]:
    cert, key = folder / f"{name}.pem", folder / f"{name}-key.pem"
    cert.write_bytes(pair[0].public_bytes(serialization.Encoding.PEM))
    key.write_bytes(
        pair[1].private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    return str(cert), str(key)


@pytest.mark.parametrize(("who", "gets_in"), [("client", True), ("stranger", False), ("", False)])
async def test_only_clients_of_the_ca_get_in(who: str, gets_in: bool) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        ca, other = certificate("ca"), certificate("other")
        files = {
            "ca": save(folder, "ca", ca),
            "server": save(folder, "server", certificate("server", ca)),
            "client": save(folder, "client", certificate("client", ca)),
            "stranger": save(folder, "stranger", certificate("stranger", other)),
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
