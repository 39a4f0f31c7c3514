"""What the stock docker client says: to people, and to a real dockerd. Written down once, compared ever after.

    overhear      client --HTTP--> Proxy --HTTP--> dockerd          one line of JSON per command: a Step
    play          our command line --HTTP--> Prompter (a Step)      says what dockerd said, hears what we ask

A ``Step`` is a command as it was typed, what it printed, how it ended, and every question and answer between client
and engine. ``Prompter`` answers our own client out of a step: each question in the order in which it was answered
then, the last answer again when it is asked once more. What we ask and the stock client did not is 404.
"""

import http.client
import http.server
import json
import re
import shlex
import socketserver
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from lane.engines import Http

DATA = Path(__file__).parents[1] / "data" / "swarm_words"
HERE = "/the/folder"
"""What is written for ``DATA`` in records."""
UNORDERED = ("Env", "Secrets", "Configs")
"""Lists that the stock client sends in no order."""
Call = dict[str, Any]
Step = dict[str, Any]


def asked(method: str, target: str) -> tuple[str, str, dict[str, list[str]]]:
    """(method, path without the version, query) of a request."""
    split = urlsplit(target)
    query: dict[str, list[str]] = {}
    for key, value in parse_qsl(split.query):
        query.setdefault(key, []).append(value)
    return method, re.sub(r"^/v\d+\.\d+", "", split.path), query


def canonical(query: dict[str, list[str]]) -> dict[str, Any]:
    """A query by what it means: what is false need not be said, and filters have two spellings."""
    found: dict[str, Any] = {}
    for key, values in query.items():
        if key == "filters":
            found[key] = {name: sorted(some) for name, some in json.loads(values[0]).items()}
        elif values not in (["false"], ["0"]):
            found[key] = ["1" if value == "true" else value for value in values]
    return found


def plain(value: Any, inside: str = "") -> Any:
    """A body by what it means: what is empty need not be said, but for the kind of a service."""
    if isinstance(value, dict):
        kept = {key: plain(item, key) for key, item in sorted(value.items())}
        return (
            kept
            if inside == "Mode"
            else {key: item for key, item in kept.items() if item not in (None, "", [], {}, False)}
        )
    found = [plain(item) for item in value] if isinstance(value, list) else value
    return sorted(found, key=str) if inside in UNORDERED else found


def _nothing(value: Any) -> bool:
    return value is None or value is False or value in ("", [], {})


def changes(calls: list[Call]) -> list[tuple[str, Any, Any]]:
    """What was asked to be changed, by what it means, in order."""
    made = [call for call in calls if not call["ask"].startswith(("GET", "HEAD"))]
    return [(call["ask"], canonical(call["query"]), plain(call.get("body"))) for call in made]


class _Unix(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True
    request_queue_size = 64

    def handle_error(self, *_: Any) -> None:
        """A client that hangs up before it has heard all is no error."""


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def answer(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        body = (
            self.rfile.read(length) if length else _chunks(self.rfile) if self.headers.get("Transfer-Encoding") else b""
        )
        status, data, kind = self.server.reply(self.command, self.path, body, self.headers)  # type: ignore[attr-defined]
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Api-Version", "1.51")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    do_GET = do_POST = do_DELETE = do_HEAD = do_PUT = answer

    def log_message(self, *_: Any) -> None:
        pass

    def address_string(self) -> str:
        return "unix"


def _chunks(file: Any) -> bytes:
    data = b""
    while size := int(file.readline().split(b";")[0] or b"0", 16):
        data += file.read(size)
        file.readline()
    file.readline()
    return data


class Proxy(_Unix):
    """Between a client and the engine at ``engine``; ``calls`` are what passed."""

    def __init__(self, path: Path, engine: Path) -> None:
        super().__init__(str(path), _Handler)
        self.engine, self.calls, self.last = engine, list[Call](), time.time()

    def reply(self, method: str, target: str, body: bytes, headers: Mapping[str, str]) -> tuple[int, bytes, str]:
        wire = Http(self.engine)
        passed = {key: value for key, value in headers.items() if key in ("Content-Type", "X-Registry-Auth")}
        wire.request(method, target, body or None, passed)
        answer = wire.getresponse()
        try:
            data = answer.read()
        except http.client.IncompleteRead as part:
            data = part.partial
        kind = answer.getheader("Content-Type") or ""
        verb, path, query = asked(method, target)
        if path != "/_ping":
            call = {"ask": f"{verb} {path}", "query": query, "status": answer.status}
            if body:
                call["body"] = json.loads(body)
            if data:
                call["answer"] = json.loads(data) if kind.startswith("application/json") else data.decode("latin-1")
            self.calls.append({**call, "kind": kind})
            self.last = time.time() + 0.01  # it takes that long to say
        return answer.status, data, kind or "text/plain"


class Prompter(_Unix):
    """Plays the engine's part of the step it was given last; ``heard`` is what it was asked."""

    def __init__(self, path: Path, step: Step | None = None) -> None:
        super().__init__(str(path), _Handler)
        self.lock = threading.Lock()
        self.play(step or {"calls": []})

    def play(self, step: Step) -> None:
        self.left: dict[str, list[Call]] = {}
        self.heard: list[Call] = []
        for call in step["calls"]:
            self.left.setdefault(_question(call["ask"], call["query"]), []).append(call)

    def reply(self, method: str, target: str, body: bytes, headers: Mapping[str, str]) -> tuple[int, bytes, str]:
        verb, path, query = asked(method, target)
        ask = f"{verb} {path}"
        with self.lock:
            self.heard.append({"ask": ask, "query": query, "body": json.loads(body) if body else None})
            same = self.left.get(_question(ask, query))
            if not same:
                return 404, b'{"message":"the stock client did not ask this"}', "application/json"
            call = same.pop(0) if len(same) > 1 else same[0]
        known = call.get("answer", "")
        data = json.dumps(known).encode() if call["kind"].startswith("application/json") else known.encode("latin-1")
        return call["status"], data if known != "" else b"", call["kind"] or "text/plain"


def _question(ask: str, query: dict[str, list[str]]) -> str:
    return f"{ask} {json.dumps(canonical(query), sort_keys=True)}"


@contextmanager
def serving(server: _Unix) -> Iterator[None]:
    """The server answers for the length of the block."""
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()


def parted(typed: str) -> tuple[str, str]:
    """(words, what is said to standard input) of ``words <<< input``."""
    words, _, said = f"{typed} ".partition(" <<< ")
    return words.strip(), said.removesuffix(" ")


def overhear(client: str, engine: Path, typed: str, folder: Path, proxy: Path) -> Step:
    """Type ``typed`` (``words … <<< input``) at the stock client in ``folder``, and write down everything."""
    words, said = parted(typed)
    server = Proxy(proxy, engine)
    with serving(server):
        done = subprocess.run(
            [client, *shlex.split(words)],
            input=said.encode(), capture_output=True, timeout=120, cwd=folder,
            env={"DOCKER_HOST": f"unix://{proxy}", "DOCKER_CONFIG": str(proxy.parent / "config"), "HOME": "/root",
                 "PATH": "/usr/bin:/bin", "LANG": "C.UTF-8", "TZ": "UTC"},
        )  # fmt: skip
    proxy.unlink()
    return {
        "typed": typed, "now": server.last, "code": done.returncode, "out": done.stdout.decode(),
        "err": done.stderr.decode(),
        "calls": server.calls,
    }  # fmt: skip
