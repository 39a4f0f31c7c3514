"""Datagrams by the handful: many received in one system call, and answered in one.

    socket --recvmmsg--> slots [id, question | from whom] --the answer is written over the question--> sendmmsg

A slot keeps the datagram, its length and its sender, so an answer that goes back
needs no address in words and no copy of its id. Python has no such call; the C library
does, and is asked without giving the interpreter's lock away, because nobody else wants it.

What it does not do: wait, or tell why something could not be sent: a datagram may be lost.
"""

from __future__ import annotations

import ctypes
import socket
from typing import Any


class _Vector(ctypes.Structure):
    _fields_ = (("base", ctypes.c_void_p), ("length", ctypes.c_size_t))


class _Header(ctypes.Structure):
    """struct msghdr, see recvmsg(2)"""

    _fields_ = (
        ("name", ctypes.c_void_p),
        ("name_length", ctypes.c_uint32),
        ("vector", ctypes.c_void_p),
        ("vectors", ctypes.c_size_t),
        ("control", ctypes.c_void_p),
        ("control_length", ctypes.c_size_t),
        ("flags", ctypes.c_int),
    )


class _Message(ctypes.Structure):
    """struct mmsghdr, see recvmmsg(2)"""

    _fields_ = (("header", _Header), ("length", ctypes.c_uint))


_NAME = 16
"""struct sockaddr_in"""
_NOW = int(socket.MSG_DONTWAIT)
_LIBC = ctypes.PyDLL(None)


class Batch:
    """``count`` slots of ``room`` bytes. For IPv4 sockets of one thread."""

    def __init__(self, count: int, room: int) -> None:
        self.count, self.room = count, room
        self.slots: Any = ctypes.create_string_buffer(count * room)
        """what came, slot after slot; a slice of it is ``bytes``"""
        self.write = memoryview(self.slots).cast("B")
        """the same, to be written to"""
        self._names: Any = ctypes.create_string_buffer(count * _NAME)
        self._in, self._out = (_Vector * count)(), (_Vector * count)()
        self._came, self._goes = (_Message * count)(), (_Message * count)()
        slots, names = ctypes.addressof(self.slots), ctypes.addressof(self._names)
        size = ctypes.sizeof(_Vector)
        for at in range(count):
            for vectors, messages in ((self._in, self._came), (self._out, self._goes)):
                vectors[at].base, vectors[at].length = slots + at * room, room
                header = messages[at].header
                header.name, header.name_length = names + at * _NAME, _NAME
                header.vector, header.vectors = ctypes.addressof(vectors) + at * size, 1
        words = memoryview(self._came).cast("B").cast("I")
        self.lengths = words[_Message.length.offset // 4 :: ctypes.sizeof(_Message) // 4]
        """bytes in each slot after ``receive``"""
        self.sizes = memoryview(self._out).cast("B").cast("P")[1::2]
        """bytes of each slot to ``send``"""
        self._first = ctypes.addressof(self._goes)

    def receive(self, sock: int, most: int) -> int:
        """How many datagrams were waiting, at most ``most``; they are in the first slots."""
        return max(0, int(_LIBC.recvmmsg(sock, self._came, most, _NOW, None)))

    def send(self, sock: int, first: int, end: int) -> None:
        """The slots from ``first`` to ``end``, each to whom it came from."""
        message = ctypes.c_void_p(self._first + first * ctypes.sizeof(_Message))
        _LIBC.sendmmsg(sock, message, end - first, _NOW)

    def sender(self, slot: int) -> tuple[str, int]:
        """Whose datagram is in a slot, as Python names it."""
        name = self._names[slot * _NAME : slot * _NAME + 8]
        return socket.inet_ntoa(name[4:8]), int.from_bytes(name[2:4], "big")
