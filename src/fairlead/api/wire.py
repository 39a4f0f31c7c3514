"""Docker's spelling of our values, both ways, from the structs themselves.

    {"Memory": 5, "Init": null}  --- read(HostConfig, …) --->  HostConfig(memory=5)
    HostConfig(memory=5)         --- write(…) ------------->  {"Memory": 5, …}

The names come from the fields: ``restart_policy`` is ``RestartPolicy``. What is
spelt otherwise is in ``SPELT``; what Docker leaves out when empty is in ``OMITTED``;
everything else is always there, as null, 0, "" or [] just as it was given.
Only this file and its family ``wire_*`` know Docker's capital letters.

Rules
    1. Reading is Go's: names match in any case, null means *leave the default*,
       unknown names are ignored, a wrong type is ``Invalid`` with the path to it.
    2. Numbers must fit in 64 bits; nothing is converted silently.
"""

from __future__ import annotations

import base64
import string
import types
import typing
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any, TypeVar, Union, cast

import msgspec

from fairlead.errors import Invalid

T = TypeVar("T")
Read = Callable[[Any, str], Any]

SPELT = {
    "container_id_file": "ContainerIDFile",
    "uts_mode": "UTSMode",
    "blkio_device_read_iops": "BlkioDeviceReadIOps",
    "blkio_device_write_iops": "BlkioDeviceWriteIOps",
    "io_maximum_iops": "IOMaximumIOps",
    "io_maximum_bandwidth": "IOMaximumBandwidth",
    "cpus": "NanoCPUs",
    "terminal": "TTY",
    "os": "OS",
    "uid": "UID",
    "gid": "GID",
    "url": "URL",
    "health_check": "Healthcheck",
    "dns_config": "DNSConfig",
    "secret_id": "SecretID",
    "config_id": "ConfigID",
    "everywhere": "Global",
    "everywhere_job": "GlobalJob",
    "ca_config": "CAConfig",
    "ca_cert": "CACert",
    "external_cas": "ExternalCAs",
    "signing_ca_cert": "SigningCACert",
    "signing_ca_key": "SigningCAKey",
}
OMITTED = {
    *("exposed_ports", "healthcheck", "args_escaped", "network_disabled", "mac_address", "stop_signal", "shell"),
    *("stop_timeout", "annotations", "storage_opt", "tmpfs", "sysctls", "mounts", "init"),
    *("test", "interval", "timeout", "start_period", "start_interval", "retries"),
}
ONE_OR_MORE = {"cmd", "entrypoint", "shell", "cap_add", "cap_drop"}
"""Lists of words that may also be given as one word."""
SMALL = {"stop_timeout", "maximum_retry_count", "oom_score_adj", "retries"}
"""What Go calls ``int`` (the words of a complaint name the type)."""
UNSIGNED = {
    **dict.fromkeys(("max_attempts", "parallelism", "replicas", "max_concurrent", "total_completions"), 64),
    **dict.fromkeys(("max_replicas", "force_update"), 64),
    **dict.fromkeys(("target_port", "published_port"), 32),
}
"""Numbers of swarms that are never negative, and their bits."""

NAMED = {
    ".HostConfig.RestartPolicy.Name": "container.RestartPolicyMode",
    ".HostConfig.NetworkMode": "container.NetworkMode",
    ".HostConfig.IpcMode": "container.IpcMode",
    ".HostConfig.PidMode": "container.PidMode",
}
"""Texts that have a type of their own in Go."""


def spell(name: str) -> str:
    """``restart_policy`` as Docker writes it."""
    return SPELT.get(name) or "".join(part.capitalize() for part in name.split("_"))


def write(value: Any) -> Any:
    """A struct (or a tuple or dict of them) as Docker's JSON."""
    if isinstance(value, msgspec.Struct):
        pairs = ((name, getattr(value, name)) for name in value.__struct_fields__)
        return {spell(name): write(item) for name, item in pairs if name not in OMITTED or item}
    if isinstance(value, tuple):
        return [write(item) for item in value]
    return value


def read(kind: type[T], data: Any, where: str = "") -> T:
    """Docker's JSON object as ``kind``; ``where`` is the path to it in the body (``.HostConfig``)."""
    return cast(T, _reader(kind)(data, where))  # type: ignore[arg-type]  # a type can be hashed


# -- complaints ---------------------------------------------------------------------------


def wrong(data: Any, where: str, go_type: str, detail: str = "") -> Invalid:
    """Go's words for a value of the wrong type at ``where`` ("" for the whole body)."""
    if not where:
        target = "Go value"
    elif where.rpartition(".")[2].isdigit():
        target = where
    else:
        target = f"Go struct field {where}"
    return Invalid(f"invalid JSON: json: cannot unmarshal {kind_of(data)}{detail} into {target} of type {go_type}")


def kind_of(data: Any) -> str:
    """What JSON calls it."""
    if isinstance(data, bool):
        return "bool"
    names = {str: "string", int: "number", float: "number", list: "array", dict: "object"}
    return names.get(type(data), "null")


def member(where: str, name: str) -> str:
    """The path to a member (a JSON pointer's escapes, as Go has them)."""
    return f"{where}.{name.replace('~', '~0').replace('/', '~1')}"


# -- readers, one for each type -----------------------------------------------------------


@cache
def _reader(kind: Any, name: str = "") -> Read:
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (Union, types.UnionType):
        inner = next(a for a in arguments if a is not type(None))
        return _reader(inner, name)
    if origin is tuple:
        return _pair(name) if arguments == (int, int) else _list(arguments[0], name)
    if origin is dict:
        return _map(arguments[1], name)
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        return _struct(kind)
    whole = _unsigned(UNSIGNED[name]) if name in UNSIGNED else _number("int" if name in SMALL else "int64")
    simple: dict[Any, Read] = {str: text, bool: switch, int: whole, float: fraction, bytes: base64_text, Any: as_is}
    return simple[kind]


