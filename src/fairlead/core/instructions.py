"""Dockerfile lines that change an image's configuration: ``docker commit -c``, ``docker import -c``.

    apply(config, ['CMD ["sh"]', "ENV A=b", "EXPOSE 80 53/udp"]) -> config

The words a line may begin with, their forms (JSON list or shell words) and
the complaints are Docker's. Variables (``$A``, ``${A:-b}``) mean the environment
the configuration has so far.

What it does not do: build (``RUN``, ``COPY`` … are buildah's).
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable, Iterable, Mapping

import msgspec
from msgspec.structs import replace

from fairlead.core.container import Config, Healthcheck
from fairlead.errors import Invalid

SHELL = ("/bin/sh", "-c")
_UNITS = {"ns": 1, "us": 10**3, "µs": 10**3, "ms": 10**6, "s": 10**9, "m": 60 * 10**9, "h": 3600 * 10**9}
_DURATION = re.compile(r"([0-9]{1,18}(?:\.[0-9]{0,18})?|\.[0-9]{1,18})(ns|us|µs|ms|s|m|h)")
_VARIABLE = re.compile(r"\$(?:(?P<plain>\w+)|\{(?P<name>\w+)(?::(?P<sign>[-+])(?P<word>[^}]*))?\})")


def apply(config: Config, changes: Iterable[str]) -> Config:
    """The configuration after the lines, in order. ``Invalid`` names the line that makes no sense."""
    lines = [line.strip() for change in changes for line in change.replace("\\\n", " ").splitlines()]
    told: set[str] = set()
    for line in lines:
        if not line or line.startswith("#"):
            continue
        word, _, rest = line.partition(" ")
        change = _INSTRUCTIONS.get(word.upper())
        if change is None:
            raise Invalid(f"{word.upper()} is not a valid change command")
        if not rest.strip():
            raise Invalid(f"{word.upper()} requires at least one argument")
        config = change(config, rest.strip())
        if word.upper() == "ENTRYPOINT" and "CMD" not in told:
            config = replace(config, cmd=None)
        told.add(word.upper())
    return config


def _list(text: str) -> tuple[str, ...] | None:
    """A JSON list of strings, or None if the text is in shell form."""
    try:
        return msgspec.json.decode(text, type=tuple[str, ...])
    except (msgspec.DecodeError, UnicodeEncodeError):
        return None


def _command(config: Config, text: str) -> tuple[str, ...]:
    listed = _list(text)
    return listed if listed is not None else (*(config.shell or SHELL), text)


def _cmd(config: Config, text: str) -> Config:
    return replace(config, cmd=_command(config, text))


def _entrypoint(config: Config, text: str) -> Config:
    return replace(config, entrypoint=_command(config, text) or None)


def _env(config: Config, text: str) -> Config:
    given = dict(pairs("ENV", text, environment(config)))
    kept = tuple(f"{item.partition('=')[0]}={given.pop(item.partition('=')[0])}"
                 if item.partition("=")[0] in given else item for item in config.env or ())  # fmt: skip
    return replace(config, env=(*kept, *(f"{name}={value}" for name, value in given.items())))


def _label(config: Config, text: str) -> Config:
    return replace(config, labels={**(config.labels or {}), **dict(pairs("LABEL", text, environment(config)))})


def _expose(config: Config, text: str) -> Config:
    ports = dict(config.exposed_ports or {})
    for word in words(text, environment(config)):
        for port in _ports(word):
            ports[port] = {}
    return replace(config, exposed_ports=ports)


def _ports(word: str) -> list[str]:
    numbers, _, protocol = word.partition("/")
    numbers = numbers.rpartition(":")[2]
    first, _, last = numbers.partition("-")
    protocol = (protocol or "tcp").lower()
    if protocol not in ("tcp", "udp", "sctp"):
        raise Invalid(f"invalid proto: {protocol}")
    digits = all(re.fullmatch("[0-9]{1,9}", number) for number in (first, last or first))
    if not (digits and int(first) <= int(last or first) <= 65535):
        raise Invalid(f"Invalid containerPort: {numbers}")
    return [f"{number}/{protocol}" for number in range(int(first), int(last or first) + 1)]


def _user(config: Config, text: str) -> Config:
    return replace(config, user=_one("USER", text, config))


def _workdir(config: Config, text: str) -> Config:
    path = expand(text, environment(config)).strip("\"'")
    return replace(config, working_dir=posixpath.normpath(posixpath.join("/", config.working_dir, path)))


def _volume(config: Config, text: str) -> Config:
    listed = _list(text)
    paths = listed if listed is not None else tuple(words(text, environment(config)))
    if any(not path.strip() for path in paths):
        raise Invalid("VOLUME specified can not be an empty string")
    return replace(config, volumes={**(config.volumes or {}), **{path: {} for path in paths}})


def _stop_signal(config: Config, text: str) -> Config:
    return replace(config, stop_signal=_one("STOPSIGNAL", text, config))


def _on_build(config: Config, text: str) -> Config:
    trigger = text.split()[0].upper()
    if trigger == "ONBUILD":
        raise Invalid("Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed")
    if trigger in ("MAINTAINER", "FROM"):
        raise Invalid(f"{trigger} isn't allowed as an ONBUILD trigger")
    return replace(config, on_build=(*(config.on_build or ()), text))


def _healthcheck(config: Config, text: str) -> Config:
    flags: dict[str, str] = {}
    while match := re.match(r"--([a-z-]+)=(\S+)\s+", text):
        flags[match[1]] = match[2]
        text = text[match.end() :]
    kind, _, rest = text.partition(" ")
    if kind.upper() == "NONE":
        if rest.strip():
            raise Invalid("HEALTHCHECK NONE takes no arguments")
        return replace(config, healthcheck=Healthcheck(test=("NONE",)))
    if kind.upper() != "CMD":
        raise Invalid(f'Unknown type "{kind}" in HEALTHCHECK (try CMD)')
    listed = _list(rest)
    return replace(config, healthcheck=Healthcheck(
        test=("CMD", *listed) if listed is not None else ("CMD-SHELL", rest.strip()),
        interval=_duration(flags, "interval"), timeout=_duration(flags, "timeout"),
        start_period=_duration(flags, "start-period"), start_interval=_duration(flags, "start-interval"),
        retries=_retries(flags.get("retries", "0")),
    ))  # fmt: skip


def _retries(text: str) -> int:
    if not re.fullmatch("[0-9]{1,9}", text):
        raise Invalid(f"--retries must be at least 1 (not {text})")
    return int(text)


def _duration(flags: Mapping[str, str], name: str) -> int:
    """Go's ``1m30s`` in nanoseconds; 0 if not given."""
    text = flags.get(name, "")
    if not text:
        return 0
    parts = _DURATION.findall(text)
    if "".join(number + unit for number, unit in parts) != text:
        raise Invalid(f'time: invalid duration "{text}"')
    return int(sum(float(number) * _UNITS[unit] for number, unit in parts))


