"""What is typed about a service, on the way to the API: ports, networks, secrets, places, words.

Each function reads one value of a flag and raises ``Invalid`` in Docker's words when it makes no sense.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable
from typing import Any

from fairlead.cli.command import nanoseconds
from fairlead.cli.ports import numbers
from fairlead.errors import Invalid

PROTOCOLS = ("tcp", "udp", "sctp")


def _parts(text: str) -> list[str]:
    from csv import reader
    from io import StringIO

    return next(reader(StringIO(text, newline="")), [])


def words(text: str) -> list[str]:
    """A line as a shell would cut it into words."""
    import shlex

    try:
        return shlex.split(text)
    except ValueError:
        raise Invalid("EOF found when expecting closing quote") from None


def span(text: str) -> int:
    """A time span that is not negative, in nanoseconds."""
    if text.startswith("-"):
        raise Invalid("duration cannot be negative")
    return nanoseconds(text)


def variable(text: str) -> str:
    """``-e NAME=value``, or ``NAME`` to pass ours on."""
    if text.startswith("=") or not text:
        raise Invalid(f"invalid environment variable: {text}")
    return text


def label(text: str) -> str:
    if not text.partition("=")[0]:
        raise Invalid(f"invalid label '{text}': empty name")
    return text


def server(text: str) -> str:
    try:
        return str(ipaddress.ip_address(text.strip()))
    except ValueError:
        raise Invalid(f"IP address is not correctly formatted: {text}") from None


def host(text: str) -> str:
    """``name:address`` as a line of a hosts file: ``address name``."""
    name, _, address = text.partition("=") if "=" in text else text.partition(":")
    if not name or not address:
        raise Invalid(f'bad format for add-host: "{text}"')
    try:
        ipaddress.ip_address(address.strip("[]"))
    except ValueError:
        raise Invalid(f'invalid IP address in add-host: "{address}"') from None
    return f"{address.strip('[]')} {name}"


def preference(text: str) -> dict[str, Any]:
    """``spread=node.labels.zone`` in the API's keys."""
    strategy, equals, what = text.partition("=")
    if not equals or "=" in what:
        raise Invalid('placement preference must be of the format "<strategy>=<arg>"')
    if strategy != "spread":
        raise Invalid(f"unsupported placement preference {strategy} (only spread is supported)")
    return {"Spread": {"SpreadDescriptor": what}}


def resource(text: str) -> str:
    if len(text.split("=")) != 2:
        raise Invalid(f"invalid generic-resource format `{text}` expected `name=value`")
    return text


def resources(texts: list[str]) -> list[dict[str, Any]]:
    """``gpu=2`` in the API's keys; resources with names are no wish that can be granted."""
    found = []
    for text in texts:
        kind, _, amount = text.partition("=")
        if not amount.isdigit():
            raise Invalid(
                f"invalid generic-resource request `{text}`, "
                "Named Generic Resources is not supported for service create or update"
            )
        found.append({"DiscreteResourceSpec": {"Kind": kind, "Value": int(amount)}})
    return found


def credential(text: str) -> dict[str, str]:
    for scheme, key in (("config://", "Config"), ("file://", "File"), ("registry://", "Registry")):
        if text.startswith(scheme):
            return {key: text.removeprefix(scheme)}
    raise Invalid('invalid credential spec: value must be prefixed with "config://", "file://", or "registry://"')


def network(text: str) -> dict[str, Any]:
    """``RED`` or ``name=RED,alias=db,driver-opt=k=v`` in the API's keys; ``Target`` is still as typed."""
    if "=" not in text:
        return {"Target": text}
    wish: dict[str, Any] = {"Target": ""}
    for part in _parts(text):
        key, equals, value = part.strip().partition("=")
        if not equals:
            raise Invalid(f"invalid field {part}")
        if key == "name":
            wish["Target"] = value
        elif key == "alias":
            wish.setdefault("Aliases", []).append(value)
        elif key == "driver-opt":
            name, sign, meaning = value.partition("=")
            if not sign:
                raise Invalid("invalid key value pair format in driver options")
            wish.setdefault("DriverOpts", {})[name.strip().lower()] = meaning.strip().lower()
        elif key not in ("ip", "ip6", "mac-address", "link-local-ip", "gw-priority"):
            raise Invalid(f"invalid field key {key}")
    if not wish["Target"]:
        raise Invalid("network name/id is not specified")
    return wish


