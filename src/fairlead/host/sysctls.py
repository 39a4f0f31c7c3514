"""Sysctls: settings below /proc/sys, as seen from the namespace the thread is in.

Rules
    1. Only ``net/…``: the rest of the machine is not ours.
    2. A setting that has the value already is as good as written, even where
       /proc/sys is read-only.
    3. Writing is not undone: a setting goes with its device or namespace, and nobody
       knows who else relies on one of the host.
    4. ``net/bridge/`` is there only while the kernel has br_netfilter; without it, what
       should be off there is off.
    5. Every namespace has folders of its own under the same names, and the kernel finds the right ones by trying one
       after the other: what is written to often keeps its folders open (``Folders``).
"""

from __future__ import annotations

import os
from contextlib import suppress

from fairlead.core.wanted import Sysctl
from fairlead.errors import Internal, Invalid, Unsupported

_ROOT = "/proc/sys/"


class Folders:
    """Where one namespace's settings are; use it inside that namespace."""

    def __init__(self) -> None:
        self._open: dict[str, int] = {}

    def write(self, item: Sysctl) -> None:
        write(item, self.near(_path(item)))

    def near(self, path: str) -> str:
        """A shorter way to the file at ``path``; as it is, if there is none."""
        head, conf, tail = path.partition("/conf/")
        if conf and head not in self._open:
            try:
                self._open[head] = os.open(f"{head}/conf", os.O_PATH | os.O_CLOEXEC)
            except FileNotFoundError:
                return path
        return f"/proc/self/fd/{self._open[head]}/{tail}" if conf else path

    def close(self) -> None:
        while self._open:
            os.close(self._open.popitem()[1])


def write(item: Sysctl, near: str = "") -> None:
    """Call it inside the namespace. ``near``: a shorter way to its file."""
    path = _path(item)
    try:
        file = os.open(near or path, os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(file, item.value.encode() + b"\n")
        finally:
            os.close(file)
    except FileNotFoundError:
        if _is_off(item):
            return
        raise Unsupported(f"this kernel has no setting {item.path} (wanted {item.value})") from None
    except OSError as error:
        if _read(path).split() != item.value.split():
            raise Internal(f"cannot make {item}: {error.strerror}") from None


def read(item: Sysctl) -> Sysctl | None:
    """The setting as it is (in the spelling of ``item`` if it is the same), None where there is none."""
    try:
        value = _read(_path(item))
    except OSError:
        return item if _is_off(item) else None
    same = value.split() == item.value.split()
    return Sysctl(ns=item.ns, path=item.path, value=item.value if same else value.strip())


def place(item: Sysctl) -> str:
    """The file of a setting, as seen from its own namespace."""
    return _path(item)


def _is_off(item: Sysctl) -> bool:
    """Whether a setting that is not there does what is wanted."""
    return item.path.startswith("net/bridge/") and item.value == "0"


def _path(item: Sysctl) -> str:
    if not item.path.startswith("net/") or ".." in item.path.split("/"):
        raise Invalid(f"{item.path} is no network setting")
    return _ROOT + item.path


def _read(path: str) -> str:
    file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)  # there are hundreds, and files of the io module are dear
    try:
        return b"".join(iter(lambda: os.read(file, 1 << 12), b"")).decode(errors="replace")
    finally:
        os.close(file)


def legacy_tables() -> tuple[str, ...]:
    """Tables of legacy iptables in this thread's namespace: nobody lists what is in them but their own tool."""
    found = []
    for name, tool in (("ip_tables_names", "iptables"), ("ip6_tables_names", "ip6tables")):
        with suppress(OSError):
            found += [f"{tool} {table}" for table in _read(f"/proc/thread-self/net/{name}").split()]
    return tuple(found)
