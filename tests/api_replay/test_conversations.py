"""Streams as clients leave and enter them: halves closed, execs started twice, answers to those who stop listening."""

import json
import os
import socket
from collections.abc import Iterator

import pytest

from lane.certificates import certificate
from lane.client import docker_binary
from lane.engines import Engine, Http, clean
from lane.fixtures import Starter
from lane.images import import_images
from lane.machine import Lan, eventually

pytestmark = pytest.mark.lab
V = "/v1.51"


@pytest.fixture
def box(engine: Engine) -> Iterator[Engine]:
    """An engine with a container ``box`` that sleeps."""
    engine.docker("run -d --name box busybox sleep 1000")
    yield engine
    clean(engine)


def ask(engine: Engine, path: str, body: object = None, method: str = "POST") -> socket.socket:
    """Send one request that may be hijacked; the socket is the caller's."""
    sock = socket.socket(socket.AF_UNIX)
    sock.settimeout(20)
    sock.connect(str(engine.socket))
    data = json.dumps(body).encode() if body is not None else b""
    head = f"{method} {V}{path} HTTP/1.1\r\nHost: d\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n"
    head += f"Content-Type: application/json\r\nContent-Length: {len(data)}\r\n\r\n"
    sock.sendall(head.encode() + data)
    return sock


def hear(sock: socket.socket, until: bytes = b"") -> bytes:
    """What comes, to its end or to these bytes."""
    heard = b""
    while not (until and until in heard) and (more := sock.recv(65536)):
        heard += more
    return heard


def exec_id(http: Http, *words: str, **more: object) -> str:
    body = {"Cmd": words, "AttachStdout": True, "AttachStderr": True, **more}
    return str(http.call("POST", f"{V}/containers/box/exec", body).json["Id"])


def test_an_input_that_ends_leaves_the_output_open(box: Engine) -> None:
    id = exec_id(box.http(), "sh", "-c", "cat; echo after; exit 3", AttachStdin=True)
    sock = ask(box, f"/exec/{id}/start", {})
    assert hear(sock, b"\r\n\r\n").startswith(b"HTTP/1.1 101 UPGRADED\r\n")
    sock.sendall(b"words\n")
    sock.shutdown(socket.SHUT_WR)
    assert hear(sock).endswith(b"after\n")
    answer = box.http().call("GET", f"{V}/exec/{id}/json").json
    assert answer["ExitCode"] == 3 and answer["Running"] is False


def test_an_exec_runs_once(box: Engine) -> None:
    id = exec_id(box.http(), "true")
    hear(ask(box, f"/exec/{id}/start", {}))
    words = f"exec command {id} has already run"
    assert hear(ask(box, f"/exec/{id}/start", {})).endswith(f"{words}\r\n".encode())
    again = box.http().call("POST", f"{V}/exec/{id}/start", {"Detach": True})
    assert again.status == 409 and again.json["message"] == words
    assert box.http().call("POST", f"{V}/exec/{id}/resize?h=1&w=1").status == 404


@pytest.mark.parametrize(
    ("method", "path", "last"),
    [
        ("POST", "/containers/box/wait", b'{"Error":{"Message":"context canceled"},"StatusCode":-1}\n\r\n0\r\n\r\n'),
        ("GET", "/events", b"0\r\n\r\n"),
        ("GET", "/containers/box/stats", b"0\r\n\r\n"),
        ("GET", "/containers/box/logs?follow=1&stdout=1", b"0\r\n\r\n"),
    ],
)
def test_who_closes_a_half_hears_the_end(box: Engine, method: str, path: str, last: bytes) -> None:
    sock = ask(box, path, method=method)
    head = hear(sock, b"\r\n\r\n")
    sock.shutdown(socket.SHUT_WR)
    assert (head + hear(sock)).endswith(last)


