"""What a manager answers, held against dockerd 28.5.2's: tests/data/swarm_answers.jsonl, four recorded sessions.

Each request is sent again, in the order of its session, to our API over a swarm on paper (a store in memory, a leader
that decides at once, one node that never starts anything). Identifiers, versions and times are each one's own; what
else differs is in ``ACCOUNTED``, with its reason.
"""

from __future__ import annotations

import asyncio
import json
import random
import re
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from itertools import count, groupby
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from fairlead.api import server
from fairlead.core.cluster import Description, Manager, Node, NodeSpec, Platform, Report, TaskStatus
from fairlead.core.cluster import State as TaskState
from fairlead.core.orchestrator import Orchestrator
from fairlead.core.sharednetworks import ingress_request
from fairlead.core.swarmspec import Cluster, Trust
from fairlead.engine.swarm import NO_MANAGER, Local
from fairlead.errors import Unavailable
from fairlead.settings import Settings
from fairlead.store.memory import MemoryStore
from fairlead.swarm.control import Control
from fairlead.swarm.state import Event, State, Thing

from .conftest import Answer, Client
from .fake_engine import fake_engine

ROWS = [
    json.loads(line) for line in (Path(__file__).parents[1] / "data" / "swarm_answers.jsonl").read_text().splitlines()
]
SESSIONS = [(name, list(rows)) for name, rows in groupby(ROWS, key=lambda row: cast(str, row["session"]))]
OWN = {"Version", "CreatedAt", "UpdatedAt", "Created", "LastExecution", "UpdateStatus"}
"""Members that are each one's own. (How an update goes is told by nodes, and here are none.)"""

NOBODY = "no node of this swarm ever has the network"
ACCOUNTED: dict[tuple[str, int], str] = {
    ("services", 91): "nor is the old place for networks a way to be on ingress",
    ("services", 98): "dockerd counts its networks host and bridge",
    ("services", 99): "dockerd counts its networks host and bridge",
    **{("services", number): "there is no such port: dockerd's tasks would never start" for number in range(102, 106)},
    ("services", 122): "no node has such a thing: dockerd's task would wait for ever",
    ("services", 150): "our templates say it otherwise",
    ("services", 152): "our templates say it otherwise",
    ("updates", 81): "only its spec is what one may be late for, and nobody has changed that since",
    ("networks and files", 16): "dockerd takes a subnet that is another's, and never brings the network up",
    ("networks and files", 24): "dockerd takes an identifier that is none, and never brings the network up",
    ("networks and files", 26): "dockerd takes an identifier that is another's, and never brings the network up",
    ("networks and files", 40): "another network before it has an IPv4 subnet too",
    ("networks and files", 43): NOBODY,
    ("networks and files", 44): "dockerd never brings up a network that has an IPv6 subnet alone",
    ("networks and files", 45): "another network before it has an IPv4 subnet too",
    ("networks and files", 47): "addresses that are set aside are shown",
    ("networks and files", 48): "another network before it has an IPv4 subnet too",
    ("networks and files", 53): NOBODY,
    ("networks and files", 54): NOBODY,
    ("networks and files", 61): "what was removed is not shown for some time more",
    ("networks and files", 65): "an identifier that is free again",
    ("words", 17): "there are no plugins",
    ("words", 21): "our templates say it otherwise",
    ("words", 23): "our templates say it otherwise",
}
"""(session, number of its request) -> why."""
ME = "n1".ljust(25, "0")


class Town:
    """A manager on paper."""

    def __init__(self) -> None:
        self.now = 1_800_000_000_000_000_000
        self.state = State(MemoryStore(), self.hear)
        tasks, dice = count(1), random.Random(1)
        self.orchestrator = Orchestrator(lambda: f"task{next(tasks):021}")
        self.fake = fake_engine()
        self.control_ = Control(self.state, self.clock, dice.randrange, self.local)
        self.fake.swarm = SimpleNamespace(control=lambda: self.control_, local=self.membership)

    def clock(self) -> int:
        self.now += 1000
        return self.now

    def local(self, ref: str) -> bool:
        return any(ref in (network.name, network.id) for network in self.fake.networks.networks())

    def membership(self) -> Local:
        return Local("active", node=ME, control=True)

    def hear(self, event: Event) -> None:
        if event.kind in ("nodes", "networks", "services", "tasks"):
            self.orchestrator.hear(event.before, event.after)

    async def found(self) -> None:
        manager = Manager(leader=True, reachability="reachable", address="127.0.0.1:2377")
        description = Description("host61", Platform("x86_64", "linux"))
        node = Node(ME, NodeSpec(role="manager"), description, "ready", manager=manager)
        await self.state.commit([Cluster("c1", Trust("root")), node])
        await self.control_.create_network(ingress_request())

    async def settle(self) -> None:
        """The leader's turns; tasks that should end do."""
        while steps := self.orchestrator.turn(self.clock()):
            put = [cast(Thing, step.after) for step in steps if step.after is not None]
            await self.state.commit(put, [cast(Thing, step.before) for step in steps if step.after is None])
            over = [task for task in self.state.tasks.values() if task.desired > TaskState.RUNNING]
            ended = TaskStatus(TaskState.SHUTDOWN, self.now)
            await self.state.commit([Report(task.id, ended) for task in over if not task.status.state.ended])


@pytest.fixture
async def town() -> AsyncIterator[Town]:
    town = Town()
    await town.state.load()
    async with asyncio.TaskGroup() as group:
        hearing = group.create_task(town.state.run())
        await town.found()
        yield town
        hearing.cancel()


