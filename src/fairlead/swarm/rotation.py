"""Another root certificate, while everything goes on.

    swarm ca --rotate  -->  Trust(root, next_root, bridge)     both are believed; certificates are of the next one, with
                            |                                  the bridge for who has not heard of it yet
    every node has one  --> Trust(next_root)                   the old root is forgotten, the tokens name the new one

Rules
    1. What people gave (``--ca-cert``, ``--ca-key``) is checked before anything begins; the key is kept with the trust,
       and nowhere else.
    2. One exchange at a time. A node that is away is waited for, until it comes back or is removed: it could not come
       in any more, once its root is forgotten.
    3. etcd reads the roots when it starts: it is started anew, at one manager at a time (``Manager``), and no root is
       forgotten before each has begun with the next.
"""

from __future__ import annotations

import asyncio
import datetime
import logging
from collections.abc import Iterable

from msgspec.structs import replace

from fairlead.core import tokens
from fairlead.core.cluster import Node
from fairlead.core.refusals import invalid, unmet
from fairlead.core.swarmspec import Cluster, ClusterSpec, Trust
from fairlead.errors import Conflict, Invalid, Unavailable
from fairlead.swarm.ca import Authority
from fairlead.swarm.leader import PAUSE, Guard
from fairlead.swarm.state import Event, State

log = logging.getLogger(__name__)


def updated(cluster: Cluster, spec: ClusterSpec, now: datetime.datetime) -> tuple[Trust, ClusterSpec]:
    """The trust that follows from a changed spec, and the spec without secrets. Raises ``Invalid``."""
    wish = spec.ca_config
    if wish.external_cas:
        raise invalid("certificates are issued by this swarm's own managers: external CAs are not supported")
    bare = replace(spec, ca_config=replace(wish, signing_ca_key=""))
    if not asked(cluster, spec):
        return cluster.trust, bare
    given = wish.signing_ca_cert if wish.signing_ca_key else ""
    if wish.signing_ca_cert and not wish.signing_ca_key:
        raise invalid("the key of the signing CA certificate is needed too: certificates are issued by managers")
    if cluster.trust.next_root:
        raise unmet("the root certificate is being exchanged already: wait for the nodes that are away, or remove them")
    new = Authority(_tidy(given).encode(), wish.signing_ca_key.encode()) if given else Authority.found(now)
    if new.certificate.decode() == cluster.trust.root:
        return cluster.trust, bare
    old = Authority(cluster.trust.root.encode(), cluster.trust.key.encode())
    bridged = old.succeeded_by(new, now)
    trust = replace(
        cluster.trust,
        next_root=bridged.certificate.decode(),
        next_key=bridged.key.decode(),
        bridge=bridged.bridge.decode(),
    )
    return trust, bare


def asked(cluster: Cluster, spec: ClusterSpec) -> bool:
    """Whether another root is wanted."""
    wish, had = spec.ca_config, cluster.spec.ca_config
    given = wish.signing_ca_cert if wish.signing_ca_key else ""
    return wish.force_rotate != had.force_rotate or bool(given and _tidy(given) != cluster.trust.root)


def behind(cluster: Cluster, nodes: Iterable[Node]) -> list[Node]:
    """Those that have no certificate yet of the root that signs now, or whose store does not believe it yet: a member
    that knows an older root only would hear nobody any more, and not even be told so."""
    wanted, believed = digest(cluster.trust), belief(cluster.trust.roots)
    return [node for node in nodes if node.root != wanted or (node.manager and node.believes != believed)]


def belief(roots: str) -> str:
    return tokens.digest(roots.encode())


def _tidy(certificate: str) -> str:
    """One certificate, as it is written here: tokens are made of the text."""
    begin, end = "-----BEGIN CERTIFICATE-----", "-----END CERTIFICATE-----"
    text = certificate.replace("\r\n", "\n").strip()
    if not text.startswith(begin) or text.count(end) != 1 or not text.endswith(end):
        raise Invalid("the CA certificate is to be one certificate in PEM")
    return text + "\n"


def digest(trust: Trust) -> str:
    """Of the root that signs now."""
    return tokens.digest((trust.next_root or trust.root).encode())


class Rotation:
    """The leader's part: sees that every node has come along."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._news = asyncio.Event()

    def hear(self, event: Event) -> None:
        if event.kind in ("nodes", "cluster"):
            self._news.set()

    async def lead(self, guard: Guard) -> None:
        """Until cancelled."""
        while True:
            self._news.clear()
            cluster = next(iter(self._state.cluster.values()))
            if cluster.trust.next_root and self._complete(cluster):
                done = replace(cluster, trust=Trust(cluster.trust.next_root, cluster.trust.next_key))
                try:
                    await self._state.commit([done], guard=guard)
                    log.info("every node has a certificate of the new root; the old one is forgotten")
                except (Conflict, Unavailable) as error:
                    log.info("the old root could not be forgotten yet: %s", error.message)
                    await asyncio.sleep(PAUSE)
                continue
            await self._news.wait()

    def _complete(self, cluster: Cluster) -> bool:
        return not behind(cluster, self._state.nodes.values())
