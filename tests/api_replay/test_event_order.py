"""The events of one container's and one network's life, in dockerd's order and with its attributes."""

import json
import re
import time
from typing import Any

import pytest

from api_replay.replay import DATA
from lane.engines import Engine, clean

pytestmark = pytest.mark.lab
V = "/v1.51"


def line_of(event: dict[str, Any], ids: dict[str, str]) -> str:
    attributes = event["Actor"]["Attributes"]
    if "execDuration" in attributes:
        attributes["execDuration"] = "<n>"
    pairs = " ".join(f"{key}={value}" for key, value in sorted(attributes.items()))
    text = f"{event['Type']} {event['Action']} {event['scope']} {pairs}"
    for value, name in ids.items():
        text = text.replace(value, f"<{name}>")
    return re.sub(r"\b[0-9a-f]{64}\b", "<id>", text)


def live_a_life(engine: Engine, ids: dict[str, str]) -> None:
    """What was done when docker_events.txt was recorded."""
    http = engine.http()

    def call(method: str, path: str, body: Any = None) -> Any:
        answer = http.call(method, V + path, body)
        assert answer.status < 400, (method, path, answer.data)
        return answer.json if answer.data.startswith((b"{", b"[")) else None

    call("POST", "/networks/create", {"Name": "evn"})
    body = {"Image": "busybox", "Cmd": ["sleep", "1000"], "HostConfig": {"NetworkMode": "evn"}}
    ids[call("POST", "/containers/create?name=ev1", body)["Id"]] = "ev1"
    call("POST", "/containers/ev1/start")
    call("POST", "/networks/bridge/connect", {"Container": "ev1"})
    started = call("POST", "/containers/ev1/exec", {"Cmd": ["true"]})["Id"]
    call("POST", f"/exec/{started}/start", {"Detach": True})
    while call("GET", f"/exec/{started}/json")["Running"]:
        time.sleep(0.02)
    time.sleep(0.1)  # the event of its end follows its end
    call("POST", "/networks/evn/disconnect", {"Container": "ev1"})
    call("POST", "/containers/ev1/rename?name=ev2")
    call("POST", "/containers/ev2/restart?t=1")
    call("DELETE", "/containers/ev2?force=1")
    call("DELETE", "/networks/evn")
    call("POST", "/networks/create", {"Name": "evp"})
    call("POST", "/networks/prune")


def test_events(engine: Engine) -> None:
    since = time.time()
    ids: dict[str, str] = {}
    try:
        live_a_life(engine, ids)
        until = time.time() + 0.01
        answer = engine.http().call("GET", f"{V}/events?since={since:.9f}&until={until:.9f}")
        seen = [line_of(json.loads(line), ids) for line in answer.data.decode().splitlines()]
        assert settled(seen) == settled((DATA / "docker_events.txt").read_text().splitlines())
    finally:
        clean(engine)


def settled(lines: list[str]) -> list[str]:
    """Two orders that dockerd itself does not fix: an end's stop, die and disconnect come in any order."""
    out: list[str] = []
    ending: list[str] = []
    for line in lines:
        words = line.split()
        if words[1] in ("stop", "die") or (words[1] == "disconnect" and "name=bridge" in line):
            ending.append(line)
            continue
        out += sorted(ending)
        ending = []
        out.append(line)
    return out + sorted(ending)
