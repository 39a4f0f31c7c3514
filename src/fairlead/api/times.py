"""Times as Docker writes and reads them.

nanoseconds("2026-11-21T09:49:42.5Z")   since the epoch
timestamp("10m", now)                   what ``since`` and ``until`` may hold, in nanoseconds since the epoch
human(seconds)                          "About an hour", as in ``docker ps``
"""

from __future__ import annotations

import re
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta

from fairlead.api import web
from fairlead.errors import FairleadError, Invalid

SECOND = 1_000_000_000
_UNITS = {"ns": 1, "us": 1000, "µs": 1000, "ms": 1_000_000, "s": SECOND, "m": 60 * SECOND, "h": 3600 * SECOND}
_DURATION = re.compile(r"[+-]?(?:[0-9]{1,18}(?:\.[0-9]{0,18})?(?:ns|us|µs|ms|s|m|h))+")
_PIECE = re.compile(r"([0-9]+(?:\.[0-9]*)?)(ns|us|µs|ms|s|m|h)")
_STAMP = re.compile(r"(\d{4}-\d\d-\d\d)(?:T(\d\d)(?::(\d\d)(?::(\d\d)(?:\.(\d{1,9})\d*)?)?)?)?(Z|[+-]\d\d:\d\d)?")
_UNIX = re.compile(r"(-?[0-9]{1,12})(?:\.([0-9]{1,9})[0-9]*)?")


def now() -> int:
    """Nanoseconds since the epoch."""
    return time.time_ns()


def nanoseconds(text: str) -> int:
    """RFC 3339, whole or cut short as Docker's clients may, as nanoseconds since the epoch; else ``Invalid``."""
    found = _STAMP.fullmatch(text)
    if not found:
        raise Invalid(f'parsing time "{text}" as "2006-01-02T15:04:05Z07:00": cannot parse "{text}" as "2006"')
    date, hour, minute, second, fraction, zone = found.groups()
    zone = "+00:00" if zone in (None, "Z") else zone
    try:
        moment = datetime.fromisoformat(f"{date}T{hour or '00'}:{minute or '00'}:{second or '00'}{zone}")
    except ValueError as error:
        raise Invalid(f'parsing time "{text}": {error}') from error
    whole = int((moment - datetime(1970, 1, 1, tzinfo=UTC)).total_seconds())
    return whole * SECOND + int((fraction or "").ljust(9, "0"))


def text(moment: int) -> str:
    """Nanoseconds since the epoch as RFC 3339 in UTC, as Go writes it."""
    seconds, fraction = divmod(moment, SECOND)
    whole = (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%S")
    return f"{whole}.{fraction:09d}".rstrip("0").rstrip(".") + "Z"


def stamp(moment: int) -> str:
    """The same with all nine digits, as on lines of a log."""
    seconds, fraction = divmod(moment, SECOND)
    return text(seconds * SECOND)[:-1] + f".{fraction:09d}Z"


def duration(text: str) -> int | None:
    """A Go duration (``1h30m``) in nanoseconds; None when it is none."""
    if not _DURATION.fullmatch(text):
        return None
    total = sum(int(float(count) * _UNITS[unit]) for count, unit in _PIECE.findall(text))
    if total >= 1 << 63:
        return None
    return -total if text.startswith("-") else total


def timestamp(text: str, moment: int) -> int:
    """A time in any form Docker takes: Unix seconds with fraction, RFC 3339, or a duration before ``moment``."""
    ago = duration(text)
    if ago is not None:
        return moment - ago
    unix = _UNIX.fullmatch(text)
    if unix:
        return int(unix[1]) * SECOND + int((unix[2] or "")[:9].ljust(9, "0"))
    return nanoseconds(text)


def query(request: web.Request, name: str) -> int | None:
    """A time among the parameters of a request; None when it is not there. (dockerd answers nonsense with 500.)"""
    given = request.query.get(name, "")
    try:
        return timestamp(given, now()) if given else None
    except Invalid as error:
        raise FairleadError(f'strconv.ParseInt: parsing "{given}": invalid syntax') from error


def until(wanted: Mapping[str, Sequence[str]]) -> int | None:
    """The ``until`` filter of the prune calls."""
    values = wanted.get("until", ())
    if len(values) > 1:
        raise Invalid("more than one until filter specified")
    try:
        return timestamp(values[0], now()) if values else None
    except Invalid as error:
        raise Invalid(f'failed to parse value as time or duration: "{values[0]}"') from error


def human(seconds: float) -> str:
    """How long, roughly, in Docker's words."""
    whole, hours = int(seconds), int(seconds / 3600 + 0.5)
    steps: list[tuple[bool, str]] = [
        (whole < 1, "Less than a second"),
        (whole == 1, "1 second"),
        (whole < 60, f"{whole} seconds"),
        (whole < 120, "About a minute"),
        (whole < 3600, f"{whole // 60} minutes"),
        (hours == 1, "About an hour"),
        (hours < 48, f"{hours} hours"),
        (hours < 24 * 14, f"{hours // 24} days"),
        (hours < 24 * 60, f"{hours // 24 // 7} weeks"),
        (hours < 24 * 365 * 2, f"{hours // 24 // 30} months"),
    ]
    return next((words for fits, words in steps if fits), f"{int(seconds / 3600) // 24 // 365} years")
