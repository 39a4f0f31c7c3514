"""Consul, through its HTTP API.

    get, list      GET /v1/kv/…?consistent       read from the leader
    put_if         PUT /v1/txn                   cas at ModifyIndex (plain KV does not tell the new index)
    delete_if      PUT /v1/txn                   check-index, then delete-cas
    watch          GET /v1/kv/…?recurse&index=   answers when something changed: list, and tell the difference
    lease          sessions                      that delete what they hold

Rules
    1. ``delete-cas`` alone calls it a success when the key is not there at all; hence
       the check before it, in the same transaction.
    2. A blocking query tells *that* something changed and what is now. What came and
       went in between is passed over. The index is Consul's, not ours: when it goes
       back (a restored snapshot), we begin anew, and what has changed still shows.
    3. A session lives at least SHORTEST seconds and is tied to no health check:
       Consul's agents may come and go, the holder is us. No lock delay: a key whose
       holder died can be taken at once.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import AsyncIterator, Iterable
from typing import Any
from urllib.parse import quote

import msgspec

from fairlead.errors import Conflict, Unavailable
from fairlead.store.base import ANY, Change, Entry, Lease
from fairlead.store.http import ANSWER, Answer, Servers
from fairlead.store.leases import PAUSE, RenewedLease
from fairlead.store.watching import differences

log = logging.getLogger(__name__)

SHORTEST, LONGEST = 10, 86400
WAIT = 5


class Item(msgspec.Struct):
    """One key. (Bytes travel as base64.)"""

    Key: str
    ModifyIndex: int
    Value: bytes | None = None


class Deed(msgspec.Struct):
    KV: Item


class Trouble(msgspec.Struct):
    What: str


class Outcome(msgspec.Struct):
    """What a transaction came to."""

    Results: list[Deed] | None = None
    Errors: list[Trouble] | None = None


class Session(msgspec.Struct):
    ID: str


class ConsulStore:
    """``store.base.Store`` in Consul, below ``prefix`` (``"network/"``)."""

    def __init__(self, servers: Servers, prefix: str = "", token: str = "") -> None:
        self._servers = servers
        self._prefix = prefix
        self._headers = {"X-Consul-Token": token} if token else {}

    async def get(self, key: str) -> Entry | None:
        answer = await self._read(f"{self._path(key)}?consistent")
        return next(map(self._entry, _items(answer)), None)

    async def list(self, prefix: str) -> list[Entry]:
        answer = await self._read(f"{self._path(prefix)}?recurse&consistent")
        return [self._entry(item) for item in _items(answer)]

    async def put_if(self, key: str, value: bytes, version: int = ANY, lease: Lease | None = None) -> int:
        name = {"Key": self._prefix + key, "Value": value}
        deeds = [{"Verb": "set", **name} if version == ANY else {"Verb": "cas", "Index": version, **name}]
        if isinstance(lease, RenewedLease):
            deeds.append({"Verb": "lock", "Session": lease.id, **name})
        return await self._write(key, deeds)

    async def delete_if(self, key: str, version: int = ANY) -> None:
        name = {"Key": self._prefix + key}
        deeds: Any
        if version == ANY:
            deeds = [{"Verb": "delete", **name}]
        elif version == 0:
            deeds = [{"Verb": "check-not-exists", **name}]
        else:
            deeds = [{"Verb": verb, "Index": version, **name} for verb in ("check-index", "delete-cas")]
        await self._write(key, deeds)

    async def _write(self, key: str, deeds: Iterable[dict[str, Any]]) -> int:
        body = msgspec.json.encode([{"KV": deed} for deed in deeds])
        answer = await self._servers.ask("PUT", "/v1/txn", body, self._headers, again=False)
        if answer.status not in (200, 409):
            raise _refusal(answer)
        outcome = _decode(answer.body, Outcome)
        if not outcome.Errors:
            return max((deed.KV.ModifyIndex for deed in outcome.Results or ()), default=0)
        reason = outcome.Errors[0].What
        if "ermission" in reason:
            raise Unavailable(f"Consul refused: {reason}")
        if "invalid session" in reason:
            raise Conflict("the lease is over")
        raise Conflict(f"{key} was changed by somebody else")

    # -- watching -------------------------------------------------------------------------

    async def watch(self, prefix: str, seen: Iterable[Entry] = ()) -> AsyncIterator[Change]:
        known = {entry.key: entry.version for entry in seen}
        index = 0
        while True:
            try:
                query = f"?recurse&consistent&index={index}&wait={WAIT}s" if index else "?recurse&consistent"
                # Consul adds up to a sixteenth to the wait, so that not all who wait return at once.
                answer = await self._read(self._path(prefix) + query, WAIT * 17 / 16 + ANSWER)
                now = int(answer.headers.get("X-Consul-Index", 0))
                present = [self._entry(item) for item in _items(answer)]
                for change in differences(known, present, now):
                    yield change
                known = {entry.key: entry.version for entry in present}
                index = now if now >= index else 0
            except Unavailable as error:
                log.debug("the watch of %s waits: %s", prefix, error.message)
                await asyncio.sleep(PAUSE)

    # -- leases ---------------------------------------------------------------------------

    async def lease(self, ttl: float) -> Lease:
        span = min(max(SHORTEST, math.ceil(ttl)), LONGEST)
        wish = {"TTL": f"{span}s", "Behavior": "delete", "LockDelay": "0s", "NodeChecks": []}
        answer = await self._servers.ask(
            "PUT", "/v1/session/create", msgspec.json.encode(wish), self._headers, again=False
        )
        if answer.status != 200:
            raise _refusal(answer)
        return RenewedLease(_decode(answer.body, Session).ID, span, self._renew, self._destroy)

    async def _renew(self, id: str) -> bool:
        """False when there is no such session any more."""
        answer = await self._servers.ask("PUT", f"/v1/session/renew/{id}", b"", self._headers)
        if answer.status not in (200, 404):
            raise _refusal(answer)
        return answer.status == 200

    async def _destroy(self, id: str) -> None:
        await self._servers.ask("PUT", f"/v1/session/destroy/{id}", b"", self._headers)

    async def close(self) -> None:
        await self._servers.close()

    # -- talking --------------------------------------------------------------------------

    async def _read(self, path: str, answer: float = ANSWER) -> Answer:
        found = await self._servers.ask("GET", path, None, self._headers, answer=answer)
        if found.status not in (200, 404):
            raise _refusal(found)
        return found

    def _path(self, key: str) -> str:
        return f"/v1/kv/{quote(self._prefix + key)}"

    def _entry(self, item: Item) -> Entry:
        return Entry(item.Key.removeprefix(self._prefix), item.Value or b"", item.ModifyIndex)


def _items(answer: Answer) -> list[Item]:
    return _decode(answer.body, list[Item]) if answer.status == 200 else []


def _decode(body: bytes, type: Any) -> Any:
    try:
        return msgspec.json.decode(body, type=type)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        raise Unavailable(f"this is no Consul: {body[:80].decode(errors='replace')!r}") from None


def _refusal(answer: Answer) -> Unavailable:
    return Unavailable(f"Consul refused: {answer.body.decode(errors='replace').strip()[:200] or answer.status}")
