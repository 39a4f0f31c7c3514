"""Streams of a swarm without wires: what one side sends, as JSON, the other receives."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec

from fairlead.core.session import Answered, Asked, FromNode, ToNode
from fairlead.errors import Unavailable
from fairlead.swarm.ca import Identity

_EITHER = (msgspec.json.Decoder(Asked | FromNode), msgspec.json.Decoder(Answered | ToNode))


class End:
    """One end of a pipe; ``peer`` is the other side's address."""

    def __init__(self, decoder: msgspec.json.Decoder[Any], identity: Identity | None, peer: str) -> None:
        self._decoder, self.identity, self.peer = decoder, identity, peer
        self._inbox: asyncio.Queue[bytes | None] = asyncio.Queue()
        self.other: End
        self.over = False
        self.silent = False
        """what is sent from here gets lost"""
        self.sent: list[Any] = []

    async def receive(self, within: float | None = None) -> Any:
        try:
            async with asyncio.timeout(within):
                body = None if self.over and self._inbox.empty() else await self._inbox.get()
        except TimeoutError:
            raise Unavailable("nothing was heard") from None
        if body is None:
            self.over = True
            raise Unavailable("the connection ended")
        return self._decoder.decode(body)

    async def send(self, message: msgspec.Struct) -> None:
        if self.over or self.other.over:
            raise Unavailable("the connection ended")
        self.sent.append(message)
        if not self.silent:
            self.other._inbox.put_nowait(msgspec.json.encode(message))

    async def close(self) -> None:
        self.abort()

    def abort(self) -> None:
        for end in (self, self.other):
            end._inbox.put_nowait(None)
        self.over = True


def pipe(node: str, role: str = "worker", manager: str = "m") -> tuple[End, End]:
    """The node's end and the manager's."""
    near = End(_EITHER[1], Identity(manager, "manager", "cluster"), f"of {manager}")
    far = End(_EITHER[0], Identity(node, role, "cluster"), f"of {node}")
    near.other, far.other = far, near
    return near, far
