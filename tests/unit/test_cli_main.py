"""The command line against a pretend engine: exit codes, words, and whom it talks to."""

import http.server
import json
import socketserver
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fairlead.cli.client import where
from fairlead.cli.main import COMMANDS, Lazy, cli, main

ANSWERS: dict[str, tuple[int, Any]] = {
    "GET /v1.51/networks": (
        200,
        [
            {
                "Id": "ab" * 32,
                "Name": "RED",
                "Driver": "bridge",
                "Scope": "local",
                "EnableIPv6": False,
                "Internal": False,
                "Created": "2026-01-02T03:04:05.000000006Z",
            }
        ],
    ),
    "GET /v1.51/networks/nope": (404, {"message": "network nope not found"}),
    "DELETE /v1.51/networks/bridge": (403, {"message": "bridge is a pre-defined network and cannot be removed"}),
    "DELETE /v1.51/networks/RED": (204, None),
    "POST /v1.51/containers/create": (200, {"Id": "cd" * 32, "Warnings": ["be careful"]}),
    f"POST /v1.51/containers/{'cd' * 32}/start": (500, {"message": 'exec: "x": executable file not found in $PATH'}),
}


class Engine(http.server.BaseHTTPRequestHandler):
    def answer(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        self.rfile.read(length)
        status, body = ANSWERS.get(
            f"{self.command} {self.path.partition('?')[0]}", (404, {"message": "page not found"})
        )
        data = b"" if body is None else json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    do_GET = do_POST = do_DELETE = answer

    def log_message(self, *_: Any) -> None:
        pass

    def address_string(self) -> str:
        return "unix"


class Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    with tempfile.TemporaryDirectory() as folder, Server(f"{folder}/s", Engine) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        monkeypatch.setenv("FAIRLEAD_HOST", f"unix://{folder}/s")
        yield folder
        server.shutdown()


Said = pytest.CaptureFixture[str]


def test_a_list(engine: str, capsys: Said) -> None:
    assert main(["network", "ls"]) == 0
    assert capsys.readouterr().out == (
        "NETWORK ID     NAME      DRIVER    SCOPE\nabababababab   RED       bridge    local\n"
    )


def test_one_refusal_does_not_stop_the_rest(engine: str, capsys: Said) -> None:
    assert main(["network", "rm", "bridge", "RED"]) == 1
    said = capsys.readouterr()
    assert said.out == "RED\n"
    assert said.err == "Error response from daemon: bridge is a pre-defined network and cannot be removed\n"


def test_what_is_not_there(engine: str, capsys: Said) -> None:
    assert main(["network", "inspect", "nope"]) == 1
    said = capsys.readouterr()
    assert (said.out, said.err) == ("[]\n", "Error: No such network: nope\n")


def test_run_tells_127_from_125(engine: str, capsys: Said) -> None:
    assert main(["run", "-d", "busybox", "x"]) == 127
    assert capsys.readouterr().err.startswith("WARNING: be careful\nfairlead: Error response from daemon: exec:")


@pytest.mark.parametrize("words", [["run"], ["run", "--nosuch"], ["nosuch"], ["network", "rm"]])
def test_words_that_make_no_sense_are_125(words: list[str]) -> None:
    assert main(words) == 125


def test_nobody_home(monkeypatch: pytest.MonkeyPatch, capsys: Said, tmp_path: Path) -> None:
    monkeypatch.setenv("FAIRLEAD_HOST", f"unix://{tmp_path}/none")
    assert main(["ps"]) == 1
    assert "Is the fairlead daemon running?" in capsys.readouterr().err


def test_whom_it_talks_to(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FAIRLEAD_HOST", raising=False)
    monkeypatch.setenv("DOCKER_HOST", "tcp://docker:1")
    assert where() == "tcp://docker:1"
    monkeypatch.setenv("FAIRLEAD_HOST", "tcp://fairlead:1")
    assert where() == "tcp://fairlead:1"
    assert where("unix:///given") == "unix:///given"


def test_every_command_is_there_and_says_what_it_does() -> None:
    group = cli
    assert isinstance(group, Lazy)
    for name in COMMANDS:
        command = group.get_command(None, name)  # type: ignore[arg-type]
        assert command is not None and (command.help or "").strip(), name


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion(shell: str, capsys: Said) -> None:
    assert main(["completion", shell]) == 0
    assert "_FAIRLEAD_COMPLETE" in capsys.readouterr().out


def test_the_command_line_does_not_load_the_engine() -> None:
    program = (
        "import sys; from fairlead.cli.main import cli; cli.get_command(None, 'ps'); "
        "print([m for m in sys.modules if m.split('.')[0] in ('aiohttp', 'asyncio', 'pyroute2', 'rich', 'msgspec')"
        " or m.startswith(('fairlead.engine', 'fairlead.host', 'fairlead.core'))])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_tab_key_offers_names(engine: str, monkeypatch: pytest.MonkeyPatch, capsys: Said) -> None:
    monkeypatch.setenv("_FAIRLEAD_COMPLETE", "bash_complete")
    monkeypatch.setenv("COMP_WORDS", "fairlead network rm R")
    monkeypatch.setenv("COMP_CWORD", "3")
    with pytest.raises(SystemExit, match="0"):  # click has nothing more to do then
        main([])
    assert capsys.readouterr().out == "plain,RED\n"
