"""/build: the classic builder's call and its stream; /build/prune."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

import msgspec

from fairlead.api import http, times, web, wire_images
from fairlead.api.wire import members
from fairlead.core.buildcache import Pruning, Spare
from fairlead.core.imagespec import Credentials
from fairlead.errors import FairleadError, Invalid, Unsupported

UNTIL = ("until", "unused-for")
ONCE = (*UNTIL, "id", "parent", "type", "description", "inuse", "shared", "private")
LABELS = ("label", "label!")
"""Taken, and without effect, as with dockerd."""

if TYPE_CHECKING:
    from fairlead.engine.engine import Engine


def routes(engine: Engine) -> list[web.Route]:
    async def build(request: web.Request) -> web.Answer:
        if http.text(request, "version") == "2":
            raise Unsupported("BuildKit is not part of this engine: build with DOCKER_BUILDKIT=0")
        if http.text(request, "remote") not in ("", "client-session"):
            raise Unsupported("this engine builds from a context that is sent along, not from a remote one")
        asked = wire_images.build_request(request.query, http.texts(request, "t"), http.texts(request, "extrahosts"))
        lines = engine.builds.build(asked, request.pieces(), _credentials(request))
        return await http.progress(request, lines)

    async def prune(request: web.Request) -> web.Response:
        gone, freed = await engine.builds.prune(_pruning(http.filters(request), _spare(request)))
        return http.answer({"CachesDeleted": gone or None, "SpaceReclaimed": freed})

    return [web.post("/build", http.abandonable(build)), web.post("/build/prune", prune)]


def _pruning(wanted: http.Filters, spare: Spare) -> Pruning:
    """What the filters ask for; ``Invalid``, in dockerd's words, for those it does not know."""
    refused = "failed to prune build cache:"
    for name in wanted:
        if name not in ONCE and name not in LABELS:
            raise Invalid(f"{refused} invalid filter '{name}'")
    if all(name in wanted for name in UNTIL):
        raise Invalid(f'{refused} conflicting filters: "until" and "unused-for"')
    if any(len(wanted.get(name, ())) > 1 for name in ONCE):
        raise Invalid(f"{refused} filters expect only one value")
    said = {name: values[0] for name, values in wanted.items()}
    name = next((name for name in UNTIL if name in said), "until")
    try:
        until = times.until({"until": wanted.get(name, ())})
    except Invalid as error:
        expected = f"\"{name}\" filter expects a duration (e.g., '24h') or a timestamp"
        raise Invalid(f"{refused} {expected}: {error.message}") from error
    # A value behind one of these compares it with nothing, in BuildKit as here: no record of ours fits.
    other = any(name in said for name in ("parent", "description", "inuse", "shared", "private"))
    named = partial(http.matches, said["id"]) if "id" in said else None
    return Pruning(until, named, other or said.get("type", "regular") != "regular", spare)


def _spare(request: web.Request) -> Spare:
    """The bounds, under their names of old and of new."""
    new = http.version(request) >= (1, 48)
    reserved, most, free = (
        _bytes(request, f"{name}-space") if new else 0 for name in ("reserved", "max-used", "min-free")
    )
    return Spare(reserved or _bytes(request, "keep-storage"), most, free)


def _bytes(request: web.Request, name: str) -> int:
    given = http.text(request, name)
    try:
        return http.parse_int(given, "Atoi") if given else 0
    except FairleadError as error:
        raise Invalid(f"{name} is in bytes and expects an integer, got {given}: {error.message}") from error


def _credentials(request: web.Request) -> Callable[[str], Credentials]:
    """``X-Registry-Config``: who we are, by registry."""
    header = request.header("X-Registry-Config", "")
    try:
        raw = wire_images.decoded(header)
        given = members(msgspec.json.decode(raw) if raw.strip() else {}, "", "map[string]registry.AuthConfig")
    except (msgspec.DecodeError, ValueError) as error:
        raise Invalid("invalid X-Registry-Config header: it must be JSON in base64url") from error
    known = {"docker.io" if "index.docker.io" in name else name: item for name, item in given.items()}

    def find(domain: str) -> Credentials:
        return wire_images.login(members(known.get(domain), "", "registry.AuthConfig"))

    return find
