"""Log lines: conmon's file format, and options of a log as Docker takes them.

    2024-05-06T07:08:09.123456789+00:00 stdout F hello         a whole line
    2024-05-06T07:08:09.123456789+00:00 stderr P hel           a piece; more of that stream follows

Rules
    1. Pieces of a line are put together; the line has the time of its first piece.
       At ``LONGEST`` a line is given out as it is, as Docker does.
    2. A line that was cut off by a crash is skipped, never an error.
"""

import re
from collections.abc import Iterator, Mapping
from typing import NamedTuple
from urllib import parse

import msgspec

from fairlead.core import restart
from fairlead.core.container import Container

LONGEST = 16 << 10
STREAMS = {b"stdout": 1, b"stderr": 2}


class LogLine(NamedTuple):
    """One line: 1 stdout or 2 stderr, nanoseconds since the epoch, the bytes with their newline."""

    stream: int
    time: int
    text: bytes


class Assembler:
    """Bytes of the file in, whole lines out."""

    def __init__(self) -> None:
        self._rest = b""
        self._open: dict[int, tuple[int, bytes]] = {}

    def feed(self, data: bytes) -> Iterator[LogLine]:
        *records, self._rest = (self._rest + data).split(b"\n")
        for record in records:
            line = self._take(record)
            if line is not None:
                yield line

    def finish(self) -> Iterator[LogLine]:
        """Lines that never got their end: the process is gone."""
        self._rest = b""
        for stream, (time, text) in sorted(self._open.items()):
            yield LogLine(stream, time, text)
        self._open.clear()

    def _take(self, record: bytes) -> LogLine | None:
        parts = record.split(b" ", 3)
        stream = STREAMS.get(parts[1]) if len(parts) == 4 else None
        if stream is None or parts[2] not in (b"F", b"P"):
            return None
        try:
            begun = self._open.pop(stream) if stream in self._open else (restart.nanoseconds(parts[0].decode()), b"")
        except ValueError:
            return None
        time, text = begun[0], begun[1] + parts[3]
        if parts[2] == b"P" and len(text) < LONGEST:
            self._open[stream] = (time, text)
            return None
        return LogLine(stream, time, text + (b"\n" if parts[2] == b"F" else b""))


def timestamp(time: int) -> str:
    """RFC 3339 in UTC with nine digits, as ``docker logs -t`` prints it."""
    seconds, fraction = divmod(time, 1_000_000_000)
    days, second = divmod(seconds, 86400)
    days += 719468
    era, in_era = divmod(days, 146097)
    year = (in_era - in_era // 1460 + in_era // 36524 - in_era // 146096) // 365
    day = in_era - (365 * year + year // 4 - year // 100)
    shifted = (5 * day + 2) // 153
    month = shifted + (3 if shifted < 10 else -9)
    date = f"{year + era * 400 + (month <= 2):04}-{month:02}-{day - (153 * shifted + 2) // 5 + 1:02}"
    return f"{date}T{second // 3600:02}:{second // 60 % 60:02}:{second % 60:02}.{fraction:09}Z"


def attributes(container: Container) -> str:
    """What ``docker logs --details`` puts before every line: ``env=prod,tag=web``, asked for by log options.

    Told of the container as it is now, not as it was when it said the line."""
    options, config = container.host.log_config.config or {}, container.config
    variables = dict(entry.partition("=")[::2] for entry in config.env or () if "=" in entry)
    found = {**_picked(variables, options, "env"), **_picked(config.labels or {}, options, "labels")}
    if "tag" in options:
        found["tag"] = _tag(options["tag"], container)
    return ",".join(f"{parse.quote_plus(name)}={parse.quote_plus(value)}" for name, value in sorted(found.items()))


def _picked(known: Mapping[str, str], options: Mapping[str, str], what: str) -> dict[str, str]:
    names, pattern = options.get(what, "").split(","), options.get(f"{what}-regex", "")
    try:
        matching = re.compile(pattern) if pattern else None
    except re.error:
        matching = None
    return {name: known[name] for name in known if name in names or (matching and matching.search(name))}


def _tag(template: str, container: Container) -> str:
    """The tag's template with the fields it may name filled in."""
    image = container.image.removeprefix("sha256:")
    fields = {"ID": container.short, "FullID": container.id, "Name": container.name, "DaemonName": "docker"}
    fields |= {"ImageID": image[:12], "ImageFullID": container.image, "ImageName": container.config.image}
    return re.sub(r"\{\{\s*\.(\w+)\s*\}\}", lambda found: fields.get(found[1], found[0]), template)


class LogSettings(msgspec.Struct, frozen=True):
    """``kept`` False: no file at all. ``largest`` bytes a file (0: no limit), ``files`` of them."""

    kept: bool = True
    largest: int = 0
    files: int = 1
