"""HTTP and TLS as the command line speaks them, against a server that answers byte by byte."""

import io
import os
import select
import socket
import ssl
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from fairlead.cli.client import Client, Refused, Tls
from fairlead.cli.http import ask, quote
from fairlead.cli.tls import wrap
from fairlead.errors import Invalid, Unavailable
from lane.certificates import certificate


class Slow:
    """A socket that gives an answer a few bytes at a time, and keeps what it was sent."""

    def __init__(self, answer: bytes, step: int = 3) -> None:
        self.answer, self.step, self.sent = io.BytesIO(answer), step, b""

    def sendall(self, data: bytes) -> None:
        self.sent += data

    def recv(self, most: int) -> bytes:
        return self.answer.read(min(most, self.step))

    def close(self) -> None:
        pass


@pytest.mark.parametrize(
    ("head", "body", "text"),
    [
        ("Content-Length: 5", b"helloXX", b"hello"),
        ("Transfer-Encoding: chunked", b"3\r\nhel\r\n2;x=y\r\nlo\r\n0\r\n\r\n", b"hello"),
        ("Server: x", b"until the end", b"until the end"),
        ("Content-Length: 0", b"", b""),
    ],
)
@pytest.mark.parametrize("step", [1, 3, 65536])
def test_bodies(head: str, body: bytes, text: bytes, step: int) -> None:
    answer = ask(Slow(f"HTTP/1.1 200 OK\r\n{head}\r\n\r\n".encode() + body, step), "GET", "/x", {})
    assert (answer.status, answer.reason) == (200, "OK")
    with answer.body() as file:
        assert file.read() == text


@pytest.mark.parametrize("body", ["Content-Length: 9\r\n\r\nhel", "Transfer-Encoding: chunked\r\n\r\n9\r\nhel"])
def test_an_answer_cut_short_is_no_answer(body: str) -> None:
    answer = ask(Slow(f"HTTP/1.1 200 OK\r\n{body}".encode()), "GET", "/x", {})
    with pytest.raises(Unavailable, match="hung up in the middle"):
        answer.body().read()


@pytest.mark.parametrize("said", [b"", b"SSH-2.0-x\r\n\r\n", b"HTTP/1.1 200"])
def test_no_http(said: bytes) -> None:
    with pytest.raises(Unavailable):
        ask(Slow(said), "GET", "/x", {})


def test_head_has_no_body_whatever_its_length() -> None:
    answer = ask(Slow(b"HTTP/1.1 404 Not Found\r\nContent-Length: 99\r\n\r\n"), "HEAD", "/x", {})
    assert answer.body().read() == b""


def test_what_is_sent() -> None:
    wire = Slow(b"HTTP/1.1 204 No Content\r\n\r\n")
    ask(wire, "POST", "/x", {"A": "b"}, iter([b"abc", b"", b"defg"]))
    assert wire.sent == (
        b"POST /x HTTP/1.1\r\nHost: engine\r\nA: b\r\nTransfer-Encoding: chunked\r\n\r\n"
        b"3\r\nabc\r\n4\r\ndefg\r\n0\r\n\r\n"
    )
    wire = Slow(b"HTTP/1.1 204 No Content\r\n\r\n")
    ask(wire, "POST", "/x", {})
    assert b"Content-Length: 0\r\n" in wire.sent


def test_quoting() -> None:
    assert quote("a b/ä:?&\udcff") == "a%20b%2F%C3%A4%3A%3F%26%FF"


@contextmanager
def serving(answers: list[bytes], asked: list[bytes]) -> Iterator[str]:
    """A unix socket that gives one canned answer to each connection."""
    with tempfile.TemporaryDirectory() as folder, socket.socket(socket.AF_UNIX) as listener:
        listener.bind(f"{folder}/s")
        listener.listen()

        def serve() -> None:
            for answer in answers:
                wire, _ = listener.accept()
                with wire:
                    asked.append(wire.recv(65536))
                    wire.sendall(answer)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield f"unix://{folder}/s"
        thread.join(5)


