"""The data keys of a swarm change while managers come, go and crash at any moment: told in virtual time, on the real
parts over a store in memory that takes its time, with disks that are dictionaries."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from types import SimpleNamespace
from typing import Any

import pytest
from msgspec.structs import replace

from fairlead.core import datakeys
from fairlead.core.cluster import Manager, Node, NodeSpec
from fairlead.core.datakeys import LIFETIME, RING, ZERO, Ring
from fairlead.core.service import SECOND
from fairlead.core.session import KeysGiven
from fairlead.core.swarmspec import Cluster, Trust
from fairlead.errors import Conflict, FairleadError, Forbidden, Internal, Unavailable
from fairlead.store.base import Change, Entry, Lease, Write
from fairlead.store.leases import LocalLease
from fairlead.store.memory import MemoryStore
from fairlead.swarm import leader
from fairlead.swarm.datakeys import DataKeys
from fairlead.swarm.members import Member
from fairlead.swarm.rekeying import Rekeying
from fairlead.swarm.sealedledger import RECORD, SealedLedger, sealed_with, unseal
from fairlead.swarm.state import Event, State
from unit.jumping import in_jumping_time

MANAGER, WORKER = NodeSpec(role="manager"), NodeSpec(role="worker")
ROOTS = ("ROOT", "ANOTHER", "A THIRD")


class Timed(LocalLease):
    """Ends when nobody kept it for its time."""

    kept = False

    def watched(self, seconds: float) -> Timed:
        asyncio.get_running_loop().call_later(seconds, self._look, seconds)
        return self

    def _look(self, seconds: float) -> None:
        if self.kept:
            self.watched(seconds)
        else:
            self.ending = asyncio.ensure_future(self.end())

    async def keep(self) -> None:
        self.kept = True
        try:
            await super().keep()
        finally:
            self.kept = False


class Slow(MemoryStore):
    """Before a question is heard, and before its answer is, somebody may be gone."""

    def __init__(self, dice: random.Random) -> None:
        super().__init__()
        self._dice = dice

    async def _pause(self) -> None:
        await asyncio.sleep(self._dice.random() * 0.05)

    async def get(self, key: str) -> Entry | None:
        await self._pause()
        found = await super().get(key)
        await self._pause()
        return found

    async def list(self, prefix: str) -> list[Entry]:
        await self._pause()
        found = await super().list(prefix)
        await self._pause()
        return found

    async def commit(
        self, writes: Sequence[Write], guards: Iterable[tuple[str, int]] = (), lease: Lease | None = None
    ) -> int:
        await self._pause()
        version = await super().commit(writes, guards, lease)
        await self._pause()
        if self._dice.random() < 0.03:
            raise Unavailable("the answer got lost")
        return version

    async def lease(self, ttl: float) -> Lease:
        await self._pause()
        return Timed(self._leases, self._over).watched(ttl)

    async def _over(self, key: str) -> None:
        await MemoryStore.commit(self, [Write(key, None)])

    async def watch(self, prefix: str, seen: Iterable[Entry] = ()) -> AsyncIterator[Change]:
        async for change in super().watch(prefix, seen):
            await asyncio.sleep(self._dice.random() * 0.02)
            yield change


class Disk:
    """``Credentials``, as far as data keys go."""

    def __init__(self, node: str, known: dict[str, str], keys: dict[str, bytes]) -> None:
        self.identity, self.notes = SimpleNamespace(node=node), SimpleNamespace(managers=known)
        self.data_keys, self.full = keys, False

    def keep_data_keys(self, keys: dict[str, bytes]) -> None:
        if self.full and keys != self.data_keys:
            raise Internal("node.json cannot be written: No space left on device")
        self.data_keys = dict(keys)


class Machine:
    """A manager. ``disk`` is what is left of it when its power is gone."""

    def __init__(self, town: Town, node: str, keys: dict[str, bytes]) -> None:
        self.town, self.node = town, node
        self.disk = Disk(node, town.known, keys)
        self.life: asyncio.Task[None] | None = None
        self.state: State | None = None

    def start(self) -> None:
        self.life = asyncio.ensure_future(self._run())

    async def stop(self) -> None:
        if self.life is not None:
            assert not self.life.done(), self.life.exception()
            self.life.cancel()
            await asyncio.wait([self.life])
        self.life = self.state = None

    async def _run(self) -> None:
        self.ears: list[Callable[[Event], None]] = []
        self.keys = DataKeys(self.disk)  # type: ignore[arg-type]
        self.ledger = SealedLedger(self.town.below, self.keys)
        state = State(self.ledger, lambda event: [ear(event) for ear in self.ears] and None)
        while not state.cluster:
            try:
                await state.load()
            except Unavailable:
                await asyncio.sleep(0.2)
        self.state = state
        self.ears.append(self.keys.hear)
        async with asyncio.TaskGroup() as group:
            group.create_task(state.run())
            group.create_task(self.keys.run(state))
            group.create_task(leader.stand(self.ledger, self.node, self._lead))

    async def _lead(self, guard: leader.Guard) -> None:
        assert self.state
        resigned = asyncio.Event()
        part = Rekeying(
            self.state, self.ledger, self.town, self.keys, self.node,  # type: ignore[arg-type]
            self.town.now, self.town.fresh, resigned.set,
        )  # fmt: skip
        self.ears.append(part.hear)
        leading = asyncio.ensure_future(part.lead(guard))
        try:
            await resigned.wait()
        finally:
            leading.cancel()
            self.ears.remove(part.hear)


class Town:
    """A swarm's managers. It is ``members`` and the way between gates, too."""

    def __init__(self, seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
        self.dice = random.Random(seed)
        self.below = Slow(self.dice)
        self.machines: dict[str, Machine] = {}
        self.members: list[str] = []
        self.gone: dict[str, dict[str, bytes]] = {}
        """what those had on their disks who manage no more"""
        self.known: dict[str, str] = {}
        self.written: dict[str, bytes] = {}
        self.ahead = 0
        self.root = 0
        monkeypatch.setattr("fairlead.swarm.gate.ask", self._ask)

    def now(self) -> int:
        return 10**18 + self.ahead + int(asyncio.get_running_loop().time() * SECOND)

    def fresh(self) -> bytes:
        return self.dice.randbytes(32)

    async def list(self) -> list[Member]:
        await asyncio.sleep(self.dice.random() * 0.05)
        return [Member(node, node, False, True) for node in self.members]

    async def _ask(self, address: str, message: object, keys: Disk) -> KeysGiven:
        """As the gate and ``joining.Admission`` answer."""
        await asyncio.sleep(self.dice.random() * 0.05)
        to, who = self.machines.get(address), keys.identity.node
        if to is None or to.state is None:
            raise Unavailable("connection refused")
        state, life = to.state, to.life
        await state.current()
        node = state.nodes.get(who)
        if node is None or node.spec.role != "manager" or who not in self.members:
            raise Forbidden("this node is not to be a manager")
        given = await to.keys.give(state, who)
        await asyncio.sleep(self.dice.random() * 0.05)
        if to.life is not life:
            raise Unavailable("connection reset")
        return KeysGiven(given)

    # -- what happens ------------------------------------------------------------------------------------------------

    async def found(self, zero: bool = False) -> None:
        key = self.fresh()
        id = ZERO if zero else datakeys.name(key)
        things: list[Any] = [Cluster("cluster", Trust(ROOTS[0])), self._node("m0", "" if zero else id)]
        if not zero:
            things.append(datakeys.first(id, "m0", "", self.now()))
        first = Machine(self, "m0", {id: key})
        while not await self.below.list(""):
            try:
                await State(SealedLedger(self.below, DataKeys(first.disk))).commit(things)  # type: ignore[arg-type]
            except (Conflict, Unavailable):
                continue
        self._enter(first)

    def _node(self, id: str, holds: str = "") -> Node:
        return Node(id, MANAGER, manager=Manager(address=id), holds=holds)

    def _enter(self, machine: Machine) -> None:
        self.machines[machine.node] = machine
        self.known[machine.node] = machine.node
        if machine.node not in self.members:
            self.members.append(machine.node)
        machine.start()

    def up(self) -> list[Machine]:
        return [machine for machine in self.machines.values() if machine.state is not None]

    async def joins(self) -> None:
        at, id = self.dice.choice(self.up()), f"m{len(self.machines) + len(self.gone)}"
        assert at.state
        await at.state.commit([self._node(id)])
        self.members.append(id)
        try:
            keys = await at.keys.give(at.state, id)
        except (FairleadError, AttributeError):
            self.members.remove(id)
            self.gone[id] = {}
            return
        self._enter(Machine(self, id, keys))

    async def goes(self, machine: Machine, how: str) -> None:
        """``demote``, ``remove``; ``leave``: struck off the list, and to be a manager still."""
        by = next((one for one in self.up() if one is not machine), None)
        if by is None or by.state is None:
            return
        if how != "leave":
            node = by.state.nodes[machine.node]
            gone = how == "remove"
            await by.state.commit([] if gone else [replace(node, spec=WORKER)], [node] if gone else [])
            await asyncio.sleep(self.dice.random() * 3)  # until it is struck off, it hears all there is
        self.members.remove(machine.node)
        del self.machines[machine.node], self.known[machine.node]
        await machine.stop()
        self.gone[machine.node] = machine.disk.data_keys

    async def another_root(self) -> None:
        by = self.dice.choice(self.up())
        assert by.state
        self.root += 1
        cluster = by.state.cluster["cluster"]
        await by.state.commit([replace(cluster, trust=Trust(ROOTS[self.root % len(ROOTS)]))])

    async def writes(self) -> None:
        """What was acknowledged is there."""
        by, key = self.dice.choice(self.up()), f"x/{self.dice.randrange(12)}"
        value = self.dice.randbytes(8)
        self.written.pop(key, None)
        await by.ledger.put_if(key, value)
        self.written[key] = value

    async def happens(self) -> None:
        crashed = [one for one in self.machines.values() if one.life is None]
        deed = self.dice.choice("wwwwwcccrrrjjgaf")
        if deed == "c" or (deed == "r" and not crashed):
            await self.dice.choice(list(self.machines.values())).stop()
        elif deed == "r":
            self.dice.choice(crashed).start()
        elif deed == "f":
            disk = self.dice.choice(list(self.machines.values())).disk
            disk.full = not disk.full
        elif not self.up():
            return
        elif deed == "j" and len(self.machines) < 5:
            await self.joins()
        elif deed == "g" and len(self.machines) > 1:
            how = self.dice.choice(["demote", "remove", "leave"])
            await self.goes(self.dice.choice(list(self.machines.values())), how)
        elif deed == "a":
            if self.dice.random() < 0.5:
                self.ahead += LIFETIME
            else:
                await self.another_root()
        else:
            await self.writes()

    # -- what must be so ---------------------------------------------------------------------------------------------

    async def entries(self) -> list[Entry]:
        return await MemoryStore.list(self.below, "")

    async def each_can_open_all(self) -> None:
        for entry in await self.entries():
            for node, machine in self.machines.items():
                opened = unseal(machine.disk.data_keys, entry.key, entry.value)
                assert opened is not None, f"{node} cannot open {entry.key}, under {sealed_with(entry.value)}"
                if entry.key in self.written:
                    assert opened == self.written[entry.key]

    async def nobody_gone_can_open_any(self) -> None:
        for entry in await self.entries():
            for node, keys in self.gone.items():
                assert unseal(keys, entry.key, entry.value) is None, f"{node}, who is gone, opens {entry.key}"

    async def ring(self) -> Ring:
        (machine, *_) = self.machines.values()
        entry = await MemoryStore.get(self.below, RECORD)
        assert entry
        opened = unseal(machine.disk.data_keys, RECORD, entry.value)
        assert opened
        return datakeys.read(opened)

    async def settled(self, before: Ring | None = None, seconds: float = 60) -> Ring:
        """Nothing is due, and one key is left, on every disk: another than before."""
        until = asyncio.get_running_loop().time() + seconds
        while True:
            await self.each_can_open_all()
            machine = next(iter(self.up()), None)
            if machine is not None and machine.state is not None and RING in machine.state.datakeys:
                ring = await self.ring()
                under = {sealed_with(entry.value) for entry in await self.entries()}
                given = set(ring.given) <= set(self.machines)
                other = ring.used not in (ZERO, before and before.used)
                disks = {id for machine in self.machines.values() for id in machine.disk.data_keys}
                if len(ring.keys) == 1 and under == disks == {ring.used} and given and other:
                    return ring
            assert asyncio.get_running_loop().time() < until, "no key is the only one yet"
            await asyncio.sleep(0.5)

    async def all_up(self) -> None:
        for machine in self.machines.values():
            machine.disk.full = False
            if machine.life is None:
                machine.start()
        async with asyncio.timeout(60):
            while len(self.up()) < len(self.machines):
                await asyncio.sleep(0.1)

    async def ends(self) -> None:
        for machine in self.machines.values():
            await machine.stop()


Story = Callable[[Town], Any]


def tell(seed: int, monkeypatch: pytest.MonkeyPatch, story: Story) -> None:
    async def told() -> None:
        town = Town(seed, monkeypatch)
        try:
            await story(town)
        finally:
            await town.ends()

    in_jumping_time(told())


@pytest.mark.parametrize("seed", range(40))
def test_whoever_comes_goes_and_crashes_every_member_opens_all_and_who_went_nothing(
    monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    async def story(town: Town) -> None:
        await town.found(zero=seed % 3 == 0)
        await town.all_up()
        for _ in range(60):
            try:
                async with asyncio.timeout(20):
                    await town.happens()
            except (FairleadError, TimeoutError, KeyError):
                pass  # it was refused, or who did it is gone
            await town.each_can_open_all()
            await asyncio.sleep(town.dice.choice([0, 0.02, 0.1, 0.5, 2, 8]))
            await town.each_can_open_all()
        await town.all_up()
        await town.settled()
        await town.nobody_gone_can_open_any()
        for _ in range(5):
            try:
                await town.writes()
            except Unavailable:
                continue
        await town.each_can_open_all()
        await town.nobody_gone_can_open_any()

    tell(seed, monkeypatch, story)


async def three(town: Town) -> None:
    """m0, m1 and m2 manage, and nothing is due."""
    await town.found()
    await town.all_up()
    while len(town.machines) < 3:
        try:
            await town.joins()
        except Unavailable:
            continue
    await town.all_up()
    await town.settled()


async def surely(deed: Callable[[], Any]) -> None:
    while True:
        try:
            await deed()
            return
        except Unavailable:
            continue


@pytest.mark.proves("swarm-data-keys", guard=("core/datakeys.py", "if node not in facts.managers]", "if False]"))
@pytest.mark.proves("swarm-data-keys", guard=("swarm/datakeys.py", "if node not in ring.given:", "if False:"))
@pytest.mark.parametrize("how", ["demote", "remove", "leave"])
def test_who_went_opens_nothing_any_more(monkeypatch: pytest.MonkeyPatch, how: str) -> None:
    async def story(town: Town) -> None:
        await three(town)
        await surely(town.writes)
        before = await town.ring()
        await town.goes(town.machines["m1"], how)
        await town.settled(before)
        await town.nobody_gone_can_open_any()

    tell(7, monkeypatch, story)


@pytest.mark.proves("swarm-data-keys", guard=("core/datakeys.py", "if holds != ring.keys[0])", "if False)"))
def test_who_is_away_is_waited_for_and_for_nobody_s_sake_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    """Until then the key before is used: a value is never under a key that a member does not have."""

    async def story(town: Town) -> None:
        await three(town)
        before = await town.ring()
        await town.machines["m1"].stop()
        town.ahead += LIFETIME
        await asyncio.sleep(60)
        begun = await town.ring()
        assert begun.used == before.used and len(begun.keys) == 2
        await surely(town.writes)
        await town.each_can_open_all()
        town.machines["m1"].start()
        await town.settled(before)

    tell(3, monkeypatch, story)


def test_a_disk_that_is_full_is_waited_for_too(monkeypatch: pytest.MonkeyPatch) -> None:
    async def story(town: Town) -> None:
        await three(town)
        before = await town.ring()
        town.machines["m2"].disk.full = True
        town.ahead += LIFETIME
        await asyncio.sleep(60)
        assert (await town.ring()).used == before.used
        town.machines["m2"].disk.full = False
        await town.settled(before)

    tell(5, monkeypatch, story)


def test_a_manager_with_a_disk_of_before_gets_the_keys_from_any_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """By its certificate; without one that answers it says what it lacks."""

    async def story(town: Town) -> None:
        await three(town)
        old = dict(town.machines["m1"].disk.data_keys)
        before = await town.ring()
        town.ahead += LIFETIME
        ring = await town.settled(before)
        away = town.machines["m1"]
        await away.stop()
        away.disk.data_keys = old
        await town.machines["m2"].stop()
        leading = town.machines["m0"].state
        town.machines["m0"].state = None  # it does not answer
        away.start()
        await asyncio.sleep(10)
        assert away.state is None and "connection refused" in away.keys.trouble
        assert ring.used[:8] in away.keys.trouble and "swarm leave --force" in away.keys.trouble
        town.machines["m0"].state = leading
        await asyncio.sleep(10)
        assert away.state is not None and ring.used in away.disk.data_keys and not away.keys.trouble

    tell(11, monkeypatch, story)


def test_what_others_give_is_believed_as_far_as_ids_and_keys_agree(monkeypatch: pytest.MonkeyPatch) -> None:
    async def tell() -> None:
        good, mine = b"g" * 32, b"m" * 32
        disk = Disk("m1", {"m0": "m0", "m1": "m1"}, {"": mine})
        told = {datakeys.name(good): good, datakeys.name(b"x" * 32): b"y" * 32, "": b"z" * 32}

        async def ask(*given: object) -> KeysGiven:
            return KeysGiven(told)

        monkeypatch.setattr("fairlead.swarm.gate.ask", ask)
        await DataKeys(disk).ask([datakeys.name(good)])  # type: ignore[arg-type]
        assert disk.data_keys == {"": mine, datakeys.name(good): good}

    in_jumping_time(tell())


def test_old_values_are_sealed_anew_a_bounded_number_a_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    async def story(town: Town) -> None:
        await town.found()
        await town.all_up()
        machine = town.machines["m0"]
        for number in range(450):
            await surely(lambda number=number: machine.ledger.put_if(f"x/{number}", b"small"))
        for number in range(4):
            await surely(lambda number=number: machine.ledger.put_if(f"y/{number}", b"l" * 700_000))
        sizes: list[tuple[int, int]] = []
        commit = town.below.commit

        async def counted(writes: Sequence[Write], *rest: Any) -> int:
            sizes.append((len(writes), sum(len(write.value or b"") for write in writes)))
            return await commit(writes, *rest)

        monkeypatch.setattr(town.below, "commit", counted)
        before = await town.ring()
        town.ahead += LIFETIME
        await town.settled(before, 200)
        most, largest = max(count for count, _ in sizes), max(size for _, size in sizes)
        assert 100 <= most <= 202, "a piece, and the mark"
        assert largest < 2_000_000

    tell(1, monkeypatch, story)


@pytest.mark.proves("swarm-data-keys", guard=("swarm/rekeying.py", "if self._me not in facts.managers:", "if False:"))
def test_a_leader_that_manages_no_more_makes_no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    async def story(town: Town) -> None:
        await three(town)
        await town.machines["m1"].stop()
        await town.machines["m2"].stop()
        await asyncio.sleep(10)
        leads = town.machines["m0"]
        before = await town.ring()
        assert leads.state
        await surely(lambda: leads.state.commit([replace(leads.state.nodes["m0"], spec=WORKER)]))  # type: ignore[union-attr]
        await asyncio.sleep(30)
        assert (await town.ring()).keys == before.keys

    tell(2, monkeypatch, story)
