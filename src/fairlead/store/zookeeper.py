"""ZooKeeper, through kazoo: its threads there, our loop here.

    <prefix>/keys/networks%2F3f2a     one node for each key, side by side: a key may be the start of another
    <prefix>/clock                    written whenever a key is created

    get, list      sync, then read: what any server had acknowledged is seen
    put_if         one transaction that checks what was read
    watch          one-shot watches, armed again by the read that follows each
    lease          a session of its own; what is written under it is ephemeral

Rules
    1. A version is the node's ``mzxid``. ZooKeeper compares only its own per-node
       counter, which begins anew when a node is deleted and created; so each write
       also checks that nothing was created since we looked (``clock``), and looks
       again when something was. Creating needs no such check.
    2. A watch reads after it was told. What came and went in between is passed over.
       When the connection was lost, it lists and tells the difference.
    3. kazoo's callbacks come in its thread; they only hand over to the loop.
    4. With a user, every node is made so that this user alone may read and write it.

What it does not do well: very many keys. All names are read when a key comes or goes.
"""

from __future__ import annotations

import asyncio
import atexit
import logging
import threading
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import suppress
from typing import Any, NamedTuple
from urllib.parse import quote, unquote

from kazoo import exceptions as refusals
from kazoo.client import KazooClient, KazooState
from kazoo.protocol.states import EventType
from kazoo.security import make_digest_acl

from fairlead.errors import Conflict, Unavailable
from fairlead.store.base import ANY, Change, Entry, Lease
from fairlead.store.leases import PAUSE
from fairlead.store.watching import differences

log = logging.getLogger(__name__)

SESSION = 6.0
ANSWER = 3.0
LEAVE = 1.0
PATIENCE = 11.0
"""seconds until kazoo itself gives up waiting for its thread, and one"""
TRIES = 50
LOST = (refusals.ConnectionLoss, refusals.ConnectionClosedError, refusals.SessionExpiredError)


_leaving: set[threading.Thread] = set()
"""those that end a session still"""


@atexit.register
def _see_them_off() -> None:
    """A process that ends takes OpenSSL down, also under a thread that is in the middle of a handshake: it would die of
    that (SIGSEGV) in place of ending."""
    for thread in tuple(_leaving):
        thread.join(PATIENCE)


class Access(NamedTuple):
    """How to reach the servers. Files are paths, "" where there is none."""

    places: Sequence[str]
    user: str = ""
    password: str = ""
    ca: str = ""
    certificate: str = ""
    key: str = ""


class Connection:
    """One session, asked from the loop."""

    def __init__(self, access: Access, timeout: float) -> None:
        login = (access.user, access.password)
        self.client = KazooClient(
            hosts=",".join(access.places),
            timeout=timeout,
            auth_data=[("digest", ":".join(login))] if access.user else None,
            default_acl=[make_digest_acl(*login, all=True)] if access.user else None,
            use_ssl=bool(access.ca or access.certificate),
            ca=access.ca or None,
            certfile=access.certificate or None,
            keyfile=access.key or None,
            check_hostname=bool(access.ca),
            connection_retry={"max_tries": -1, "delay": 0.1, "backoff": 2, "max_delay": 1.0},
            logger=_quiet,
        )
        self._loop = asyncio.get_running_loop()
        self._connected = asyncio.Event()
        self._closing, self._closed = False, asyncio.Event()
        self.lost = asyncio.Event()
        self.client.add_listener(lambda state: self.hand_over(self._moved, state))
        self.client.start_async()

    def hand_over(self, call: Callable[..., object], *arguments: object) -> None:
        """From kazoo's thread to the loop, unless that has ended before."""
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(call, *arguments)

    def _moved(self, state: str) -> None:
        if state == KazooState.CONNECTED:
            self._connected.set()
        else:
            self._connected.clear()
        if state == KazooState.LOST:
            self.lost.set()

    async def ready(self) -> None:
        try:
            async with asyncio.timeout(ANSWER):
                await self._connected.wait()
        except TimeoutError:
            raise Unavailable("no ZooKeeper answers") from None

    async def ask(self, *questions: Any) -> list[Any]:
        """Answers to what kazoo's ``…_async`` calls returned, exceptions of ZooKeeper's among them."""
        try:
            async with asyncio.timeout(ANSWER):
                return await asyncio.gather(*map(self._answer, questions))
        except TimeoutError:
            raise Unavailable("ZooKeeper gave no answer in time") from None
        except LOST as error:
            raise Unavailable(f"the connection to ZooKeeper was lost ({type(error).__name__})") from error

    def _answer(self, question: Any) -> asyncio.Future[Any]:
        future: asyncio.Future[Any] = self._loop.create_future()

        def settle() -> None:
            if future.done():
                return
            if isinstance(question.exception, LOST):
                future.set_exception(question.exception)
            else:
                future.set_result(question.exception or question.value)

        question.rawlink(lambda _: self.hand_over(settle))
        return future

    async def close(self) -> None:
        """End the session. Where nobody answers kazoo takes long to give up: its thread may go on doing so."""

        def close() -> None:
            try:
                self.client.stop()
                self.client.close()
            finally:
                _leaving.discard(threading.current_thread())
                self.hand_over(self._closed.set)

        if not self._closing:
            self._closing = True
            thread = threading.Thread(target=close, daemon=True)
            _leaving.add(thread)
            thread.start()
        with suppress(TimeoutError):
            async with asyncio.timeout(LEAVE):
                await self._closed.wait()