class Words:
    """Recorded identifiers and versions -> ours."""

    def __init__(self, town: Town) -> None:
        self.town = town
        self.ours: dict[str, str] = {}
        self.versions: dict[str, int] = {}

    def learn(self, row: dict[str, Any], answer: Answer) -> None:
        if answer.status >= 400 or row["status"] >= 400:
            return
        theirs, mine = row["answer"], answer.json if answer.text.strip() else None
        for one, other in zip(*(x if isinstance(x, list) else [x] for x in (theirs, mine)), strict=False):
            for key in ("ID", "Id"):
                if isinstance(one, dict) and key in one and isinstance(other, dict) and not isinstance(theirs, list):
                    self.ours[one[key]] = other[key]
                    if "Version" in one:
                        self.versions[str(one["Version"]["Index"])] = other["Version"]["Index"]

    def ask(self, text: str) -> str:
        found = re.search(r"/nodes/(\w{25})", text)
        if found:
            self.ours.setdefault(found[1], ME)
        text = self.translate(text)
        seen = re.search(r"version=(\d+)", text)
        if seen and seen[1] != "1":
            at_node = self.town.state.nodes[ME].version
            text = text.replace(seen[0], f"version={self.versions.get(seen[1], at_node)}")
        return text

    def translate(self, text: str) -> str:
        for theirs, mine in self.ours.items():
            text = text.replace(theirs, mine)
            for length in (8, 6, 5, 4):  # beginnings, as the sessions have them
                text = re.sub(rf'(?<=[/"]){theirs[:length]}(?=["/]|$)', mine[:length], text)
        return text


def bare(value: Any) -> Any:
    """Without what is each one's own; lists of things by name."""
    if isinstance(value, dict):
        return {key: bare(item) for key, item in value.items() if key not in OWN}
    if isinstance(value, list):
        plain = [bare(item) for item in value]
        named = all(isinstance(item, dict) and ("Name" in item or "Spec" in item) for item in plain)
        return sorted(plain, key=lambda item: str(item.get("Name") or item["Spec"].get("Name"))) if named else plain
    return re.sub(r"\b[0-9a-z]{25}\b", "ID", value) if isinstance(value, str) else value


def differences(theirs: Any, mine: Any, where: str = "") -> Iterator[str]:
    if isinstance(theirs, dict) and isinstance(mine, dict):
        for key in sorted(theirs.keys() | mine.keys()):
            yield from differences(theirs.get(key, "nothing"), mine.get(key, "nothing"), f"{where}/{key}")
    elif isinstance(theirs, list) and isinstance(mine, list) and len(theirs) == len(mine):
        for number, (one, other) in enumerate(zip(theirs, mine, strict=True)):
            yield from differences(one, other, f"{where}/{number}")
    elif theirs != mine:
        yield f"{where}: {theirs} / {mine}"


@asynccontextmanager
async def asking(town: Town) -> AsyncIterator[Client]:
    """Our API over the town's engine, and who asks it."""
    with tempfile.TemporaryDirectory() as folder:
        app = server.create_app(town.fake, Settings(data_root=folder))
        async with server.serve(app, [server.Listener(f"unix://{folder}/s")]):
            client = Client(f"{folder}/s", town.fake)
            yield client
            await client.close()


@pytest.mark.parametrize(("name", "rows"), SESSIONS, ids=[name for name, _ in SESSIONS])
async def test_a_manager_answers_as_dockerd_does(town: Town, name: str, rows: list[dict[str, Any]]) -> None:
    words, different = Words(town), []
    async with asking(town) as client:
        for number, row in enumerate(rows):
            method, _, path = words.ask(row["ask"]).partition(" ")
            body = json.loads(words.translate(json.dumps(row["body"])))
            answer = await client.ask(method, f"/v1.51{path}", body)
            await town.settle()
            words.learn(row, answer)
            theirs = bare(json.loads(words.translate(json.dumps(row["answer"]))))
            mine = bare(answer.json if answer.text.strip() else None)
            told = [*differences(theirs, mine)]
            if answer.status != row["status"]:
                told = [f"{row['status']} {theirs} / {answer.status} {mine}"]
            if bool(told) != ((name, number) in ACCOUNTED):
                different.append(f"{number} {row['ask']} {row['body']}\n" + "\n".join(f"  {one}" for one in told))
    assert not different, f"{len(different)}\n" + "\n".join(different)


@pytest.mark.parametrize("kind", ["services", "tasks", "nodes", "secrets", "configs", "networks"])
async def test_what_others_wrote_is_heard_before_each_answer(town: Town, kind: str) -> None:
    asked: list[str] = []

    async def current() -> None:
        asked.append(kind)

    town.control_.current = current  # type: ignore[method-assign]
    async with asking(town) as client:
        await client.ask("GET", f"/{kind}")
        await client.ask("GET", f"/{kind}/nobody")
    assert asked == [kind, kind]


@pytest.mark.parametrize("path", ["/services", "/tasks/x", "/nodes", "/secrets", "/configs/x"])
async def test_a_worker_says_who_can_tell(town: Town, path: str) -> None:
    def refuse() -> Control:
        raise Unavailable(NO_MANAGER)

    town.fake.swarm.control = refuse
    async with asking(town) as client:
        answer = await client.ask("GET", path)
    assert (answer.status, answer.json) == (503, {"message": NO_MANAGER})
