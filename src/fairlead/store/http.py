"""Several servers that keep the same things, asked over HTTP: whoever answers is asked next time too.

    ask      one request, one answer; the next server when this one does not answer
    stream   one request, lines for as long as they come (etcd's watch)

Rules
    1. A read is asked of every server in turn. A write is asked again only where the
       first server surely never got it (no connection): a write that may have been
       carried out is never sent twice, not even by the HTTP client by itself. (Without
       a compare, too: in between somebody else may have written.)
    2. Everything ends: CONNECT seconds for a connection, ANSWER for an answer.
    3. Once certificates are given, nothing is ever sent in the clear.

What it does not do: understand the answers. A status of 500 or more counts as
"this server cannot", anything below is the caller's.
"""

from __future__ import annotations

import asyncio
import os
import ssl
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import aiohttp
from yarl import URL

from fairlead.errors import Unavailable

CONNECT = 1.5
ANSWER = 3.0


class Answer(NamedTuple):
    """Status below 500, headers (any case) and body."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Servers:
    """The servers of one store."""

    def __init__(self, places: Sequence[str], tls: ssl.SSLContext | None = None, socket: Path | None = None) -> None:
        """``places``: ``address:port``, the first is asked first; one name is enough with a Unix ``socket``."""
        self._places = list(places)
        self._tls, self._socket = tls, socket
        self._session: aiohttp.ClientSession | None = None

    async def ask(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        *,
        again: bool = True,
        answer: float = ANSWER,
    ) -> Answer:
        """The first answer. ``again``: it does no harm when this is carried out twice. ``path`` is percent-encoded."""
        trouble = ""
        for place in tuple(self._places):
            try:
                async with self._request(place, method, path, body, headers, again, answer, answer) as response:
                    found = Answer(response.status, response.headers, await response.read())
                if found.status < 500:
                    return found
                trouble = f"{place}: {found.body.decode(errors='replace').strip()[:200] or found.status}"
                sent = True
            except (aiohttp.ClientError, TimeoutError, OSError) as error:
                trouble = f"{place}: {_words(error)}"
                sent = not isinstance(error, aiohttp.ClientConnectorError | aiohttp.ConnectionTimeoutError)
            self._last(place)
            if sent and not again:
                break
        raise Unavailable(trouble)

    async def stream(
        self, method: str, path: str, body: bytes, headers: Mapping[str, str], silence: float
    ) -> AsyncIterator[bytes]:
        """Lines from one server; ends when it ends, or after ``silence`` seconds without one."""
        place = self._places[0]
        try:
            async with self._request(place, method, path, body, headers, True, None, silence) as response:
                if response.status >= 500:
                    raise aiohttp.ClientPayloadError(str(response.status))
                rest = b""
                async for chunk in response.content.iter_any():
                    *lines, rest = (rest + chunk).split(b"\n")
                    for line in lines:
                        yield line
                if rest:
                    yield rest
        except aiohttp.SocketTimeoutError:
            return
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            self._last(place)
            raise Unavailable(f"{place}: {_words(error)}") from error

    def _request(
        self,
        place: str,
        method: str,
        path: str,
        body: bytes | None,
        headers: Mapping[str, str] | None,
        again: bool,
        total: float | None,
        silence: float,
    ) -> aiohttp.client._RequestContextManager:
        if self._session is None:
            if self._socket is not None:
                connector: aiohttp.BaseConnector = aiohttp.UnixConnector(str(self._socket), limit=0)
            else:
                connector = aiohttp.TCPConnector(ssl=self._tls or True, limit=0)
            self._session = aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar())
        if self._session.closed:
            raise Unavailable(f"{place} is not asked any more")
        url = URL(f"{'https' if self._tls else 'http'}://{place}{path}", encoded=True)
        data: bytes | AsyncIterator[bytes] | None = body
        if body is not None and not again:
            # aiohttp by itself repeats a PUT whose connection broke, unless the body can be read only once. The
            # length is said: Consul takes a body of unknown length for none.
            data, headers = _once(body), {**(headers or {}), "Content-Length": str(len(body))}
        return self._session.request(
            method,
            url,
            data=data,
            headers=headers,
            allow_redirects=False,
            timeout=aiohttp.ClientTimeout(total=total, sock_connect=CONNECT, sock_read=silence),
        )

    def _last(self, place: str) -> None:
        """Ask this one after the others from now on."""
        self._places.remove(place)
        self._places.append(place)

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()


async def _once(body: bytes) -> AsyncIterator[bytes]:
    yield body


def _words(error: BaseException) -> str:
    if isinstance(error, asyncio.TimeoutError):
        return "no answer in time"
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        return f"its certificate is not trusted: {error.certificate_error}"
    if isinstance(error, aiohttp.ClientConnectorError) and error.os_error.errno:
        return os.strerror(error.os_error.errno).lower()
    return str(error) or type(error).__name__