def _one(instruction: str, text: str, config: Config) -> str:
    found = words(text, environment(config))
    if len(found) != 1:
        raise Invalid(f"{instruction} requires exactly one argument")
    return found[0]


def pairs(instruction: str, text: str, env: Mapping[str, str]) -> list[tuple[str, str]]:
    """``A=b C="d e"``, or the old ``A everything after``."""
    if not text.strip():
        raise Invalid(f"{instruction} requires at least one argument")
    if "=" not in text.split()[0]:
        name, _, value = text.partition(" ")
        if not value.strip():
            raise Invalid(f"{instruction} must have two arguments")
        return [(name, expand(value.strip(), env))]
    found = []
    for word in words(text, env):
        name, equals, value = word.partition("=")
        if not equals:
            raise Invalid(f'Syntax error - can\'t find = in "{word}". Must be of the form: name=value')
        if not name:
            raise Invalid(f"{instruction} names can not be blank")
        found.append((name, value))
    return found


def environment(config: Config) -> dict[str, str]:
    """The variables of a configuration as a dictionary."""
    return {name: value for name, _, value in (item.partition("=") for item in config.env or ())}


def expand(text: str, env: Mapping[str, str]) -> str:
    """Variables replaced, as in a double-quoted shell word."""

    def value(match: re.Match[str]) -> str:
        name = match["plain"] or match["name"]
        if match["sign"] == "-":
            return env.get(name) or match["word"]
        if match["sign"] == "+":
            return match["word"] if env.get(name) else ""
        return env.get(name, "")

    return _VARIABLE.sub(value, text)


def words(text: str, env: Mapping[str, str]) -> list[str]:
    """Shell words: quotes and backslashes removed, variables replaced except between single quotes."""
    found: list[str] = []
    word, inside, quote, index = "", False, "", 0
    while index < len(text):
        letter = text[index]
        variable = _VARIABLE.match(text, index) if letter == "$" and quote != "'" else None
        if variable:
            word, inside, index = word + expand(variable[0], env), True, variable.end() - 1
        elif letter == "\\" and quote != "'" and index + 1 < len(text):
            index += 1
            word, inside = word + text[index], True
        elif quote:
            quote, word = ("", word) if letter == quote else (quote, word + letter)
        elif letter in "\"'":
            quote, inside = letter, True
        elif not letter.isspace():
            word, inside = word + letter, True
        elif inside:
            found, word, inside = [*found, word], "", False
        index += 1
    if quote:
        raise Invalid("unexpected end of statement while looking for matching quote")
    return [*found, word] if inside else found


_INSTRUCTIONS: dict[str, Callable[[Config, str], Config]] = {
    "CMD": _cmd,
    "ENTRYPOINT": _entrypoint,
    "ENV": _env,
    "EXPOSE": _expose,
    "HEALTHCHECK": _healthcheck,
    "LABEL": _label,
    "ONBUILD": _on_build,
    "STOPSIGNAL": _stop_signal,
    "USER": _user,
    "VOLUME": _volume,
    "WORKDIR": _workdir,
}
