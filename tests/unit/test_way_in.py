"""One command, several names: what is run depends on what was typed, and on the name it was typed under."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from fairlead import __version__
from fairlead.__main__ import main
from fairlead.settings import table

Said = pytest.CaptureFixture[str]
ROOT = Path(__file__).parents[2]


def typed(monkeypatch: pytest.MonkeyPatch, *words: str) -> int:
    monkeypatch.setattr(sys, "argv", list(words))
    return main()


def test_the_engine_says_its_version(monkeypatch: pytest.MonkeyPatch, capsys: Said) -> None:
    assert typed(monkeypatch, "fairlead", "daemon", "--version") == 0
    assert typed(monkeypatch, "/usr/sbin/dockerd", "-v") == 0
    said = capsys.readouterr().out.splitlines()
    assert said == [f"fairlead daemon (Fairlead) version {__version__}", f"dockerd (Fairlead) version {__version__}"]


def test_help_names_every_flag(monkeypatch: pytest.MonkeyPatch, capsys: Said) -> None:
    assert typed(monkeypatch, "dockerd", "--help") == 0
    page = capsys.readouterr().out
    assert all(flag in page for option, _ in table() for flag in option.flags)
    assert "/var/run/docker.sock" in page


def test_options_that_make_no_sense(monkeypatch: pytest.MonkeyPatch, capsys: Said) -> None:
    assert typed(monkeypatch, "dockerd", "--nosuch") == 1
    assert capsys.readouterr().err == "dockerd: unknown flag: --nosuch\nSee 'dockerd --help'.\n"


def test_validate_starts_nothing(monkeypatch: pytest.MonkeyPatch, capsys: Said) -> None:
    assert typed(monkeypatch, "fairlead", "daemon", "--validate", "--config-file", "/dev/null") == 0
    assert capsys.readouterr().out == "configuration OK\n"


def test_everything_else_is_the_command_line(monkeypatch: pytest.MonkeyPatch, capsys: Said) -> None:
    assert typed(monkeypatch, "fairlead", "--version") == 0
    assert capsys.readouterr().out == f"Fairlead version {__version__}\n"


def test_the_wrapper_goes_by_the_name_dockerd(tmp_path: Path) -> None:
    (tmp_path / ".venv" / "bin").mkdir(parents=True)
    (tmp_path / ".venv" / "bin" / "python").symlink_to(sys.executable)
    environment = {**os.environ, "FAIRLEAD": str(tmp_path), "PYTHONPATH": os.pathsep.join(sys.path)}
    argv = [str(ROOT / "packaging" / "dockerd"), "--version"]
    done = subprocess.run(argv, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.startswith("dockerd (Fairlead)")
