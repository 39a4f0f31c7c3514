"""/build: the classic builder's call and its stream; /build/prune."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import msgspec

from fairlead.api import http, times, web, wire_images
from fairlead.api.wire import members
from fairlead.core.imagespec import Credentials
from fairlead.errors import Invalid, Unsupported

ONCE = ("until", "id", "parent", "type", "description", "inuse", "shared", "private")
LABELS = ("label", "label!")

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
        _accepted(http.filters(request))
        return http.answer({"CachesDeleted": None, "SpaceReclaimed": await engine.builds.prune()})

    return [web.post("/build", http.abandonable(build)), web.post("/build/prune", prune)]


def _accepted(wanted: http.Filters) -> None:
    """``Invalid``, in dockerd's words, for filters it does not know. Ours has one cache, which goes as a whole."""
    refused = "failed to prune build cache:"
    for name in wanted:
        if name not in ONCE and name not in LABELS:
            raise Invalid(f"{refused} invalid filter '{name}'")
    if any(len(wanted.get(name, ())) > 1 for name in ONCE):
        raise Invalid(f"{refused} filters expect only one value")
    try:
        times.until(wanted)
    except Invalid as error:
        expected = "\"until\" filter expects a duration (e.g., '24h') or a timestamp"
        raise Invalid(f"{refused} {expected}: {error.message}") from error


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
