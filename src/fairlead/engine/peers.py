"""Peers: what the engine and its faces ask about the other hosts of the cluster. ``swarm.peers`` answers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import msgspec

from fairlead.core.protocol import Protocol
from fairlead.errors import Unavailable

if TYPE_CHECKING:
    from fairlead.core.places import Peer


class KeyHolders(msgspec.Struct, frozen=True):
    """One gossip key: a fingerprint of it, whether it seals what is sent, and the names of the hosts that have it."""

    fingerprint: str
    used: bool
    hosts: tuple[str, ...]


class Peers(Protocol):
    """Who else is there, and do they live?"""

    def list(self) -> Sequence[Peer]:
        """Every host that gossip knows, this one too, by name."""

    def warnings(self) -> Sequence[str]:
        """What people should know: gossip does not run, a host does not answer."""

    async def keys(self) -> Sequence[KeyHolders]:
        """Asks everybody."""

    async def rotate(self) -> None:
        """A new gossip key everywhere instead of the old ones; ``Unavailable`` when somebody does not take it."""

    async def run(self) -> None:
        """Until cancelled: take part."""

    async def leave(self) -> None:
        """Say goodbye: this host has nothing more that others could miss."""


class NoPeers:
    """An engine alone."""

    def list(self) -> Sequence[Peer]:
        return ()

    def warnings(self) -> Sequence[str]:
        return ()

    async def keys(self) -> Sequence[KeyHolders]:
        return ()

    async def rotate(self) -> None:
        raise Unavailable(
            "this engine has no gossip: it needs --cluster-store and --cluster-advertise, and a --cluster-gossip-port"
        )

    async def run(self) -> None:
        return

    async def leave(self) -> None:
        return
