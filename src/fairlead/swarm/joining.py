"""Joining: how a machine becomes a node, and a node a manager.

    newcomer                                                  any manager
      GetRoot  ----- nobody is believed yet ---------------->   Root       held against the digest in the token
      Join(secret of the token, request) ------------------->   Issued     the secret says which role
    node
      Renew(request) -- its certificate -------------------->   Issued     for the role that it is to have now
      Enroll(address) - a manager's certificate ------------>   Enrolled   it is a learner in the managers' etcd
      GetKeys - the same ----------------------------------->   KeysGiven  what is sealed there, it can open

Rules
    1. What a newcomer is told before the digest was right, it does not use; only the root that the token names is
       believed until the manager has shown a certificate of it.
    2. A node gets the certificate that its role in the state calls for: who was demoted leaves the managers' etcd
       before it gets a worker's.
    3. Secrets are compared in constant time, and are in no error.
    4. Who may come in is judged by the state as the majority has it at that moment, not by what this manager happens
       to have heard of it: a node that was removed is shut out when ``node rm`` returns, by every manager.
    5. A manager's certificate is written down before it is handed out, so that it can be revoked.
"""

from __future__ import annotations

import datetime
import hmac
import logging
import ssl
from collections.abc import Awaitable, Callable, Collection, Iterable
from typing import NamedTuple

from msgspec.structs import replace

from fairlead.core import tokens
from fairlead.core.cluster import Manager, Node, NodeSpec, new_id
from fairlead.core.datakeys import ZERO
from fairlead.core.revoked import unexpired
from fairlead.core.session import Enroll, Enrolled, GetKeys, GetRoot, Issued, Join, KeysGiven, Renew, Root
from fairlead.core.swarmspec import Cluster
from fairlead.core.written import joined
from fairlead.errors import FairleadError, Forbidden, Invalid, Unavailable
from fairlead.swarm import ca, externalca, gate
from fairlead.swarm.ca import Authority, Identity
from fairlead.swarm.credentials import each
from fairlead.swarm.gate import Gate, Keys, Newcomer, Stream
from fairlead.swarm.members import Members
from fairlead.swarm.state import State

log = logging.getLogger(__name__)

SOON = 5.0
"""seconds for the majority's answer while somebody knocks: he can go to another manager"""
NEEDS_TOKEN = "rpc error: code = InvalidArgument desc = A valid join token is necessary to join this cluster"


class Joined(NamedTuple):
    """``here``: our address, as that manager is reached from."""

    issued: Issued
    key: bytes
    here: str


# -- the side that asks ------------------------------------------------------------------------------------------------


async def root(address: str, token: tokens.Token) -> str:
    """The root certificate (PEM) that the token names, from a manager that may be anybody."""
    told = await gate.ask(address, GetRoot(), Newcomer())
    if not isinstance(told, Root):
        raise Unavailable(f"{address} did not say what its root certificate is")
    for one in each(told.roots):
        if token.is_for(one.encode()):
            return one
    raise Invalid(f"remote CA does not match fingerprint. Expected: {token.digest}")


async def join(address: str, token: tokens.Token, availability: str) -> Joined:
    """A certificate for a key that was made here."""
    keys = Newcomer(await root(address, token))
    key, request = ca.new_request()
    stream = await gate.open(address, keys)
    try:
        await stream.send(Join(token.secret, request.decode(), availability))
        issued = gate.agreed(await stream.receive(gate.ANSWER))
        here = stream.here
    finally:
        await stream.close()
    if not isinstance(issued, Issued) or not ca.matches(issued.certificate.encode(), key):
        raise Unavailable(f"{address} issued no certificate for our key")
    return Joined(issued, key, here)


async def renew(addresses: Iterable[str], keys: Keys) -> tuple[Issued, bytes]:
    """Another certificate, with its key, from the first manager that gives one."""
    key, request = ca.new_request()
    issued = await _first(addresses, Renew(request.decode()), keys)
    if not isinstance(issued, Issued):
        raise Unavailable("no manager issued a certificate")
    return issued, key


async def era(address: str, keys: Keys) -> int:
    """How often the swarm was begun anew, as that manager knows it."""
    told = await gate.ask(address, GetRoot(), keys)
    return told.era if isinstance(told, Root) else 0


