"""Peers: this host's gossip with the others that share its store: who is there, who lives, who failed.

    store  --keys (swarm.ring), places (swarm.discovery)-->  Peers  --runs-->  swarm.gossip
                                                               |
                     events, info, doctor, `fairlead cluster`  <--- facts

Rules
    1. Nothing waits for gossip, and nothing fails because of it: a port that is taken, a key that is not
       there yet, even a mistake of ours costs the knowledge of who lives, and is tried again.
    2. What is shared (networks, endpoints) comes through the store, not from here.
    3. A stop of the engine is no farewell: its containers go on. The others see it fail and return. ``leave`` is.
    4. Keys are rotated by asking everybody (serf's own queries, so stock agents in the cluster follow), the
       store first: who was away finds the new ring there. A key that not everybody has is not used.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import logging
import random
import secrets
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from fairlead.core.coordinates import Coordinates
from fairlead.core.effects import NEVER, Address
from fairlead.core.envelope import Envelope
from fairlead.core.gossip import Gossip, Me
from fairlead.core.members import Changed, Member, NameTaken, SwimConfig
from fairlead.core.places import Peer, Place
from fairlead.core.serf import decode_tags
from fairlead.core.serfkeys import INSTALL, LIST, REMOVE, USE, KeyAnswer, KeyAnswered, RingChanged
from fairlead.core.swim import Heard
from fairlead.core.swimwire import State
from fairlead.engine.events import Events
from fairlead.engine.peers import KeyHolders
from fairlead.errors import FairleadError, Unavailable
from fairlead.store.base import Store
from fairlead.swarm.cipher import seal
from fairlead.swarm.discovery import TTL, Discovery
from fairlead.swarm.gossip import GossipNode, open_gossip
from fairlead.swarm.kept import Kept
from fairlead.swarm.nodekeys import NodeKeys, new_private
from fairlead.swarm.ring import SharedRing
from fairlead.swarm.rows import GossipRows

log = logging.getLogger(__name__)

RETRY = 5.0
"""Seconds until a port that was taken is tried again."""
GATHER = 0.3
"""Seconds in which more places may come before all are joined together."""
ANSWERS = 5.0
"""Seconds that the others have to answer a question about keys."""
FOLLOW = 10.0
"""Seconds in which nodes of a swarm see a change of the ring."""
DOUBT = 60.0
"""Seconds after which nobody can still know us by an earlier address."""
KEY_SIZE = 32
WORDS = {State.ALIVE: "alive", State.SUSPECT: "suspect", State.DEAD: "failed", State.LEFT: "left"}
IN_EVENTS = {State.ALIVE: "ready", State.SUSPECT: "ready", State.DEAD: "down", State.LEFT: "left"}
"""What Docker's node events call it; a suspicion is no news."""


