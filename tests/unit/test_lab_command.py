"""What `fairlead lab` refuses before anything is made."""

import io

import pytest

from fairlead.lab import command


def test_a_tour_that_nobody_can_walk_says_how_to_see_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO())
    assert command.main(["tour"]) == 1
    assert "--no-wait" in capsys.readouterr().err
