"""What a unit with Type=notify hears, at either kind of socket."""

import socket
import uuid
from pathlib import Path

import pytest

from fairlead.daemon import _tell_systemd


@pytest.mark.parametrize("abstract", [False, True])
def test_systemd_is_told(abstract: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    where = f"@fairlead-test-{uuid.uuid4().hex}" if abstract else str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind("\0" + where[1:] if abstract else where)
        systemd.setblocking(False)
        monkeypatch.setenv("NOTIFY_SOCKET", where)
        _tell_systemd("READY=1")
        assert systemd.recv(100) == b"READY=1"


def test_whom_nobody_hears_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "gone"))
    _tell_systemd("READY=1")
    monkeypatch.delenv("NOTIFY_SOCKET")
    _tell_systemd("READY=1")


def test_our_unit_waits_for_it() -> None:
    unit = Path(__file__).parents[2] / "packaging" / "fairlead.service"
    assert "\nType=notify\n" in unit.read_text()
