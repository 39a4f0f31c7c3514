"""Talking HTTP the way dockerd does: what every route module needs, once.

A route module is one function and the handlers it names:

    def routes(engine: Engine) -> list[web.Route]:
        here = Networks(engine)
        return [web.get("/networks", here.list), web.get("/networks/{id}", here.inspect)]

Paths carry no version: ``server`` strips ``/v1.51`` and leaves the number in
``request.api``. ``{id}`` matches one piece of the path, ``{name:.*}`` any
number of them; both are in ``request.names``. A handler parses, calls
the engine, and prints; it raises ``FairleadError``, never an HTTP error.

Rules
    1. Words and leniency are dockerd's: ``flag`` takes ``maybe`` for true because
       ``httputils.BoolValue`` does, ``strict_flag`` refuses it as ``strconv`` does.
    2. Nothing here trusts a length, a depth or an encoding the client claims.
    3. What has been flushed cannot be taken back: an error after the first byte
       of a stream travels inside the stream.
"""

from __future__ import annotations

import asyncio
import functools
import re
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Any

import msgspec

from fairlead.api import gojson, web
from fairlead.api.web import Handler
from fairlead.errors import FairleadError, Invalid

LARGEST_BODY = 16 << 20
"""Bytes of a JSON body. (Streams, such as a build context, have no limit.)"""

JSON = "application/json"
RAW_STREAM = "application/vnd.docker.raw-stream"
MULTIPLEXED_STREAM = "application/vnd.docker.multiplexed-stream"

_TOKEN = r"[!#$%&'*+.^_`|~0-9a-z-]+"
_NO_SLASH = "expected slash after first token"

Filters = dict[str, list[str]]


def version(request: web.Request) -> tuple[int, int]:
    """The API version the client speaks: ``(1, 51)``."""
    return request.api


# -- the query ------------------------------------------------------------------------------


def text(request: web.Request, name: str, default: str = "") -> str:
    return request.query.get(name, default)


def reference(given: str) -> str:
    """A container's name or id where one must be given."""
    if not given:
        raise Invalid('invalid name or ID supplied: ""')
    return given


def texts(request: web.Request, name: str) -> list[str]:
    """A parameter that may be given several times."""
    return request.query.getall(name)


def flag(request: web.Request, name: str, default: bool = False) -> bool:
    """A lenient switch: everything but nothing, 0, no, false and none is yes."""
    if name not in request.query:
        return default
    return text(request, name).strip().lower() not in ("", "0", "no", "false", "none")


def strict_flag(request: web.Request, name: str, default: bool = False) -> bool:
    """A switch as Go's ``strconv.ParseBool`` reads it; ``Invalid`` in dockerd's words."""
    given = text(request, name)
    if not given:
        return default
    return parse_bool(given, f"invalid value for {name}: {given}: ")


def parse_bool(given: str, prefix: str = "") -> bool:
    if given in ("1", "t", "T", "TRUE", "true", "True"):
        return True
    if given in ("0", "f", "F", "FALSE", "false", "False"):
        return False
    raise Invalid(f"{prefix}strconv.ParseBool: parsing {quoted(given)}: invalid syntax")


def number(request: web.Request, name: str, default: int | None = None) -> int | None:
    """A whole number of 64 bits; absent or empty: ``default``. (What is no number is 500 in dockerd, so here.)"""
    given = text(request, name)
    try:
        return parse_int(given, "Atoi") if given else default
    except Invalid as error:
        raise FairleadError(error.message) from error


def parse_int(given: str, function: str = "ParseInt") -> int:
    """Go's ``strconv.Atoi`` or ``ParseInt``, with its complaint as ``Invalid``."""
    if not re.fullmatch(r"[+-]?[0-9]+", given):
        raise Invalid(f"strconv.{function}: parsing {quoted(given)}: invalid syntax")
    digits = given.lstrip("+-0")
    value = int(given) if len(digits) < 20 else 1 << 64
    if not -(1 << 63) <= value < 1 << 63:
        raise Invalid(f"strconv.{function}: parsing {quoted(given)}: value out of range")
    return value


