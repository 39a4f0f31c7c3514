"""What nodes of a swarm share, as a store: each node's side asks through its session, a manager's side answers.

    discovery, ring, halves of keys --> SharedStore --Call--> manager: SharedVerbs --> etcd, below shared/

    gossip/ring     the keys of gossip                          managers write it
    nodes/<node>    where a node's gossip answers, its key      that node
    keys/<node>     its halves of keys of encrypted networks    that node
    and everybody reads all of it

Rules
    1. Who may write what follows from the certificate of the session, not from what is said in it.
    2. A watch goes on in the next session where it was: what was seen is said with the question.
    3. There are no leases: what a node wrote is there until it leaves, or is removed (``keeping``).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import aclosing
from typing import Any, Protocol, TypeVar

import msgspec

from fairlead.errors import Forbidden, Invalid, Unavailable
from fairlead.store.base import ANY, Change, Entry, Lease, Store
from fairlead.swarm.ca import Identity

T = TypeVar("T")

SHARED = "shared/"
GET, LIST, PUT, DELETE, WATCH = "get", "list", "put-if", "delete-if", "watch"
OWN = ("nodes/", "keys/")
MANAGERS = ("gossip/",)
LARGEST = 64 << 10


class Asking(Protocol):
    """A node's session, or the next one (``swarm.agent``)."""

    def ask(self, verb: str, body: Any = None) -> AsyncIterator[msgspec.Raw]: ...

    async def one(self, verb: str, body: Any = None) -> msgspec.Raw: ...

    async def connected(self) -> None: ...


class Question(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a verb is about."""

    key: str
    value: bytes = b""
    version: int = ANY
    seen: tuple[tuple[str, int], ...] = ()


class Endless:
    """In place of a lease: nothing ends."""

    async def keep(self) -> None:
        await asyncio.Event().wait()

    async def end(self) -> None: ...


class SharedStore:
    """``store.base.Store`` over a node's session."""

    def __init__(self, session: Asking) -> None:
        self._session = session

    async def get(self, key: str) -> Entry | None:
        return msgspec.json.decode(await self._session.one(GET, Question(key)), type=Entry | None)

    async def put_if(self, key: str, value: bytes, version: int = ANY, lease: Lease | None = None) -> int:
        return msgspec.json.decode(await self._session.one(PUT, Question(key, value, version)), type=int)

    async def delete_if(self, key: str, version: int = ANY) -> None:
        await self._session.one(DELETE, Question(key, version=version))

    async def watch(self, prefix: str, seen: Iterable[Entry] = ()) -> AsyncIterator[Change]:
        known = {entry.key: entry.version for entry in seen}
        while True:
            await self._session.connected()
            try:
                question = Question(prefix, seen=tuple(known.items()))
                async with aclosing(self._session.ask(WATCH, question)) as replies:  # type: ignore[type-var]
                    async for reply in replies:
                        change = msgspec.json.decode(reply, type=Change)
                        if change.value is None:
                            known.pop(change.key, None)
                        else:
                            known[change.key] = change.version
                        yield change
            except Unavailable:
                await asyncio.sleep(0.1)  # the session may not know yet that it is over

    async def lease(self, ttl: float) -> Lease:
        return Endless()

    async def close(self) -> None: ...

    async def list(self, prefix: str) -> list[Entry]:
        return msgspec.json.decode(await self._session.one(LIST, Question(prefix)), type=list[Entry])


class SharedVerbs:
    """A manager's answers. ``served``: for the dispatcher, verb -> who asks, what -> replies."""

    def __init__(self, ledger: Store) -> None:
        self._ledger = ledger
        self.served: dict[str, Callable[[Identity, msgspec.Raw], AsyncIterator[Any]]] = {
            GET: self._answer(self._get),
            LIST: self._answer(self._list),
            PUT: self._answer(self._put),
            DELETE: self._answer(self._delete),
            WATCH: self._watch,
        }

    def _answer(
        self, deed: Callable[[Identity, Question], Awaitable[Any]]
    ) -> Callable[[Identity, msgspec.Raw], AsyncIterator[Any]]:
        async def answer(who: Identity, body: msgspec.Raw) -> AsyncIterator[Any]:
            yield await deed(who, read(body))

        return answer

    async def _get(self, who: Identity, asked: Question) -> Entry | None:
        entry = await self._ledger.get(SHARED + asked.key)
        return _outside(entry) if entry else None

    async def _list(self, who: Identity, asked: Question) -> list[Entry]:
        return [_outside(entry) for entry in await self._ledger.list(SHARED + asked.key)]

    async def _put(self, who: Identity, asked: Question) -> int:
        refuse_foreign(who, asked.key)
        return await self._ledger.put_if(SHARED + asked.key, asked.value, asked.version)

    async def _delete(self, who: Identity, asked: Question) -> None:
        refuse_foreign(who, asked.key)
        await self._ledger.delete_if(SHARED + asked.key, asked.version)

    async def _watch(self, who: Identity, body: msgspec.Raw) -> AsyncIterator[Change]:
        asked = read(body)
        seen = [Entry(SHARED + key, b"", version) for key, version in asked.seen]
        async with aclosing(self._ledger.watch(SHARED + asked.key, seen)) as changes:  # type: ignore[type-var]
            async for change in changes:
                yield change._replace(key=change.key.removeprefix(SHARED))


def refuse_foreign(who: Identity, key: str) -> None:
    """Whether the node may write there is what its certificate says."""
    own = any(key == prefix + who.node for prefix in OWN)
    if not (own or (who.role == "manager" and key.startswith(MANAGERS))):
        raise Forbidden(f"{key} is not this node's to change")


def read(body: msgspec.Raw) -> Question:
    """A question as it came; ``Invalid`` when it makes no sense."""
    try:
        asked = msgspec.json.decode(body, type=Question)
    except (msgspec.MsgspecError, UnicodeDecodeError) as problem:
        raise Invalid(f"this question makes no sense: {problem}") from None
    if len(asked.value) > LARGEST or not asked.key or "//" in asked.key or ".." in asked.key:
        raise Invalid("this question makes no sense")
    return asked


def _outside(entry: Entry) -> Entry:
    return entry._replace(key=entry.key.removeprefix(SHARED))
