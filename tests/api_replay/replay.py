"""Sends a recorded list of requests to an engine and keeps what it answers.

tests/data/docker_answers.jsonl has two kinds of lines: ``ask`` (a request with dockerd 28.5.2's status and answer) and
``arrange`` (what must exist before the next request, or must be forgotten after the last). Names in angle brackets
stand for ids, in requests and in answers.
"""

import json
import re
from pathlib import Path
from typing import Any
from urllib.parse import quote

from lane.engines import Engine

DATA = Path(__file__).parent.parent / "data"
VERSION = "/v1.51"
CUT = "…"
"""Ends a recorded answer that was longer than the recording; only what stands before it is compared."""


def recorded() -> list[dict[str, Any]]:
    return [json.loads(line) for line in (DATA / "docker_answers.jsonl").read_text().splitlines()]


def requests() -> list[dict[str, Any]]:
    return [line for line in recorded() if "ask" in line]


class Replay:
    """One pass over the recording; ``answers[number]`` is (status, normalised answer)."""

    def __init__(self, engine: Engine) -> None:
        self.http = engine.http()
        self.ids: dict[str, str] = {}
        self.made: dict[int, str] = {}
        self.answers: dict[int, tuple[int, Any]] = {}

    def run(self) -> "Replay":
        for line in recorded():
            if "ask" in line:
                self.ask(line)
            else:
                self.arrange(line)
        return self

    def call(self, method: str, path: str, **what: Any) -> tuple[int, Any]:
        answer = self.http.call(method, VERSION + quote(path, safe="/?=&:%"), **what)
        try:
            return answer.status, answer.json
        except ValueError:
            return answer.status, answer.data.decode()

    def ask(self, line: dict[str, Any]) -> None:
        method, path = line["ask"].split(" ", 1)
        what: dict[str, Any] = {"body": line["body"]} if "body" in line else {}
        if "text" in line:
            what = {"raw": line["text"].encode(), "kind": line.get("type", "")}
        status, answer = self.call(method, self.real(path), **what)
        if isinstance(answer, dict) and "Id" in answer:
            self.made[line["number"]] = answer["Id"]
            if "call_it" in line:
                self.ids[line["call_it"]] = answer["Id"]
        self.answers[line["number"]] = (status, self.normal(answer))

    def real(self, text: str) -> str:
        for name, value in self.ids.items():
            text = text.replace(f"<{name}>", value)
        return text

    def normal(self, answer: Any) -> Any:
        """The answer with names for everything that differs from run to run."""
        text = json.dumps(answer if answer is not None else "", ensure_ascii=False)
        for name, value in self.ids.items():
            if name != "ez":
                text = text.replace(value, f"<{name}>")
        text = re.sub(r"[0-9a-f]{64}", "<id>", text)
        text = re.sub(r"veth[0-9a-f]{7}", "<veth>", text)
        text = re.sub(r"Ifindex: \d+", "Ifindex: <n>", text)
        text = re.sub(r"(id:..)[0-9a-f]{12}", r"\1<short>", text)
        return json.loads(text)

    def arrange(self, line: dict[str, Any]) -> None:
        kind, name = line["arrange"], line.get("name", "")
        if kind == "network":
            body = {"Name": name, "Driver": "bridge", **line["more"]}
            self.ids[name] = self.call("POST", "/networks/create", body=body)[1]["Id"]
        elif kind == "container":
            body = {"Image": "busybox:latest", "Cmd": ["sleep", "300"], "HostConfig": {}}
            if line["network"]:
                body["HostConfig"] = {"NetworkMode": self.real(line["network"])}
            self.ids[name] = self.call("POST", f"/containers/create?name={name}", body=body)[1]["Id"]
            if line["start"]:
                self.call("POST", f"/containers/{name}/start")
        elif kind == "forget network" and line["of"] in self.made:
            self.call("DELETE", f"/networks/{self.made[line['of']]}")
        elif kind == "forget container" and name in self.ids:
            self.call("DELETE", f"/containers/{self.ids[name]}?force=1")


def same(recorded_answer: Any, answer: Any) -> bool:
    if isinstance(recorded_answer, str) and recorded_answer.endswith(CUT):
        text = json.dumps(answer, ensure_ascii=False, separators=(",", ":"))
        return text.startswith(recorded_answer[: -len(CUT)])
    return bool(recorded_answer == answer)
