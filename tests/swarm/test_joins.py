"""Nodes that join, work, leave and are removed, again and again: nothing of them may stay. In time that jumps.

join (a certificate) --> session --> a task of a global service, an address on loan --> goodbye --> node rm
"""

import asyncio
import contextlib
import datetime
import gc
import os
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from fairlead.core import sharednetworks
from fairlead.core.cluster import Description, Manager, Node, NodeSpec, Report, Service, State, Task, TaskStatus, new_id
from fairlead.core.model import NetworkRequest
from fairlead.core.service import SECOND, ContainerSpec, Global, Mode, NetworkAttachment, ServiceSpec, TaskSpec
from fairlead.core.session import Assign, Call, Hello, Issued, Join, Reply, Told, Welcome
from fairlead.core.swarmspec import Cluster, SharedNetwork, Trust
from fairlead.errors import Unavailable
from fairlead.store.memory import MemoryStore
from fairlead.swarm import ca, loans
from fairlead.swarm.control import Control
from fairlead.swarm.dispatcher import LEAVE, Dispatcher
from fairlead.swarm.joining import Admission
from fairlead.swarm.keeping import Keeping
from fairlead.swarm.leader import Leader
from fairlead.swarm.loans import Loans
from fairlead.swarm.presence import RollCall
from fairlead.swarm.sharedstore import PUT, Question, SharedVerbs
from fairlead.swarm.state import Event
from fairlead.swarm.state import State as SwarmState
from unit.jumping import in_jumping_time
from unit.swarmpipe import End, pipe

FOUNDED = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
FEW, MANY = 40, 200
"""joins with all that a node does"""
BARE = int(os.environ.get("JOINS", "1000"))
"""joins with nothing but the certificate (10000 take a minute)"""
KEY, REQUEST = ca.new_request()


class Stranger:
    """A stream of somebody without certificate."""

    identity, certificate, peer = None, None, "192.0.2.7"


class Swarm:
    """One manager, which leads; its networks, and a service that runs on every node."""

    def __init__(self) -> None:
        self.ledger = MemoryStore()
        self.ears: list[Any] = []
        self.state = SwarmState(self.ledger, self._told)
        self.drawn = self.ahead = 0
        self.root = ca.Authority.found(FOUNDED)
        trust = Trust(self.root.certificate.decode(), self.root.key.decode())
        self.cluster = Cluster("cluster", trust, worker="w" * 25, manager="m" * 25)

    def _told(self, event: Event) -> None:
        for ear in tuple(self.ears):
            ear(event)

    def hear(self, ear: Any) -> Any:
        self.ears.append(ear)
        return lambda: self.ears.remove(ear)

    def clock(self) -> int:
        return int((FOUNDED.timestamp() + self.ahead + asyncio.get_running_loop().time()) * SECOND)

    def now(self) -> datetime.datetime:
        return datetime.datetime.fromtimestamp(self.clock() / SECOND, datetime.UTC)

    def draw(self, below: int) -> int:
        self.drawn = (self.drawn * 6364136223846793005 + 1442695040888963407) % 2**64
        return (self.drawn >> 16) % below

    async def stand(self, tasks: asyncio.TaskGroup) -> None:
        asked = (sharednetworks.ingress_request(), NetworkRequest(name="red", driver="overlay", attachable=True))
        networks: list[Any] = []
        for request in asked:
            networks.append(sharednetworks.settle(request, networks, self.cluster, new_id(self.draw), "now"))
        self.red = networks[1].id
        template = TaskSpec(ContainerSpec(image="x"), networks=(NetworkAttachment(self.red),))
        web = ServiceSpec(name="web", mode=Mode(everywhere=Global()), task_template=template)
        m = Node("m", NodeSpec(role="manager", availability="drain"), manager=Manager(address="m"), state="ready")
        things = [SharedNetwork(network.id, network) for network in networks]
        await self.state.commit([self.cluster, m, Service("s", web), *things])
        self.dispatcher = Dispatcher(self.state, self.ledger, "m", self._nobody)
        self.dispatcher.verbs |= {**SharedVerbs(self.ledger).served, **Loans(self.state, self.hear).served}
        self.admission = Admission(self.state, None, self.clock, self.now, self.draw, self._nobody)  # type: ignore[arg-type]
        self.control = Control(self.state, self.clock, self.draw)
        await self.ledger.put_if("leader", b"m")
        entry = await self.ledger.get("leader")
        guard = ("leader", entry.version if entry else 0)
        self.parts = (
            Leader(self.state, self.clock, lambda: new_id(self.draw), 5),
            RollCall(self.state, self.ledger, "m", self.dispatcher.boards.tasks, self.clock, 15.0),
            Keeping(self.state, self.ledger, self.clock, lambda: b"n" * 32),
        )
        self.ears += [self.dispatcher.hear, *(part.hear for part in self.parts)]
        for deed in (self.state.run(), self.dispatcher.run(), *(part.lead(guard) for part in self.parts)):
            tasks.create_task(deed)

    async def _nobody(self, address: str) -> Any:
        raise Unavailable(address)

    async def joins(self) -> str:
        issued = await self.admission._join(Stranger(), Join("w" * 25, REQUEST.decode(), "active"))  # type: ignore[arg-type]
        assert isinstance(issued, Issued)
        return issued.node

    async def removes(self, node: str, *, force: bool) -> None:
        await self.control.remove_node(node, force)

    async def quiet(self) -> None:
        """Everything that follows has happened."""
        await asyncio.sleep(60)

    def kept(self) -> dict[str, int]:
        """What there is, for each kind."""
        kinds: dict[str, int] = {}
        for key in self.ledger._entries:
            kind = "/".join(key.split("/")[:-1])
            kinds[kind] = kinds.get(kind, 0) + 1
        return kinds


