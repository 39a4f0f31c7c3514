"""Another root certificate, while everything goes on.

    swarm ca --rotate  -->  Trust(root, next_root, bridge)     both are believed; certificates are of the next one, with
                            |                                  the bridge for who has not heard of it yet
    every node has one  --> Trust(next_root)                   the old root is forgotten, the tokens name the new one

Rules
    1. What people gave (``--ca-cert``, ``--ca-key``) is checked before anything begins; the key is kept with the trust,
       and nowhere else. Without a key an external CA has to sign for the root (``externalca``).
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
from fairlead.core.swarmspec import Cluster, ClusterSpec, ExternalCa, Trust
from fairlead.errors import Conflict, Invalid, Unavailable
from fairlead.swarm import externalca
from fairlead.swarm.ca import Authority
from fairlead.swarm.leader import PAUSE, Guard
from fairlead.swarm.state import Event, State

log = logging.getLogger(__name__)

NOBODY_SIGNS = (
    "there must be at least one valid, reachable external CA corresponding to the CA certificate, or its key:"
    " --external-ca protocol=cfssl,url=…,cacert=FILE, or --ca-key FILE"
)


def updated(cluster: Cluster, spec: ClusterSpec, now: datetime.datetime) -> tuple[Trust, ClusterSpec]:
    """The trust that follows from a changed spec, and the spec without secrets. Raises ``Invalid``."""
    wish, trust = spec.ca_config, cluster.trust
    bare = replace(spec, ca_config=replace(wish, signing_ca_key=""))
    if not asked(cluster, spec):
        signs = (trust.next_root, trust.next_key) if trust.next_root else (trust.root, trust.key)
        _signed_by_somebody(*signs, trust, spec)
        return trust, bare
    if trust.next_root:
        raise unmet("the root certificate is being exchanged already: wait for the nodes that are away, or remove them")
    root, key = _wanted(cluster, spec, now)
    _signed_by_somebody(root, key, trust, spec)
    if root == trust.root:
        return replace(trust, key=key), bare
    if not trust.key:
        raise unmet(
            "the key of the root certificate signs for the next one, and is not in this swarm. Give it first:"
            " swarm ca --rotate --ca-cert FILE --ca-key FILE"
        )
    bridge = Authority(trust.root.encode(), trust.key.encode()).bridge_to(root.encode(), now)
    return replace(trust, next_root=root, next_key=key, bridge=bridge.decode()), bare


def asked(cluster: Cluster, spec: ClusterSpec) -> bool:
    """Whether another root is wanted."""
    wish, had = spec.ca_config, cluster.spec.ca_config
    given = _given(spec)
    return wish.force_rotate != had.force_rotate or bool(given and given != cluster.trust.root)


def unseen(cluster: Cluster, spec: ClusterSpec) -> tuple[str, tuple[ExternalCa, ...]]:
    """A root (PEM) whose key is to stay with external CAs, and those; empty: there is none."""
    given = "" if spec.ca_config.signing_ca_key or not asked(cluster, spec) else _given(spec)
    return given, externalca.of_root(spec.ca_config.external_cas or (), cluster.trust.root, given)


def _given(spec: ClusterSpec) -> str:
    """The root (PEM) that somebody gave."""
    return _tidy(spec.ca_config.signing_ca_cert) if spec.ca_config.signing_ca_cert else ""


def _wanted(cluster: Cluster, spec: ClusterSpec, now: datetime.datetime) -> tuple[str, str]:
    """The next root and its key (PEM), which is empty if it stays with an external CA."""
    given, key = _given(spec), spec.ca_config.signing_ca_key
    if given and not key:
        return given, ""
    new = Authority(given.encode(), key.encode()) if given else Authority.found(now)
    return new.certificate.decode(), new.key.decode()


def _signed_by_somebody(root: str, key: str, trust: Trust, spec: ClusterSpec) -> None:
    """No node would get a certificate any more."""
    if not key and not externalca.of_root(spec.ca_config.external_cas or (), trust.root, root):
        raise invalid(NOBODY_SIGNS)


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
