"""Log options, by driver: what a container's mean, and dockerd's complaints about those that mean nothing.

    check(LogConfig)       before a container exists: the driver, the names of its options, the mode
    settings(LogConfig)    when it starts: sizes, counts, switches

What it does not do: ``tag``, ``labels`` and ``env`` (``core.loglines``), regular expressions among them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from fairlead.core.container import LogConfig
from fairlead.core.loglines import LogSettings
from fairlead.core.switches import parse_bool
from fairlead.errors import FairleadError, Invalid

START = "failed to create task for container: failed to initialize logging driver: "
BLOCKING, NON_BLOCKING = "blocking", "non-blocking"
_FILE = (
    *("max-file", "max-size", "compress", "labels", "labels-regex", "env", "env-regex", "tag", "mode"),
    *("max-buffer-size", "cache-disabled", "cache-max-size", "cache-max-file", "cache-compress"),
)
_LOCAL = ("max-file", "max-size", "compress", "mode", "max-buffer-size")
OPTIONS = {"json-file": _FILE, "local": _LOCAL}
_SIZE = re.compile(r"(.*[0-9. ])([^0-9. ]*)", re.DOTALL)
_NUMBER = re.compile(r"[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)")
_POWERS = {"k": 1, "m": 2, "g": 3, "t": 4, "p": 5}


def check(log: LogConfig) -> None:
    """``Invalid`` for what no container can be made with."""
    options = log.config or {}
    if log.type in ("", "none"):
        return
    mode = options.get("mode", "")
    if mode not in ("", BLOCKING, NON_BLOCKING):
        raise Invalid(f"logger: logging mode not supported: {mode}")
    if "max-buffer-size" in options:
        if mode != NON_BLOCKING:
            raise Invalid(f"logger: max-buffer-size option is only supported with 'mode={NON_BLOCKING}'")
        try:
            size(options["max-buffer-size"], 1024)
        except FairleadError as error:
            raise Invalid(f"error parsing option max-buffer-size: {error.message}") from None
    if log.type not in OPTIONS:
        raise Invalid(f'error looking up logging plugin {log.type}: plugin "{log.type}" not found')
    for option in options:
        if option not in OPTIONS[log.type]:
            driver = "log driver local" if log.type == "local" else f"{log.type} log driver"
            raise Invalid(f"unknown log opt '{option}' for {driver}")


def settings(config: LogConfig) -> LogSettings:
    """What a container's log options mean; an error in dockerd's words."""
    driver, options = config.type or "json-file", config.config or {}
    if driver == "none":
        return LogSettings(kept=False)
    if driver not in OPTIONS:
        raise Invalid(f"logger: no log driver named '{driver}' is registered")
    try:
        return _local(options) if driver == "local" else _json_file(options)
    except FairleadError as error:
        raise FairleadError(START + error.message) from None


def _json_file(options: Mapping[str, str]) -> LogSettings:
    largest, files = 0, 1
    if "max-size" in options:
        largest = size(options["max-size"], 1000)
        if largest <= 0:
            raise FairleadError("max-size must be a positive number")
    if "max-file" in options:
        files = _whole(options["max-file"])
        if files < 1:
            raise FairleadError("max-file cannot be less than 1")
    if _switch(options.get("compress", "false")) and (files == 1 or not largest):
        raise FairleadError("compress cannot be true when max-file is less than 2 or max-size is not set")
    return LogSettings(True, largest, files)


def _local(options: Mapping[str, str]) -> LogSettings:
    largest, files, packed = 20 << 20, 5, True
    for name in ("max-size", "max-file"):
        try:
            if name in options:
                value = size(options[name], 1024) if name == "max-size" else _whole(options[name])
                largest, files = (value, files) if name == "max-size" else (largest, value)
        except FairleadError as error:
            raise FairleadError(f"invalid value for {name}: {options[name]}: {error.message}") from None
    if "compress" in options:
        try:
            packed = _switch(options["compress"])
        except FairleadError as error:
            raise FairleadError(f"error reading compress log option: {error.message}") from None
    if files < 0:
        raise FairleadError("max file count cannot be less than 0")
    if packed and files <= 1:
        raise FairleadError("compression cannot be enabled when max file count is 1")
    return LogSettings(True, largest, max(files, 1))


def size(text: str, base: int) -> int:
    """``10m`` in bytes, as Docker's library of units reads it. ``base``: 1000 or 1024."""
    found = _SIZE.fullmatch(text)
    if not found:
        raise FairleadError(f"invalid size: '{text}'")
    number, suffix = found[1].removesuffix(" "), found[2]
    if not _NUMBER.fullmatch(number) or len(number) > 30:
        raise FairleadError(f'strconv.ParseFloat: parsing "{number}": invalid syntax')
    if float(number) < 0:
        raise FairleadError(f"invalid size: '{text}'")
    low = suffix.lower()
    if low in ("", "b"):
        return int(float(number))
    if low[0] not in _POWERS or low[1:] not in ("", "b", "ib"):
        raise FairleadError(f"invalid suffix: '{low if len(suffix) <= 3 else suffix}'")
    return int(float(number) * base ** _POWERS[low[0]])


def _whole(text: str) -> int:
    if not re.fullmatch(r"[+-]?[0-9]{1,9}", text):
        raise FairleadError(f'strconv.Atoi: parsing "{text}": invalid syntax')
    return int(text)


def _switch(text: str) -> bool:
    meant = parse_bool(text)
    if meant is None:
        raise FairleadError(f'strconv.ParseBool: parsing "{text}": invalid syntax')
    return meant