def as_is(data: Any, where: str) -> Any:
    return data


def text(data: Any, where: str) -> str:
    if not isinstance(data, str):
        raise wrong(data, where, NAMED.get(where, "string"))
    return data


def switch(data: Any, where: str) -> bool:
    if not isinstance(data, bool):
        raise wrong(data, where, "bool")
    return data


def fraction(data: Any, where: str) -> float:
    if isinstance(data, bool) or not isinstance(data, int | float):
        raise wrong(data, where, "float32")
    return float(data)


def base64_text(data: Any, where: str) -> bytes:
    try:
        return base64.b64decode(text(data, where), validate=True)
    except ValueError:
        complaint = wrong(data, where, "[]uint8").message
        raise Invalid(f"{complaint}: illegal base64 data at input byte {_decodable(data)}") from None


def _decodable(given: str) -> int:
    """How many of its characters are base 64, in whole groups, as far as Go counts them."""
    good = len(given) - len(given.lstrip(string.ascii_letters + string.digits + "+/"))
    return good if good < len(given) else good // 4 * 4


def _number(go_type: str) -> Read:
    def read_number(data: Any, where: str) -> int:
        if isinstance(data, bool) or not isinstance(data, int | float):
            raise wrong(data, where, go_type)
        if isinstance(data, float) or not -(1 << 63) <= data < 1 << 63:
            raise wrong(data, where, go_type, f" {data}")
        return data

    return read_number


number = _number("int64")


def _unsigned(bits: int) -> Read:
    def read_number(data: Any, where: str) -> int:
        if isinstance(data, bool) or not isinstance(data, int | float):
            raise wrong(data, where, f"uint{bits}")
        if isinstance(data, float) or not 0 <= data < 1 << min(bits, 63):
            raise wrong(data, where, f"uint{bits}", f" {data}")
        return data

    return read_number


def _pair(name: str) -> Read:
    """Two numbers (``ConsoleSize``); missing ones are 0, more are ignored, as Go fills an array."""

    def read_pair(data: Any, where: str) -> tuple[int, int]:
        if not isinstance(data, list):
            raise wrong(data, where, "[2]uint")
        values = [number(item, f"{where}.{at}") for at, item in enumerate(data[:2])]
        return cast(tuple[int, int], tuple([*values, 0, 0][:2]))

    return read_pair


def _list(inner: Any, name: str) -> Read:
    one = _reader(inner)
    go_type = "[]nat.PortBinding" if inner == dict[str, str] else "[]" + _go(inner)

    def read_list(data: Any, where: str) -> tuple[Any, ...]:
        if name in ONE_OR_MORE:
            if isinstance(data, str):
                return (data,)
            if not isinstance(data, list) or not all(isinstance(item, str) for item in data):
                raise wrong(data, "", "string")
        if not isinstance(data, list):
            raise wrong(data, where, go_type)
        return tuple(one(_zero(inner) if item is None else item, f"{where}.{at}") for at, item in enumerate(data))

    return read_list


def _zero(kind: Any) -> Any:
    """What Go makes of a null in an array."""
    return "" if kind is str else {}


def _map(inner: Any, name: str) -> Read:
    one = _reader(inner)
    go_type = "map[string]" + _go(inner)
    optional = inner is Any or type(None) in typing.get_args(inner)

    def read_map(data: Any, where: str) -> dict[str, Any]:
        if not isinstance(data, dict):
            raise wrong(data, where, go_type)
        empty: Any = None if optional else {str: ""}.get(inner, {})
        return {key: empty if item is None else one(item, member(where, key)) for key, item in data.items()}

    return read_map


def _struct(kind: type[msgspec.Struct]) -> Read:
    fields = {spell(f.name).lower(): (spell(f.name), f) for f in msgspec.structs.fields(kind)}

    def read_struct(data: Any, where: str) -> Any:
        if not isinstance(data, dict):
            raise wrong(data, where, f"container.{kind.__name__}")
        values = {f.name: f.type() for _, f in fields.values() if f.required and callable(f.type)}
        for key, item in data.items():
            known = fields.get(key.lower())
            if known is not None and item is not None:
                spelt, field = known
                values[field.name] = _reader(field.type, field.name)(item, f"{where}.{spelt}")
        return kind(**values)

    return read_struct


def _go(kind: Any) -> str:
    """What Go calls the type."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (Union, types.UnionType):
        return _go(next(a for a in arguments if a is not type(None)))
    if origin is tuple:
        return "[]" + _go(arguments[0])
    if origin is dict:
        return f"map[string]{_go(arguments[1])}"
    names: dict[Any, str] = {str: "string", bool: "bool", int: "int64", Any: "struct {}"}
    return names.get(kind) or f"container.{getattr(kind, '__name__', 'Value')}"


# -- plain objects (what has no struct of its own) -----------------------------------------


def members(data: Any, where: str, go_type: str) -> dict[str, Any]:
    """An object's members by lower-case name, nulls left out; null and absent objects are empty."""
    if data is None:
        return {}
    if not isinstance(data, dict):
        raise wrong(data, where, go_type)
    return {key.lower(): item for key, item in data.items() if item is not None}


def get(of: Mapping[str, Any], name: str, kind: Any, default: Any, where: str = "") -> Any:
    """One member of ``members(…)``, read as ``kind``."""
    item = of.get(name.lower())
    return default if item is None else _reader(kind)(item, f"{where}.{name}")
