"""Whole sessions of clients, call by call: Compose v2 and v1, and a working day of docker commands.

    tests/data/sessions/*.jsonl    {"command": …}                    what somebody typed
                                   {"number", "ask", "body", …}      a call it made, with dockerd 28.5.2's answer

``<name>`` stands for an id that an earlier answer taught (``learn``: name -> where in the answer), ``<name:12>`` for
its first twelve letters. Recorded answers hold no ids, times, addresses of cards, paths or sizes (``normal``).

    GOLDEN=write python -m pytest tests/api_replay/test_sessions.py --engine real     records dockerd's answers anew

The waits of stop and restart were made 0: the containers of the sessions do not listen to TERM.
"""

import http.client
import json
import re
import threading
from contextlib import suppress
from typing import Any
from urllib.parse import quote

from api_replay.replay import DATA
from lane.engines import Engine, Http

FOLDER = DATA / "sessions"
SESSIONS = ("compose-v2", "compose-v1", "docker")

MISSING = "(nothing)"

HOLDS = re.compile(r"/attach\?|/events|/wait")
"""Calls that a client makes and then goes on with others."""
OF_THE_MACHINE = re.compile(r"/(version|info|stats|top|df)\b")
"""Answers of which only the shape is compared."""
FLEETING = {
    *("Pid", "Size", "SizeRootFs", "VirtualSize", "SandboxID", "SandboxKey", "Status", "Created", "time", "timeNano"),
}
"""Members of which only the type is compared. (``Created`` is a number in lists.)"""


def lines(session: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (FOLDER / f"{session}.jsonl").read_text().splitlines()]


def calls(session: str) -> list[dict[str, Any]]:
    """The calls, each with its ``answer``."""
    found = [line for line in lines(session) if "ask" in line]
    answers = {line["number"]: line["answer"] for line in found if "answer" in line}
    return [{**line, "answer": answers.get(line.get("as", line["number"]))} for line in found]


class Held(threading.Thread):
    """A call under way: its head is waited for by ``start``, its answer by ``end``."""

    def __init__(self, http: Http, method: str, path: str) -> None:
        super().__init__(daemon=True)
        self.http = http
        http.request(method, path, headers={"Upgrade": "tcp", "Connection": "Upgrade"} if "/attach" in path else {})
        self.answer = http.getresponse()
        self.data = b""
        self.start()

    def run(self) -> None:
        with suppress(OSError, http.client.HTTPException):
            self.data = self.answer.read() if self.answer.status != 101 else b""

    def end(self, patience: float) -> None:
        """Wait for the rest of the answer; hang up when it does not come."""
        self.join(patience)
        if self.http.sock is not None:
            self.http.sock.close()