class ZookeeperStore:
    """``store.base.Store`` in ZooKeeper, below ``prefix`` (``"/network"``)."""

    def __init__(self, access: Access, prefix: str) -> None:
        self._access = access
        self._keys, self._clock = f"{prefix}/keys", f"{prefix}/clock"
        self._open: Connection | None = None
        self._laid = False

    async def _connection(self) -> Connection:
        """Connected, and the two nodes that everything hangs on are there."""
        if self._open is None:
            self._open = Connection(self._access, SESSION)
        await self._open.ready()
        if not self._laid:
            client = self._open.client
            for path in (*_parents(self._clock), self._keys, self._clock):
                (made,) = await self._open.ask(client.create_async(path, b""))
                if isinstance(made, Exception) and not isinstance(made, refusals.NodeExistsError):
                    raise _refusal(made)
            self._laid = True
        return self._open

    async def get(self, key: str) -> Entry | None:
        connection = await self._connection()
        client = connection.client
        _, found = await connection.ask(client.sync_async(self._keys), client.get_async(self._path(key)))
        return self._entry(key, found)

    async def list(self, prefix: str) -> list[Entry]:
        connection = await self._connection()
        client = connection.client
        _, names = await connection.ask(client.sync_async(self._keys), client.get_children_async(self._keys))
        keys = sorted(key for key in map(unquote, _good(names)) if key.startswith(prefix))
        found = await connection.ask(*(client.get_async(self._path(key)) for key in keys))
        return [entry for entry in map(self._entry, keys, found) if entry]

    async def put_if(self, key: str, value: bytes, version: int = ANY, lease: Lease | None = None) -> int:
        holder = lease.connection.client.client_id[0] if isinstance(lease, ZookeeperLease) else 0

        def write(transaction: Any, stat: Any) -> None:
            if stat and stat.ephemeralOwner == holder:
                transaction.set_data(path, value, stat.version)
                return
            if stat:
                transaction.delete(path, stat.version)
            transaction.create(path, value, ephemeral=bool(holder))
            transaction.set_data(self._clock, b"")

        path = self._path(key)
        return await self._write(key, version, write, lease)

    async def delete_if(self, key: str, version: int = ANY) -> None:
        def delete(transaction: Any, stat: Any) -> None:
            if stat:
                transaction.delete(self._path(key), stat.version)

        await self._write(key, version, delete)

    async def _write(self, key: str, version: int, deed: Callable[[Any, Any], None], lease: Lease | None = None) -> int:
        """What ``deed`` adds to a transaction, if the key is still at ``version``; its zxid."""
        connection = await self._connection()
        if isinstance(lease, ZookeeperLease):
            connection = lease.connection
            if connection.lost.is_set():
                raise Conflict("the lease is over")
        client = connection.client
        for _ in range(TRIES):
            _, clock, stat = await connection.ask(
                client.sync_async(self._keys),
                client.exists_async(self._clock),
                client.exists_async(self._path(key)),
            )
            if version not in (ANY, _good(stat).mzxid if stat else 0):
                raise Conflict(f"{key} was changed by somebody else")
            transaction = client.transaction()
            if stat:
                transaction.check(self._clock, _good(clock).version)
            deed(transaction, stat)
            if not transaction.operations:
                return 0
            (results,) = await connection.ask(transaction.commit_async())
            troubles = [result for result in _good(results) if isinstance(result, Exception)]
            if not troubles:
                return max((result.mzxid for result in results if hasattr(result, "mzxid")), default=0)
            if any(isinstance(trouble, refusals.NoAuthError) for trouble in troubles):
                raise _refusal(refusals.NoAuthError())
        raise Unavailable(f"{key} could not be written: others write too often")

    # -- watching -------------------------------------------------------------------------

    async def watch(self, prefix: str, seen: Iterable[Entry] = ()) -> AsyncIterator[Change]:
        known = {entry.key: entry.version for entry in seen}
        while True:
            try:
                async for changes in self._changes(prefix, known):
                    for change in changes:
                        yield change
            except Unavailable as error:
                log.debug("the watch of %s waits: %s", prefix, error.message)
                await asyncio.sleep(PAUSE)

    async def _changes(self, prefix: str, known: dict[str, int]) -> AsyncIterator[Any]:
        """Lists of changes for as long as one connection lasts; ``known`` is kept up with them."""
        connection = await self._connection()
        client = connection.client
        events: asyncio.Queue[Any] = asyncio.Queue()

        def tell(event: Any) -> None:
            connection.hand_over(events.put_nowait, event)

        armed: set[str] = set()
        await connection.ask(client.sync_async(self._keys))
        (listed,) = await connection.ask(client.get_children_async(self._keys, tell, True))
        while True:
            names, root = _good(listed)
            keys = {key for key in map(unquote, names) if key.startswith(prefix)}
            fresh = sorted(keys - armed)
            found = await connection.ask(*(client.get_async(self._path(key), tell) for key in fresh))
            read = [entry for entry in map(self._entry, fresh, found) if entry]
            # A name that was listed and then not found is told by the listing that follows.
            told = {entry.key for entry in read}
            armed = (armed & keys) | told
            before = {key: known[key] for key in known if key in told or key not in keys}
            changes = differences(before, read, root.pzxid)
            known.update((entry.key, entry.version) for entry in read)
            for change in changes:
                if change.value is None:
                    known.pop(change.key, None)
            yield changes
            happened = [await events.get()]
            while not events.empty():
                happened.append(events.get_nowait())
            if any(event.type == EventType.NONE for event in happened):
                raise Unavailable("the connection was lost")
            armed -= {unquote(event.path.rpartition("/")[2]) for event in happened}
            watch = tell if any(event.type == EventType.CHILD for event in happened) else None
            (listed,) = await connection.ask(client.get_children_async(self._keys, watch, True))

    # -- leases ---------------------------------------------------------------------------

    async def lease(self, ttl: float) -> Lease:
        connection = Connection(self._access, ttl)
        try:
            await connection.ready()
        except BaseException:
            await connection.close()
            raise
        return ZookeeperLease(connection)

    async def close(self) -> None:
        if self._open is not None:
            await self._open.close()

    # -- names ----------------------------------------------------------------------------

    def _path(self, key: str) -> str:
        name = quote(key, safe="")
        return f"{self._keys}/{name}" if name.strip(".") else f"{self._keys}/{name.replace('.', '%2E')}"

    def _entry(self, key: str, found: Any) -> Entry | None:
        if isinstance(found, refusals.NoNodeError):
            return None
        value, stat = _good(found)
        return Entry(key, value or b"", stat.mzxid)


class ZookeeperLease:
    """A session of its own: kazoo's thread keeps it, its end ends what was written under it."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection

    async def keep(self) -> None:
        await self.connection.lost.wait()
        await self.connection.close()

    async def end(self) -> None:
        await self.connection.close()
        self.connection.lost.set()


def _parents(path: str) -> list[str]:
    parts = path.strip("/").split("/")
    return ["/" + "/".join(parts[:count]) for count in range(1, len(parts))]


def _good(answer: Any) -> Any:
    if isinstance(answer, Exception):
        raise _refusal(answer)
    return answer


def _refusal(error: Exception) -> Unavailable:
    return Unavailable(f"ZooKeeper refused: {type(error).__name__.removesuffix('Error')}")


_quiet = logging.getLogger("fairlead.store.kazoo")
_quiet.setLevel(logging.CRITICAL)
"""kazoo tells of every attempt to connect; whoever asks us is told in our words."""
