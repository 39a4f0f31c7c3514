"""Who answers which paths, by their first word; imported when somebody first asks for one.

    GET /_ping             ping                                  always here: it is what a returning engine is asked
    GET /containers/...    containers, container_files, ...      from the first request of that word on

A returning engine answers when its world stands, and few clients ask for all that it can do: handlers, with
everything they know of Docker's spelling, are a third of the engine's code.

Rules
    1. A group's routes are in the order in which ``Table`` tries them.
    2. Each of their paths begins with a word of its group, or nobody would find it.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from fairlead.api import ping
from fairlead.api.routes import Late
from fairlead.api.web import Route
from fairlead.settings import Settings

if TYPE_CHECKING:
    from fairlead.engine.engine import Engine

Group = Callable[["Engine", Settings], list[Route]]


def late(engine: Engine, settings: Settings) -> Late:
    """All routes over an engine."""
    return {words: partial(group, engine, settings) for words, group in GROUPS.items()}


def _networks(engine: Engine, settings: Settings) -> list[Route]:
    from fairlead.api import networks

    return networks.routes(engine)


def _containers(engine: Engine, settings: Settings) -> list[Route]:
    from fairlead.api import container_files, containers, execs, streams

    return [
        *containers.routes(engine, settings),
        *container_files.routes(engine),
        *streams.routes(engine),
        *execs.routes(engine),
    ]


def _images(engine: Engine, settings: Settings) -> list[Route]:
    from fairlead.api import build, images

    return [*images.routes(engine), *build.routes(engine)]


def _volumes(engine: Engine, settings: Settings) -> list[Route]:
    from fairlead.api import volumes

    return volumes.routes(engine)


def _system(engine: Engine, settings: Settings) -> list[Route]:
    from fairlead.api import system

    return system.routes(engine, settings)


def _swarm(engine: Engine, settings: Settings) -> list[Route]:
    from fairlead.api import swarm

    return swarm.routes(engine)


def _orders(engine: Engine, settings: Settings) -> list[Route]:
    from fairlead.api import nodes, secrets, servicelogs, services, tasks

    return [
        *services.routes(engine),
        *tasks.routes(engine),
        *servicelogs.routes(engine),
        *nodes.routes(engine),
        *secrets.routes(engine),
    ]


def _ours(engine: Engine, settings: Settings) -> list[Route]:
    from fairlead.api import cluster, doctor, explain, mesh, plan

    parts = (plan, doctor, cluster, explain, mesh)
    return [route for part in parts for route in part.routes(engine)]


def _ping(engine: Engine, settings: Settings) -> list[Route]:
    return ping.routes(engine)


GROUPS: dict[tuple[str, ...], Group] = {
    ("_ping",): _ping,
    ("networks",): _networks,
    ("containers", "exec"): _containers,
    ("images", "commit", "distribution", "build"): _images,
    ("volumes",): _volumes,
    ("version", "info", "events", "system", "auth", "plugins", "session"): _system,
    ("swarm",): _swarm,
    ("services", "tasks", "nodes", "secrets", "configs"): _orders,
    ("fairlead",): _ours,
}
