"""Datagrams by the handful: many received in one system call, and answered in one.

    socket --recvmmsg--> slots [id, question | from whom] --the answer is written over the question--> sendmmsg
                                                            in an envelope: from our port, to whom it came from

A slot keeps the datagram, its length and its sender, so an answer that goes back
needs no address in words and no copy of its id: of the envelope (a header of IPv4 and one of UDP) the kernel is told
piece by piece where each part lies, the sender's address and port where ``recvmmsg`` left them. Python has no such
calls; the C library does, and is asked without giving the interpreter's lock away, because nobody else wants it.

What it does not do: wait, or tell why something could not be sent: a datagram may be lost.
"""

from __future__ import annotations

import ctypes
import socket
import struct
from typing import Any


class Envelope:
    """What goes round an answer that a raw socket sends: RFC 791 and 768, 28 bytes.

    The kernel fills in the length, the identification and the checksum of IPv4 (raw(7)); UDP's checksum is left out, as
    it may be (RFC 768): what carries these packets is memory."""

    def __init__(self, address: str, port: int) -> None:
        self.port = struct.pack("!H", port)
        self.head = struct.pack("!BBHHHBBH4s", 0x45, 0, 0, 0, 0, 64, socket.IPPROTO_UDP, 0, socket.inet_aton(address))

    def around(self, answer: bytes, client: tuple[str, int]) -> bytes:
        """The whole packet to whoever asked."""
        ports = self.port + struct.pack("!HHH", client[1], len(answer) + _UDP, 0)
        return self.head + socket.inet_aton(client[0]) + ports + answer


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
"""struct sockaddr_in: family, port at 2, address at 4"""
_UDP = 8
_PIECES = 6
"""of an answer: header, to which address | from which port, to which | length, checksum | answer"""
_NOW = int(socket.MSG_DONTWAIT)
_LIBC = ctypes.PyDLL(None)


class Batch:
    """``count`` slots of ``room`` bytes. For IPv4 sockets of one thread. Without an envelope what goes back goes by the
    socket that it came by."""

    def __init__(self, count: int, room: int, envelope: Envelope | None = None) -> None:
        self.count, self.room = count, room
        self.slots: Any = ctypes.create_string_buffer(count * room)
        """what came, slot after slot; a slice of it is ``bytes``"""
        self.write = memoryview(self.slots).cast("B")
        """the same, to be written to"""
        self._names: Any = ctypes.create_string_buffer(count * _NAME)
        fixed = (envelope.head, envelope.port) if envelope else (b"", b"")
        self._constant: Any = ctypes.create_string_buffer(b"".join(fixed) + b"\0")
        many = _PIECES if envelope else 1
        self._tails = (ctypes.c_uint16 * (2 * count))()
        """(length in the net's order of bytes, no checksum) of each slot's UDP header"""
        self._in, self._out = (_Vector * count)(), (_Vector * (count * many))()
        self._came, self._goes = (_Message * count)(), (_Message * count)()
        slots, names = ctypes.addressof(self.slots), ctypes.addressof(self._names)
        tails, constant, head = ctypes.addressof(self._tails), ctypes.addressof(self._constant), len(fixed[0])
        for at in range(count):
            slot, name = slots + at * room, names + at * _NAME
            _point(self._came[at].header, name, self._in, at, ((slot, room),))
            pieces = (
                (constant, head),
                (name + 4, 4),
                (constant + head, 2),
                (name + 2, 2),
                (tails + at * 4, 4),
                (slot, 0),
            )
            _point(self._goes[at].header, name, self._out, at * many, pieces[-many:])
        words = memoryview(self._came).cast("B").cast("I")
        self.lengths = words[_Message.length.offset // 4 :: ctypes.sizeof(_Message) // 4]
        """bytes in each slot after ``receive``"""
        self._sizes = memoryview(self._out).cast("B").cast("P")[2 * many - 1 :: 2 * many]
        self._udp = memoryview(self._tails).cast("B").cast("H")[::2]
        self._first = ctypes.addressof(self._goes)

    def receive(self, sock: int, most: int) -> int:
        """How many datagrams were waiting, at most ``most``; they are in the first slots."""
        return max(0, int(_LIBC.recvmmsg(sock, self._came, most, _NOW, None)))

    def size(self, slot: int, bytes: int) -> None:
        """So long is the answer in that slot."""
        self._sizes[slot] = bytes
        self._udp[slot] = socket.htons(bytes + _UDP)

    def send(self, sock: int, first: int, end: int) -> None:
        """The slots from ``first`` to ``end``, each to whom it came from; in envelopes by a raw socket."""
        message = ctypes.c_void_p(self._first + first * ctypes.sizeof(_Message))
        _LIBC.sendmmsg(sock, message, end - first, _NOW)

    def sender(self, slot: int) -> tuple[str, int]:
        """Whose datagram is in a slot, as Python names it."""
        name = self._names[slot * _NAME : slot * _NAME + 8]
        return socket.inet_ntoa(name[4:8]), int.from_bytes(name[2:4], "big")


def _point(header: Any, name: int, vectors: Any, first: int, pieces: tuple[tuple[int, int], ...]) -> None:
    """A message's header leads to its pieces, (address, bytes) each, in ``vectors`` from ``first`` on."""
    for at, (base, length) in enumerate(pieces, first):
        vectors[at].base, vectors[at].length = base, length
    header.name, header.name_length = name, _NAME
    header.vector, header.vectors = ctypes.addressof(vectors) + first * ctypes.sizeof(_Vector), len(pieces)