def refusal(message: str) -> bytes:
    body = f'{{"message":"{message}"}}'.encode()
    return b"HTTP/1.1 400 Bad Request\r\nContent-Length: %d\r\n\r\n" % len(body) + body


def test_an_older_engine_is_asked_in_its_own_version(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DOCKER_API_VERSION", raising=False)
    asked: list[bytes] = []
    old = refusal("client version 1.51 is too new. Maximum supported API version is 1.41")
    fine = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n[]"
    with serving([old, fine], asked) as host:
        assert Client(host).call("GET", "/networks") == []
    assert [line.split()[1] for line in asked] == [b"/v1.51/networks", b"/v1.41/networks"]


def test_a_version_that_was_asked_for_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_API_VERSION", "1.51")
    old = refusal("client version 1.51 is too new. Maximum supported API version is 1.41")
    with serving([old], []) as host, pytest.raises(Refused, match="too new"):
        Client(host).call("GET", "/networks")


# TLS


@contextmanager
def tls_server(folder: Path, talk: Callable[[ssl.SSLSocket], None]) -> Iterator[tuple[int, Tls]]:
    """(port, the client's files) of a server that lets in whom our CA knows."""
    ca = certificate(folder, "ca")
    server, client = certificate(folder, "server", ca), certificate(folder, "client", ca)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*server)
    context.load_verify_locations(ca[0])
    context.verify_mode = ssl.CERT_REQUIRED
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        try:
            plain, _ = listener.accept()
            with context.wrap_socket(plain, server_side=True) as wire:
                talk(wire)
        except OSError:
            pass

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    with listener:
        yield listener.getsockname()[1], Tls(True, ca[0], *client)
        thread.join(5)


def test_our_half_ends_and_the_other_goes_on(tmp_path: Path) -> None:
    """``cat big | fairlead run -i …`` needs what comes after our end of input."""
    big = os.urandom(300_000)

    def talk(wire: ssl.SSLSocket) -> None:
        heard = b""
        while data := wire.recv(65536):
            heard += data
        wire.sendall(b"%d and after" % len(heard))
        wire.unwrap()

    with tls_server(tmp_path, talk) as (port, files):
        wire = wrap(socket.create_connection(("127.0.0.1", port)), "127.0.0.1", *files)
        wire.sendall(big)
        wire.shutdown(socket.SHUT_WR)
        heard = b""
        while data := wire.recv(4):
            heard += data
        assert heard == b"300000 and after"
        wire.close()


def test_who_does_not_listen_is_not_waited_for(tmp_path: Path) -> None:
    """``send`` gives what goes at once; the rest is given again, and comes whole, whatever is read in between."""
    big, listen, heard = os.urandom(8_000_000), threading.Event(), bytearray()

    def talk(wire: ssl.SSLSocket) -> None:
        wire.sendall(b"not yet")
        listen.wait(20)
        while data := wire.recv(65536):
            heard.extend(data)
        wire.unwrap()

    with tls_server(tmp_path, talk) as (port, files):
        wire = wrap(socket.create_connection(("127.0.0.1", port)), "127.0.0.1", *files)
        rest, waited = memoryview(big), 0
        while rest:
            try:
                rest = rest[wire.send(bytes(rest[:65536]), socket.MSG_DONTWAIT) :]
            except BlockingIOError:
                waited += 1
                if waited == 1:
                    assert wire.recv(100) == b"not yet"
                listen.set()
                select.select([], [wire], [], 20)
        wire.shutdown(socket.SHUT_WR)
        assert wire.recv(4) == b""
        wire.close()
    assert waited and bytes(heard) == big


def test_a_stranger_is_not_believed(tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    with tls_server(tmp_path, lambda wire: None) as (port, files):
        client = Client(f"tcp://127.0.0.1:{port}", files._replace(ca=certificate(other, "other")[0]))
        with pytest.raises(Unavailable, match="certificate verify failed"):
            client.call("GET", "/x")


def test_files_that_are_not_there(tmp_path: Path) -> None:
    with socket.socketpair()[0] as plain, pytest.raises(Invalid, match=r"open /nosuch/ca\.pem: no such file"):
        wrap(plain, "x", True, "/nosuch/ca.pem", "", "")
