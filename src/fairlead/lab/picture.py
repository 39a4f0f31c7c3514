"""Picture: a lab as a drawing in the terminal.

    lan  192.168.77.0/24  fd77:77::/64
     |- outside   192.168.77.1    the world
     |- one       192.168.77.11   engine up
     |     web  (RED 172.18.0.2)
     `- two       192.168.77.12   engine up    hears not: one; misses: one

``state`` asks a host; ``draw`` is pure: topology, weather and what the hosts said go in, text comes out.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import msgspec

from fairlead.lab.machine import Machine
from fairlead.lab.topology import OUTSIDE, STORE, Topology
from fairlead.lab.weather import Weather


class State(msgspec.Struct, frozen=True):
    """A host now: a few words, and a line per container."""

    words: str
    containers: tuple[str, ...] = ()
    missed: tuple[str, ...] = ()
    """hosts of its cluster that do not answer its gossip"""


def state(machine: Machine) -> State:
    """What a host says of itself."""
    if not machine.alive:
        return State("off")
    try:
        listed: list[dict[str, Any]] = json.loads(machine.ask("/v1.40/containers/json"))
        hosts: list[dict[str, Any]] = json.loads(machine.ask("/fairlead/cluster/hosts"))
    except (OSError, ValueError):
        return State("no engine")
    containers = []
    for each in listed:
        places = each["NetworkSettings"]["Networks"]
        at = ", ".join(f"{name} {one['IPAddress'] or one['GlobalIPv6Address']}".strip() for name, one in places.items())
        containers.append(f"{each['Names'][0].lstrip('/')}  ({at})")
    missed = tuple(host["Host"] for host in hosts if host["State"] in ("failed", "unheard"))
    return State("engine up", tuple(containers), missed)


def draw(topology: Topology, weather: Weather, states: Mapping[str, State]) -> str:
    """All wires in order; a machine's containers appear below its first wire."""
    wide = max(map(len, topology.nodes))
    lines = []
    for name, wire in topology.wires.items():
        lines.append("  ".join(filter(None, (name, wire.subnet, wire.subnet6))))
        nodes = [node for node in topology.nodes if name in topology.wires_of(node)]
        for node in nodes:
            last = node is nodes[-1]
            address = topology.address(node, name, 4) or topology.address(node, name, 6)
            said = _words(topology, node, states)
            trouble = _trouble(node, weather, states)
            lines.append(f" {'`' if last else '|'}- {node:<{wide}}  {address:<15}  {said:<10}  {trouble}".rstrip())
            if node in states and topology.wires_of(node)[0] == name:
                lines += [f" {' ' if last else '|'}     {container}" for container in states[node].containers]
    return "\n".join(lines)


def _words(topology: Topology, node: str, states: Mapping[str, State]) -> str:
    if node in states:
        return states[node].words
    return {OUTSIDE: "the world", STORE: "the store"}.get(node, "router" if topology.forwards(node) else "")


def _trouble(node: str, weather: Weather, states: Mapping[str, State]) -> str:
    deaf = [other for pair in weather.cuts if node in pair for other in pair if other != node]
    told = [f"hears not: {', '.join(deaf)}"] if deaf else []
    if node in weather.loss:
        told.append(f"loses {weather.loss[node] / 10:g} %")
    if node in weather.delay:
        told.append(f"late by {weather.delay[node]} ms")
    if node in states and states[node].missed:
        told.append(f"misses: {', '.join(states[node].missed)}")
    return "; ".join(told)
