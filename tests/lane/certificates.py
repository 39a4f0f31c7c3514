"""Certificates for tests, made with openssl."""

import subprocess
from pathlib import Path

Pair = tuple[str, str]

# What Python 3.13 asks of a chain by itself: RFC 5280 to the letter.
EXTENSIONS = """
[req]
distinguished_name = who
prompt = no
[who]
O = {name}
[ca]
basicConstraints = critical, CA:TRUE
keyUsage = critical, keyCertSign
subjectKeyIdentifier = hash
[end]
basicConstraints = critical, CA:FALSE
subjectAltName = IP:{address}
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
"""


def certificate(folder: Path, name: str, issuer: Pair | None = None, address: str = "127.0.0.1") -> Pair:
    """Files of a certificate for ``address`` and its key, signed by ``issuer`` or by itself (then it is a CA)."""
    config, cert, key = (str(folder / f"{name}{suffix}.pem") for suffix in ("-config", "", "-key"))
    Path(config).write_text(EXTENSIONS.format(name=name, address=address))
    curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-noenc"]
    signer = ["-CA", issuer[0], "-CAkey", issuer[1], "-extensions", "end"] if issuer else ["-extensions", "ca"]
    words = ["openssl", "req", "-x509", "-days", "2", "-config", config, *curve, *signer, "-keyout", key, "-out", cert]
    done = subprocess.run(words, capture_output=True, text=True, timeout=30)
    assert done.returncode == 0, done.stderr
    return cert, key
