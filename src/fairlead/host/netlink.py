"""Netlink: messages for the kernel as bytes, many in one send.

    requests --send (one sendmsg)--> kernel works them off, in order, before send returns
                                     |
             <--one recv-------------+  an error for each that was refused, an ACK for the last

Waiting for each answer in turn is the difference between one and thirty
milliseconds an endpoint, and a library that models every message costs three
more; so this file knows the frame of a message and nothing of its meaning
(``links`` and ``routing`` know that).

Rules
    1. The kernel works a batch off inside one system call: a process that is
       killed leaves either nothing or the whole batch.
    2. The kernel goes on after a refusal. So nothing in a batch may be harmful when
       an earlier message of it was refused; ``do`` reports every refusal.
    3. A socket belongs to the namespace in which it was opened, whichever
       thread uses it later. It is not for two threads at once.
    4. A dump that the kernel calls inconsistent is asked again.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
import sys
from collections.abc import Iterator, Sequence

import msgspec

REQUEST, ACK, REPLACE, EXCL, CREATE, APPEND, DUMP = 0x1, 0x4, 0x100, 0x200, 0x400, 0x800, 0x300
NLMSG_ERROR, NLMSG_DONE = 2, 3
CAPPED, ACK_TLVS, DUMP_INTERRUPTED = 0x100, 0x200, 0x10
NESTED = 0x8000

SOL_NETLINK, CAP_ACK, EXT_ACK, STRICT_CHECK = 270, 10, 11, 12
_NAMESPACE_COOKIE = 71
ROUTE, NETFILTER = 0, 12

CHUNK = 64
"""Messages in one send; their errors must fit the socket's receive buffer."""


class Refused(Exception):
    """The kernel said no: ``errno`` and, if it gave one, its own sentence."""

    def __init__(self, number: int, sentence: str = "") -> None:
        super().__init__(sentence or os.strerror(number))
        self.errno = number


class Request(msgspec.Struct, frozen=True):
    """One message without its header's numbers: type, flags besides REQUEST, everything after the header."""

    kind: int
    flags: int
    body: bytes


_ATTRIBUTE = struct.Struct("=HH").unpack_from


def attribute(kind: int, data: bytes) -> bytes:
    size = 4 + len(data)
    return struct.pack("=HH", size, kind) + data + b"\0" * (-size % 4)


def text(kind: int, value: str) -> bytes:
    return attribute(kind, value.encode() + b"\0")


def u8(kind: int, value: int) -> bytes:
    return struct.pack("=HHB3x", 5, kind, value)


def u16(kind: int, value: int) -> bytes:
    return struct.pack("=HHH2x", 6, kind, value)


def u32(kind: int, value: int) -> bytes:
    return struct.pack("=HHI", 8, kind, value)


def nested(kind: int, *parts: bytes) -> bytes:
    return attribute(kind | NESTED, b"".join(parts))


def attributes(data: bytes, offset: int = 0) -> dict[int, bytes]:
    """Attributes by kind; the last of a kind wins."""
    found = {}
    end = len(data) - 3
    while offset < end:
        size, kind = _ATTRIBUTE(data, offset)
        if size < 4:
            break
        found[kind & 0x3FFF] = data[offset + 4 : offset + size]
        offset += (size + 3) & ~3
    return found


def string(data: bytes) -> str:
    return data.rstrip(b"\0").decode(errors="replace")


def family_of(text: str) -> int:
    """AF_INET or AF_INET6, of an address or prefix."""
    return socket.AF_INET6 if ":" in text else socket.AF_INET


