"""A certificate authority that speaks CFSSL's protocol: ``Cfssl(root)``, or by itself

    python cfssl.py FOLDER ADDRESS PORT        until its standard input ends

In the folder are ca.crt, ca.key and believed.crt (roots of those that may ask); every request is a line of ``asked``.

It shows a certificate of its root, and signs for who shows one of a manager's.
"""

import base64
import datetime
import http.server
import ipaddress
import json
import ssl
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes

from fairlead.swarm import ca
from fairlead.swarm.ca import Authority, Identity

Answer = Callable[[dict[str, Any]], bytes]
"""What becomes of a request: a certificate, PEM."""


class Cfssl:
    """``believes``: roots (PEM) of those that may ask. ``asked``: every request, with who showed which certificate."""

    def __init__(self, root: Authority, folder: Path, believes: bytes, at: tuple[str, int] = ("127.0.0.1", 0)) -> None:
        self.root, self.asked = root, list[tuple[Identity, dict[str, Any]]]()
        self.answer: Answer = self.signed
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cadata=believes.decode())
        context.verify_mode = ssl.CERT_REQUIRED
        pair = folder / "cfssl.pem"
        pair.write_bytes(_shown(root, at[0]))
        context.load_cert_chain(pair)
        self._server = http.server.ThreadingHTTPServer(at, self._handler())
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True, do_handshake_on_connect=False)
        self.url = f"https://{at[0]}:{self._server.server_port}/api/v1/cfssl/authsign"
        self._server.handle_error = lambda *_: None  # type: ignore[method-assign]
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)

    def __enter__(self) -> "Cfssl":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def signed(self, asked: dict[str, Any]) -> bytes:
        name = asked["subject"]["names"][0]
        role = {unit: role for role, unit in ca.ROLES.items()}[name["OU"]]
        who = Identity(asked["subject"]["CN"], role, name["O"])
        return self.root.issue(asked["certificate_request"].encode(), who, datetime.datetime.now(datetime.UTC))

    def _handler(self) -> type[http.server.BaseHTTPRequestHandler]:
        here = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                shown = self.connection.getpeercert(binary_form=True)  # type: ignore[attr-defined]
                here.asked.append((ca.identity(x509.load_der_x509_certificate(shown)), asked))
                try:
                    told: dict[str, Any] = {"success": True, "result": {"certificate": here.answer(asked).decode()}}
                except ValueError as error:
                    told = {"success": False, "errors": [{"code": 1, "message": str(error)}]}
                body = json.dumps(told).encode()
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None: ...

        return Handler


def _shown(root: Authority, address: str) -> bytes:
    """Its own certificate and key."""
    key, request = ca.new_request()
    now = datetime.datetime.now(datetime.UTC)
    parsed = ca.load(root.issue(request, Identity("cfssl", "worker", "cfssl"), now))
    names = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(address))])
    built = (
        x509.CertificateBuilder(parsed.issuer, parsed.subject, parsed.public_key(), parsed.serial_number)
        .not_valid_before(parsed.not_valid_before_utc)
        .not_valid_after(parsed.not_valid_after_utc)
        .add_extension(names, critical=False)
    )
    return ca.pem(built.sign(ca.load_key(root.key), hashes.SHA256())) + key


def main(folder: str, address: str, port: str) -> None:
    place = Path(folder)
    root = Authority((place / "ca.crt").read_bytes(), (place / "ca.key").read_bytes())
    server = Cfssl(root, place, (place / "believed.crt").read_bytes(), (address, int(port)))

    def noted(asked: dict[str, Any]) -> bytes:
        with (place / "asked").open("a") as file:
            print(base64.b64encode(json.dumps(asked["subject"]).encode()).decode(), file=file)
        return server.signed(asked)

    server.answer = noted
    with server:
        print("ready", flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    main(*sys.argv[1:])
