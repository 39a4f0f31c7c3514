"""Seccomp filters, compiled once: libseccomp turns a profile into the kernel's own program.

The runtime would do the same for every container, ten milliseconds each time. We
compile the first time, keep the bytes, and hand them over ready made (crun's
annotation ``run.oci.seccomp_bpf_data``). The profile itself goes along in the
configuration: a runtime that does not know the annotation compiles it as ever.

Rules
    1. A system call this machine does not know is left out, as runtimes do.
    2. Anything else that libseccomp refuses means "not compiled" (None): the
       runtime gets the profile alone and decides. Never a weaker filter.
"""

from __future__ import annotations

import ctypes
import os
import tempfile
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

import msgspec

KEPT = 32
ACTIONS = {
    "SCMP_ACT_KILL": 0x00000000,
    "SCMP_ACT_KILL_THREAD": 0x00000000,
    "SCMP_ACT_KILL_PROCESS": 0x80000000,
    "SCMP_ACT_TRAP": 0x00030000,
    "SCMP_ACT_ERRNO": 0x00050000,
    "SCMP_ACT_TRACE": 0x7FF00000,
    "SCMP_ACT_LOG": 0x7FFC0000,
    "SCMP_ACT_ALLOW": 0x7FFF0000,
}
_WITH_NUMBER = ("SCMP_ACT_ERRNO", "SCMP_ACT_TRACE")
OPERATORS = {
    name: number
    for number, name in enumerate(
        (
            "SCMP_CMP_NE",
            "SCMP_CMP_LT",
            "SCMP_CMP_LE",
            "SCMP_CMP_EQ",
            "SCMP_CMP_GE",
            "SCMP_CMP_GT",
            "SCMP_CMP_MASKED_EQ",
        ),
        1,
    )
}
_UNKNOWN_CALL = -1
_OPTIMIZE = 8
"""SCMP_FLTATR_CTL_OPTIMIZE: 2 sorts the calls into a binary tree."""


class _Compare(ctypes.Structure):
    _fields_ = [("arg", ctypes.c_uint), ("op", ctypes.c_int), ("a", ctypes.c_uint64), ("b", ctypes.c_uint64)]


class Filters:
    """Compiled profiles, the last ``KEPT`` of them."""

    def __init__(self) -> None:
        self._made: OrderedDict[bytes, bytes | None] = OrderedDict()
        self._library = _library()

    def compile(self, profile: Mapping[str, Any]) -> bytes | None:
        """The filter as struct sock_filter after sock_filter, or None when it has to be left to the runtime."""
        key = msgspec.json.encode(profile, order="sorted")
        if key not in self._made:
            self._made[key] = _compile(self._library, profile) if self._library else None
            while len(self._made) > KEPT:
                self._made.popitem(last=False)
        self._made.move_to_end(key)
        return self._made[key]


def _library() -> ctypes.CDLL | None:
    try:
        library = ctypes.CDLL("libseccomp.so.2")
    except OSError:
        return None
    library.seccomp_init.restype = ctypes.c_void_p
    library.seccomp_init.argtypes = [ctypes.c_uint32]
    library.seccomp_release.argtypes = [ctypes.c_void_p]
    library.seccomp_arch_resolve_name.restype = ctypes.c_uint32
    library.seccomp_arch_add.argtypes = [ctypes.c_void_p, ctypes.c_uint32]
    library.seccomp_attr_set.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_uint32]
    library.seccomp_rule_add_array.argtypes = [
        ctypes.c_void_p,
        ctypes.c_uint32,
        ctypes.c_int,
        ctypes.c_uint,
        ctypes.POINTER(_Compare),
    ]
    library.seccomp_export_bpf.argtypes = [ctypes.c_void_p, ctypes.c_int]
    return library


def _compile(library: ctypes.CDLL, profile: Mapping[str, Any]) -> bytes | None:
    if profile.get("flags") or profile.get("listenerPath"):
        return None
    default = _action(profile["defaultAction"], profile.get("defaultErrnoRet"))
    if default is None:
        return None
    context = library.seccomp_init(default)
    if not context:
        return None
    try:
        if not _fill(library, context, profile, default):
            return None
        with tempfile.TemporaryFile() as file:
            if library.seccomp_export_bpf(context, file.fileno()):
                return None
            size = os.fstat(file.fileno()).st_size
            return os.pread(file.fileno(), size, 0)
    finally:
        library.seccomp_release(context)


def _fill(library: ctypes.CDLL, context: int, profile: Mapping[str, Any], default: int) -> bool:
    for name in profile.get("architectures") or ():
        short = name.removeprefix("SCMP_ARCH_").lower().encode()
        code = library.seccomp_arch_add(context, library.seccomp_arch_resolve_name(short))
        if code not in (0, -17):  # EEXIST: the machine's own
            return False
    library.seccomp_attr_set(context, _OPTIMIZE, 2)
    return all(_rule(library, context, rule, default) for rule in profile.get("syscalls") or ())


def _rule(library: ctypes.CDLL, context: int, rule: Mapping[str, Any], default: int) -> bool:
    action = _action(rule["action"], rule.get("errnoRet"))
    if action is None:
        return False
    if action == default:
        return True
    alternatives = _alternatives(rule.get("args") or ())
    for name in rule["names"]:
        number = library.seccomp_syscall_resolve_name(name.encode())
        if number == _UNKNOWN_CALL:
            continue
        for comparisons in alternatives:
            array = (_Compare * len(comparisons))(*comparisons)
            if library.seccomp_rule_add_array(context, action, number, len(comparisons), array):
                return False
    return True


def _alternatives(arguments: Any) -> list[list[_Compare]]:
    """One rule compares all arguments; but two comparisons of one argument are two rules, as runtimes have it."""
    made = [
        _Compare(item["index"], OPERATORS[item["op"]], item.get("value", 0), item.get("valueTwo", 0))
        for item in arguments
    ]
    if len({item.arg for item in made}) < len(made):
        return [[item] for item in made]
    return [made]


def _action(name: str, number: int | None) -> int | None:
    code = ACTIONS.get(name)
    if code is not None and name in _WITH_NUMBER:
        code |= 1 if number is None else number
    return code
