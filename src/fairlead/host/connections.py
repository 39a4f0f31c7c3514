"""Connections of others, cut at once: those to a port of this host, or those of a sandbox to who is gone.

    sock_diag: dump of what leads there --> destroy each, by its addresses and its cookie

``cut`` is for servers that look at a certificate when a connection begins, and never again: who opened one knocks
again, or may not. Who listens goes on listening. ``cut_to`` is for what nothing turns on its way (``host.shortcuts``):
who sends to a task that is gone, or waits for it, hears at once.

Both ends see an error. A kernel that cannot destroy sockets (``CONFIG_INET_DIAG_DESTROY``) says so: then they end when
their owners end them.

Source: linux/inet_diag.h.
"""

from __future__ import annotations

import errno
import ipaddress
import socket
import struct
from collections.abc import Iterable, Iterator

from fairlead.errors import Unavailable
from fairlead.host.netlink import Netlink, Refused, Request, attribute

SOCK_DIAG, BY_FAMILY, DESTROY = 4, 20, 21
ESTABLISHED, SYN_SENT, FIN_WAIT1, FIN_WAIT2, CLOSE_WAIT = 1, 2, 4, 5, 8
STATES = sum(1 << state for state in (ESTABLISHED, FIN_WAIT1, FIN_WAIT2, CLOSE_WAIT))
ALL = 0xFFFFFFFF
ID = slice(4, 52)
"""of ``inet_diag_msg``: ports, addresses, device, cookie"""
_CONDITIONS, _OTHER_END_IS = 1, 8
_FAMILIES = (socket.AF_INET, socket.AF_INET6)
"""a socket of the second may lead to an address of the first"""


def cut(port: int) -> int:
    """TCP connections to that port, in the namespace the calling thread is in; how many. ``Unavailable``: the kernel
    cannot."""
    here = struct.pack(">H", port)
    return _cut([(family, _question(family, STATES, here + bytes(46))) for family in _FAMILIES], here)


def cut_to(addresses: Iterable[str]) -> int:
    """TCP connections with one of these at their other end, also those that are still tried; otherwise as ``cut``."""
    return _cut([question for address in addresses for question in _questions_of(address)])


def check() -> None:
    """``Unavailable`` if the kernel cannot. It is asked to cut one that nobody has."""
    netlink = Netlink.here(SOCK_DIAG)
    try:
        refused = netlink.do([Request(DESTROY, 0, _question(socket.AF_INET, ALL, bytes(48)))])
    finally:
        netlink.close()
    for error in refused.values():
        if error.errno != errno.ENOENT:
            raise Unavailable(f"the kernel cuts no connections: {error}")


def _cut(questions: Iterable[tuple[int, bytes]], here: bytes = b"") -> int:
    """What the answers tell of. ``here``: where they begin."""
    netlink = Netlink.here(SOCK_DIAG)
    try:
        doomed = [
            Request(DESTROY, 0, _question(family, ALL, found[ID]))
            for family, question in questions
            for found in netlink.dump(BY_FAMILY, question)
            if found[ID].startswith(here)
        ]
        refused = [error for error in netlink.do(doomed).values() if error.errno != errno.ENOENT]  # it went by itself
        if refused:
            raise refused[0]
        return len(doomed)
    except Refused as refusal:
        raise Unavailable(f"the kernel cuts no connections: {refusal}") from None
    finally:
        netlink.close()


def _questions_of(address: str) -> Iterator[tuple[int, bytes]]:
    """The kernel is given one condition, and passes over whatever does not meet it."""
    end = ipaddress.ip_address(address)
    family, bits = (socket.AF_INET, 32) if end.version == 4 else (socket.AF_INET6, 128)
    condition = struct.pack("=BBxxi", family, bits, -1) + end.packed
    size = 4 + len(condition)
    only = attribute(_CONDITIONS, struct.pack("=BBH", _OTHER_END_IS, size, size + 4) + condition)
    for kind in _FAMILIES[end.version == 6 :]:
        yield kind, _question(kind, STATES | 1 << SYN_SENT, bytes(48)) + only


def _question(family: int, states: int, id: bytes) -> bytes:
    """``inet_diag_req_v2``."""
    return struct.pack("=BBxxI", family, socket.IPPROTO_TCP, states) + id
