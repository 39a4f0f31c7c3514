"""Farewells: a task is about to stop; when is nothing sent to it any more?

    owner: its row says "not serving" --gossip--> every node with the network: names, virtual addresses follow
      ^                                                                                            |
      '------------------------------------------- "heard" ----------------------------------------'

A word of thanks is one datagram, sealed like all gossip. Whoever has not thanked after ``BOUND`` seconds is not waited
for: he failed, or his word was lost, and by then he has the row.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from contextlib import suppress

MARK = b"\xfb"
BOUND = 3.0
"""Seconds in which gossip tells everybody."""


class Farewells:
    """``say(node, words)``: a datagram to a node. ``nodes(network)``: who has it."""

    def __init__(self, say: Callable[[str, bytes], None], nodes: Callable[[str], Iterable[str]], me: str) -> None:
        self._say, self._nodes, self._me = say, nodes, me
        self._heard: dict[str, set[str]] = {}
        """endpoint of ours that leaves -> nodes that know"""
        self._news = asyncio.Event()

    def thank(self, owner: str, endpoint: str) -> None:
        """Nothing is sent to that endpoint from here any more."""
        self._say(owner, MARK + endpoint.encode())

    def thanked(self, node: str, words: bytes) -> None:
        """A node said so."""
        endpoint = words[len(MARK) :].decode(errors="replace")
        if endpoint in self._heard:
            self._heard[endpoint].add(node)
            self._news.set()

    def begin(self, endpoints: Iterable[str]) -> None:
        """Before others are told that these are to be left alone."""
        for endpoint in endpoints:
            self._heard[endpoint] = set()

    async def over(self, endpoints: dict[str, str]) -> None:
        """Returns when all who have the network know, or should. ``endpoints``: with their networks."""
        with suppress(TimeoutError):
            async with asyncio.timeout(BOUND):
                while any(self._missing(id, network) for id, network in endpoints.items()):
                    self._news.clear()
                    await self._news.wait()
        for endpoint in endpoints:
            self._heard.pop(endpoint, None)

    def _missing(self, endpoint: str, network: str) -> set[str]:
        return set(self._nodes(network)) - {self._me} - self._heard.get(endpoint, set())
