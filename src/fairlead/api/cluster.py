"""The hosts that share networks, as gossip sees them, and the keys that seal it.

    GET   /fairlead/cluster/hosts           who is there, and who lives
    GET   /fairlead/cluster/keys            which keys there are (fingerprints), and who has them
    POST  /fairlead/cluster/keys/rotate     a new key everywhere

An engine without a cluster has neither hosts nor keys.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from fairlead.api import http, web
from fairlead.core.places import Peer

if TYPE_CHECKING:
    from fairlead.engine.engine import Engine


def routes(engine: Engine) -> list[web.Route]:
    async def list_hosts(request: web.Request) -> web.Response:
        return http.answer(hosts(engine.peers.list()))

    async def keys(request: web.Request) -> web.Response:
        found = await engine.peers.keys()
        return http.answer([{"Fingerprint": k.fingerprint, "Used": k.used, "Hosts": list(k.hosts)} for k in found])

    async def rotate(request: web.Request) -> web.Response:
        await engine.peers.rotate()
        return http.nothing()

    return [
        web.get("/fairlead/cluster/hosts", list_hosts),
        web.get("/fairlead/cluster/keys", keys),
        web.post("/fairlead/cluster/keys/rotate", rotate),
    ]


def hosts(peers: Iterable[Peer]) -> list[dict[str, Any]]:
    """``Since``: seconds ago that the state changed; ``Distance``: seconds there and back, or null."""
    return [
        {
            "ID": peer.node,
            "Host": peer.host,
            "Address": peer.address,
            "State": peer.state,
            "Since": round(peer.since, 1),
            "Distance": peer.distance,
            "Self": peer.me,
        }
        for peer in peers
    ]