class Netlink:
    """One socket of one namespace."""

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        self._sequence = 0
        sock.setsockopt(SOL_NETLINK, CAP_ACK, 1)
        sock.setsockopt(SOL_NETLINK, EXT_ACK, 1)
        if sock.proto == ROUTE:
            sock.setsockopt(SOL_NETLINK, STRICT_CHECK, 1)
        sock.bind((0, 0))
        self.port = int(sock.getsockname()[0])
        """the number by which notifications tell who caused them"""

    @classmethod
    def here(cls, protocol: int = ROUTE) -> Netlink:
        """A socket of the namespace the calling thread is in."""
        return cls(socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, protocol))

    @property
    def cookie(self) -> int:
        """The number of its namespace, which no other ever has; ``OSError`` before Linux 5.14."""
        return int.from_bytes(self._socket.getsockopt(socket.SOL_SOCKET, _NAMESPACE_COOKIE, 8), sys.byteorder)

    def close(self) -> None:
        self._socket.close()

    def do(self, requests: Sequence[Request]) -> dict[int, Refused]:
        """Have all of them worked off in order; returns the refused ones by their position."""
        refused: dict[int, Refused] = {}
        for start in range(0, len(requests), CHUNK):
            chunk = requests[start : start + CHUNK]
            first = self._send(chunk)
            last = first + len(chunk) - 1
            for kind, flags, sequence, payload in self._receive(first, last):
                if kind == NLMSG_ERROR and (refusal := _refusal(payload, flags)):
                    refused[start + sequence - first] = refusal
                if kind == NLMSG_ERROR and sequence == last:
                    break
        return refused

    def transact(self, requests: Sequence[Request]) -> Refused | None:
        """One transaction of netfilter's, from its beginning to its end, in one send; why nothing of it was done, or
        None. The last message before the end is the one that asks to be acknowledged."""
        first = self._send(requests, acknowledge=False)
        last = first + len(requests) - 2
        refused = None
        for kind, flags, sequence, payload in self._receive(first, last):
            if kind == NLMSG_ERROR:
                refused = refused or _refusal(payload, flags)
                # A refused beginning is the end: the kernel read no further.
                if sequence in (first, last):
                    break
        return refused

    def ask(self, requests: Sequence[Request]) -> list[bytes | Refused]:
        """One answer for each request (not dumps): the body of what came back, or the refusal."""
        answers: list[bytes | Refused] = []
        for start in range(0, len(requests), CHUNK):
            chunk = requests[start : start + CHUNK]
            first = self._send(chunk)
            last = first + len(chunk) - 1
            found: dict[int, bytes | Refused] = {}
            for kind, flags, sequence, payload in self._receive(first, last):
                if kind == NLMSG_ERROR:
                    if refusal := _refusal(payload, flags):
                        found[sequence] = refusal
                    if sequence == last:
                        break
                else:
                    found[sequence] = payload
            answers += [found.get(number, Refused(errno.ENOENT)) for number in range(first, last + 1)]
        return answers

    def dump(self, kind: int, body: bytes, tries: int = 5) -> list[bytes]:
        """Bodies of everything of a kind."""
        for attempt in range(tries):
            found, interrupted = [], False
            first = self._send([Request(kind, DUMP, body)], acknowledge=False)
            for what, flags, _, payload in self._receive(first, first):
                interrupted = interrupted or bool(flags & DUMP_INTERRUPTED)
                if what == NLMSG_DONE:
                    break
                if what == NLMSG_ERROR:
                    if refusal := _refusal(payload, flags):
                        raise refusal
                    break
                found.append(payload)
            if not interrupted or attempt == tries - 1:
                break
        return found

    def _send(self, chunk: Sequence[Request], acknowledge: bool = True) -> int:
        first = self._sequence + 1
        self._sequence += len(chunk)
        parts = []
        for number, asked in enumerate(chunk, first):
            flags = REQUEST | asked.flags
            if acknowledge and number == self._sequence:
                flags |= ACK
            parts.append(struct.pack("=IHHII", 16 + len(asked.body), asked.kind, flags, number, 0) + asked.body)
            if trailing := -len(asked.body) % 4:
                parts.append(b"\0" * trailing)
        self._socket.send(b"".join(parts))
        return first

    def _receive(self, first: int, last: int) -> Iterator[tuple[int, int, int, bytes]]:
        """(type, flags, sequence, body) of every answer to these numbers, until the caller has enough."""
        while True:
            data = self._socket.recv(1 << 17)
            offset = 0
            while offset + 16 <= len(data):
                size, kind, flags, sequence, _ = struct.unpack_from("=IHHII", data, offset)
                if first <= sequence <= last:
                    yield kind, flags, sequence, data[offset + 16 : offset + size]
                offset += (size + 3) & ~3


def _refusal(payload: bytes, flags: int) -> Refused | None:
    """The refusal in an NLMSG_ERROR, None if it is an ACK; the kernel's sentence follows the echoed request."""
    number = -struct.unpack_from("=i", payload)[0]
    if not number:
        return None
    sentence = ""
    if flags & ACK_TLVS:
        echoed = 16 if flags & CAPPED else struct.unpack_from("=I", payload, 4)[0]
        sentence = string(attributes(payload, 4 + ((echoed + 3) & ~3)).get(1, b""))
    return Refused(number, sentence)
