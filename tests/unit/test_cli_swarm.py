"""What our command line has for swarms that the stock client has not, and what a person at a terminal sees."""

import io
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from fairlead.cli.drawing import Board
from fairlead.cli.main import main
from lane.overheard import Prompter, serving

Type = Callable[..., Any]


def said(ask: str, answer: Any, query: dict[str, list[str]] | None = None, status: int = 200) -> dict[str, Any]:
    return {"ask": ask, "query": query or {}, "status": status, "answer": answer, "kind": "application/json"}


@pytest.fixture
def typed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Type:
    def play(words: str, *calls: dict[str, Any]) -> Any:
        monkeypatch.setattr(sys, "argv", ["fairlead"])
        monkeypatch.setattr(time, "sleep", lambda seconds: None)
        with tempfile.TemporaryDirectory() as folder:
            monkeypatch.setenv("FAIRLEAD_HOST", f"unix://{folder}/s")
            prompter = Prompter(Path(folder, "s"), {"calls": list(calls)})
            with serving(prompter):
                code = main(words.split())
        out, err = capsys.readouterr()
        return SimpleNamespace(code=code, out=out, err=err, heard=prompter.heard)

    return play


def test_a_new_beginning_rehearsed(typed: Type) -> None:
    told = said("POST /swarm/init", {"Would": ["managers: one", "lost: two"]}, {"dryrun": ["1"]})
    ours = typed("swarm init --force-new-cluster --dry-run", told)
    assert (ours.code, ours.out) == (0, "managers: one\nlost: two\n")
    assert ours.heard[0]["body"]["ForceNewCluster"] is True
    ours = typed("swarm init --dry-run")
    assert (ours.code, ours.heard) == (1, [])


def test_who_joins_is_told_our_own_name(typed: Type) -> None:
    me = {"ManagerStatus": {"Addr": "10.0.0.1:2377"}}
    ours = typed(
        "swarm join-token manager",
        said("GET /swarm", {"JoinTokens": {"Worker": "w", "Manager": "m"}}),
        said("GET /info", {"Swarm": {"NodeID": "n"}}),
        said("GET /nodes/n", me),
    )
    assert "    fairlead swarm join --token m 10.0.0.1:2377\n" in ours.out


def test_the_http_mesh(typed: Type) -> None:
    asked = "mesh http enable --port 8000 --https 443"
    ours = typed(asked, said("POST /fairlead/mesh/http", {"ID": "abc"}, status=201))
    assert (ours.out, ours.heard[0]["body"]) == ("abc\n", {"Port": 8000, "HTTPS": 443})
    plain = {"URL": "http://red.example.com/", "Service": "red", "Port": 8080, "Sticky": True}
    other = {"URL": "https://a.b/", "Service": "red", "Port": 0, "Sticky": False}
    routes = [
        {**plain, "Secrets": [], "Redirect": ""},
        {**other, "Secrets": ["a-cert", "a-key"], "Redirect": "https://c.d/"},
    ]
    ours = typed("mesh http ls", said("GET /fairlead/mesh/http", {"Enabled": False, "Ports": [], "Routes": routes}))
    assert [line.split() for line in ours.out.splitlines()] == [
        ["URL", "SERVICE", "PORT", "STICKY", "CERTIFICATE", "REDIRECT"],
        ["http://red.example.com/", "red", "8080", "true"],
        ["https://a.b/", "red", "false", "a-cert,a-key", "https://c.d/"],
    ]
    assert "fairlead mesh http enable puts it on" in ours.err
    assert typed("mesh http disable", said("DELETE /fairlead/mesh/http", None, status=204)).code == 0


def test_a_stack_is_gone_when_its_last_task_is(typed: Type) -> None:
    mine = {"filters": ['{"label": ["com.docker.stack.namespace=s"]}']}
    one = {"ID": "1", "Spec": {"Name": "s_web"}}

    def tasks(*states: str) -> dict[str, Any]:
        return said("GET /tasks", [{"Status": {"State": state}} for state in states], mine)

    ours = typed(
        "stack rm --detach=false s",
        said("GET /services", [one], mine),
        *(said(f"GET /{kind}", [], mine) for kind in ("networks", "secrets", "configs")),
        said("DELETE /services/1", None),
        tasks("running", "running"),
        tasks("shutdown", "running"),
        tasks("shutdown", "failed"),
        tasks("never asked for"),
    )
    assert (ours.code, ours.out) == (0, "Removing service s_web\n")
    assert [call["ask"] for call in ours.heard].count("GET /tasks") == 3


class Screen(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_on_a_terminal_each_line_is_drawn_where_it_is() -> None:
    screen = Screen()
    board = Board(screen)
    board.say("1/2", "starting", 8, 9)
    board.say("2/2", "starting", 8, 9)
    board.say("1/2", "running", 9, 9)
    assert screen.getvalue().count("\n") == 2
    assert screen.getvalue().endswith("\x1b[2A\x1b[2K\r1/2: running \r\x1b[2B")


def test_elsewhere_only_what_is_new_is_said() -> None:
    log = io.StringIO()
    board = Board(log)
    for words in ("0 out of 2", "0 out of 2", "2 out of 2"):
        board.say("overall progress", words)
        board.say("1/2", "running", 9, 9)
    assert log.getvalue() == "overall progress: 0 out of 2\noverall progress: 2 out of 2\n"
