"""What people and nodes say to a swarm's managers. A spec that ends the leader would end the whole swarm with it."""

from __future__ import annotations

import asyncio
import json
import random
from pathlib import Path
from typing import Any

import msgspec

from fairlead.api import http, wire_services
from fairlead.core.cluster import Description, Node, Report, State, TaskStatus, new_id
from fairlead.core.model import Ipam, Network, Subnet
from fairlead.core.orchestrator import Orchestrator
from fairlead.core.service import SECOND, Platform, Resources
from fairlead.core.session import Call, Hello, Join, Told
from fairlead.core.swarmspec import SharedNetwork
from fairlead.core.tally import tally
from fairlead.errors import FairleadError
from fairlead.store.memory import MemoryStore
from fairlead.swarm import gate
from fairlead.swarm import state as swarm_state
from fairlead.swarm.control import Control
from fuzz.mutate import Dice, written
from fuzz.targets import target

RECORDED = Path(__file__).parents[1] / "data" / "swarm_services.jsonl"
ASKED = [line["asked"] for line in map(json.loads, RECORDED.read_text().splitlines()) if "asked" in line]
NODE = Node(
    id="n" * 25,
    state="ready",
    address="192.0.2.1",
    description=Description("n", Platform("x86_64", "linux"), Resources(4 * 10**9, 1 << 34)),
)
INGRESS = SharedNetwork(
    "i" * 25, Network(id="i" * 25, name="ingress", created="", driver="overlay", scope="swarm", ingress=True,
                      ipam=Ipam(config=(Subnet(subnet="10.0.0.0/24", gateway="10.0.0.1"),))),
)  # fmt: skip
TURNS = 8
MOST = 4000
"""Replicas. A large number is no fault, and dockerd takes it, too; what each costs is the bench's (``scale``)."""


def spec(dice: Dice) -> bytes:
    asked = json.loads(json.dumps(dice.choice(ASKED)))
    asked.get("TaskTemplate", {}).pop("Networks", None)
    return written(dice.spoilt(asked, ("Mode", "Networks", "UpdateConfig", "Labels"), 0.04))


@target("swarm services", 6, spec)
def services(body: bytes) -> None:
    """Taken or refused; what is taken is decided upon, run, changed, shown and wound up."""
    try:
        asked = wire_services.service_spec(http.parse_json(body))
    except FairleadError:
        return
    if asked.mode.replicated and (asked.mode.replicated.replicas or 0) > MOST:
        few = msgspec.structs.replace(asked.mode.replicated, replicas=MOST)
        asked = msgspec.structs.replace(asked, mode=msgspec.structs.replace(asked.mode, replicated=few))
    asyncio.run(_live(asked))


async def _live(asked: Any) -> None:
    ids = random.Random(1)
    ledger = MemoryStore()
    state = swarm_state.State(ledger)
    await state.commit([NODE, INGRESS])
    control = Control(state, lambda: 1000 * SECOND, ids.randrange)
    await state.load()
    async with asyncio.TaskGroup() as group:
        hearing = group.create_task(state.run())
        try:
            await _story(control, asked, ids)
        except FairleadError:
            pass
        finally:
            hearing.cancel()


async def _story(control: Control, asked: Any, ids: random.Random) -> None:
    id = await control.create_service(asked)
    leader = Orchestrator(lambda: new_id(ids.randrange))
    for kind in (control.state.nodes, control.state.networks, control.state.services):
        for thing in kind.values():
            leader.hear(None, thing)
    now = 2000 * SECOND
    for turn in range(TURNS):
        await _turn(control, leader, now)
        now = min(leader.wake_at or now, now + (1 << 40)) + SECOND
        if turn == TURNS // 2:
            service = control.service(id)
            await control.update_service(id, service.version, msgspec.structs.replace(service.spec, labels={"a": "b"}))
            leader.hear(service, control.service(id))
    shown = [wire_services.task(task, control.state.networks) for task in control.tasks()]
    counts = tally(control.services(), control.tasks())
    shown += [wire_services.service(one, defaults=True, counts=counts.get(one.id)) for one in control.services()]
    json.dumps(shown)
    service = control.service(id)
    await control.remove_service(id)
    leader.hear(service, None)
    await _turn(control, leader, now)


async def _turn(control: Control, leader: Orchestrator, now: int) -> None:
    """What the leader decides is written, and the node does it at once."""
    steps = leader.turn(now)
    await control.state.commit(
        [step.after for step in steps if step.after is not None],
        [step.before for step in steps if step.after is None],
    )
    for task in control.tasks():
        if State.ASSIGNED <= task.status.state < State.RUNNING:
            report = Report(task.id, TaskStatus(State.RUNNING, now), now)
            await control.state.commit([report])
            leader.hear(task, control.state.tasks[task.id])


SAID = [
    msgspec.json.decode(msgspec.json.encode(message))
    for message in (
        Hello(NODE.description),
        Join("secret", "-----BEGIN CERTIFICATE REQUEST-----"),
        Told(1, (Report("t", TaskStatus(State.RUNNING)),)),
        Call(1, "get", msgspec.Raw(b"{}")),
    )
]


@target("swarm messages", 3, lambda dice: written(dice.spoilt(dice.choice(SAID), chance=0.2)))
def messages(body: bytes) -> None:
    try:
        said = gate._FROM_NODE.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return
    msgspec.json.encode(said)
