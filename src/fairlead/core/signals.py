"""Signals: names and numbers as Docker takes them, without asking the machine.

``SIGTERM``, ``TERM``, ``sigterm`` and ``15`` are the same. ``RTMIN+3`` style
names count from 34 to 64, as the C library has them on Linux.
"""

from __future__ import annotations

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


def number(signal: str) -> int:
    """The number of a signal given by name or number; ``Invalid`` in dockerd's words."""
    if signal.isascii() and signal.isdigit() and len(signal) < 4:
        value = int(signal)
        if not 1 <= value <= LAST:
            raise Invalid(f"invalid signal: {signal}")
        return value
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
    return bool(stop_signal) and signal == number(stop_signal)
