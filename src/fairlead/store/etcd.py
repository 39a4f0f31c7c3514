"""etcd v3, through its JSON gateway: no gRPC, the same promises.

    get, list      /v3/kv/range         linearizable, as etcd reads unless told otherwise
    put_if         /v3/kv/txn           if mod_revision = version then put
    watch          /v3/watch            a line of JSON for every revision, resumed from the last one seen
    lease          /v3/lease/…          granted, kept alive every third of its time, revoked

A version is etcd's ``mod_revision``: one counter for all keys, so a watch sees
every value, in the order in which it came to be.

Rules
    1. A watch that heard nothing for SILENCE seconds asks anew, from where it was: a
       path that died quietly, or a server cut off from the others, is noticed so.
    2. Where the history was compacted or the server knows less than we have seen
       (restored from a backup), a watch lists and tells the difference.
    3. With a certificate and a user, the certificate may have no common name: etcd's
       gateway refuses to choose between the two, and says so.
    4. The token that stands for user and password is taken when it is first asked
       for, and anew when the server forgot it. Neither is in any message of ours.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import AsyncIterator, Iterable, Sequence
from typing import Any

import msgspec

from fairlead.errors import Conflict, Unavailable
from fairlead.store.base import ANY, Change, Entry, Lease, Write
from fairlead.store.http import Servers
from fairlead.store.leases import PAUSE, RenewedLease
from fairlead.store.watching import differences, note

log = logging.getLogger(__name__)

SILENCE = 5.0
UNAUTHENTICATED = 401


class Header(msgspec.Struct, frozen=True):
    revision: int = 0


class Pair(msgspec.Struct):
    """A key and its value. (Bytes travel as base64, numbers as text.)"""

    key: bytes
    mod_revision: int
    value: bytes = b""


class Event(msgspec.Struct):
    kv: Pair
    type: str = "PUT"


class Reply(msgspec.Struct):
    """Any answer of etcd's, as far as it is of use; what a kind of answer does not have is empty."""

    header: Header = Header()
    kvs: list[Pair] = []
    succeeded: bool = False
    ID: str = ""
    TTL: int = 0
    token: str = ""
    result: Reply | None = None
    events: list[Event] = []
    created: bool = False
    canceled: bool = False
    compact_revision: int = 0
    error: str | dict[str, Any] = ""
    message: str = ""

    @property
    def reason(self) -> str:
        """Why not; each etcd has its own place for it."""
        return str(self.error.get("message", "")) if isinstance(self.error, dict) else self.error or self.message


