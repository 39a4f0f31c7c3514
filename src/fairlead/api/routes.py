"""The table of routes: (method, path) to handler, and the version taken off the front.

    /v1.51/containers/abc/json  -->  (1, 51), containers.inspect, {"id": "abc"}

Docker's own router, reduced to what its clients rely on: no redirects between
``/x`` and ``/x/`` (the slash is forgiven), a wrong method is *page not found*
like a wrong path, ``HEAD`` exists only where it is said, ``OPTIONS`` everywhere.
"""

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from functools import cache

import msgspec

from fairlead.api.web import NEWEST, OLDEST, Handler, Route
from fairlead.core.patterns import pattern
from fairlead.errors import Invalid, NotFound

_VERSIONED = pattern(r"/v([0-9][0-9.]*)(/.*)")
_NAME = pattern(r"\{(\w+)(:[^}]*)?\}")


Late = Mapping[tuple[str, ...], Callable[[], Iterable[Route]]]


class TooOld(Invalid):
    """dockerd answers this one as plain text."""


class Found(msgspec.Struct, frozen=True):
    handler: Handler
    names: dict[str, str]


def spell(version: tuple[int, ...]) -> str:
    return ".".join(map(str, version))


def split_version(path: str) -> tuple[tuple[int, int], str]:
    """The version asked for (the newest when none is) and the path without it; ``Invalid`` outside of what we speak."""
    found = _VERSIONED.fullmatch(path) if path.startswith("/v") else None
    if not found:
        return NEWEST, path
    given, rest = found.groups()
    asked = tuple(int(part or 0) if len(part) < 9 else 1 << 30 for part in given.split("."))
    if asked > NEWEST:
        raise Invalid(f"client version {given} is too new. Maximum supported API version is {spell(NEWEST)}")
    if asked < OLDEST:
        raise TooOld(
            f"client version {given} is too old. Minimum supported API version is {spell(OLDEST)},"
            " please upgrade your client to a newer version"
        )
    return (asked[0], asked[1]), rest


def clean(path: str) -> str:
    """The path with every run of slashes as one; dockerd's router sends clients there."""
    return re.sub("/+", "/", path)


class Table:
    """All routes, found by method and first word of the path, then by pattern in the order they were given.

    ``late``: first words -> what makes their routes, called when a path that begins with one is first asked for.
    """

    def __init__(self, routes: Iterable[Route] = (), late: Late | None = None) -> None:
        self._routes: defaultdict[tuple[str, str], list[Route]] = defaultdict(list)
        self._late = dict(late or {})
        self._add(routes)

    def _add(self, routes: Iterable[Route]) -> None:
        for route in routes:
            self._routes[route.method, _first(route.path)].append(route)

    def find(self, method: str, path: str) -> Found:
        path = path.rstrip("/")
        word = _first(path)
        for words in [words for words in self._late if word in words]:
            self._add(self._late.pop(words)())
        for route in self._routes.get((method, word), ()):
            if route.path == path:
                return Found(route.handler, {})
            match = _pattern(route.path).fullmatch(path) if "{" in route.path else None
            if match:
                return Found(route.handler, match.groupdict())
        raise NotFound("page not found")


def _first(path: str) -> str:
    return path.split("/", 2)[1] if path.startswith("/") else ""


@cache
def _pattern(path: str) -> re.Pattern[str]:
    """``/images/{name:.*}/json`` as a regular expression; made when somebody first asks for a path like it."""
    pieces, at = [], 0
    for found in _NAME.finditer(path):
        pieces.append(re.escape(path[at : found.start()]))
        pieces.append(f"(?P<{found[1]}>{(found[2] or ':[^/]+')[1:]})")
        at = found.end()
    return pattern("".join(pieces) + re.escape(path[at:]), re.DOTALL)
