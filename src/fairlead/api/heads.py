r"""The head of a request, from bytes: strictly what RFC 9112 says, for what arrives is treated as hostile.

    b"POST /v1.51/exec/e/start HTTP/1.1\r\nHost: d\r\nContent-Length: 13"
        --> Head(method="POST", target="/v1.51/exec/e/start", version=(1, 1), headers={"host": "d", …}, length=13)

Rules
    1. There is one way to say how long a body is. Two of them (``Content-Length`` next to chunks, or twice) are
       ``Malformed``: where two programs could read two different requests, nothing is read.
    2. A header that is given again is joined to the first with a comma, as lists are.
    3. Bytes that are no UTF-8 live on in headers as surrogates and in the target as question marks; neither is refused
       here, for they may be a password or a file's name.

What it does not do: wait, or read a body (``bodies``).
"""

from __future__ import annotations

import msgspec

from fairlead.core.patterns import pattern
from fairlead.errors import Invalid

LARGEST = 1 << 20
"""Bytes of a head; Go's limit."""
CHUNKED = -1
"""The length of a body that says by itself where it ends."""

_TOKEN = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_LINE = pattern(rb"(%b) ([^\x00-\x20\x7f]+) HTTP/1\.([01])" % _TOKEN)
_FIELD = pattern(rb"(%b):[ \t]*([^\x00-\x08\x0a-\x1f\x7f]*)" % _TOKEN)


class Malformed(Invalid):
    """No HTTP: answered in plain text, and the connection is closed."""


class TooLarge(Malformed):
    status = 431


class NotExpected(Malformed):
    status = 417


class NotKnown(Malformed):
    """A transfer encoding that is not ours."""

    status = 501


class Head(msgspec.Struct, frozen=True):
    """What a request says before its body. Names of headers are in lower case."""

    method: str
    target: str
    version: tuple[int, int]
    headers: dict[str, str]
    length: int
    """Bytes of the body, or ``CHUNKED``."""

    @property
    def keeps(self) -> bool:
        """The client wants to go on with this connection."""
        words = {word.strip() for word in self.headers.get("connection", "").lower().split(",")}
        return "close" not in words and (self.version >= (1, 1) or "keep-alive" in words)

    @property
    def expects(self) -> bool:
        """The client sends its body only when it is told to."""
        return self.version >= (1, 1) and "expect" in self.headers


def could_be(start: bytes) -> bool:
    """Whether these bytes may be the start of a head: if not, nothing is gained by waiting for its end."""
    return start.partition(b" ")[0].isalpha()


def parse(raw: bytes) -> Head:
    """The head without the empty line that ends it; ``Malformed``."""
    first, *lines = raw.split(b"\r\n")
    asked = _LINE.fullmatch(first)
    if asked is None:
        raise Malformed("malformed HTTP request")
    headers: dict[str, str] = {}
    for line in lines:
        field = _FIELD.fullmatch(line)
        if field is None:
            raise Malformed("malformed header")
        name, value = field[1].decode().lower(), field[2].rstrip(b" \t").decode("utf-8", "surrogateescape")
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    version = (1, int(asked[3]))
    target = asked[2].decode("utf-8", "replace")
    if headers.get("expect", "100-continue").lower() != "100-continue":
        raise NotExpected("unknown expectation")
    return Head(asked[1].decode(), target, version, headers, _length(headers, version))


def _length(headers: dict[str, str], version: tuple[int, int]) -> int:
    coding, given = headers.get("transfer-encoding"), headers.get("content-length")
    if coding is not None:
        if given is not None or version < (1, 1):
            raise Malformed("two lengths of a body")
        if coding.lower() != "chunked":
            raise NotKnown("unsupported transfer encoding")
        return CHUNKED
    if given is None:
        return 0
    if not (given.isascii() and given.isdigit() and len(given) < 19):
        raise Malformed("bad Content-Length")
    return int(given)
