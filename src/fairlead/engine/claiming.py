"""Claiming: carry out ``core.claims`` on a store."""

from __future__ import annotations

import asyncio
from collections.abc import Generator
from typing import Any, TypeVar

from fairlead.core import claims
from fairlead.core.claims import BEATEN, DONE, LOST, Wish
from fairlead.errors import Conflict, Unavailable
from fairlead.store.base import Store

T = TypeVar("T")


async def carry_out(store: Store, claim: Generator[Wish, Any, T]) -> T:
    """What the claim returns. ``Unavailable`` when the store cannot be read, or too often others were faster."""
    answer: Any = None
    while True:
        try:
            wish = claim.send(answer)
        except StopIteration as end:
            found: T = end.value
            return found
        answer = await _answer(store, wish)


async def _answer(store: Store, wish: Wish) -> Any:
    match wish:
        case claims.Get(key):
            entry = await store.get(key)
            return (entry.value, entry.version) if entry else (None, 0)
        case claims.List(prefix):
            return {entry.key: entry.value for entry in await store.list(prefix)}
        case claims.Put(key, value, version):
            return await _outcome(store.put_if(key, value, version))
        case claims.Delete(key, version):
            return await _outcome(store.delete_if(key, version))
        case claims.Pause(seconds):
            await asyncio.sleep(seconds)


async def _outcome(write: Any) -> str:
    try:
        await write
    except Conflict:
        return BEATEN
    except Unavailable:
        return LOST
    return DONE
