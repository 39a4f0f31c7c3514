"""Our command line, word for word beside the stock client's.

``tests/data/swarm_words/NAME.txt`` is what was typed, ``NAME.jsonl`` what the stock client 28.5.2 and a real dockerd
made of it. We type the same: what is printed, how it ends, and what the engine is asked to change must be the same.
``lane.overhear`` writes the records anew.
"""

import gzip
import io
import json
import re
import shlex
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from fairlead.cli.main import main
from lane.overheard import DATA, HERE, Prompter, Step, changes, parted, serving

OURS = re.compile(r" (Version|Runtimes|Firewall Backend): .*|exit status 1")
"""Lines that differ on purpose: whose client it is, a map in no order, a fact the stock client leaves out, a flaw."""
PROGRESS = re.compile(r"(overall progress|verify|active tasks|job progress|desired root digest|\d+/\d+): .*")
"""Lines that are said anew; how often depends on how long it took. Ours are said when there is something new."""
LATE = (0.0, 0.01, 0.03, 0.1, 0.3, -0.01, -0.02, -0.05, -0.1, -0.3)
"""Seconds by which the stock client may have looked at its clock later than we think: "51 seconds ago" tells."""
UNORDERED = ("stack deploy", "stack rm")
"""Commands that the stock client does to many things at once, in no order."""


def steps() -> list[Any]:
    found = []
    for file in sorted(DATA.glob("*.jsonl.gz")):
        for number, line in enumerate(gzip.decompress(file.read_bytes()).splitlines(), 1):
            step = json.loads(line.replace(HERE.encode(), str(DATA).encode()))
            found.append(pytest.param(step, id=f"{file.name.partition('.')[0]}-{number}: {step['typed'][:60]}"))
    return found


def shown(step: Step, text: str) -> list[str]:
    """The lines of a page, each state of a line of progress once."""
    lines, last = list[str](), dict[str, str]()
    for line in text.split("\n"):
        told = PROGRESS.fullmatch(line)
        if OURS.fullmatch(line) or (told and last.get(told[1]) == line):
            continue
        if told:
            last[told[1]] = line
        lines.append(line)
    return sorted(set(lines)) if step["typed"].startswith(UNORDERED) else lines


@pytest.fixture(scope="module")
def prompter() -> Iterator[Prompter]:
    with tempfile.TemporaryDirectory() as folder:
        server = Prompter(Path(folder, "s"))
        with serving(server):
            yield server


@pytest.fixture
def typed(prompter: Prompter, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Any:
    def play(step: Step, late: float) -> Any:
        words, said = parted(step["typed"])
        clock = [step["now"] + late]
        monkeypatch.chdir(DATA)
        monkeypatch.setattr(sys, "argv", ["docker"])
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(said.encode())))
        monkeypatch.setattr(time, "time", lambda: clock[0])
        monkeypatch.setattr(time, "monotonic", lambda: clock[0])
        monkeypatch.setattr(time, "sleep", lambda seconds: clock.__setitem__(0, clock[0] + seconds))
        monkeypatch.setenv("FAIRLEAD_HOST", f"unix://{prompter.server_address}")
        monkeypatch.setenv("DOCKER_CONFIG", str(Path(str(prompter.server_address)).parent))
        monkeypatch.setenv("HOME", "/root")
        prompter.play(step)
        code = main(shlex.split(words))
        out, err = capfd.readouterr()
        return SimpleNamespace(code=code, out=out, err=err, heard=prompter.heard)

    return play


@pytest.mark.parametrize("step", steps())
def test_as_the_stock_client(step: Step, typed: Any) -> None:
    for late in LATE:
        ours = typed(step, late)
        if shown(step, ours.out) == shown(step, step["out"]):
            break
    made, wanted = changes(ours.heard), changes(step["calls"])
    if step["typed"].startswith(UNORDERED):
        made, wanted = sorted(made, key=str), sorted(wanted, key=str)
    assert shown(step, ours.err) == shown(step, step["err"])
    assert shown(step, ours.out) == shown(step, step["out"])
    assert ours.code == step["code"]
    assert made == wanted