def test_clients_that_come_and_go_leave_nothing_behind(box: Engine) -> None:
    """Many people attach and leave, at once and one after the other; the engine has not one file open more."""
    if box.kind != "fairlead":
        pytest.skip("dockerd opens more as it goes")
    box.docker("run -d -i --name cat busybox cat")

    def open_files() -> int:
        return len(os.listdir(f"/proc/{box.daemon_pid}/fd"))

    def visit() -> None:
        guests = [ask(box, "/containers/cat/attach?stdin=1&stdout=1&stream=1") for _ in range(5)]
        for guest in guests:
            hear(guest, b"\r\n\r\n")
        guests[0].sendall(b"hello\n")
        for guest in guests:
            assert b"hello\n" in hear(guest, b"hello\n")
            guest.close()

    visit()
    before = open_files()
    for _ in range(10):
        visit()
    eventually(lambda: open_files() <= before, f"no more than {before} open files")
    assert box.answers()


def test_the_last_line_needs_no_end(box: Engine) -> None:
    http = box.http()
    box.docker(["run", "--name", "short", "busybox", "printf", "tail"])
    assert http.call("GET", f"{V}/containers/short/logs?stdout=1").data == b"\1\0\0\0\0\0\0\4tail"
    assert box.docker("logs short").out == "tail"


def test_details_and_links(box: Engine) -> None:
    box.docker(["run", "-d", "--name", "told", "--label", "a=b c", "--log-opt", "labels=a", "busybox", "echo", "hi"])
    eventually(lambda: box.docker("logs --details told").out == "a=b+c hi", "the line")
    box.docker("run -d --name linked --link box:alias busybox sleep 1000")
    assert box.docker("exec linked grep alias /etc/hosts")
    box.docker("rm --link linked/alias")
    assert "alias" not in box.docker("exec linked cat /etc/hosts")
    assert box.docker("ps --no-trunc --format {{.Names}}").lines.count("box") == 1


def test_an_image_mounted(box: Engine) -> None:
    box.docker("run -d --name reader --mount type=image,source=nginx,target=/pages busybox sleep 1000")
    assert "nginx" in box.docker("exec reader cat /pages/www/index.html")
    assert "Read-only" in box.docker.attempt("exec reader touch /pages/x")
    box.docker("restart -t 0 reader")
    assert box.docker("exec reader ls /pages/www")


@pytest.fixture
def guarded(another: Starter) -> Iterator[tuple[Engine, list[str]]]:
    """An engine on tcp for those with a certificate, and the words that start a client who has one."""
    engine = another.machine(23)
    address = engine.machine.address
    ca = certificate(engine.base, "ca")
    server = certificate(engine.base, "server", ca, address)
    client = certificate(engine.base, "client", ca)
    files = ["--tlscacert", ca[0], "--tlscert", server[0], "--tlskey", server[1]]
    engine.options += ["-H", f"tcp://{address}:2376", "--tlsverify", *files]
    engine.start()
    import_images(engine.docker, engine.base, ("busybox",))
    mine = ["--tlsverify", "--tlscacert", ca[0], "--tlscert", client[0], "--tlskey", client[1]]
    yield engine, [docker_binary(), "-H", f"tcp://{address}:2376", *mine]


def test_an_input_that_ends_over_tls(lan: Lan, guarded: tuple[Engine, list[str]]) -> None:
    engine, docker = guarded
    many = "".join(f"line {number}\n" for number in range(20_000))
    counted = lan([*docker, "run", "--rm", "-i", "busybox", "sh", "-c", "wc -l; echo after"], stdin=many)
    assert counted.lines == ["20000", "after"]
    engine.docker("run -d --name box busybox sleep 1000")
    assert lan([*docker, "exec", "-i", "box", "sort", "-r"], stdin="a\nb\n").lines == ["b", "a"]


def test_capabilities(box: Engine) -> None:
    def effective(*flags: str) -> int:
        told = box.docker(["run", "--rm", *flags, "busybox", "grep", "CapEff", "/proc/self/status"]).out
        return int(told.split()[1], 16)

    usual, admin = effective(), 1 << 12
    assert not usual & admin
    assert effective("--cap-add", "NET_ADMIN") == usual | admin
    assert effective("--cap-drop", "ALL", "--cap-add", "CAP_NET_ADMIN") == admin
    assert effective("--cap-drop", "NET_RAW") == usual & ~(1 << 13)
    box.docker.refused("run --rm --cap-add WEIRD busybox true", "unknown capability")
