"""Capabilities: what process 1 of a container may do besides an ordinary user's things.

    DEFAULT  + cap_add - cap_drop,  or everything when privileged

Names come with or without ``CAP_``, in any case; ``ALL`` means all there
are: those of the engine itself, which the kernel would not let a child exceed.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from fairlead.errors import Invalid

_ALL = (
    "CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID KILL SETGID SETUID SETPCAP LINUX_IMMUTABLE NET_BIND_SERVICE"
    " NET_BROADCAST NET_ADMIN NET_RAW IPC_LOCK IPC_OWNER SYS_MODULE SYS_RAWIO SYS_CHROOT SYS_PTRACE SYS_PACCT"
    " SYS_ADMIN SYS_BOOT SYS_NICE SYS_RESOURCE SYS_TIME SYS_TTY_CONFIG MKNOD LEASE AUDIT_WRITE AUDIT_CONTROL"
    " SETFCAP MAC_OVERRIDE MAC_ADMIN SYSLOG WAKE_ALARM BLOCK_SUSPEND AUDIT_READ PERFMON BPF CHECKPOINT_RESTORE"
)
ALL = tuple(_ALL.split())
"""In the order of their bits, without ``CAP_``."""

_DEFAULT = (
    "CHOWN DAC_OVERRIDE FSETID FOWNER MKNOD NET_RAW SETGID SETUID SETFCAP SETPCAP NET_BIND_SERVICE SYS_CHROOT"
    " KILL AUDIT_WRITE"
)
DEFAULT = tuple(_DEFAULT.split())


def known(mask: int) -> tuple[str, ...]:
    """The capabilities of a mask as in /proc/self/status, with ``CAP_``, in the kernel's order."""
    return tuple("CAP_" + name for bit, name in enumerate(ALL) if mask >> bit & 1)


def check(add: Iterable[str] | None, drop: Iterable[str] | None) -> None:
    """``Invalid`` for names that are no capabilities. Whether this machine has them is asked at the start."""
    _parse(add, "CapAdd")
    _parse(drop, "CapDrop")


def settle(add: Iterable[str] | None, drop: Iterable[str] | None, have: Sequence[str]) -> tuple[str, ...]:
    """The capabilities of a container that is not privileged, in the kernel's order; ``Invalid`` for unknown ones."""
    adds, drops = _parse(add, "CapAdd"), _parse(drop, "CapDrop")
    for name in sorted(adds - {"ALL", *have}):
        reason = "capability not supported by your kernel or not available in the current environment"
        raise Invalid(f'invalid CapAdd: {reason}: "{name}"')
    if "ALL" in adds:
        wanted = set(have) - drops
    elif "ALL" in drops:
        wanted = adds
    else:
        wanted = ({"CAP_" + name for name in DEFAULT} | adds) - drops
    return tuple(name for name in have if name in wanted)


def _parse(names: Iterable[str] | None, field: str) -> set[str]:
    parsed = set()
    for text in names or ():
        name = text.upper().removeprefix("CAP_")
        if name != "ALL" and name not in ALL:
            raise Invalid(f'invalid {field}: unknown capability: "{"CAP_" + name if text else text}"')
        parsed.add("ALL" if name == "ALL" else "CAP_" + name)
    return parsed
