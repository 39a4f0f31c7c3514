"""The machine compared with the model.

    exact     containers, networks, volumes, images: the API tells exactly the model; no address or port twice
    reach     samples: names resolve between those on one network and nowhere else, pages answer, strangers do not
    ports     published ports answer with the right page; those of the stopped do not answer
    healthy   the doctor finds nothing, the log holds no traceback

What heals by itself gets ``PATIENCE`` to become true; what is false for good raises ``Broken`` with the difference.
"""

from __future__ import annotations

import secrets
import socket
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

from fairlead.core.dnswire import A, parse, query
from lane.machine import Place
from soak.model import Box
from soak.player import Broken, Player

PATIENCE = 30.0
SAMPLES = 6


def settle(look: Callable[[], str], patience: float = PATIENCE) -> None:
    """``look`` tells what is wrong; it must tell nothing within ``patience`` seconds."""
    end = time.monotonic() + patience
    while wrong := look():
        if time.monotonic() > end:
            raise Broken(f"{wrong} (for {patience:.0f} s)")
        time.sleep(0.1)


# -- exact --------------------------------------------------------------------------------


def exact(p: Player) -> None:
    settle(lambda: _differences(p))


def _differences(p: Player) -> str:
    model, addresses, ports = p.model, Counter[tuple[str, str]](), Counter[str]()
    listed = {one["Names"][0][1:] for one in p.get("/containers/json?all=1")}
    if listed != set(model.boxes):
        return f"containers: {_delta(set(model.boxes), listed)}"
    networks = {one["Name"] for one in p.get("/networks")} - {"host", "none"}
    if networks != set(model.nets):
        return f"networks: {_delta(set(model.nets), networks)}"
    volumes = {one["Name"] for one in p.get("/volumes")["Volumes"] or () if len(one["Name"]) < 64}
    if volumes != model.volumes:
        return f"volumes: {_delta(model.volumes, volumes)}"
    tags = {tag for image in p.get("/images/json") for tag in image["RepoTags"] or ()}
    if not model.images <= tags or len(tags) != len(model.images) + 1:
        return f"images: {_delta(model.images, tags)}"
    for box in model.boxes.values():
        seen = p.inspect(box)
        if wrong := _box(box, seen):
            return f"{box.name}: {wrong}"
        for name, end in seen["NetworkSettings"]["Networks"].items():
            addresses.update((name, end[key]) for key in ("IPAddress", "GlobalIPv6Address") if end[key])
        for there in seen["NetworkSettings"]["Ports"].values():
            ports.update(f"{one['HostIp']}:{one['HostPort']}" for one in there or ())
    twice = [thing for counted in (addresses, ports) for thing, count in counted.items() if count > 1]
    return f"twice: {twice}" if twice else _members(p)


def _box(box: Box, seen: Any) -> str:
    networks = seen["NetworkSettings"]["Networks"]
    wanted = box.networks if box.mode == "networks" else {box.mode}
    if seen["State"]["Status"] != box.status:
        return f"is {seen['State']['Status']}, not {box.status}"
    if set(networks) != wanted:
        return f"is on {sorted(networks)}, not {sorted(wanted)}"
    for name, end in networks.items() if box.mode == "networks" else ():
        if bool(end["IPAddress"]) != box.lives:
            return f"{box.status}, its address on {name} is {end['IPAddress']!r}"
    if box.lives != bool(seen["State"]["Pid"]):
        return f"{box.status} with process {seen['State']['Pid']}"
    return ""


def _members(p: Player) -> str:
    for name in p.model.nets:
        told = {one["Name"] for one in p.get(f"/networks/{name}")["Containers"].values()}
        wanted = {box.name for box in p.model.members(name) if box.lives}
        if told != wanted:
            return f"members of {name}: {_delta(wanted, told)}"
    return ""


def _delta(wanted: set[str], found: set[str]) -> str:
    return f"lost {sorted(wanted - found)}, too many {sorted(found - wanted)}"


# -- reach --------------------------------------------------------------------------------


def reach(p: Player) -> None:
    """Pairs of containers that run, a few of them drawn."""
    live = [box for _, box in sorted(p.model.boxes.items()) if box.answers]
    pairs = [(one, other) for one in live for other in live if one is not other]
    for one, other in p.dice.sample(pairs, min(SAMPLES, len(pairs))):
        settle(lambda one=one, other=other: _pair(p, one, other))


def _pair(p: Player, one: Box, other: Box) -> str:
    here, seen = p.inside(one), p.inspect(other)["NetworkSettings"]["Networks"]
    shared = p.model.shared(one, other)
    resolving = [net for net in shared if net.resolves]
    if any(p.model.nets[name].resolves for name in one.networks):
        for name in (other.name, other.token):
            told = resolve(here, name)
            right = {seen[net.name]["IPAddress"] for net in resolving}
            if (told is None or not told <= right or not told) if right else told:
                return f"{one.name} asks for {name}: {told}, not {right or 'nothing'}"
    for net in shared:
        address = seen[net.name]["IPAddress"]
        if net.talks and (page := here.page(address, patience=0)) != f"{other.token}\n":
            return f"{one.name} to {other.name} on {net.name} ({address}): {page!r}"
    if not shared and seen:
        name, end = sorted(seen.items())[0]
        if here.reaches(end["IPAddress"], 80, 0.5):
            return f"{one.name} reaches {other.name} on {name} ({end['IPAddress']}), and is not on it"
    return ""


def resolve(here: Place, name: str) -> set[str] | None:
    """IPv4 addresses that the name server of that place tells; None when it is silent."""
    number = secrets.randbelow(1 << 16)
    asked = query(name, A, number)

    def ask() -> bytes:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.settimeout(3)
            sock.sendto(asked, ("127.0.0.11", 53))
            return sock.recv(4096)

    try:
        answer = parse(here.within(ask))
    except OSError:
        return None
    return {socket.inet_ntoa(record.data) for record in answer.answers if record.type == A}


# -- ports --------------------------------------------------------------------------------


def ports(p: Player) -> None:
    boxes = [box for _, box in sorted(p.model.boxes.items()) if box.ports]
    for box in p.dice.sample(boxes, min(SAMPLES, len(boxes))):
        settle(lambda box=box: _port(p, box))


def _port(p: Player, box: Box) -> str:
    machine = p.engine.machine
    there = p.inspect(box)["NetworkSettings"]["Ports"].get("80/tcp") or []
    if not p.model.published(box):
        fixed = box.ports["80/tcp"]
        if fixed and not box.lives and machine.lan.reaches(machine.address, int(fixed), 0.5):
            return f"port {fixed} of {box.name}, {box.status}, answers"
        return ""
    if not there:
        return f"{box.name} on {sorted(box.networks)} publishes nothing"
    port = int(there[0]["HostPort"])
    for place, address in ((machine.lan, machine.address), (machine, "127.0.0.1")):
        if (page := place.page(address, port, patience=0)) != f"{box.token}\n":
            return f"{box.name} at {address}:{port} says {page!r}"
    return ""


# -- healthy ------------------------------------------------------------------------------


def healthy(p: Player) -> None:
    settle(lambda: "; ".join(str(finding) for finding in p.get("/fairlead/doctor")["Findings"][:5]))
    log = p.engine.log.read_text(errors="replace")
    if "Traceback" in log:
        raise Broken(f"the daemon's log:\n{log[max(0, log.index('Traceback') - 500) :][:3000]}")
