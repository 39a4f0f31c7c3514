"""Ipam: whoever lends the addresses of a network, when it is not us (``docker network create --ipam-driver``).

    check(request)     before anything exists: can such a network be?
    lease(holder)      the interface stands in its sandbox and is up, with no address: get it one
    current(id)        the lease it has now; it may have changed since
    adopt(holder)      after a restart: it has this lease, and somebody sees to it that it stays so
    release(id)        the interface is about to go

Our own choice of addresses (``core.addresses``) is a pure function and is not
one of these: it never waits. A lender is asked over a network, may be silent, and
may change his mind later: then he calls ``changed`` (see ``engine.leasesclient``).

Rules
    1. ``lease`` returns an address that is the holder's from that moment, or raises and holds nothing.
    2. ``release`` never fails: who cannot be told is not told.
"""

from __future__ import annotations

from typing import Protocol

import msgspec

from fairlead.core.model import Endpoint, Lease, Network, NetworkRequest


class Holder(msgspec.Struct, frozen=True, kw_only=True):
    """Who wants an address: an endpoint on a network, the stack it is in, what it is called, what it had before."""

    network: Network
    endpoint: Endpoint
    namespace: str
    """path of the sandbox's network namespace"""
    hostname: str
    prefer: str = ""


class Lender(Protocol):
    """A lender of addresses."""

    def check(self, request: NetworkRequest) -> None: ...

    async def lease(self, holder: Holder) -> Lease: ...

    def current(self, endpoint_id: str) -> Lease | None: ...

    def adopt(self, holder: Holder) -> None: ...

    async def release(self, endpoint_id: str) -> None: ...