async def enroll(addresses: Iterable[str], address: str, keys: Keys) -> Enrolled:
    """Where every member is, once this node is one, and the keys of their store. ``address``: its own; ``:port`` when
    it does not know its host."""
    enrolled = await _first(addresses, Enroll(address), keys)
    if not isinstance(enrolled, Enrolled):
        raise Unavailable("no manager made this node a member")
    return enrolled


async def _first(addresses: Iterable[str], message: Renew | Enroll, keys: Keys) -> object:
    trouble: FairleadError = Unavailable("this node knows no manager of its swarm")
    for address in addresses:
        try:
            return await gate.ask(address, message, keys)
        except FairleadError as error:
            trouble = error
    raise trouble


# -- the side that answers ---------------------------------------------------------------------------------------------


def authority(cluster: Cluster) -> Authority:
    """Who signs now, if it is for managers to sign."""
    trust = cluster.trust
    if trust.next_root:
        root, key, bridge = trust.next_root, trust.next_key, trust.bridge
    else:
        root, key, bridge = trust.root, trust.key, ""
    if not key:
        raise Unavailable("the root's key is not in this swarm, and no external CA signs for it: --external-ca")
    return Authority(root.encode(), key.encode(), bridge.encode())


def signing_root(cluster: Cluster) -> str:
    """The root (PEM) whose key signs now."""
    return cluster.trust.next_root or cluster.trust.root


