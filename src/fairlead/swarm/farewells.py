"""Farewells and greetings: a task is about to stop, or begins to serve; when does everybody know?

    owner: its row says so --gossip--> every node with the network: names, virtual addresses, ports, HAProxy follow
      ^                                                                                    |
      '---------------------------------- "heard" ----------------------------------------'

One that stops is signalled after its farewell is over. One that serves is said to run after its greeting is over:
the next task of an update leaves when the world knows who has taken its place, and no node is ever left with nobody.

A word of thanks is one datagram, sealed like all gossip. Whoever has not thanked after ``BOUND`` seconds is not waited
for: he failed, or his word was lost, and by then he has the row. Nor is who gossip gives up: he hears nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from contextlib import suppress

MARK = b"\xfb"
SERVING, LEAVING = b"+", b"-"
BOUND = 3.0
"""Seconds in which gossip tells everybody."""
LOOK = 0.2
"""Seconds between looks whether somebody who is waited for is given up by gossip."""


class Farewells:
    """``say(node, words)``: a datagram to a node. ``nodes(network)``: who has it."""

    def __init__(self, say: Callable[[str, bytes], None], nodes: Callable[[str], Iterable[str]], me: str) -> None:
        self._say, self._nodes, self._me = say, nodes, me
        self._heard: dict[bytes, set[str]] = {}
        """what is told of an endpoint of ours -> nodes that know"""
        self._news = asyncio.Event()

    def thank(self, owner: str, endpoint: str, serving: bool) -> None:
        """Here all follows it: that endpoint is sent requests from here, or is sent nothing any more."""
        self._say(owner, _word(endpoint, serving))

    def thanked(self, node: str, words: bytes) -> None:
        """A node said so."""
        if words in self._heard:
            self._heard[words].add(node)
            self._news.set()

    def begin(self, endpoints: Iterable[str], serving: bool) -> None:
        """Before others are told of these."""
        for endpoint in endpoints:
            self._heard[_word(endpoint, serving)] = set()

    async def over(self, endpoints: dict[str, str], serving: bool) -> None:
        """Returns when all who have the network know, or should. ``endpoints``: with their networks."""
        words = {_word(id, serving): network for id, network in endpoints.items()}
        try:
            with suppress(TimeoutError):
                async with asyncio.timeout(BOUND):
                    while any(self._missing(word, network) for word, network in words.items()):
                        self._news.clear()
                        with suppress(TimeoutError):
                            async with asyncio.timeout(LOOK):
                                await self._news.wait()
        finally:
            for word in words:
                self._heard.pop(word, None)

    def _missing(self, word: bytes, network: str) -> set[str]:
        return set(self._nodes(network)) - {self._me} - self._heard.get(word, set())


def _word(endpoint: str, serving: bool) -> bytes:
    return MARK + (SERVING if serving else LEAVING) + endpoint.encode()
