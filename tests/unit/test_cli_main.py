"""The command line against a pretend engine: exit codes, words, and whom it talks to."""

import http.server
import io
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

from fairlead.cli.catalog import COMMANDS, GROUPS, PARTS, find, load
from fairlead.cli.client import where
from fairlead.cli.main import main

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
    "GET /v1.51/images/BIG/json": (400, {"message": "invalid reference format: repository name must be lowercase"}),
    "GET /v1.51/networks/BIG": (200, {"Id": "ef" * 32, "Name": "BIG", "IPAM": {}}),
    "POST /v1.51/fairlead/plan/networks/create": (200, {"Warnings": [], "Plan": []}),
    "DELETE /v1.51/networks/bridge": (403, {"message": "bridge is a pre-defined network and cannot be removed"}),
    "DELETE /v1.51/networks/RED": (204, None),
    "POST /v1.51/build/prune": (200, {"CachesDeleted": ["ab", "cd"], "SpaceReclaimed": 1234}),
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


@pytest.mark.parametrize(
    ("words", "typed", "says"),
    [
        ("-f", "", ""),
        ("", "y\n", "WARNING! This will remove all dangling build cache. Are you sure you want to continue? [y/N] "),
        ("--all", "y\n", "WARNING! This will remove all build cache. Are you sure you want to continue? [y/N] "),
    ],
)
def test_the_cache_of_builds(
    engine: str, capsys: Said, monkeypatch: pytest.MonkeyPatch, words: str, typed: str, says: str
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO(typed))
    assert main(["builder", "prune", *words.split()]) == 0
    gone = "Deleted build cache objects:\nab\ncd\n\nTotal reclaimed space: 1.234kB\n"
    assert capsys.readouterr().out == says + gone


def test_the_cache_of_builds_stays_with_a_no(engine: str, capsys: Said, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("n\n"))
    assert main(["builder", "prune"]) == 0
    assert "Total" not in capsys.readouterr().out


def test_bounds_of_the_cache_of_builds(engine: str, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = list[Any]()
    monkeypatch.setattr("fairlead.cli.client.Client.call", lambda self, *words: asked.append(words))
    assert main(["builder", "prune", "-f", "--keep-storage", "1kb", "--min-free-space=2", "--filter", "until=1h"]) == 0
    query = {"all": False, "filters": {"until": ["1h"]}, "keep-storage": 1024, "min-free-space": 2}
    assert asked == [("POST", "/build/prune", query)]


def test_what_is_not_there(engine: str, capsys: Said) -> None:
    assert main(["network", "inspect", "nope"]) == 1
    said = capsys.readouterr()
    assert (said.out, said.err) == ("[]\n", "Error response from daemon: network nope not found\n")


def test_what_no_image_can_be_called_may_be_a_network(engine: str, capsys: Said) -> None:
    assert main(["inspect", "-f", "{{.Name}} {{.ID}}", "BIG"]) == 0
    assert capsys.readouterr().out == f"BIG {'ef' * 32}\n"


def test_a_plan_of_nothing_says_so(engine: str, capsys: Said) -> None:
    assert main(["plan", "network", "create", "-d", "ipvlan", "-o", "parent=eth0", "lan"]) == 0
    assert capsys.readouterr() == ("", "Nothing of the kernel would be made.\n")


def test_run_tells_127_from_125(engine: str, capsys: Said) -> None:
    assert main(["run", "-d", "busybox", "x"]) == 127
    said = capsys.readouterr()
    assert said.err.startswith("WARNING: be careful\nfairlead: Error response from daemon: exec:")
    assert said.out == "cd" * 32 + "\n", "it is there, though it did not start"


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        ("ps --nosuch", 125, "unknown flag: --nosuch\n\nUsage:  fairlead ps [OPTIONS]\n\nRun 'fairlead ps --help'"),
        ("ps -az", 125, "unknown shorthand flag: 'z' in -z"),
        ("stop -t", 125, "flag needs an argument: 't' in -t"),
        ("ps -n x", 125, 'invalid argument "x" for "-n, --last" flag: strconv.ParseInt: parsing "x": invalid syntax'),
        ("run --rm=x b", 125, 'invalid argument "x" for "--rm" flag: strconv.ParseBool: parsing "x": invalid syntax'),
        ("run", 1, "fairlead: 'fairlead run' requires at least 1 argument\n\nUsage:  fairlead run [OPTIONS] IMAGE"),
        ("container rename a", 1, "fairlead: 'fairlead container rename' requires 2 arguments"),
        ("port", 1, "fairlead: 'fairlead port' requires at least 1 and at most 2 arguments"),
        ("images a b", 1, "fairlead: 'fairlead images' requires at most 1 argument"),
        ("version x", 1, "fairlead: 'fairlead version' accepts no arguments"),
        ("nosuch", 1, "fairlead: unknown command: fairlead nosuch\n\nRun 'fairlead --help'"),
        ("network nosuch", 1, "fairlead: unknown command: fairlead network nosuch\n\nUsage:  fairlead network"),
    ],
)
def test_words_that_make_no_sense(words: str, code: int, says: str, capsys: Said) -> None:
    assert main(words.split()) == code
    assert capsys.readouterr().err.startswith(says)