class Admission:
    """What a manager answers. ``now``: the time; ``draw``: a random number below the one given; ``give``: the keys of
    the managers' store, for that node; ``shows``: puts our certificate into a context, for external CAs."""

    def __init__(
        self,
        state: State,
        members: Members,
        clock: Callable[[], int],
        now: Callable[[], datetime.datetime],
        draw: Callable[[int], int],
        give: Callable[[str], Awaitable[dict[str, bytes]]],
        shows: Callable[[ssl.SSLContext], object] = lambda context: None,
    ) -> None:
        self._state, self._members, self._give, self._shows = state, members, give, shows
        self._clock, self._now, self._draw = clock, now, draw

    def answer_at(self, gate_: Gate) -> None:
        gate_.on(GetRoot, self._root)
        gate_.on(Join, self._join)
        gate_.on(Renew, self._renew, gate.NODES)
        gate_.on(Enroll, self._enroll, gate.MANAGERS)
        gate_.on(GetKeys, self._keys, gate.MANAGERS)

    async def welcome(self, who: Identity, roles: Collection[str]) -> None:
        """Who was removed may not come back, nor do what takes a role that it has no more, however long the certificate
        holds. Raises ``Forbidden``, and ``Unavailable`` when that cannot be known now."""
        cluster = self._cluster.id
        await self._state.current(SOON)
        node = self._state.nodes.get(who.node)
        if node is None or who.cluster != cluster:
            raise Forbidden(f"node {who.node} is not part of this swarm")
        if roles == gate.MANAGERS and node.spec.role != "manager":
            raise Forbidden("this node is not to be a manager")

    @property
    def _cluster(self) -> Cluster:
        for cluster in self._state.cluster.values():
            return cluster
        raise Unavailable("this manager does not know its swarm yet")

    async def _root(self, stream: Stream, asked: GetRoot) -> Root:
        return Root(self._cluster.trust.roots, self._cluster.era)

    async def _join(self, stream: Stream, asked: Join) -> Issued:
        cluster = self._cluster
        secrets = {"worker": cluster.worker, "manager": cluster.manager}
        fits = [role for role, secret in secrets.items() if hmac.compare_digest(secret.encode(), asked.secret.encode())]
        if not fits:
            raise Invalid(NEEDS_TOKEN)
        if asked.availability not in ("active", "pause", "drain"):
            raise Invalid(f"invalid Availability: {asked.availability!r}")
        at = self._clock()
        spec = NodeSpec(role=fits[0], availability=asked.availability)
        node = Node(new_id(self._draw), spec, address=stream.peer, created=at, updated=at, since=at)
        issued = await self._issue(node.id, fits[0], asked.request)
        await self._state.commit([replace(node, serials=ca.serials(issued.certificate.encode()))])
        log.info("node %s joined as %s from %s", node.id, fits[0], stream.peer)
        return issued

    async def _renew(self, stream: Stream, asked: Renew) -> Issued:
        if stream.identity is None:
            raise Forbidden("this node is not part of the swarm")
        return await self.renewed(stream.identity, asked.request)

    async def renewed(self, who: Identity, request: str) -> Issued:
        """Another certificate for a node that is known to be who it says."""
        node = self._state.nodes.get(who.node)
        if node is None:
            raise Forbidden("this node is not part of the swarm")
        issued = await self._issue(node.id, node.spec.role, request)
        now = self._state.nodes.get(who.node)
        if now is None or now.spec.role != node.spec.role:  # while somebody else signed
            raise Forbidden("this node is to be something else by now: ask again")
        await self._note(node.id, ca.serials(issued.certificate.encode()))
        if who.role == "manager" and node.spec.role == "worker":
            await self.dismiss(node.id)
        return issued

    async def _note(self, id: str, serials: dict[str, int]) -> None:
        """Those that it was given; what is over by itself is forgotten."""

        def told() -> Iterable[Node]:
            node = self._state.nodes.get(id)
            if node and serials:
                yield replace(node, serials=unexpired(node.serials, self._clock()) | serials)

        await self._state.change(told)

    async def _issue(self, node: str, role: str, request: str) -> Issued:
        cluster = self._cluster
        who, now = Identity(node, role, cluster.id), self._now()
        if signers := externalca.signing(cluster):
            root = signing_root(cluster)
            signed = await externalca.sign(signers, root, request.encode(), who, self._shows, now)
            signed += cluster.trust.bridge.encode() if cluster.trust.next_root else b""
        else:
            life = datetime.timedelta(microseconds=cluster.spec.ca_config.node_cert_expiry // 1000)
            signed = authority(cluster).issue(request.encode(), who, now, life)
        return Issued(node, signed.decode(), cluster.trust.roots, tuple(self.managers().values()))

    def managers(self) -> dict[str, str]:
        """Node id -> ``host:port`` of every manager."""
        return {node.id: node.manager.address for node in self._state.nodes.values() if node.manager}

    async def _enroll(self, stream: Stream, asked: Enroll) -> Enrolled:
        who = stream.identity
        node = self._state.nodes.get(who.node) if who else None
        if node is None or node.spec.role != "manager":
            raise Forbidden("this node is not to be a manager")
        host, port = gate.parted(asked.address if not asked.address.startswith(":") else stream.peer + asked.address)
        await self.moved(node.id, joined(host, port))
        for member in await self._members.list():
            if member.node == node.id and member.started:  # it comes back without its data: its vote is void
                await self._members.remove(member.id)
            elif member.node == node.id:
                return await self._enrolled(node.id)
        await self._members.add(node.id)
        log.info("manager %s at %s is a learner", node.id, asked.address)
        return await self._enrolled(node.id)

    async def _enrolled(self, node: str) -> Enrolled:
        """Exactly the members, or etcd does not start: a manager that left without a word is in the state still."""
        keys = await self._give(node)  # it is a member by now: until it has the newest key, no key is used
        known = self.managers()
        members = {member.node: known.get(member.node, "") for member in await self._members.list()}
        return Enrolled(members, keys.pop(ZERO, b""), keys)

    async def _keys(self, stream: Stream, asked: GetKeys) -> KeysGiven:
        """One that left without a word is to be a manager still, and somebody may have its certificate."""
        node = stream.identity.node if stream.identity else ""
        if node not in {member.node for member in await self._members.list()}:
            raise Forbidden("this node is no member of the managers' store")
        return KeysGiven(await self._give(node))

    async def moved(self, id: str, address: str) -> None:
        """A manager is at another address, or is one from now on."""

        def told() -> Iterable[Node]:
            node = self._state.nodes.get(id)
            before = node.manager or Manager() if node else Manager()
            if node and before.address != address:
                yield replace(node, manager=replace(before, address=address), address=gate.parted(address)[0])

        await self._state.change(told)

    async def dismiss(self, id: str) -> None:
        """It is no manager any more: not in the managers' etcd, nor for anybody who asks. In this order: its
        certificates are good until nobody counts its vote."""
        await self.strike(id)

        def told() -> Iterable[Node]:
            node = self._state.nodes.get(id)
            if node and node.manager:
                yield replace(node, manager=None)

        await self._state.change(told)

    async def strike(self, id: str) -> None:
        """It has no vote any more."""
        for member in await self._members.list():
            if member.node == id:
                await self._members.remove(member.id)
                log.info("manager %s is no member any more", id)
