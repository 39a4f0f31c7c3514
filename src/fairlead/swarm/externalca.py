"""Certificates that somebody else signs: ``swarm init | update | ca --external-ca protocol=cfssl,url=https://…``.

    node --request--> manager --POST {certificate_request, subject, hosts}--> CFSSL, which has the root's key
                              <--------------- a certificate ---------------'

The managers stay who says which node gets which role; the key that signs may then be nowhere in the swarm
(``swarm ca --rotate --ca-cert ROOT --external-ca protocol=cfssl,url=…,cacert=ROOT``).

Rules
    1. Those are asked whose certificate (``cacert``; not said: the swarm's root) is the root that signs now, one after
       the other. If there is one, a key of ours is not used in its place: somebody wants to see every certificate.
    2. HTTPS only. The other side has to show a certificate of the root it signs for; we show ours, as manager.
    3. What comes back is believed only if it leads to that root, is good now, and is for exactly the key, node and role
       that were asked for.

What it does not do: Raft (etcd and the gate believe certificates, whoever signed them); revoking (``revoking``).
"""

from __future__ import annotations

import asyncio
import datetime
import http.client
import logging
import ssl
import urllib.parse
from collections.abc import Callable, Iterable

import msgspec

from fairlead.core.swarmspec import Cluster, ExternalCa
from fairlead.errors import FairleadError, Invalid, Unavailable
from fairlead.swarm import ca
from fairlead.swarm.ca import Identity

log = logging.getLogger(__name__)

PATIENCE = 5.0
"""seconds with one of them"""
LARGEST = 1 << 20
"""bytes of an answer"""


class _Result(msgspec.Struct):
    certificate: str = ""


class _Problem(msgspec.Struct):
    message: str = ""


class _Answer(msgspec.Struct):
    """CFSSL's, as far as it matters."""

    success: bool = False
    result: _Result | None = None
    errors: list[_Problem] | None = None


def signing(cluster: Cluster) -> tuple[ExternalCa, ...]:
    """Those that sign for the root that signs now."""
    trust = cluster.trust
    return of_root(cluster.spec.ca_config.external_cas or (), trust.root, trust.next_root or trust.root)


def of_root(all: Iterable[ExternalCa], usual: str, root: str) -> tuple[ExternalCa, ...]:
    """``usual``: the root (PEM) of those that do not say which is theirs."""
    return tuple(one for one in all if (one.ca_cert or usual).split() == root.split())


def check(one: ExternalCa) -> None:
    """Raises ``Invalid``."""
    if one.protocol.lower() != "cfssl":
        raise Invalid(f'invalid protocol: "{one.protocol}"')
    try:
        parts = urllib.parse.urlsplit(one.url)
        good = parts.scheme == "https" and parts.hostname and parts.port != 0
    except ValueError:
        good = False
    if not good:
        raise Invalid(f"external CA {one.url}: expected https://host/…, for it is to prove who it is")
    if one.ca_cert:
        ca.load(one.ca_cert.encode())


async def sign(
    signers: Iterable[ExternalCa],
    root: str,
    request: bytes,
    who: Identity,
    shows: Callable[[ssl.SSLContext], object],
    now: datetime.datetime,
) -> bytes:
    """A certificate, PEM, from the first that gives a good one. ``root``: PEM, theirs; ``shows`` puts our certificate
    into a context. Raises ``Unavailable`` with what the last one said, and ``Invalid`` when the request is none."""
    public = ca.requested(request)
    body = msgspec.json.encode(
        {
            "certificate_request": request.decode(),
            "subject": {"CN": who.node, "names": [{"OU": ca.ROLES[who.role], "O": who.cluster}]},
            "hosts": [ca.ROLES[who.role], who.node],
        }
    )
    trouble = Unavailable("no external CA signs for the root certificate")
    for one in signers:
        try:
            certificate = await asyncio.to_thread(_ask, one.url, root, body, shows)
            return _checked(certificate, root, public, who, now)
        except FairleadError as error:
            log.warning("external CA %s: %s", one.url, error.message)
            trouble = Unavailable(f"external CA {one.url}: {error.message}")
    raise trouble


async def reachable(signers: Iterable[ExternalCa], root: str) -> bool:
    """Whether one of them answers, and shows a certificate of the root (PEM)."""
    for one in signers:
        try:
            await asyncio.to_thread(_greet, one.url, root)
        except OSError as error:
            log.warning("external CA %s: it does not answer (%s)", one.url, error)
        else:
            return True
    return False


def _greet(url: str, root: str) -> None:
    connection = _connection(url, root)
    try:
        connection.connect()
    finally:
        connection.close()


def _connection(
    url: str, root: str, shows: Callable[[ssl.SSLContext], object] = lambda context: None
) -> http.client.HTTPSConnection:
    parts, context = urllib.parse.urlsplit(url), ssl.create_default_context(cadata=root)
    shows(context)
    return http.client.HTTPSConnection(parts.hostname or "", parts.port, timeout=PATIENCE, context=context)


def _ask(url: str, root: str, body: bytes, shows: Callable[[ssl.SSLContext], object]) -> bytes:
    """In a thread. Raises ``Unavailable``."""
    parts, connection = urllib.parse.urlsplit(url), _connection(url, root, shows)
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    try:
        connection.request("POST", target, body, {"Content-Type": "application/json"})
        response = connection.getresponse()
        told = msgspec.json.decode(response.read(LARGEST), type=_Answer)
    except (OSError, http.client.HTTPException) as error:
        raise Unavailable(f"it does not answer ({error})") from None
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        raise Unavailable("it answers something that is no CFSSL") from None
    finally:
        connection.close()
    if not told.success or told.result is None:
        raise Unavailable("; ".join(one.message for one in told.errors or ()) or "it refuses, and does not say why")
    return told.result.certificate.encode()


def _checked(chain: bytes, root: str, public: bytes, who: Identity, now: datetime.datetime) -> bytes:
    """The certificate alone, PEM: what stands behind it is for us to say. Raises ``Invalid``."""
    certificate = ca.load(chain)
    alone = ca.pem(certificate)
    if not ca.signed_with(certificate, root.encode()) or not ca.trusted(alone, [root.encode()], now):
        raise Invalid("its certificate is not of the root that it is to sign for, or not good now")
    if not ca.fits(certificate, public, who):
        raise Invalid(f"its certificate is not one for node {who.node} as {who.role}")
    return alone