def test_longest_command_wins() -> None:
    assert find(["plan", "network", "create", "x"]) == ("plan network create", ["x"])
    assert find(["plan", "network"]) == ("plan", ["network"])
    assert find(["container", "list", "-a"]) == ("container ls", ["-a"])


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


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_says_what_it_does(name: str, capsys: Said) -> None:
    assert main([*name.split(), "--help"]) == 0 or name == "__complete"
    assert load(name).help
    if name != "__complete":
        assert f"Usage:  fairlead {name}" in capsys.readouterr().out


@pytest.mark.parametrize("words", [[], ["--help"], ["network"], ["container", "--help"]])
def test_help_of_groups(words: list[str], capsys: Said) -> None:
    assert main(words) == 0
    assert "Commands:" in capsys.readouterr().out


@pytest.mark.parametrize("words", ["", *COMMANDS, *GROUPS, "container list"])
def test_help_is_what_the_flag_shows(words: str, capsys: Said) -> None:
    if words.startswith("_"):
        return
    assert main([*words.split(), "--help"]) == 0
    shown = capsys.readouterr()
    assert main(["help", *words.split()]) == 0
    assert capsys.readouterr() == shown and shown.out


@pytest.mark.parametrize("words", ["bogus", "network bogus", "network ls bogus"])
def test_help_of_nothing(words: str, capsys: Said) -> None:
    assert main(["help", *words.split()]) == 1
    assert capsys.readouterr().err == "unknown help topic: bogus\n"


@pytest.mark.parametrize("part", PARTS)
def test_help_of_a_part(part: str) -> None:
    asked = [[sys.executable, "-m", "fairlead", *words] for words in ([part, "--help"], ["help", part])]
    flag, word = (subprocess.run(one, capture_output=True, text=True, check=True).stdout for one in asked)
    assert flag == word and flag


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion(shell: str, capsys: Said) -> None:
    assert main(["completion", shell]) == 0
    assert "fairlead __complete" in capsys.readouterr().out


def test_the_command_line_loads_nothing_slow() -> None:
    slow = ("aiohttp", "asyncio", "click", "dataclasses", "email", "fractions", "msgspec", "pathlib", "ssl", "yaml")
    program = (
        "import sys; import fairlead.cli.main; from fairlead.cli.catalog import load; "
        "[load(name) for name in ('ps', 'service ls', 'service create', 'stack ls', 'stack deploy')]; "
        f"print([m for m in sys.modules if m.split('.')[0] in {slow}"
        " or m.startswith(('fairlead.engine', 'fairlead.host', 'fairlead.core', 'fairlead.cli.compose'))])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("words", "offers"),
    [
        (["network", "rm", "R"], ["RED"]),
        (["network", "ins"], ["inspect"]),
        (["netw"], ["network"]),
        (["network", "create", "--ip"], ["--ip-range", "--ipam-driver", "--ipam-opt", "--ipv4", "--ipv6"]),
        (["ps", "x"], []),
        (["builder", ""], ["build", "prune"]),
        (["help", "netw"], ["network"]),
        (["help", "network", "ins"], ["inspect"]),
        (["help", "plan", "network", ""], ["create"]),
        (["help", "dae"], ["daemon"]),
        (["help", "ps", ""], []),
        (["help", "network", "rm", "R"], []),
    ],
)
def test_the_tab_key(words: list[str], offers: list[str], engine: str, capsys: Said) -> None:
    assert main(["__complete", *words]) == 0
    assert capsys.readouterr().out.split() == offers
