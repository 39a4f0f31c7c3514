"""bpf(2): maps, programs and links, by their descriptors. Closed, each is gone, unless another holds it.

    sockets = make_map(SOCKMAP, …); put(sockets, key, value)
    program = load(kind, place, instructions)       the verifier reads them first
    link    = attach(program, namespace, place)     until the last descriptor of the link is closed

The C library has no such call, so it is made by its number.

What it does not do: write programs (``core.bpf``), or hold descriptors.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import struct

from fairlead.errors import Internal, Unsupported

HASH, SOCKMAP, SOCKET_STORAGE = 1, 15, 24
"""kinds of maps; and of programs, and of places where they are attached:"""
PROGRAM_FILTER = 3
PROGRAM_SK_LOOKUP, AT_SK_LOOKUP = 30, 36
PROGRAM_SOCKET_ADDRESS, AT_CONNECT, AT_PEER_NAME = 18, {4: 10, 6: 11}, {4: 29, 6: 30}
UNRESERVED = 1
"""a map that takes memory as it fills"""

_NUMBERS = {"x86_64": 321, "i686": 357, "armv7l": 386, "ppc64le": 361, "s390x": 351}
_NUMBER = _NUMBERS.get(platform.machine(), 280)
"""of the call; 280 is that of all younger architectures"""
_MAP_CREATE, _MAP_UPDATE, _MAP_DELETE, _PROGRAM_LOAD, _TYPES_LOAD, _LINK_CREATE = 0, 2, 3, 5, 18, 28
_PROGRAM_BY_ID, _MAP_BY_ID, _TELL = 13, 14, 15
_LICENSE = ctypes.create_string_buffer(b"Apache-2.0")
_LOG_SIZE = 1 << 16

_libc = ctypes.CDLL(None, use_errno=True)


def make_map(
    kind: int, key_size: int, value_size: int, most: int, flags: int = 0, types: tuple[int, int, int] = (0, 0, 0)
) -> int:
    """An empty map; its descriptor. ``types``: a descriptor of ``load_types``, which is the key's, which the other."""
    sizes = struct.pack("=IIIII", kind, key_size, value_size, most, flags)
    return _call(_MAP_CREATE, sizes + struct.pack("=28xIII", *types))


def load_types(description: bytes) -> int:
    """Of keys and values (BTF), for maps that insist; the descriptor."""
    text = ctypes.create_string_buffer(description, len(description))
    return _call(_TYPES_LOAD, struct.pack("=QQIII", ctypes.addressof(text), 0, len(description), 0, 0))


def put(table: int, key: bytes, value: bytes) -> None:
    """Upsert."""
    key_at, value_at = ctypes.create_string_buffer(key, len(key)), ctypes.create_string_buffer(value, len(value))
    where = struct.pack("=I4xQQQ", table, ctypes.addressof(key_at), ctypes.addressof(value_at), 0)
    _call(_MAP_UPDATE, where)


def take(table: int, key: bytes) -> None:
    """Out of a map; gone already is fine."""
    key_at = ctypes.create_string_buffer(key, len(key))
    try:
        _call(_MAP_DELETE, struct.pack("=I4xQ", table, ctypes.addressof(key_at)))
    except FileNotFoundError:
        return


def load(kind: int, place: int, code: bytes) -> int:
    """The program's descriptor. ``Internal`` with the verifier's words if it finds fault with it."""
    try:
        return _load(kind, place, code, None)
    except OSError as problem:
        if problem.errno not in (errno.EACCES, errno.EINVAL, errno.E2BIG):
            raise
    log = ctypes.create_string_buffer(_LOG_SIZE)
    try:
        return _load(kind, place, code, log)
    except OSError as problem:
        words = log.value.decode(errors="replace").strip()
        raise Internal(f"the kernel refuses a BPF program of ours: {problem.strerror}: {words}") from problem


def attach(program: int, target: int, place: int) -> int:
    """The descriptor of a link from a program to what ``target`` is a descriptor of."""
    return _call(_LINK_CREATE, struct.pack("=IIII", program, target, place, 0))


def program_by_id(id: int) -> int:
    """The descriptor of a program that the kernel has; ``OSError`` if it has none of that id."""
    return _call(_PROGRAM_BY_ID, struct.pack("=III", id, 0, 0))


def map_of(program: int) -> int:
    """The descriptor of the one map that it uses."""
    ids = ctypes.create_string_buffer(4)
    told = ctypes.create_string_buffer(struct.pack("=52xIQ", 1, ctypes.addressof(ids)), 64)
    _call(_TELL, struct.pack("=IIQ", program, len(told), ctypes.addressof(told)))
    return _call(_MAP_BY_ID, struct.pack("=III", *struct.unpack("=I", ids.raw), 0, 0))


def _load(kind: int, place: int, code: bytes, log: ctypes.Array[ctypes.c_char] | None) -> int:
    text = ctypes.create_string_buffer(code, len(code))
    wanted = (1, _LOG_SIZE, ctypes.addressof(log)) if log else (0, 0, 0)
    words = (kind, len(code) // 8, ctypes.addressof(text), ctypes.addressof(_LICENSE), *wanted)
    return _call(_PROGRAM_LOAD, struct.pack("=IIQQIIQII16sII", *words, 0, 0, b"fairlead", 0, place))


def _call(command: int, attributes: bytes) -> int:
    place = ctypes.create_string_buffer(attributes, len(attributes))
    found = _libc.syscall(_NUMBER, command, place, len(attributes))
    if found >= 0:
        return int(found)
    number = ctypes.get_errno()
    if number in (errno.ENOSYS, errno.EPERM):
        raise Unsupported(
            f"bpf: {os.strerror(number)}: the kernel must have BPF (CONFIG_BPF_SYSCALL) and let the engine use it"
        )
    raise OSError(number, f"bpf: {os.strerror(number)}")
