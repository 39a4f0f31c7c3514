"""The demo tells the main job from beginning to end, and leaves nothing; kept, it can be entered and ended.

outside ---- 8080 ----> one (an engine) ---- RED ---- web, db
"""

import json
import os
import re
import tempfile
from pathlib import Path

import pytest

from fairlead.errors import Invalid
from fairlead.lab import demo
from fairlead.lab.image import PAGE

pytestmark = [pytest.mark.lab, pytest.mark.skipif(os.geteuid() != 0, reason="namespaces need root")]


@pytest.fixture(autouse=True)
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))


def test_the_main_job(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    links = set(os.listdir("/sys/class/net"))
    assert demo.main([]) == 0
    said = capsys.readouterr().out
    steps = re.findall(r"^  (\d)/8", said, re.M)
    assert steps == [str(number) for number in range(1, demo.STEPS + 1)]
    assert PAGE.strip() in said
    assert "64 bytes from" in said
    assert "network RED" in said
    assert list(tmp_path.iterdir()) == []
    assert set(os.listdir("/sys/class/net")) == links


def test_kept_and_ended(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert demo.main(["--keep"]) == 0
    assert "scripts/demo --end" in capsys.readouterr().out
    (folder,) = tmp_path.iterdir()
    pids = json.loads((folder / "world.json").read_text())["pids"].values()
    assert all(Path(f"/proc/{pid}").exists() for pid in pids)
    assert demo.main(["--end", str(folder)]) == 0
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids)
    assert list(tmp_path.iterdir()) == []


def test_only_a_kept_world_can_be_ended(tmp_path: Path) -> None:
    with pytest.raises(Invalid, match="holds no kept world"):
        demo.main(["--end", str(tmp_path)])
