"""Frames, detach keys, and a whole session over a socket pair."""

import io
import os
import socket
import sys
import tempfile
import threading

import pytest

from fairlead.cli.client import Wire
from fairlead.cli.streams import Demultiplexer, DetachWatcher, Session, keys
from fairlead.errors import Invalid


def frame(stream: int, payload: bytes) -> bytes:
    return bytes([stream, 0, 0, 0]) + len(payload).to_bytes(4, "big") + payload


def test_frames_come_whole_however_they_are_cut() -> None:
    wire = frame(1, b"out") + frame(2, b"errors") + frame(1, b"")
    for size in (1, 3, 100):
        frames = Demultiplexer()
        seen = [item for at in range(0, len(wire), size) for item in frames.feed(wire[at : at + size])]
        assert seen == [(1, b"out"), (2, b"errors"), (1, b"")]


def test_keys() -> None:
    assert keys("") == b"\x10\x11"
    assert keys("ctrl-a,b,ctrl-@") == b"\x01b\x00"
    with pytest.raises(Invalid, match=r"invalid detach keys \(zz\)"):
        keys("zz")


@pytest.mark.parametrize("size", [1, 2, 99])
def test_detach_keys_are_found_and_half_of_them_are_passed_on(size: int) -> None:
    watcher = DetachWatcher(b"\x10\x11")
    typed, sent, gone = b"a\x10b\x10\x10\x11never", b"", False
    for at in range(0, len(typed), size):
        piece, gone = watcher.feed(typed[at : at + size])
        sent += piece
        if gone:
            break
    assert (sent, gone) == (b"a\x10b\x10", True)


def test_a_session_sends_input_and_shows_output(
    monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    ours, theirs = socket.socketpair()
    read, write = os.pipe()
    os.write(write, b"question")
    os.close(write)
    with os.fdopen(read, "rb") as stdin:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(stdin))
        answered: list[bytes] = []

        def engine() -> None:
            while data := theirs.recv(100):  # until our half is closed: rule 2
                answered.append(data)
            theirs.sendall(frame(1, b"answer") + frame(2, b"remark"))
            theirs.close()

        other = threading.Thread(target=engine)
        other.start()
        detached = Session(Wire(ours, frame(1, b"early "), True), tty=False, stdin=True).run()
        other.join(10)
    out, err = capfdbinary.readouterr()
    assert (detached, b"".join(answered), out, err) == (False, b"question", b"early answer", b"remark")


def test_what_comes_is_shown_while_what_goes_waits(
    monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    """``big | run -i busybox cat``: an engine that hears no more before somebody has heard it."""
    ours, theirs = socket.socketpair()
    big = os.urandom(1 << 22)

    def engine() -> None:
        while data := theirs.recv(1 << 16):
            theirs.sendall(frame(1, data))
        theirs.close()

    with tempfile.TemporaryFile() as stdin:
        stdin.write(big)
        stdin.seek(0)
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(stdin))
        session = Session(Wire(ours, b"", True), tty=False, stdin=True)
        threads = [threading.Thread(target=work, daemon=True) for work in (engine, lambda: session.run())]
        for one in threads:
            one.start()
        for one in threads:
            one.join(20)
        assert not any(one.is_alive() for one in threads)
    assert capfdbinary.readouterr().out == big
