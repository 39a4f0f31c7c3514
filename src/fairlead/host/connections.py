"""Connections that others opened to a port of this host, cut at once: who opened them knocks again, or may not.

    sock_diag: dump of what leads to the port --> destroy each, by its addresses and its cookie

It is for servers that look at a certificate when a connection begins, and never again. Both ends see a reset. Who
listens goes on listening. A kernel that cannot destroy sockets (``CONFIG_INET_DIAG_DESTROY``) says so: then they end
when their owners end them.
"""

from __future__ import annotations

import errno
import socket
import struct

from fairlead.errors import Unavailable
from fairlead.host.netlink import Netlink, Refused, Request

SOCK_DIAG, BY_FAMILY, DESTROY = 4, 20, 21
ESTABLISHED, FIN_WAIT1, FIN_WAIT2, CLOSE_WAIT = 1, 4, 5, 8
STATES = sum(1 << state for state in (ESTABLISHED, FIN_WAIT1, FIN_WAIT2, CLOSE_WAIT))
ALL = 0xFFFFFFFF
ID = slice(4, 52)
"""of ``inet_diag_msg``: ports, addresses, device, cookie"""


def cut(port: int) -> int:
    """TCP connections to that port, in the namespace the calling thread is in; how many. ``Unavailable``: the kernel
    cannot."""
    netlink = Netlink.here(SOCK_DIAG)
    try:
        doomed = [
            Request(DESTROY, 0, _question(family, ALL, found[ID]))
            for family in (socket.AF_INET, socket.AF_INET6)
            for found in netlink.dump(BY_FAMILY, _question(family, STATES, struct.pack(">H46x", port)))
            if found[ID][:2] == struct.pack(">H", port)
        ]
        refused = [error for error in netlink.do(doomed).values() if error.errno != errno.ENOENT]  # it went by itself
        if refused:
            raise refused[0]
        return len(doomed)
    except Refused as refusal:
        raise Unavailable(f"the kernel cuts no connections: {refusal}") from None
    finally:
        netlink.close()


def _question(family: int, states: int, id: bytes) -> bytes:
    """``inet_diag_req_v2``."""
    return struct.pack("=BBxxI", family, socket.IPPROTO_TCP, states) + id
