"""The managers' memory: etcd, one member on every manager, run by us and spoken to over a Unix socket.

    found    the first member, alone          join     a learner is added, started, promoted when it has caught up
    leave    taken off the list, then ended   recover  alone again with what this member knows, after the rest is lost

    member --TLS, https://<node id>:2378--> member        names, not addresses: each has a hosts file that we keep

Rules
    1. A member is who its certificate says; where it is, is a line in a file. Addresses may change at any time, all
       at once too: nobody has to agree on it.
    2. Members believe only managers: certificates of the cluster's root whose names include ``swarm-manager``, and
       that are not on the list of those that are good no more. (etcd reads that list for every connection.)
    3. Nobody but root comes near the data: no port for clients, a socket in a folder of ours (mode 0700).
    4. A learner has no vote, so adding one never costs the majority. (etcd's own check would make every join wait
       five seconds; ours is ``core.quorum``.)

What it does not do: decide who may be a manager (``ca``, ``core.quorum``), or lead (``leader``).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import msgspec

from fairlead.errors import Conflict, Unavailable

log = logging.getLogger(__name__)

PORT = 2378
RESTARTING = "restarting"
"""key of the manager whose etcd is started again"""
SOCKET = "client:0"
"""what etcd calls ``unix://client:0``, in the folder where it runs"""
REVOKED = "crl.der"
NAMES = "hosts: files\n"
"""how etcd finds names (``nsswitch.conf``): nobody else is asked for who is in no file yet"""
PATIENCE = 60.0
"""seconds for a learner to catch up"""
PAUSE = 0.2
LARGEST = 16 << 20
"""bytes of one request"""
MOST_WRITES = 8192
"""in one commit"""


class Member(NamedTuple):
    """``id`` is etcd's. ``started``: it has been, once at least."""

    id: str
    node: str
    learner: bool
    started: bool


class Place(NamedTuple):
    """Where a member lives on this machine. ``certificates`` holds ``ca.crt``, ``node.crt``, ``node.key`` and
    ``crl.der``."""

    data: Path
    run: Path
    certificates: Path


class Answer(Protocol):
    @property
    def status(self) -> int: ...

    @property
    def body(self) -> bytes: ...


class Etcd(Protocol):
    """The one here (``store.http.Servers`` over its socket)."""

    async def ask(self, method: str, path: str, body: bytes | None = None, *, again: bool = True) -> Answer: ...


def peer_url(node: str) -> str:
    return f"https://{node}:{PORT}"


def command(node: str, place: Place, listen: str, others: Sequence[str] = (), *, recover: bool = False) -> list[str]:
    """How etcd is started; ``others``: who is a member already (nobody: this one founds, or was started before)."""
    everybody = ",".join(f"{name}={peer_url(name)}" for name in (*others, node))
    keys = place.certificates
    return [
        "etcd",
        f"--name={node}",
        f"--data-dir={place.data}",
        f"--listen-client-urls=unix://{SOCKET}",
        f"--advertise-client-urls=unix://{SOCKET}",
        f"--listen-peer-urls=https://{listen}:{PORT}",
        f"--initial-advertise-peer-urls={peer_url(node)}",
        f"--initial-cluster={everybody}",
        f"--initial-cluster-state={'existing' if others else 'new'}",
        f"--peer-trusted-ca-file={keys / 'ca.crt'}",
        f"--peer-cert-file={keys / 'node.crt'}",
        f"--peer-key-file={keys / 'node.key'}",
        f"--peer-crl-file={keys / REVOKED}",
        "--strict-reconfig-check=false",
        "--peer-client-cert-auth",
        "--peer-cert-allowed-hostname=swarm-manager",
        "--experimental-peer-skip-client-san-verification",
        f"--max-request-bytes={LARGEST}",
        f"--max-txn-ops={MOST_WRITES}",
        "--auto-compaction-mode=revision",
        "--auto-compaction-retention=10000",
        "--logger=zap",
        "--log-outputs=stderr",
        *(["--force-new-cluster"] if recover else []),
    ]


def clear(place: Place) -> None:
    """Before every start: the socket of one that was killed is still there, and would bar the way."""
    (place.run / SOCKET).unlink(missing_ok=True)


def hosts(addresses: Mapping[str, str]) -> str:
    """The hosts file of a member: node -> address of every manager."""
    return "127.0.0.1 localhost\n" + "".join(f"{addresses[node]} {node}\n" for node in sorted(addresses))


class Members:
    """The list of members, asked of the one here."""

    def __init__(self, etcd: Etcd) -> None:
        self._etcd = etcd

    async def list(self) -> list[Member]:
        """As the majority has it; raises ``Unavailable`` without one."""
        answer = await self._ask("cluster/member/list", {"linearizable": True})
        return [_member(one) for one in answer.get("members", ())]

    async def add(self, node: str) -> str:
        """A learner; it has to be started then. Its id."""
        answer = await self._ask("cluster/member/add", {"peerURLs": [peer_url(node)], "isLearner": True}, again=False)
        return str(answer["member"]["ID"])

    async def promote(self, id: str) -> None:
        """The learner gets its vote, once it has caught up."""
        async with asyncio.timeout(PATIENCE):
            while True:
                try:
                    await self.promote_now(id)
                    return
                except Conflict as behind:
                    log.debug("the learner is not promoted yet: %s", behind.message)
                    await asyncio.sleep(PAUSE)

    async def promote_now(self, id: str) -> None:
        """``Conflict`` when it has not caught up yet."""
        await self._ask("cluster/member/promote", {"ID": id}, again=False)

    async def remove(self, id: str) -> None:
        await self._ask("cluster/member/remove", {"ID": id}, again=False)

    async def term(self) -> int:
        """Which of their elections was the last, as the majority has it; raises ``Unavailable`` without one."""
        told = await self._ask("kv/range", {"key": "AA==", "keys_only": True})
        return int(told["header"]["raft_term"])

    async def _ask(self, path: str, body: dict[str, Any], *, again: bool = True) -> dict[str, Any]:
        answer = await self._etcd.ask("POST", f"/v3/{path}", msgspec.json.encode(body), again=again)
        try:
            told = msgspec.json.decode(answer.body, type=dict[str, Any])
        except msgspec.MsgspecError:
            raise Unavailable(f"etcd answered in no way that makes sense: {answer.status}") from None
        if answer.status != 200:
            raise Conflict(f"etcd refused: {told.get('message') or told.get('error')}")
        return told


def _member(told: dict[str, Any]) -> Member:
    url = str(next(iter(told.get("peerURLs", ())), ""))
    node = url.removeprefix("https://").rpartition(":")[0]
    return Member(str(told["ID"]), node, bool(told.get("isLearner", False)), bool(told.get("name")))
