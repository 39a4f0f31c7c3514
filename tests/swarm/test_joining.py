"""What a manager answers to who wants in, renew or manage, over real TLS; its state is in memory, its etcd a list."""

import asyncio
import datetime
import random
from collections.abc import AsyncIterator, Iterable
from pathlib import Path
from types import SimpleNamespace

import pytest
from msgspec.structs import replace

from fairlead.core import tokens
from fairlead.core.cluster import Manager, Node, NodeSpec
from fairlead.core.revoked import revoked, without
from fairlead.core.service import SECOND
from fairlead.core.session import GetKeys, Issued, KeysGiven
from fairlead.core.swarmspec import CaConfig, Cluster, ExternalCa, Trust
from fairlead.errors import FairleadError, Forbidden, Invalid
from fairlead.store.base import Change, Entry
from fairlead.store.memory import MemoryStore
from fairlead.swarm import ca, gate, joining
from fairlead.swarm.credentials import Credentials, Notes
from fairlead.swarm.gate import Gate, Newcomer
from fairlead.swarm.members import Member
from fairlead.swarm.membership import Membership
from fairlead.swarm.state import State
from lane.cfssl import Cfssl

NOW = datetime.datetime.now(datetime.UTC)
LISTEN = "127.0.0.1:0"


class Etcd:
    """The list of members."""

    def __init__(self) -> None:
        self.members: list[Member] = [Member("1", "first", False, True)]
        self._next = 2

    async def list(self) -> list[Member]:
        return list(self.members)

    async def add(self, node: str) -> str:
        self.members.append(Member(str(self._next), node, True, False))
        self._next += 1
        return self.members[-1].id

    async def remove(self, id: str) -> None:
        self.members = [member for member in self.members if member.id != id]


class Late(MemoryStore):
    """What changed is heard ``late`` seconds later."""

    late = 0.0

    async def watch(self, prefix: str, seen: Iterable[Entry] = ()) -> AsyncIterator[Change]:
        async for change in super().watch(prefix, seen):
            await asyncio.sleep(self.late)
            yield change


