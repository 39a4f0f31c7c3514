"""Revoking: no connection to the managers' store outlives the certificate that it began with.

    cluster, nodes --> serial numbers that are revoked --> the list that etcd reads for every new connection
                   --> serial numbers that are good    --> one is not any more: every connection is cut

etcd looks at a certificate when a connection begins, and never again. Members whose certificates are good connect again
by themselves, at once.

Rules
    1. The list is written before connections are cut, and what they were cut for after that: an engine that ends in
       between cuts them when it starts again. One that finds nothing new then leaves them alone.
    2. A certificate ends by being revoked, or by the time that is written in it; by our clock, which may be set.

What it does not do: decide who is revoked (``core.revoked``).
"""

from __future__ import annotations

import datetime
import logging
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import msgspec

from fairlead.core.cluster import Node
from fairlead.core.revoked import revoked, unexpired
from fairlead.core.swarmspec import Cluster
from fairlead.errors import Internal, Unavailable
from fairlead.swarm.credentials import Credentials, replace_file
from fairlead.swarm.members import PORT, REVOKED

log = logging.getLogger(__name__)

SEEN = "seen.json"
LOOK = 60.0
"""seconds between two looks, though nothing changed"""


class Serials(NamedTuple):
    """Of managers' certificates, in hexadecimal."""

    good: frozenset[str] = frozenset()
    revoked: frozenset[str] = frozenset()


class Revoking:
    """``folder``: where etcd has its certificates. ``cut(port)`` ends every connection to that port of ours, or raises
    ``Unavailable``. ``clock``: nanoseconds since 1970; ``now``: the same time."""

    def __init__(
        self,
        credentials: Credentials,
        folder: Path,
        cut: Callable[[int], object],
        clock: Callable[[], int],
        now: Callable[[], datetime.datetime],
    ) -> None:
        self._credentials, self._list, self._seen = credentials, folder / REVOKED, folder / SEEN
        self._cut, self._clock, self._now = cut, clock, now
        self._listed: frozenset[str] | None = None
        self._known: Serials | None = None
        """when connections were looked at last; None: by this engine, never"""

    def begin(self) -> None:
        """Without a list etcd would let nobody in."""
        if not self._list.exists():
            self._credentials.revoke(self._list, (), self._now())

    def look(self, cluster: Cluster, nodes: Iterable[Node]) -> None:
        """Something changed, or time went by."""
        nodes = tuple(nodes)
        listed = frozenset(revoked(cluster, nodes))
        good = frozenset(serial for node in nodes for serial in unexpired(node.serials, self._clock())) - listed
        if listed != self._listed:
            self._credentials.revoke(self._list, listed, self._now())
            self._listed = listed
        before, found = self._known or self._before(), Serials(good, listed)
        if before.good - good or listed - before.revoked:
            log.info("connections to the managers' store begin anew: a certificate is good no more")
            try:
                self._cut(PORT)
            except Unavailable as error:
                log.warning("who has a connection to the managers' store keeps it: %s", error.message)
        if found != before:
            with suppress(Internal):  # a disk that is full: they are cut once more than they need be
                replace_file(self._seen, msgspec.json.encode(found))
        self._known = found

    def _before(self) -> Serials:
        """As an engine before this one saw it: etcd and its connections go on without us."""
        try:
            return msgspec.json.decode(self._seen.read_bytes(), type=Serials)
        except (FileNotFoundError, msgspec.MsgspecError):
            return Serials()
