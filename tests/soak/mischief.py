"""Moves behind the engine's back: processes killed, rules flushed, devices deleted. It must notice, or not mind."""

from __future__ import annotations

import os
import re
import signal
import threading
from pathlib import Path

from lane.machine import eventually
from soak.checks import settle
from soak.model import Box
from soak.moves import MOVES, move
from soak.player import PATIENCE, Broken, Player


@move("crash", 3)
def crash(p: Player) -> str | None:
    """A container's first process is killed from outside; its restart policy decides."""
    box = p.pick(p.model.having("running"))
    if box is None:
        return None
    before = p.inspect(box)["State"]["StartedAt"]
    os.kill(p.first_process(box), signal.SIGKILL)
    if box.policy == "no":
        eventually(lambda: p.inspect(box)["State"]["Status"] == "exited", f"the end of {box.name}", PATIENCE)
        box.status = "exited"
    else:
        eventually(lambda: _again(p, box, before), f"{box.name} runs again", PATIENCE)
    return f"{box.name} ({box.policy})"


def _again(p: Player, box: Box, before: str) -> bool:
    state = p.inspect(box)["State"]
    return state["Status"] == "running" and state["StartedAt"] != before


@move("flush", 2)
def flush(p: Player) -> str:
    p.engine.machine.must("nft flush ruleset")
    return "the ruleset"


@move("cut cable", 2)
def cut_cable(p: Player) -> str | None:
    """One container's veth is deleted, on the host's side."""
    net = p.pick([net for net in p.model.made() if net.kind != "macvlan"])
    if net is None:
        return None
    bridge = _bridge(p, net.name)
    cables = sorted(name for name, master in p.engine.machine.links().items() if master == bridge)
    if not cables:
        return None
    p.engine.machine(f"ip link del {cables[0]}")  # the kernel may be taking it away already: nobody waits for that
    return f"one on {net.name}"


@move("cut bridge", 1)
def cut_bridge(p: Player) -> str | None:
    net = p.pick([net for net in p.model.made() if net.kind != "macvlan"])
    if net is None:
        return None
    bridge = _bridge(p, net.name)
    settle(lambda: "" if bridge in p.engine.machine.links() else f"{bridge} of {net.name} was not made again")
    p.engine.machine.must(f"ip link del {bridge}")
    return net.name


def _bridge(p: Player, name: str) -> str:
    return f"br-{p.get(f'/networks/{name}')['Id'][:12]}"


# -- the daemon itself ----------------------------------------------------------------------


@move("daemon killed", 2)
def daemon_killed(p: Player) -> str:
    p.engine.kill()
    return f"back after {p.engine.start(PATIENCE):.2f} s"


@move("daemon stopped", 0.5)
def daemon_stopped(p: Player) -> str:
    p.engine.stop()
    return f"back after {p.engine.start(PATIENCE):.2f} s"


@move("part killed", 0.7)
def part_killed(p: Player) -> str | None:
    """The resolver or the relay."""
    name = p.dice.choice(["resolver", "relay"])
    pid = parts(p).get(name)
    if pid is None:
        return None
    os.kill(pid, signal.SIGKILL)
    if name == "resolver" or any(box.ports and p.model.published(box) for box in p.model.boxes.values()):
        eventually(lambda: parts(p).get(name, pid) != pid, f"another {name}", PATIENCE)
    return name


def parts(p: Player) -> dict[str, int]:
    """The engine's own processes: "daemon", "resolver", "relay" -> pid as seen from here."""
    found = {}
    for pid in p.engine.processes():
        try:
            words = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace")
        except OSError:
            continue
        if known := re.search(r"-m\0fairlead\0(daemon|resolver|relay)\0", words):
            found[known[1]] = pid
    return found


@move("killed half way", 2)
def killed_half_way(p: Player) -> str | None:
    """The daemon is killed while it works on one container, which may then be as before or as asked."""
    box = p.pick(p.model.having("created", "exited", "running"))
    if box is None:
        return None
    deed = p.dice.choice(["restart", "stop"] if box.status == "running" else ["start"])
    after = "exited" if deed == "stop" else "running"

    def work() -> None:
        try:
            connection = p.engine.http()
            connection.call("POST", f"/v1.51/containers/{box.name}/{deed}?t=1")
        except (OSError, Exception):
            pass  # its daemon dies

    worker = threading.Thread(target=work)
    worker.start()
    worker.join(p.dice.choice([0, 0.01, 0.02, 0.05, 0.1, 0.2]))
    p.engine.kill()
    worker.join()
    p.engine.start(PATIENCE)
    allowed = {box.status, after} | ({"exited"} if deed == "restart" else set())
    status = p.inspect(box)["State"]["Status"]
    if status not in allowed:
        raise Broken(f"{box.name} was {box.status}, the daemon died during {deed}, and now it is {status}")
    box.status = status
    return f"{deed} {box.name}: now {status}"


STORMY = ("daemon killed", "daemon stopped", "killed half way", "part killed")
assert set(STORMY) <= set(MOVES)