class Swarm:
    """One manager, ``first``, and its swarm."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.root = ca.Authority.found(NOW)
        trust = Trust(self.root.certificate.decode(), self.root.key.decode())
        self.cluster = Cluster("cluster", trust, worker="w" * 25, manager="m" * 25)
        self.ledger = Late()
        self.state, self.etcd = State(self.ledger), Etcd()
        self.given: list[str] = []
        dice = random.Random(1)
        self.admission = joining.Admission(self.state, self.etcd, lambda: 7, lambda: NOW, dice.randrange, self._give)  # type: ignore[arg-type]
        self.gate = Gate(self.credentials("first", "manager"), self.admission.welcome)
        self.admission.answer_at(self.gate)
        self.address = self.gate.listen(LISTEN)

    async def _give(self, node: str) -> dict[str, bytes]:
        self.given.append(node)
        return {"": b"d" * 32, "new": b"n" * 32}

    def credentials(self, node: str, role: str) -> Credentials:
        key, request = ca.new_request()
        certificate = self.root.issue(request, ca.Identity(node, role, "cluster"), NOW)
        notes = Notes(
            certificate.decode(),
            key.decode(),
            self.root.certificate.decode(),
            listen=LISTEN,
            managers={"first": ""},
        )
        return Credentials(self.folder / node / "node.json", notes)

    def token(self, secret: str) -> tokens.Token:
        return tokens.Token(tokens.digest(self.root.certificate), secret)

    async def has(self, node: str, role: str) -> Credentials:
        """A node that is in it."""
        await self.state.commit([Node(node, NodeSpec(role=role))])
        return self.credentials(node, role)


@pytest.fixture
async def swarm(tmp_path: Path) -> AsyncIterator[Swarm]:
    made = Swarm(tmp_path)
    first = Node("first", NodeSpec(role="manager"), manager=Manager(address=made.address))
    await made.state.commit([made.cluster, first])
    running = [asyncio.create_task(made.gate.run()), asyncio.create_task(made.state.run())]
    yield made
    for one in running:
        one.cancel()
    await asyncio.wait(running)


@pytest.mark.parametrize(("secret", "role"), [("w" * 25, "worker"), ("m" * 25, "manager")])
async def test_the_secret_says_which_role(swarm: Swarm, secret: str, role: str) -> None:
    joined = await joining.join(swarm.address, swarm.token(secret), "drain")
    who = ca.identity(joined.issued.certificate.encode())
    node = swarm.state.nodes[who.node]
    assert (who.role, node.spec.role, node.spec.availability, node.created) == (role, role, "drain", 7)
    assert (node.address, joined.here) == ("127.0.0.1", "127.0.0.1")
    assert ca.trusted(joined.issued.certificate.encode(), [swarm.root.certificate], NOW)
    assert joined.issued.managers == (swarm.address,)


async def test_who_has_no_secret_gets_nothing(swarm: Swarm) -> None:
    for secret in ("x" * 25, "", "w" * 24):
        with pytest.raises(Invalid, match="valid join token is necessary"):
            await joining.join(swarm.address, swarm.token(secret), "active")
    with pytest.raises(Invalid, match="Availability"):
        await joining.join(swarm.address, swarm.token("w" * 25), "sideways")
    assert set(swarm.state.nodes) == {"first"}


async def test_a_manager_that_is_not_the_token_s_is_told_no_secret(
    swarm: Swarm, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    async def note(stream: object, message: object) -> None:
        asked.append(message)

    monkeypatch.setattr(swarm.admission, "_join", note)
    other = ca.Authority.found(NOW)
    with pytest.raises(Invalid, match="remote CA does not match fingerprint"):
        await joining.join(swarm.address, tokens.Token(tokens.digest(other.certificate), "w" * 25), "active")
    liar = replace(swarm.cluster, trust=Trust(other.certificate.decode(), other.key.decode()))
    swarm.state.cluster["cluster"] = liar  # it says the right root, and has no certificate of it
    with pytest.raises(Forbidden, match="no manager of this swarm"):
        await joining.join(swarm.address, tokens.Token(tokens.digest(other.certificate), "w" * 25), "active")
    assert not asked


async def test_a_certificate_for_the_role_that_a_node_is_to_have(swarm: Swarm) -> None:
    node = await swarm.has("node1", "worker")
    issued, _ = await joining.renew([swarm.address], node)
    assert ca.identity(issued.certificate.encode()) == ("node1", "worker", "cluster")
    await swarm.state.commit([replace(swarm.state.nodes["node1"], spec=NodeSpec(role="manager"))])
    issued, _ = await joining.renew(["127.0.0.1:1", swarm.address], node)
    assert ca.identity(issued.certificate.encode()).role == "manager"


async def test_who_was_demoted_is_no_member_before_it_has_a_worker_s_certificate(swarm: Swarm) -> None:
    node = await swarm.has("node1", "manager")
    await joining.enroll([swarm.address], ":2377", node)
    assert swarm.state.nodes["node1"].manager == Manager(address="127.0.0.1:2377")
    await swarm.state.commit([replace(swarm.state.nodes["node1"], spec=NodeSpec(role="worker"))])
    issued, _ = await joining.renew([swarm.address], node)
    assert ca.identity(issued.certificate.encode()).role == "worker"
    assert [member.node for member in swarm.etcd.members] == ["first"]
    assert swarm.state.nodes["node1"].manager is None


async def test_only_who_is_to_manage_is_enrolled(swarm: Swarm) -> None:
    worker = await swarm.has("node1", "worker")
    with pytest.raises(Forbidden, match="takes a manager"):
        await joining.enroll([swarm.address], "a:1", worker)
    demoted = swarm.credentials("node1", "manager")  # has not given up its old certificate
    with pytest.raises(Forbidden, match="not to be a manager"):
        await joining.enroll([swarm.address], "a:1", demoted)
    removed = swarm.credentials("node9", "manager")
    for wish in (joining.enroll([swarm.address], "a:1", removed), joining.renew([swarm.address], removed)):
        with pytest.raises(FairleadError, match="node node9 is not part of this swarm"):
            await wish  # type: ignore[misc]
    assert len(swarm.etcd.members) == 1


@pytest.mark.proves("swarm-certificates", guard=("swarm/joining.py", "await self._state.current(SOON)", "pass"))
async def test_who_was_removed_is_shut_out_at_once_by_a_manager_that_has_not_heard_of_it(swarm: Swarm) -> None:
    node = await swarm.has("node1", "worker")
    await joining.renew([swarm.address], node)
    swarm.ledger.late = 0.2
    elsewhere = State(swarm.ledger)
    await elsewhere.load()
    watching = asyncio.create_task(elsewhere.run())
    await elsewhere.commit(delete=[elsewhere.nodes["node1"]])
    assert "node1" in swarm.state.nodes
    with pytest.raises(Forbidden, match="node node1 is not part of this swarm"):
        await joining.renew([swarm.address], node)
    watching.cancel()


async def test_a_manager_s_certificates_are_written_down_and_revoked_with_it(swarm: Swarm) -> None:
    joined = await joining.join(swarm.address, swarm.token("m" * 25), "active")
    first = joined.issued.certificate.encode()
    id = joined.issued.node
    notes = Notes(first.decode(), joined.key.decode(), joined.issued.roots, managers={"first": ""})
    node = Credentials(swarm.folder / "new" / "node.json", notes)
    second, _ = await joining.renew([swarm.address], node)
    serials = ca.serials(first) | ca.serials(second.certificate.encode())
    assert len(serials) == 2 and swarm.state.nodes[id].serials == serials
    await joining.enroll([swarm.address], ":2377", node)
    cluster = swarm.state.cluster["cluster"]
    assert revoked(cluster, swarm.state.nodes.values()) == set()
    await swarm.state.commit([replace(swarm.state.nodes[id], spec=NodeSpec(role="worker"))])
    assert revoked(cluster, swarm.state.nodes.values()) == set(), "its vote counts still"
    await joining.renew([swarm.address], node)
    assert revoked(cluster, swarm.state.nodes.values()) == set(serials)
    soon = int(NOW.timestamp()) * SECOND
    removed = without(cluster, swarm.state.nodes[id], soon)
    assert revoked(removed, ()) == set(serials) and without(removed, Node("worker"), soon) is removed
    assert without(removed, Node("worker"), soon + 100 * 24 * 3600 * SECOND).revoked == {}


@pytest.mark.proves(
    "swarm-data-keys",
    guard=("swarm/joining.py", "if node not in {member.node for member in await self._members.list()}:", "if False:"),
)
async def test_data_keys_are_for_who_is_to_manage_now(swarm: Swarm) -> None:
    manager, worker = await swarm.has("manager", "manager"), await swarm.has("worker", "worker")
    demoted, removed = await swarm.has("demoted", "manager"), await swarm.has("removed", "manager")
    left = await swarm.has("left", "manager")
    for node in ("manager", "demoted", "removed"):
        await swarm.etcd.add(node)
    demotion = replace(swarm.state.nodes["demoted"], spec=NodeSpec(role="worker"))
    await swarm.state.commit([demotion], [swarm.state.nodes["removed"]])
    told = await gate.ask(swarm.address, GetKeys(), manager)
    assert told == KeysGiven({"": b"d" * 32, "new": b"n" * 32}) and "nnn" not in repr(told)
    for refused in (worker, demoted, removed, left, Newcomer(swarm.root.certificate.decode())):
        with pytest.raises(Forbidden):
            await gate.ask(swarm.address, GetKeys(), refused)
    assert swarm.given == ["manager"]
    enrolled = await joining.enroll([swarm.address], "10.0.0.1:2377", manager)
    assert (enrolled.key, enrolled.keys) == (b"d" * 32, {"new": b"n" * 32})
    assert "nnn" not in repr(enrolled)


async def test_enrolled_twice_and_without_its_data(swarm: Swarm) -> None:
    """An answer that was lost, and a disk that was."""
    node = await swarm.has("node1", "manager")
    for _ in range(2):
        told = await joining.enroll([swarm.address], "10.0.0.1:2377", node)
        assert told.members == {"first": swarm.address, "node1": "10.0.0.1:2377"}
        assert told.key == b"d" * 32 and "ddd" not in repr(told)
    assert [member.node for member in swarm.etcd.members] == ["first", "node1"]
    swarm.etcd.members[1] = swarm.etcd.members[1]._replace(learner=False, started=True)
    await joining.enroll([swarm.address], "10.0.0.1:2377", node)
    assert [(member.node, member.started) for member in swarm.etcd.members] == [("first", True), ("node1", False)]


async def test_a_manager_that_left_is_no_member_to_begin_with(swarm: Swarm) -> None:
    await swarm.state.commit([Node("gone", NodeSpec(role="manager"), manager=Manager(address="10.0.0.9:2377"))])
    node = await swarm.has("node1", "manager")
    told = await joining.enroll([swarm.address], "10.0.0.1:2377", node)
    assert told.members == {"first": swarm.address, "node1": "10.0.0.1:2377"}


async def test_while_the_root_is_exchanged_newcomers_get_a_certificate_of_the_next(swarm: Swarm) -> None:
    new = swarm.root.succeeded_by(ca.Authority.found(NOW), NOW)
    trust = replace(
        swarm.cluster.trust, next_root=new.certificate.decode(), next_key=new.key.decode(), bridge=new.bridge.decode()
    )
    await swarm.state.commit([replace(swarm.state.cluster["cluster"], trust=trust)])
    joined = await joining.join(swarm.address, swarm.token("w" * 25), "active")
    chain = joined.issued.certificate.encode()
    assert ca.trusted(chain, [new.certificate], NOW) and ca.trusted(chain, [swarm.root.certificate], NOW)
    assert joined.issued.roots == trust.roots


async def test_where_somebody_else_signs_he_signs_all(swarm: Swarm, tmp_path: Path) -> None:
    """Though the key is here, too; and a node that became something else meanwhile gets nothing."""
    swarm.admission._shows = swarm.credentials("first", "manager").with_pair
    (cluster,) = swarm.state.cluster.values()
    with Cfssl(swarm.root, tmp_path, swarm.root.certificate) as cfssl:
        spec = replace(cluster.spec, ca_config=CaConfig(external_cas=(ExternalCa(url=cfssl.url),)))
        await swarm.state.commit([replace(cluster, spec=spec, trust=replace(cluster.trust, key=""))])
        joined = await joining.join(swarm.address, swarm.token("m" * 25), "active")
        who = ca.identity(joined.issued.certificate.encode())
        assert swarm.state.nodes[who.node].serials == ca.serials(joined.issued.certificate.encode())
        loop = asyncio.get_running_loop()

        def demoted(asked: dict[str, object]) -> bytes:
            worker = replace(swarm.state.nodes[who.node], spec=NodeSpec(role="worker"))
            asyncio.run_coroutine_threadsafe(swarm.state.commit([worker]), loop).result(5)
            return cfssl.signed(asked)

        cfssl.answer = demoted
        with pytest.raises(Forbidden, match="ask again"):
            await swarm.admission.renewed(who, ca.new_request()[1].decode())
        assert [asked["subject"]["CN"] for _, asked in cfssl.asked] == [who.node] * 2
    (cluster,) = swarm.state.cluster.values()
    await swarm.state.commit([replace(cluster, spec=replace(spec, ca_config=CaConfig()))])
    with pytest.raises(FairleadError, match="key is not in this swarm"):
        await joining.join(swarm.address, swarm.token("w" * 25), "active")


@pytest.mark.parametrize("alone", [True, False])
async def test_a_manager_asks_itself_only_where_there_is_nobody_else(
    swarm: Swarm, monkeypatch: pytest.MonkeyPatch, alone: bool
) -> None:
    """Its clock may be wrong: it would get a certificate that nobody believes, itself neither when the clock is right.
    The only one gets one though its last is not good yet, or no more."""
    asked: list[list[str]] = []

    async def renew(addresses: list[str], keys: Credentials) -> tuple[Issued, bytes]:
        asked.append(addresses)
        raise Forbidden("they are not believed")

    monkeypatch.setattr(joining, "renew", renew)
    ready = asyncio.Event()
    ready.set()
    member = Membership.__new__(Membership)
    member.credentials, member.node = swarm.credentials("first", "manager"), "first"
    member.manager = SimpleNamespace(ready=ready, admission=swarm.admission)  # type: ignore[assignment]
    member._tools = SimpleNamespace(draw=lambda below: 0)  # type: ignore[assignment]
    if not alone:
        member.credentials.notes = replace(member.credentials.notes, managers={"first": "a:1", "second": "b:1"})
        with pytest.raises(Forbidden):
            await member._renewed()
        assert asked == [["b:1"]]
        return
    issued, key = await member._renewed()
    assert not asked and ca.matches(issued.certificate.encode(), key)
    assert swarm.state.nodes["first"].serials == ca.serials(issued.certificate.encode())
