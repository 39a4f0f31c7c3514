"""Another root: what begins its exchange, what is refused, and when the old one is forgotten."""

import asyncio
import datetime

import pytest
from msgspec.structs import replace

from fairlead.core import tokens
from fairlead.core.cluster import Manager, Node
from fairlead.core.swarmspec import CaConfig, Cluster, ClusterSpec, ExternalCa, Trust
from fairlead.errors import FairleadError, Invalid
from fairlead.store.memory import MemoryStore
from fairlead.swarm import ca, rotation
from fairlead.swarm.state import State

NOW = datetime.datetime.now(datetime.UTC)


@pytest.fixture
def cluster() -> Cluster:
    root = ca.Authority.found(NOW)
    return Cluster("cluster", Trust(root.certificate.decode(), root.key.decode()))


def asks(**config: object) -> ClusterSpec:
    return ClusterSpec(ca_config=CaConfig(**config))  # type: ignore[arg-type]


def test_nothing_begins_when_other_things_change(cluster: Cluster) -> None:
    trust, spec = rotation.updated(cluster, asks(node_cert_expiry=5), NOW)
    assert trust == cluster.trust and spec.ca_config.node_cert_expiry == 5


def test_a_root_of_ours(cluster: Cluster) -> None:
    trust, spec = rotation.updated(cluster, asks(force_rotate=1), NOW)
    assert trust.root == cluster.trust.root and trust.next_root and trust.roots == trust.root + trust.next_root
    leaf = ca.Authority(trust.next_root.encode(), trust.next_key.encode(), trust.bridge.encode()).issue(
        ca.new_request()[1], ca.Identity("n", "worker", "c"), NOW
    )
    assert ca.trusted(leaf, [trust.root.encode()], NOW), "whoever has not heard believes by the bridge"
    with pytest.raises(FairleadError, match="being exchanged already"):
        rotation.updated(replace(cluster, trust=trust, spec=spec), asks(force_rotate=2), NOW)


def test_a_root_of_theirs(cluster: Cluster) -> None:
    own = ca.Authority.found(NOW)
    text, key = own.certificate.decode(), own.key.decode()
    dos = "\n " + text.replace("\n", "\r\n").strip()
    trust, spec = rotation.updated(cluster, asks(signing_ca_cert=dos, signing_ca_key=key, force_rotate=1), NOW)
    assert trust.next_root == text, "tokens are made of the text: it is tidied"
    assert not spec.ca_config.signing_ca_key and key not in repr(trust)
    for wrong in (
        asks(signing_ca_cert=text, signing_ca_key=ca.Authority.found(NOW).key.decode()),
        asks(signing_ca_cert=text + text, signing_ca_key=key),
        asks(signing_ca_cert="nonsense", signing_ca_key=key),
        asks(signing_ca_cert=text, force_rotate=1),
        asks(signing_ca_cert=text, force_rotate=1, external_cas=(ExternalCa(url="https://ca"),)),
    ):
        with pytest.raises(Invalid) as told:
            rotation.updated(cluster, wrong, NOW)
        assert "PRIVATE" not in told.value.message


def test_a_root_whose_key_stays_elsewhere(cluster: Cluster) -> None:
    """Its key is nowhere in the swarm, so nobody may forget who has it; and it signs for the one after it."""
    own = ca.Authority.found(NOW)
    theirs = ExternalCa(url="https://ca", ca_cert=own.certificate.decode() + "\n")
    wish = asks(signing_ca_cert=own.certificate.decode(), force_rotate=1, external_cas=(theirs,))
    trust, spec = rotation.updated(cluster, wish, NOW)
    assert trust.next_root == own.certificate.decode() and not trust.next_key
    leaf = own.issue(ca.new_request()[1], ca.Identity("n", "worker", "c"), NOW) + trust.bridge.encode()
    assert ca.trusted(leaf, [trust.root.encode()], NOW), "whoever has not heard believes by the bridge"
    for at in (replace(cluster, trust=trust, spec=spec), replace(cluster, trust=Trust(trust.next_root), spec=spec)):
        with pytest.raises(Invalid, match="at least one valid, reachable external CA"):
            rotation.updated(at, asks(force_rotate=1), NOW)
    alone = replace(cluster, trust=Trust(trust.next_root), spec=spec)
    again = replace(spec, ca_config=replace(spec.ca_config, signing_ca_cert="", force_rotate=2))
    with pytest.raises(FairleadError, match="Give it first: swarm ca --rotate --ca-cert FILE --ca-key FILE"):
        rotation.updated(alone, again, NOW)
    here = asks(signing_ca_cert=own.certificate.decode(), signing_ca_key=own.key.decode(), force_rotate=2)
    assert rotation.updated(alone, here, NOW)[0] == Trust(own.certificate.decode(), own.key.decode())


async def settle() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


async def test_the_old_one_is_forgotten_when_every_node_has_come_along(cluster: Cluster) -> None:
    state = State(MemoryStore())
    trust, spec = rotation.updated(cluster, asks(force_rotate=1), NOW)
    new, old = tokens.digest(trust.next_root.encode()), tokens.digest(trust.root.encode())
    await state.commit(
        [replace(cluster, trust=trust, spec=spec), Node("a", root=new, manager=Manager()), Node("b", root=old)]
    )
    version = await state._ledger.put_if("leader", b"me", 0)
    part = rotation.Rotation(state)
    state._told = part.hear
    leading = asyncio.create_task(part.lead(("leader", version)))
    await settle()
    assert state.cluster["cluster"].trust.root == trust.root
    await state.commit([replace(state.nodes["b"], root=new)])
    await settle()
    assert state.cluster["cluster"].trust.root == trust.root, "a member of the store knows the old one alone"
    await state.commit([replace(state.nodes["a"], believes=rotation.belief(trust.roots))])
    async with asyncio.timeout(5):
        while state.cluster["cluster"].trust.next_root:
            await asyncio.sleep(0)
    assert state.cluster["cluster"].trust == Trust(trust.next_root, trust.next_key)
    leading.cancel()