def quoted(given: str) -> str:
    """As Go's ``%q`` writes it (for what a query can hold)."""
    return msgspec.json.encode(_text(given)).decode()


def filters(request: web.Request, accepted: Iterable[str] | None = None) -> Filters:
    """``?filters=`` in both of Docker's forms: ``{"name": ["a"]}`` and ``{"name": {"a": true}}`` (false counts too).

    ``accepted``: the names this endpoint knows; another one is ``Invalid``.
    """
    given = text(request, "filters")
    if not given:
        return {}
    try:
        found = msgspec.json.decode(given, type=dict[str, list[str] | dict[str, bool] | None] | None) or {}
    except (msgspec.MsgspecError, RecursionError, UnicodeError) as error:
        raise Invalid("invalid filter") from error
    result = {name: list(values) for name, values in found.items() if values}
    for name in result:
        if accepted is not None and name not in accepted:
            raise Invalid(f"invalid filter '{name}'")
    return result


def filter_flag(wanted: Filters, name: str, default: bool | None = None) -> bool | None:
    """A filter that is a switch (``dangling``); None or ``default`` when it was not given."""
    values = set(wanted.get(name, ()))
    if not values:
        return default
    truth = {"true": True, "1": True, "false": False, "0": False}
    meant = {truth.get(value) for value in values}
    if len(meant) != 1 or None in meant:
        raise Invalid(f'invalid value for filter \'{name}\', must be "true" (or "1"), or "false" (or "0")')
    return meant.pop()


def clear_flag(wanted: Filters, name: str, default: bool | None = None) -> bool | None:
    """The same as most lists have it: words that mean nothing count for nothing beside one that does."""
    values = set(wanted.get(name, ()))
    yes, no = bool(values & {"true", "1"}), bool(values & {"false", "0"})
    if values and yes == no:
        raise Invalid(f"invalid filter '{name}=[{' '.join(wanted[name])}]'")
    return yes if values else default


def labels_match(wanted: Iterable[str], labels: Mapping[str, str] | None) -> bool:
    """Every ``key`` or ``key=value`` of ``wanted`` is on the object."""
    labels = labels or {}
    pairs = (item.partition("=") for item in wanted)
    return all(key in labels and (not equals or labels[key] == value) for key, equals, value in pairs)


def matches(pattern: str, name: str) -> bool:
    """A filter's regular expression found in ``name`` (Go's ``regexp.MatchString``).

    Go's engine takes linear time, Python's may not: a pattern with which it could
    take long (repeated groups, many repetitions) is compared as plain text.
    """
    if pattern == name:
        return True
    repeats = len(re.findall(r"[*+?{]", pattern))
    if re.search(r"\)[*+?{]|\\[0-9]|\(\?", pattern) or repeats > 3 or len(pattern) > 256:
        return pattern in name
    try:
        return re.search(pattern, name) is not None
    except re.error:
        return False


# -- the body -------------------------------------------------------------------------------


async def body(request: web.Request, empty: Any = None) -> Any:
    """The JSON body as plain Python values (``empty`` when there is none); ``Invalid`` in dockerd's words."""
    declared = request.header("Content-Type")
    if not declared and not request.body_exists:
        return empty
    check_content_type(declared, JSON)
    raw = await read(request)
    return parse_json(raw) if raw.strip() or request.body_exists else empty


def check_content_type(declared: str, wanted: str) -> None:
    kind = declared.partition(";")[0].strip().lower()
    if not kind:
        raise Invalid(f"malformed Content-Type header ({declared}): mime: no media type")
    if not re.fullmatch(f"{_TOKEN}(/{_TOKEN})?", kind):
        where = "unexpected content after media subtype" if re.match(f"{_TOKEN}/", kind) else _NO_SLASH
        raise Invalid(f"malformed Content-Type header ({declared}): mime: {where}")
    if kind != wanted:
        raise Invalid(f"unsupported Content-Type header ({declared}): must be '{wanted}'")