def reference(kind: str) -> Callable[[str], dict[str, Any]]:
    """A reader of ``--secret`` or ``--config``: ``NAME`` or ``source=NAME,target=FILE,uid=0,gid=0,mode=0444``.

    Gives {"source", "target", "uid", "gid", "mode"}."""

    def read(text: str) -> dict[str, Any]:
        found: dict[str, Any] = {"source": "", "target": "", "uid": "0", "gid": "0", "mode": 0o444}
        parts = _parts(text)
        if len(parts) == 1 and "=" not in parts[0]:
            return {**found, "source": text, "target": text}
        for part in parts:
            key, equals, value = part.partition("=")
            if not equals:
                raise Invalid(f"invalid field '{part}' must be a key=value pair")
            if key in ("source", "src"):
                found["source"] = value
            elif key in ("target", "uid", "gid"):
                found[key] = value
            elif key == "mode":
                found["mode"] = mode(value)
            else:
                raise Invalid(f"invalid field in {kind} request: {key}")
        if not found["source"]:
            raise Invalid("source is required")
        return {**found, "target": found["target"] or found["source"]}

    return read


def mode(text: str) -> int:
    """Rights of a file: ``0444`` is octal, ``0x124`` and ``292`` mean the same."""
    try:
        return int(text, 8) if re.fullmatch("0[0-7]+", text) else int(text, 0)
    except ValueError:
        raise Invalid(f'invalid mode specified: strconv.ParseUint: parsing "{text}": invalid syntax') from None


def ports(text: str) -> list[dict[str, Any]]:
    """``8080:80/udp``, ranges too, or ``target=80,published=8080,protocol=udp,mode=host``, in the API's keys."""
    return [_long(text)] if re.match(r"\w+=\w+(,\w+=\w+)*", text) else _short(text)


def _long(text: str) -> dict[str, Any]:
    port: dict[str, Any] = {"Protocol": "tcp", "TargetPort": 0, "PublishMode": "ingress"}
    for part in _parts(text):
        key, equals, value = part.partition("=")
        key, value = key.lower(), value.lower()
        if not equals or not value:
            raise Invalid(f"invalid field: {part}")
        if key == "protocol":
            if value not in PROTOCOLS:
                raise Invalid(f"invalid protocol value '{value}'")
            port["Protocol"] = value
        elif key == "mode":
            if value not in ("ingress", "host"):
                raise Invalid(f"invalid publish mode value ({value}): must be either 'ingress' or 'host'")
            port["PublishMode"] = value
        elif key in ("target", "published"):
            port["TargetPort" if key == "target" else "PublishedPort"] = _number(key, value)
        else:
            raise Invalid(f"invalid field key: {key}")
    if not port["TargetPort"]:
        raise Invalid("missing mandatory field 'target'")
    return port


def _number(key: str, text: str) -> int:
    why = (
        "invalid syntax" if not re.fullmatch("[0-9]{1,10}", text) else "" if int(text) < 65536 else "value out of range"
    )
    if why:
        raise Invalid(f"invalid {key} port ({text}): value must be an integer: {why}")
    return int(text)


def _short(text: str) -> list[dict[str, Any]]:
    plain, slash, protocol = text.partition("/")
    protocol = protocol.lower() if slash else "tcp"
    address, _, rest = plain.rpartition(":")
    address, _, published = address.rpartition(":")
    if not rest:
        raise Invalid(f"No port specified: {text}<empty>")
    if address:
        try:
            ipaddress.ip_address(address.strip("[]"))
        except ValueError:
            raise Invalid(f"Invalid ip address: {address}") from None
    first, last = numbers(rest, f"Invalid containerPort: {rest}")
    start, end = numbers(published, f"Invalid hostPort: {published}") if published else (0, 0)
    if protocol not in PROTOCOLS:
        raise Invalid(f"Invalid proto: {protocol}")
    if published and end - start != last - first:
        raise Invalid(f"Invalid ranges specified for container and host Ports: {rest} and {published}")
    if address:
        raise Invalid("hostip is not supported")
    return [
        {"Protocol": protocol, "TargetPort": port, "PublishMode": "ingress"}
        | ({"PublishedPort": start + port - first} if published else {})
        for port in range(first, last + 1)
    ]


def capability(text: str) -> str:
    """``net_admin`` -> ``CAP_NET_ADMIN``; ``all`` stays a word of its own."""
    word = text.strip().upper()
    return word if word in ("ALL", "RESET") or word.startswith("CAP_") else f"CAP_{word}"
