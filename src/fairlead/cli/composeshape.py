"""The shape of a Compose file (version 3): which keys there are, and what kind of value each has.

A shape is a word (``string``, ``integer`` …; several with ``|``), or one of the classes below. ``problems`` tells all
that is wrong with a value; the one that is deepest in the file is the one to say, as Docker says it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, NamedTuple

from fairlead.cli.command import nanoseconds
from fairlead.cli.ports import parse as parse_ports
from fairlead.errors import Invalid

Shape = Any
VERSIONS = {"3", *(f"3.{minor}" for minor in range(14))}
NEWEST = "3.13"
WORDS = {"object": "mapping", "array": "list"}
NAMES = re.compile("^[a-zA-Z0-9._-]+$")


class Problem(NamedTuple):
    depth: int
    text: str
    kind: bool
    """The value is of a wrong kind; that is said rather than anything else at the same depth."""


class ListOf(NamedTuple):
    item: Shape
    unique: bool = False


class MapOf(NamedTuple):
    """Any key (that is a name, with ``named``)."""

    item: Shape
    named: bool = False
    null: bool = False


class Keys(NamedTuple):
    """These keys, and with ``more`` others too. ``extra``: ``x-…`` as well."""

    of: dict[str, Shape]
    more: bool = False
    extra: bool = False
    needs: tuple[str, ...] = ()
    null: bool = False


class OneOf(NamedTuple):
    shapes: tuple[Shape, ...]


class Format(NamedTuple):
    """A word with a meaning: ``duration`` or ``ports``."""

    kind: str
    name: str


class Choice(NamedTuple):
    words: tuple[str, ...]


LIST = ListOf("string", unique=True)
TEXTS = OneOf(("string", LIST))
PAIRS = OneOf((MapOf("string|number|null"), LIST))
WORDS_OF_COMMAND = OneOf(("string", ListOf("string")))
DURATION = Format("string", "duration")
REFERENCES = ListOf(
    OneOf(
        (
            "string",
            Keys(
                {"source": "string", "target": "string", "uid": "string", "gid": "string", "mode": "number"}, more=True
            ),
        )
    )
)
ROLLOUT = Keys(
    {
        "parallelism": "integer",
        "delay": DURATION,
        "failure_action": "string",
        "monitor": DURATION,
        "max_failure_ratio": "number",
        "order": Choice(("start-first", "stop-first")),
    }
)
GENERIC = ListOf(Keys({"discrete_resource_spec": Keys({"kind": "string", "value": "number"})}))
DEPLOY = Keys(
    {
        "mode": "string",
        "endpoint_mode": "string",
        "replicas": "integer",
        "labels": PAIRS,
        "rollback_config": ROLLOUT,
        "update_config": ROLLOUT,
        "resources": Keys(
            {
                "limits": Keys({"cpus": "string", "memory": "string", "pids": "integer"}),
                "reservations": Keys({"cpus": "string", "memory": "string", "generic_resources": GENERIC}),
            }
        ),
        "restart_policy": Keys(
            {"condition": "string", "delay": DURATION, "max_attempts": "integer", "window": DURATION}
        ),
        "placement": Keys(
            {
                "constraints": ListOf("string"),
                "preferences": ListOf(Keys({"spread": "string"})),
                "max_replicas_per_node": "integer",
            }
        ),
    },
    null=True,
)
PORT = Keys({"mode": "string", "target": "integer", "published": "integer", "protocol": "string"})
MOUNT = Keys(
    {
        "type": "string",
        "source": "string",
        "target": "string",
        "read_only": "boolean",
        "consistency": "string",
        "bind": Keys({"propagation": "string"}, more=True),
        "volume": Keys({"nocopy": "boolean"}, more=True),
        "tmpfs": Keys({"size": "integer"}, more=True),
    },
    needs=("type",),
)
HEALTH = Keys(
    {
        "disable": "boolean",
        "interval": DURATION,
        "retries": "number",
        "test": WORDS_OF_COMMAND,
        "timeout": DURATION,
        "start_period": DURATION,
        "start_interval": DURATION,
    }
)
SERVICE = Keys(
    {
        "deploy": DEPLOY,
        "build": OneOf(("string", Keys({"context": "string", "dockerfile": "string", "args": PAIRS}, more=True))),
        **dict.fromkeys(
            ("cap_add", "cap_drop", "devices", "external_links", "links", "security_opt", "depends_on"), LIST
        ),
        **dict.fromkeys(
            (
                *(
                    "cgroupns_mode",
                    "cgroup_parent",
                    "container_name",
                    "domainname",
                    "hostname",
                    "image",
                    "ipc",
                    "isolation",
                ),
                *("mac_address", "network_mode", "restart", "stop_signal", "user", "userns_mode", "working_dir"),
            ),
            "string",
        ),
        **dict.fromkeys(("init", "privileged", "read_only", "stdin_open", "tty"), "boolean"),
        **dict.fromkeys(("command", "entrypoint"), WORDS_OF_COMMAND),
        **dict.fromkeys(("dns", "dns_search", "env_file", "tmpfs"), TEXTS),
        **dict.fromkeys(("environment", "extra_hosts", "labels", "sysctls"), PAIRS),
        **dict.fromkeys(("configs", "secrets"), REFERENCES),
        "credential_spec": Keys({"config": "string", "file": "string", "registry": "string"}),
        "expose": ListOf("string|number", unique=True),
        "group_add": ListOf("string|number", unique=True),
        "healthcheck": HEALTH,
        "logging": Keys({"driver": "string", "options": MapOf("string|number|null")}),
        "networks": OneOf(
            (
                LIST,
                MapOf(
                    Keys(
                        {
                            "aliases": LIST,
                            "driver_opts": MapOf("string|number"),
                            "ipv4_address": "string",
                            "ipv6_address": "string",
                        },
                        null=True,
                    ),
                    named=True,
                ),
            )
        ),
        "pid": "string|null",
        "ports": ListOf(OneOf((Format("number", "ports"), Format("string", "ports"), PORT)), unique=True),
        "shm_size": "number|string",
        "stop_grace_period": DURATION,
        "ulimits": MapOf(OneOf(("integer", Keys({"hard": "integer", "soft": "integer"}, needs=("soft", "hard"))))),
        "oom_score_adj": "integer",
        "volumes": ListOf(OneOf(("string", MOUNT))),
    },
    extra=True,
)
EXTERNAL = OneOf(("boolean", Keys({"name": "string"})))
NETWORK = Keys(
    {
        "name": "string",
        "driver": "string",
        "driver_opts": MapOf("string|number"),
        "ipam": Keys({"driver": "string", "config": ListOf(Keys({"subnet": "string"}))}),
        "external": EXTERNAL,
        "internal": "boolean",
        "attachable": "boolean",
        "labels": PAIRS,
    },
    extra=True,
    null=True,
)
VOLUME = Keys(
    {
        "name": "string",
        "driver": "string",
        "driver_opts": MapOf("string|number"),
        "external": EXTERNAL,
        "labels": PAIRS,
        "x-cluster-spec": "object",
    },
    extra=True,
    null=True,
)
KEPT = Keys(
    {
        "name": "string",
        "file": "string",
        "external": EXTERNAL,
        "labels": PAIRS,
        "driver": "string",
        "driver_opts": MapOf("string|number"),
        "template_driver": "string",
    },
    extra=True,
)
FILE = Keys(
    {
        "version": "string",
        "services": MapOf(SERVICE, named=True),
        "networks": MapOf(NETWORK, named=True),
        "volumes": MapOf(VOLUME, named=True),
        "secrets": MapOf(KEPT, named=True),
        "configs": MapOf(KEPT, named=True),
    },
    extra=True,
)


def check(document: dict[str, Any]) -> None:
    """Raise ``Invalid`` about the deepest thing that is wrong."""
    found = list(problems(document, FILE, ()))
    if found:
        raise Invalid(max(found, key=lambda one: (one.depth, one.kind)).text)


def problems(value: Any, shape: Shape, place: tuple[str, ...]) -> Iterator[Problem]:
    """All that is wrong with a value that should have this shape."""
    if isinstance(shape, str):
        if not any(_is(value, word) for word in shape.split("|")):
            yield _wrong_kind(shape, place)
    elif isinstance(shape, OneOf):
        yield from _one_of(value, shape, place)
    elif isinstance(shape, Format):
        if not _is(value, shape.kind):
            yield _wrong_kind(shape.kind, place)
        elif not _formatted(value, shape.name):
            yield Problem(len(place), f"{_name(place)} Does not match format '{shape.name}'", False)
    elif isinstance(shape, Choice):
        if not isinstance(value, str):
            yield _wrong_kind("string", place)
        elif value not in shape.words:
            words = ", ".join(f'"{word}"' for word in shape.words)
            yield Problem(len(place), f"{_name(place)} {_name(place)} must be one of the following: {words}", False)
    elif isinstance(shape, ListOf):
        yield from _list(value, shape, place)
    elif not (value is None and shape.null):
        yield from _mapping(value, shape, place)


def _name(place: tuple[str, ...]) -> str:
    return ".".join(place) or "(root)"


def _wrong_kind(kinds: str, place: tuple[str, ...]) -> Problem:
    *some, last = [WORDS.get(word, word) for word in kinds.split("|")]
    words = f"{', '.join(some)} or {last}" if some else last
    return Problem(len(place), f"{_name(place)} must be a {words}" if place else f"{words} expected", True)


def _is(value: Any, word: str) -> bool:
    if isinstance(value, bool):
        return word == "boolean"
    kinds = {"string": str, "integer": int, "number": int | float, "null": type(None), "object": dict, "array": list}
    return word in kinds and isinstance(value, kinds[word])


def _one_of(value: Any, shape: OneOf, place: tuple[str, ...]) -> Iterator[Problem]:
    """What is wrong as the shape that it comes closest to."""
    tries = [list(problems(value, one, place)) for one in shape.shapes]
    if all(tries):
        yield from max(tries, key=lambda found: (max(one.depth for one in found), not found[0].kind))


def _formatted(value: Any, name: str) -> bool:
    try:
        if name == "duration":
            nanoseconds(value)
        else:
            parse_ports([str(value)])
    except Invalid:
        return False
    return True


def _list(value: Any, shape: ListOf, place: tuple[str, ...]) -> Iterator[Problem]:
    if not isinstance(value, list):
        yield _wrong_kind("array", place)
        return
    if shape.unique and any(item in value[:at] for at, item in enumerate(value)):
        yield Problem(len(place), f"{_name(place)} array items must be unique", False)
    for at, item in enumerate(value):
        yield from problems(item, shape.item, (*place, str(at)))


def _mapping(value: Any, shape: Any, place: tuple[str, ...]) -> Iterator[Problem]:
    if not isinstance(value, dict):
        yield _wrong_kind("object|null" if shape.null else "object", place)
        return
    known = shape.of if isinstance(shape, Keys) else {}
    for key, item in value.items():
        if key in known:
            yield from problems(item, known[key], (*place, key))
        elif isinstance(shape, MapOf) and (not shape.named or NAMES.match(key)):
            yield from problems(item, shape.item, (*place, key))
        elif isinstance(shape, MapOf) or not (shape.more or (shape.extra and key.startswith("x-"))):
            yield Problem(len(place), f"{_name(place)} Additional property {key} is not allowed", False)
    for key in shape.needs if isinstance(shape, Keys) else ():
        if key not in value:
            yield Problem(len(place), f"{_name(place)} {key} is required", False)