async def read(request: web.Request, limit: int = LARGEST_BODY) -> bytes:
    """The whole body, if it is no longer than ``limit`` bytes."""
    pieces, size = [], 0
    async for piece in request.pieces():
        size += len(piece)
        if size > limit:
            raise Invalid(f"request body is larger than {limit} bytes")
        pieces.append(piece)
    return b"".join(pieces)


def parse_json(raw: bytes) -> Any:
    """JSON text as plain values; ``Invalid`` with Go's complaint."""
    if not raw.strip():
        raise Invalid("invalid JSON: got EOF while reading request body")
    try:
        return msgspec.json.decode(raw)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        words = gojson.complaint(raw.decode("utf-8", "replace"))
        if words:
            raise Invalid(f"invalid JSON: {words}") from error
        if isinstance(error, RecursionError):
            raise Invalid("invalid JSON: exceeded max depth") from error
        raise Invalid("unexpected content after JSON") from error


# -- answers --------------------------------------------------------------------------------


def answer(value: Any, status: int = 200) -> web.Response:
    """A JSON answer, ended by a line feed as Go's encoder does."""
    return web.Response(body=msgspec.json.encode(value) + b"\n", status=status, content_type=JSON)


def nothing(status: int = 204) -> web.Response:
    return web.Response(status=status)


def failure(error: FairleadError) -> web.Response:
    """What an error becomes: the only place that decides it."""
    if error.status == 304:
        return web.Response(status=304)
    return answer({"message": _text(error.message)}, error.status)


def _text(given: str) -> str:
    """What can be told of it: bytes of a header that are no UTF-8 become question marks."""
    return given.encode("utf-8", "replace").decode()


class Out(web.Streamed):
    """A response that is being streamed; ``write`` returns when the bytes are on their way."""

    async def write_json(self, value: Any, end: bytes = b"\r\n") -> None:
        await self.write(msgspec.json.encode(value) + end)


@asynccontextmanager
async def streaming(request: web.Request, content_type: str, status: int = 200) -> AsyncIterator[Out]:
    """A chunked answer. Headers leave with the first ``write`` (or ``start``), so an earlier error is still an answer.

    Ended in order when the block is left, or when the client has closed its half and hears no more; cut off (so that
    the client notices) when it is left by an error.
    """
    out = Out(request, status, content_type)
    try:
        yield out
    except asyncio.CancelledError:
        if out.prepared and request.connection.gone:
            with suppress(ConnectionError):
                await out.end()
        raise
    await out.end()


async def progress(
    request: web.Request, source: AsyncIterable[Mapping[str, Any] | bytes], begun: bool = False
) -> web.Answer:
    """Docker's progress lines (pull, push, import, load, build), as they come.

    An error before the first line is an ordinary answer (unless we are ``begun`` before); after it, the line
    ``{"errorDetail": {"message": …}, "error": …}`` that clients look for, with ``code`` when a program ended so.
    """
    async with streaming(request, JSON) as out:
        try:
            async for line in source:
                if isinstance(line, bytes):
                    await out.write(line)
                else:
                    await out.write_json(line)
        except FairleadError as error:
            if not (out.prepared or begun):
                raise
            code = {"code": error.exit_code} if hasattr(error, "exit_code") else {}
            await out.write_json({"errorDetail": {**code, "message": error.message}, "error": error.message})
        return out


# -- clients that hang up -------------------------------------------------------------------


def abandonable(handler: Handler) -> Handler:
    """A handler that is cancelled when its client hangs up (``wait``, ``pull``), although its method is POST.

    Handlers of GET are cancelled anyway; every other one finishes what it began.
    """

    @functools.wraps(handler)
    async def call(*arguments: Any) -> web.Answer:
        return await handler(*arguments)

    call.abandonable = True  # type: ignore[attr-defined]
    return call