class Visitor:
    """A node on paper: runs what it is told, borrows an address, tells where it is, and says goodbye."""

    def __init__(self, swarm: Swarm, node: str, tasks: asyncio.TaskGroup) -> None:
        self.node = node
        self.near, far = pipe(node)
        self.serving = tasks.create_task(self._served(swarm, far))
        self.number = 0

    async def _served(self, swarm: Swarm, far: End) -> None:
        with contextlib.suppress(Unavailable):
            await swarm.dispatcher.session(far, Hello(Description(self.node)))

    async def hears(self, kind: Any) -> Any:
        while not isinstance(message := await self.near.receive(60), kind):
            pass
        return message

    async def asks(self, verb: str, body: Any) -> Reply:
        self.number += 1
        await self.near.send(Call(self.number, verb, msgspec.Raw(msgspec.json.encode(body))))
        while (reply := await self.hears(Reply)).number != self.number:
            pass
        assert not reply.error, reply
        return reply

    async def works(self, red: str) -> Task:
        """Until its task runs."""
        await self.hears(Welcome)
        while not (found := (await self.hears(Assign)).tasks):
            pass
        (task,) = found
        await self.near.send(Told(0, (Report(task.id, TaskStatus(State.RUNNING, at=1)),)))
        await self.asks(PUT, Question(f"nodes/{self.node}", b"here"))
        await self.asks(PUT, Question(f"keys/{self.node}", b"half"))
        await self.asks(loans.LEASE, loans.Wish(f"endpoint of {self.node}", red))
        return task

    async def leaves(self, goodbye: bool) -> None:
        if goodbye:
            await self.asks(LEAVE, None)
        self.near.abort()
        await asyncio.wait([self.serving])


