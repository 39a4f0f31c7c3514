"""Three managers of a lab as a program sees them: founded, asked and compared over the API, each at its own socket.

An engine that is killed or has no power meanwhile is ``Gone``, which is no failure here.
"""

from __future__ import annotations

import http.client
import json
import socket
from typing import Any

from fairlead.lab.machine import Machine
from lane.machine import eventually

V = "/v1.47"
PATIENCE = 10.0


class Gone(Exception):
    """No answer came: what was asked may have been done, or not."""


class _Unix(http.client.HTTPConnection):
    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(PATIENCE)
        self.sock.connect(self.host)


def call(machine: Machine, method: str, path: str, body: Any = None) -> tuple[int, Any]:
    """Status and answer of an engine."""
    connection = _Unix(machine.socket)
    try:
        text = None if body is None else json.dumps(body)
        connection.request(method, V + path, text, {"Content-Type": "application/json", "Host": "engine"})
        answer = connection.getresponse()
        data = answer.read()
        return answer.status, json.loads(data) if data[:1] in (b"{", b"[") else None
    except (OSError, http.client.HTTPException) as error:
        raise Gone(str(error)) from None
    finally:
        connection.close()


def founded(machines: list[Machine]) -> None:
    """A swarm of them, all managers."""
    first, *others = machines
    listen = {"ListenAddr": "0.0.0.0:2377"}
    assert call(first, "POST", "/swarm/init", {**listen, "AdvertiseAddr": "eth0"})[0] == 200
    token = call(first, "GET", "/swarm")[1]["JoinTokens"]["Manager"]
    remote = {"RemoteAddrs": [f"{call(first, 'GET', '/info')[1]['Swarm']['NodeAddr']}:2377"], "JoinToken": token}
    for other in others:
        assert call(other, "POST", "/swarm/join", {**listen, "AdvertiseAddr": "eth0", **remote})[0] == 200
    eventually(lambda: all(agree(machine) for machine in machines), "three managers")


def _told(machine: Machine) -> list[dict[str, Any]]:
    """What it says of each node as a manager; nothing while it does not serve."""
    try:
        status, nodes = call(machine, "GET", "/nodes")
    except Gone:
        return []
    return [node.get("ManagerStatus") or {} for node in nodes or ()] if status == 200 else []


def agree(machine: Machine) -> bool:
    """Whether it serves, and sees three managers, one of them leading."""
    told = _told(machine)
    return len(told) == 3 and sum(bool(one.get("Leader")) for one in told) == 1


def whole(machine: Machine) -> bool:
    """Whether all three can be reached besides."""
    return agree(machine) and all(one.get("Reachability") == "reachable" for one in _told(machine))


def known_leader(machine: Machine) -> str:
    """Who leads, as it knows."""
    status, nodes = call(machine, "GET", "/nodes")
    leading = [node for node in nodes if (node.get("ManagerStatus") or {}).get("Leader")] if status == 200 else []
    return str(leading[0]["Description"]["Hostname"]) if leading else ""


def leader(machines: list[Machine]) -> Machine:
    """Which of them leads, when they know that one does."""

    def known() -> Machine | None:
        names = {known_leader(machine) for machine in filter(agree, machines)}
        return next((machine for machine in machines if machine.name in names), None)

    return eventually(known, "a leader")