class Peers:
    """``node``: this host's identity, ``host``: its name for people, ``folder``: where notes are kept."""

    def __init__(
        self,
        store: Store,
        events: Events,
        node: str,
        host: str,
        address: Address,
        folder: Path,
        ttl: float = TTL,
        config: SwimConfig | None = None,
        rows: GossipRows | None = None,
        makes: Callable[[], bool] = lambda: True,
        heard: Callable[[str, bytes], None] | None = None,
        returned: Callable[[], None] = lambda: None,
    ) -> None:
        """``rows``: of a swarm, which tells of its nodes itself, and whose gossip keys are changed by managers alone:
        ``makes`` says whether this node is one. ``heard``: told of words of other nodes.
        ``returned``: somebody who had failed is there again."""
        self._rows, self._heard, self._returned = rows, heard, returned
        self._events = events
        self._host, self._address, self._config = host, address, config or SwimConfig()
        kept = Kept(folder / "gossip.json")
        if len(kept.notes.private) != KEY_SIZE:
            kept.notes.private = new_private()
            kept.save()
        self._keys = NodeKeys(node, kept.notes.private)
        self._me = Place(node, host, address.ip, address.port, base64.b64encode(self._keys.public).decode())
        self._ring = SharedRing(store, kept, lambda: secrets.token_bytes(KEY_SIZE), makes=makes)
        gone = None if rows is None else self._keys.forget
        self._discovery = Discovery(store, kept, self._me, self._learnt, ttl, gone=gone)
        self._gossip: GossipNode | None = None
        self._news = asyncio.Event()
        self._trouble = "it waits for the cluster store"
        self._answers: dict[int, dict[str, KeyAnswer]] = {}
        self._answered = asyncio.Event()
        self._began = 0.0
        self._doubted: set[Address] = set()

    # -- life -----------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            try:
                async with asyncio.TaskGroup() as tasks:
                    tasks.create_task(self._ring.run())
                    tasks.create_task(self._discovery.hear())
                    tasks.create_task(self._take_part())
            except* Exception as problems:  # rule 1: whatever it is, the engine goes on
                log.error("gossip stumbled and begins anew", exc_info=problems)
            await asyncio.sleep(RETRY)

    async def _take_part(self) -> None:
        """Be a member, again and again when the port is not to be had."""
        await self._ring.ready.wait()
        while True:
            machine = Gossip(
                Me(self._me.node, self._address, {"host": self._host}),
                self._config,
                random.SystemRandom(),
                Envelope(seal(self._ring.ring)),
                keys=self._keys,
                obeys=self._rows is None,
            )
            try:
                async with open_gossip(machine, self._address, self._hear) as self._gossip:
                    log.info("gossip answers on %s", self._address)
                    self._trouble, self._began = "", asyncio.get_running_loop().time()
                    self._tell_rows(self._gossip)
                    async with asyncio.TaskGroup() as tasks:
                        tasks.create_task(self._discovery.tell())
                        tasks.create_task(self._join())
            except FairleadError as problem:
                if problem.message != self._trouble:
                    log.error("%s; networks of the cluster work without it", problem.message)
                self._trouble = problem.message
            finally:
                self._gossip = None
            await asyncio.sleep(RETRY)

    def say(self, node: str, words: bytes) -> None:
        """A datagram for one host, if we know it."""
        gossip = self._gossip
        if gossip:
            gossip.do(lambda now: gossip.machine.say(node, words, now))

    def _at(self, address: Address) -> str:
        members = self._gossip.machine.swim.members.table.values() if self._gossip else ()
        return next((member.name for member in members if member.address == address), "")

    def _tell_rows(self, node: GossipNode) -> None:
        """Before anybody is joined: it has our rows then."""
        if self._rows:
            machine = node.machine
            self._rows.attach(
                machine.tables,
                lambda step: node.do(lambda now: machine.with_tables(lambda tables: step(tables, now), now)),
            )

    async def leave(self) -> None:
        """Say goodbye: this host has nothing more that others could miss. Returns soon, heard or not."""
        if self._gossip:
            with suppress(FairleadError, TimeoutError):
                async with asyncio.timeout(1):
                    await self._gossip.leave()
                    await self._discovery.withdraw()

    async def _join(self) -> None:
        """Tell the machine where others may be, whenever somebody new was heard of."""
        while True:
            if self._gossip:
                self._gossip.join(place.address for place in self._discovery.places.values())
            await self._news.wait()
            await asyncio.sleep(GATHER)
            self._news.clear()

    def _learnt(self, place: Place) -> None:
        self._keys.know(place.node, place.public)
        self._news.set()

    # -- facts ----------------------------------------------------------------------------------------------------

    def _hear(self, fact: object) -> None:
        if self._rows:
            self._rows.hear(fact)
        match fact:
            case Heard(data, sender, _) if self._heard and data:
                self._heard(self._at(sender), data)
            case Changed(member, before) if member.name != self._me.node:
                self._tell(member, before)
            case NameTaken(member, address) if member.name == self._me.node:
                self._doubt(address)
            case RingChanged(deed, key):
                log.info("gossip keys: %s, as was asked by gossip", deed)
                self._ring.done(deed, key)
            case KeyAnswered(id, node, answer) if id in self._answers:
                self._answers[id][node] = answer
                self._answered.set()

    def _tell(self, member: Member, before: State | None) -> None:
        """Who came, went, failed or returned: as Docker tells of the nodes of a swarm."""
        now, was = IN_EVENTS[member.state], IN_EVENTS[before] if before is not None else ""
        if now == was:
            return
        if member.state == State.ALIVE and before is not None:
            self._returned()
        host = {"name": self._name(member), "address": str(member.address)}
        if self._rows:
            pass
        elif before is None:
            self._events.publish("node", "create", member.name, host)
        elif member.state == State.LEFT:
            self._events.publish("node", "remove", member.name, host)
        else:
            self._events.publish("node", "update", member.name, {**host, "state.new": now, "state.old": was})
        log.info("host %s (%s) is %s", host["name"], member.address, WORDS[member.state])

    def _doubt(self, address: Address) -> None:
        """Somebody has our name. Soon after the start that is what others still think of our last address."""
        if asyncio.get_running_loop().time() > self._began + DOUBT and address not in self._doubted:
            self._doubted.add(address)
            words = "a host at %s has this engine's identity (%s): was its disk copied? Remove engine-id there"
            log.warning(words, address, self._me.node)

    def _name(self, member: Member) -> str:
        """For people: as the store has it, else as its tags say."""
        place = self._discovery.places.get(member.name)
        told = place.host if place else decode_tags(member.meta).get("host", "")
        return told if told.isprintable() and 0 < len(told) < 254 else member.name

    # -- what is asked --------------------------------------------------------------------------------------------

    def list(self) -> Sequence[Peer]:
        """Every host, this one first; ``unheard`` are those that the store has and gossip never met."""
        node = self._gossip
        if node is None:
            return ()
        now = asyncio.get_running_loop().time()
        machine = node.machine
        found = [self._peer(member, now, machine.coordinates) for member in machine.swim.members.table.values()]
        met = machine.swim.members.table.keys()
        for place in self._discovery.places.values():
            if place.node in self._discovery.listed and place.node not in met:
                found.append(Peer(place.node, place.host, str(place.address), "unheard", now - self._began))
        return sorted(found, key=lambda peer: (not peer.me, peer.host, peer.node))

    def _peer(self, member: Member, now: float, coordinates: Coordinates) -> Peer:
        me = member.name == self._me.node
        since = now - (self._began if me else member.since)
        distance = coordinates.distance(member.name)
        state = WORDS[member.state]
        known = None if me or distance == NEVER else distance
        return Peer(member.name, self._host if me else self._name(member), str(member.address), state, since, known, me)

    def warnings(self) -> Sequence[str]:
        if self._gossip is None:
            return (f"gossip does not run: {self._trouble}. Networks of the cluster work without it",)
        found = []
        for peer in self.list():
            if peer.state == "failed":
                found.append(
                    f"host {peer.host} of the cluster ({peer.address}) has not answered for {peer.since:.0f} seconds"
                )
            elif peer.state == "unheard" and peer.since > RETRY:
                found.append(
                    f"host {peer.host} is in the cluster store, but its gossip on {peer.address} was never heard:"
                    " is there a firewall between the hosts? (TCP and UDP)"
                )
        return found

    # -- keys -----------------------------------------------------------------------------------------------------

    async def keys(self) -> Sequence[KeyHolders]:
        """Which keys there are, and who has which."""
        holders: dict[str, list[str]] = {}
        for node, answer in (await self._ask(LIST)).items():
            for key in answer.keys:
                holders.setdefault(key, []).append(self._called(node))
        used = base64.b64encode(self._ring.ring.keys[0]).decode()
        return [KeyHolders(_fingerprint(key), key == used, tuple(sorted(who))) for key, who in holders.items()]

    async def rotate(self) -> None:
        """Add a new key everywhere, use it everywhere, remove the others everywhere."""
        new = secrets.token_bytes(KEY_SIZE)
        if self._rows:
            await self._rotate_in_store(new)
            return
        try:
            await self._everywhere(INSTALL, new)
        except Unavailable:
            await self._ring.do(REMOVE, new)
            await self._ask(REMOVE, new)
            raise
        await self._everywhere(USE, new)
        for old in [key for key in self._ring.ring.keys if key != new]:
            await self._everywhere(REMOVE, old)

    async def _rotate_in_store(self, new: bytes) -> None:
        """Everybody follows the ring in the store: each step waits until all who are in touch have the one before."""
        await self._ring.do(INSTALL, new)
        await asyncio.sleep(FOLLOW)
        await self._ring.do(USE, new)
        await asyncio.sleep(FOLLOW)
        for old in [key for key in self._ring.ring.keys if key != new]:
            await self._ring.do(REMOVE, old)

    async def _everywhere(self, deed: str, key: bytes) -> None:
        await self._ring.do(deed, key)
        answers = await self._ask(deed, key)
        lacking = [self._called(node) for node in self._here() if not answers.get(node, KeyAnswer(False)).done]
        if lacking:
            raise Unavailable(
                f"the gossip key was not rotated: {', '.join(sorted(lacking))} did not answer ({deed}); try again"
            )

    async def _ask(self, deed: str, key: bytes = b"") -> dict[str, KeyAnswer]:
        """Ask everybody; returns when all who live have answered, or after ``ANSWERS`` seconds."""
        node = self._gossip
        if node is None:
            raise Unavailable(f"gossip does not run: {self._trouble}")
        id = secrets.randbits(32)
        answers = self._answers[id] = {}
        try:
            node.do(lambda now: node.machine.ask_keys(id, deed, key, now))
            with suppress(TimeoutError):
                async with asyncio.timeout(ANSWERS):
                    while not self._here() <= answers.keys():
                        self._answered.clear()
                        await self._answered.wait()
        finally:
            del self._answers[id]
        return answers

    def _here(self) -> set[str]:
        node = self._gossip
        return {peer.node for peer in self.list() if peer.state in ("alive", "suspect")} if node else set()

    def _called(self, node: str) -> str:
        return next((peer.host for peer in self.list() if peer.node == node), node)


def _fingerprint(key: str) -> str:
    """Enough to tell keys apart; nothing of the key itself."""
    return hashlib.blake2b(key.encode(), digest_size=4, person=b"gossip key").hexdigest()