class Session:
    """One pass over a session; ``answers[number]`` is (status, normal answer)."""

    def __init__(self, engine: Engine, name: str) -> None:
        self.engine, self.name = engine, name
        self.ids: dict[str, str] = {}
        self.answers: dict[int, tuple[int, Any]] = {}
        self.held: dict[int, Held] = {}

    def run(self) -> "Session":
        for line in lines(self.name):
            if "command" in line:
                self.let_go()
            else:
                self.ask(line)
        self.let_go()
        return self

    def let_go(self) -> None:
        """A command has ended, and with it what it listened to."""
        for number, held in self.held.items():
            held.end(0.2)
            self.answers[number] = (held.answer.status, self.normal(parsed(held.data)))
        self.held.clear()

    def ask(self, line: dict[str, Any]) -> None:
        method, path = self.real(line["ask"]).split(" ", 1)
        path = quote(path, safe="/?=&:%")
        if HOLDS.search(path):
            self.held[line["number"]] = Held(self.engine.http(), method, path)
            return
        body = json.loads(self.real(json.dumps(line["body"]))) if "body" in line else None
        status, answer = self.call(method, path, body)
        for name, where in line.get("learn", {}).items():
            self.ids[name] = at(answer, where).removeprefix("sha256:")
        compared = shape(answer) if OF_THE_MACHINE.search(path) else self.normal(answer)
        self.answers[line["number"]] = (status, compared)

    def call(self, method: str, path: str, body: Any) -> tuple[int, Any]:
        http = self.engine.http()
        headers = {"Content-Type": "application/json"} if body is not None else {}
        if "/exec/" in path and method == "POST" and not body["Detach"]:
            headers |= {"Upgrade": "tcp", "Connection": "Upgrade"}
        http.request(method, path, json.dumps(body) if body is not None else None, headers)
        answer = http.getresponse()
        if answer.status == 101:
            while http.sock.recv(65536):
                pass
            return 101, ""
        return answer.status, parsed(answer.read())

    def real(self, text: str) -> str:
        for name, value in self.ids.items():
            text = text.replace(f"<{name}>", value).replace(f"<{name}:12>", value[:12])
        return text

    def normal(self, value: Any, member: str = "") -> Any:
        """The same with names for all that differs from run to run."""
        if isinstance(value, dict):
            return {self.normal(key): self.normal(item, key) for key, item in sorted(value.items())}
        if isinstance(value, list):
            found = [self.normal(item) for item in value]
            named = all(isinstance(item, dict) and "Name" in item for item in found)
            return sorted(found, key=lambda item: item["Name"]) if named else found
        if member in FLEETING and not isinstance(value, bool):
            return f"<{type(value).__name__}>" if value else value
        return self.normal_text(value) if isinstance(value, str) else value

    def normal_text(self, text: str) -> str:
        for name, value in self.ids.items():
            text = text.replace(value, f"<{name}>").replace(value[:12], f"<{name}:12>")
        text = text.replace(str(self.engine.base), "<base>")
        text = re.sub(r"\b[0-9a-f]{64}\b", "<id>", text)
        text = re.sub(r"\b20\d\d-\d\d-\d\dT[0-9:.]+Z", "<time>", text)
        text = re.sub(r"\b([0-9a-f]{2}:){5}[0-9a-f]{2}\b", "<mac>", text)
        return re.sub(r"\bfd[0-9a-f:]+::", "<own>::", text)


def parsed(data: bytes) -> Any:
    try:
        return json.loads(data)
    except ValueError:
        return data.decode(errors="replace")


def at(value: Any, path: str) -> Any:
    """``/Id`` of an answer."""
    for step in path.strip("/").split("/"):
        value = value[int(step)] if isinstance(value, list) else value[step]
    return value


def shape(value: Any) -> Any:
    """Names and types."""
    if isinstance(value, dict):
        return {key: shape(item) for key, item in sorted(value.items())}
    if isinstance(value, list):
        return [shape(item) for item in value[:1]]
    return type(value).__name__


def differences(recorded: Any, ours: Any, path: str = "") -> list[tuple[str, Any, Any]]:
    """(where, what dockerd has there, what we have); ``MISSING`` stands for a member that only the other has."""
    if isinstance(recorded, dict) and isinstance(ours, dict):
        names = sorted({*recorded, *ours})
        pairs = [(name, recorded.get(name, MISSING), ours.get(name, MISSING)) for name in names]
    elif isinstance(recorded, list) and isinstance(ours, list) and len(recorded) == len(ours):
        pairs = [("*", *both) for both in zip(recorded, ours, strict=True)]
    else:
        return [] if recorded == ours else [(path, recorded, ours)]
    return [found for name, *both in pairs for found in differences(*both, f"{path}/{name}")]


def record(session: str, answers: dict[int, tuple[int, Any]]) -> None:
    """Write what an engine answered into the session's file; an answer that came before is told by its number."""
    out: list[str] = []
    before: dict[str, int] = {}
    for line in lines(session):
        if "ask" in line:
            line["status"], answer = answers[line["number"]]
            first = before.setdefault(json.dumps(answer), line["number"])
            told = {"answer": answer} if first == line["number"] else {"as": first}
            line = {name: line[name] for name in line if name not in ("answer", "as")} | told
        out.append(json.dumps(line, ensure_ascii=False, separators=(",", ":")) + "\n")
    (FOLDER / f"{session}.jsonl").write_text("".join(out))