@pytest.fixture
def story() -> Iterator[Any]:
    def told(tell: Any) -> None:
        async def run() -> None:
            with contextlib.suppress(asyncio.CancelledError):
                async with asyncio.TaskGroup() as tasks:
                    swarm = Swarm()
                    await swarm.stand(tasks)
                    await swarm.quiet()
                    await tell(swarm, tasks)
                    for task in tasks._tasks:
                        task.cancel()

        in_jumping_time(run())

    gc.collect()
    yield told
    gc.collect()


@pytest.mark.proves(
    "CVE-2016-6595",
    guard=(
        "swarm/keeping.py",
        'if entry.key.rpartition("/")[2] not in self._state.nodes:',
        "if False:",
    ),
)
def test_nothing_stays_of_nodes_that_come_and_go(story: Any) -> None:
    """Not in the store, not in a manager's memory; and the last one joins as the first did."""

    async def tell(swarm: Swarm, tasks: asyncio.TaskGroup) -> None:
        async def once(number: int) -> None:
            visitor = Visitor(swarm, await swarm.joins(), tasks)
            await visitor.works(swarm.red)  # of 253 addresses, two each time
            await visitor.leaves(goodbye=bool(number % 3))
            await swarm.removes(visitor.node, force=True)
            await asyncio.sleep(30)

        await once(0)
        await swarm.quiet()
        before = swarm.kept()
        for number in range(FEW):
            await once(number)
        await swarm.quiet()
        gc.collect()
        objects = len(gc.get_objects())
        for number in range(MANY):
            await once(number)
        await swarm.quiet()
        gc.collect()
        assert len(gc.get_objects()) < objects + MANY / 4, "memory grows with every node that was"
        after = swarm.kept()
        assert {kind: count for kind, count in after.items() if count > before.get(kind, 0)} == {}, after
        assert swarm.state.nodes.keys() == {"m"} and not swarm.state.loans and not swarm.dispatcher._sessions

    story(tell)


def test_specs_of_tasks_that_were_are_forgotten(story: Any) -> None:
    """Every update of a service is another."""

    async def tell(swarm: Swarm, tasks: asyncio.TaskGroup) -> None:
        for number in range(20):
            await swarm.state.commit([Task(f"t{number}", TaskSpec(force_update=number), service="other")])
            await asyncio.sleep(100)
            if number > 3:
                gone = swarm.state.tasks.get(f"t{number - 3}")
                await swarm.state.commit(delete=[gone] if gone else [])
        await asyncio.sleep(200)
        assert swarm.kept().get("specs", 0) == len({task.spec for task in swarm.state.tasks.values()}) < 6

    story(tell)


def test_thousands_join_and_are_removed_before_they_were_ever_there(story: Any) -> None:
    async def tell(swarm: Swarm, tasks: asyncio.TaskGroup) -> None:
        before = swarm.kept()
        for number in range(BARE):
            node = await swarm.joins()
            assert swarm.state.nodes[node].created == swarm.clock()
            await swarm.removes(node, force=True)
            if not number % 100:
                await asyncio.sleep(1)
        await swarm.quiet()
        assert {kind: n for kind, n in swarm.kept().items() if n > before.get(kind, 0)} == {}
        assert swarm.state.nodes.keys() == {"m"}

    story(tell)


def test_what_was_revoked_is_forgotten_when_it_is_over_by_itself(story: Any) -> None:
    """Managers that come and go: their certificates are on a list, as long as they would be good."""

    async def tell(swarm: Swarm, tasks: asyncio.TaskGroup) -> None:
        most = 0
        for _ in range(200):
            issued = await swarm.admission._join(Stranger(), Join("m" * 25, REQUEST.decode(), "active"))  # type: ignore[arg-type]
            node = swarm.state.nodes[issued.node]
            await swarm.state.commit([replace(node, spec=NodeSpec())])
            await swarm.removes(node.id, force=True)
            (cluster,) = swarm.state.cluster.values()
            most = max(most, len(cluster.revoked))
            swarm.ahead += 24 * 3600
        assert 80 < most < 100, "one a day, ninety days"

    story(tell)