class EtcdStore:
    """``store.base.Store`` in etcd, below ``prefix`` (``"network/"``)."""

    def __init__(self, servers: Servers, prefix: str = "", user: str = "", password: str = "") -> None:
        self._servers = servers
        self._prefix = prefix
        self._user, self._password = user, password
        self._token = ""

    async def get(self, key: str) -> Entry | None:
        reply = await self._ask("kv/range", {"key": self._name(key)})
        return next(map(self._entry, reply.kvs), None)

    async def list(self, prefix: str) -> list[Entry]:
        reply = await self._ask("kv/range", self._range(prefix))
        return [self._entry(pair) for pair in reply.kvs]

    async def put_if(self, key: str, value: bytes, version: int = ANY, lease: Lease | None = None) -> int:
        return await self.commit([Write(key, value, version)], (), lease)

    async def delete_if(self, key: str, version: int = ANY) -> None:
        await self.commit([Write(key, None, version)])

    async def commit(
        self, writes: Sequence[Write], guards: Iterable[tuple[str, int]] = (), lease: Lease | None = None
    ) -> int:
        """One transaction: the deeds, if every key is at its version; the new revision of the store."""
        versions = [*guards, *((write.key, write.version) for write in writes)]
        compare = [
            {"key": self._name(key), "target": "MOD", "result": "EQUAL", "mod_revision": str(version)}
            for key, version in versions
            if version != ANY
        ]
        body = {"compare": compare, "success": [self._deed(write, lease) for write in writes]}
        reply = await self._ask("kv/txn", body, again=False)
        if not reply.succeeded:
            raise Conflict(f"{' or '.join(key for key, _ in versions)} was changed by somebody else")
        return reply.header.revision

    def _deed(self, write: Write, lease: Lease | None) -> dict[str, Any]:
        key = {"key": self._name(write.key)}
        if write.value is None:
            return {"request_delete_range": key}
        return {
            "request_put": {
                **key,
                "value": write.value,
                **({"lease": lease.id} if isinstance(lease, RenewedLease) else {}),
            }
        }

    # -- watching -------------------------------------------------------------------------

    async def watch(self, prefix: str, seen: Iterable[Entry] = ()) -> AsyncIterator[Change]:
        known = {entry.key: entry.version for entry in seen}
        revision = 0
        while True:
            try:
                if not revision:
                    reply = await self._ask("kv/range", self._range(prefix))
                    revision = reply.header.revision
                    present = [self._entry(pair) for pair in reply.kvs]
                    for change in differences(known, present, revision):
                        yield change
                    known = {entry.key: entry.version for entry in present}
                async for events, now in self._events(prefix, revision):
                    for change in map(self._change, events):
                        if note(known, change):
                            yield change
                    revision = now
            except Unavailable as error:
                log.debug("the watch of %s waits: %s", prefix, error.message)
                await asyncio.sleep(PAUSE)

    async def _events(self, prefix: str, revision: int) -> AsyncIterator[tuple[list[Event], int]]:  # type: ignore[valid-type]
        """What happened after ``revision``, with the revision it leads to (0: list anew), until the stream ends."""
        body = {"create_request": {**self._range(prefix), "start_revision": str(revision + 1)}}
        headers = {"Grpc-Metadata-hasleader": "true", **await self._headers()}
        async for line in self._servers.stream("POST", "/v3/watch", _encode(body), headers, SILENCE):
            reply = _decode(line)
            told = reply.result
            if told is None or (told.canceled and not told.compact_revision):
                self._token = ""
                raise Unavailable(f"the watch was ended: {reply.reason or 'no leader'}")
            if told.canceled or (told.created and told.header.revision < revision):
                yield [], 0
                return
            if told.events:
                yield told.events, told.header.revision

    # -- leases ---------------------------------------------------------------------------

    async def lease(self, ttl: float) -> Lease:
        reply = await self._ask("lease/grant", {"TTL": str(max(1, math.ceil(ttl)))}, again=False)
        return RenewedLease(reply.ID, reply.TTL, self._renew, self._revoke)

    async def _renew(self, id: str) -> bool:
        """False when there is no such lease any more."""
        reply = await self._ask("lease/keepalive", {"ID": id})
        return reply.result is not None and reply.result.TTL > 0

    async def _revoke(self, id: str) -> None:
        await self._ask("lease/revoke", {"ID": id})

    async def close(self) -> None:
        await self._servers.close()

    # -- talking --------------------------------------------------------------------------

    async def _ask(self, path: str, body: dict[str, Any], *, again: bool = True) -> Reply:
        """One question; ``Unavailable`` with etcd's own words when it is refused."""
        for attempt in (1, 2):
            headers = await self._headers()
            answer = await self._servers.ask("POST", f"/v3/{path}", _encode(body), headers, again=again)
            plain = answer.status != 200 and not answer.body.startswith(b"{")  # its gateway's own words
            reply = Reply(error=answer.body.decode(errors="replace").strip()) if plain else _decode(answer.body)
            if answer.status == 200 and not reply.error:
                return reply
            if "lease not found" in reply.reason:
                if path == "lease/revoke":
                    return reply
                raise Conflict("the lease is over")
            if answer.status != UNAUTHENTICATED or not self._token or attempt == 2:
                break
            self._token = ""  # servers forget tokens when they restart
        raise Unavailable(f"etcd refused: {reply.reason[:200] or answer.status}")

    async def _headers(self) -> dict[str, str]:
        if not self._user:
            return {}
        if not self._token:
            login = {"name": self._user, "password": self._password}
            answer = await self._servers.ask("POST", "/v3/auth/authenticate", _encode(login))
            reply = _decode(answer.body)
            if not reply.token:
                raise Unavailable(f"etcd refused the user {self._user!r}: {reply.reason}")
            self._token = reply.token
        return {"Authorization": self._token}

    def _name(self, key: str) -> bytes:
        return (self._prefix + key).encode()

    def _range(self, prefix: str) -> dict[str, bytes]:
        """All keys that begin so: up to the first that does not ("\\0": to the end)."""
        start = self._name(prefix)
        return {"key": start or b"\0", "range_end": start[:-1] + bytes([start[-1] + 1]) if start else b"\0"}

    def _entry(self, pair: Pair) -> Entry:
        return Entry(pair.key.decode(errors="replace").removeprefix(self._prefix), pair.value, pair.mod_revision)

    def _change(self, event: Event) -> Change:
        key, value, version = self._entry(event.kv)
        return Change(key, None if event.type == "DELETE" else value, version)


_encode = msgspec.json.encode


def _decode(line: bytes) -> Reply:
    try:
        return msgspec.json.decode(line, type=Reply, strict=False)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        raise Unavailable(f"this is no etcd v3: {line[:80].decode(errors='replace')!r}") from None
