"""Signals: names and numbers as Docker takes them, without asking the machine.

``SIGTERM``, ``TERM``, ``sigterm`` and ``15`` are the same. ``RTMIN+3`` style
names count from 34 to 64, as the C library has them on Linux.
"""

from __future__ import annotations

import re

from fairlead.errors import Invalid

_NAMES = (
    "HUP INT QUIT ILL TRAP ABRT BUS FPE KILL USR1 SEGV USR2 PIPE ALRM TERM STKFLT CHLD CONT STOP TSTP TTIN TTOU"
    " URG XCPU XFSZ VTALRM PROF WINCH IO PWR SYS"
)
NUMBERS = {name: number for number, name in enumerate(_NAMES.split(), 1)} | {
    "IOT": 6,
    "CLD": 17,
    "POLL": 29,
    "RTMIN": 34,
    "RTMAX": 64,
}
LAST = 64
_NUMBER = re.compile("[+-]?[0-9]{1,9}", re.ASCII)


def number(signal: str) -> int:
    """The number of a signal given by name or number; ``Invalid`` in dockerd's words."""
    value = parse(signal)
    if not exists(value):
        raise Invalid(f"invalid signal: {signal}")
    return value


def exists(value: int) -> bool:
    """Whether there is such a signal."""
    return 1 <= value <= LAST


def parse(signal: str) -> int:
    """The same; a number may be one that no signal has, as long as it is one (a container's stop signal)."""
    if _NUMBER.fullmatch(signal):
        if not int(signal):
            raise Invalid(f"invalid signal: {signal}")
        return int(signal)
    name = signal.upper().removeprefix("SIG")
    if name in NUMBERS:
        return NUMBERS[name]
    value = _real_time(name)
    if not NUMBERS["RTMIN"] <= value <= NUMBERS["RTMAX"]:
        raise Invalid(f"invalid signal: {signal}")
    return value


def _real_time(name: str) -> int:
    for edge, sign in (("RTMIN+", 1), ("RTMAX-", -1)):
        offset = name.removeprefix(edge)
        if offset != name and offset.isascii() and offset.isdigit() and len(offset) < 3:
            return NUMBERS[edge[:-1]] + sign * int(offset)
    return 0


def ends(signal: int, stop_signal: str) -> bool:
    """Whether sending it counts as the user stopping the container, so that no restart policy brings it back."""
    if signal in (NUMBERS["KILL"], NUMBERS["TERM"]):
        return True
    return bool(stop_signal) and signal == parse(stop_signal)
