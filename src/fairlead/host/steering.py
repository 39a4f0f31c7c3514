"""Steering: what a container asks at 127.0.0.11:53 comes to sockets that stand elsewhere, and no packet is touched.

    getaddrinfo --> 127.0.0.11:53 --"whose socket is it?"--> our program: 127.0.0.11:53? the resolver's
                                                             else: whoever listens there
    the resolver --a packet made whole, from port 53--> the client

The kernel looks for a packet's socket by address and port. Before it looks among those that listen, it asks a program
of the namespace (BPF, ``sk_lookup``). Ours knows two sockets, one for UDP and one for TCP, which stand on ports that
the kernel chose. A connection over TCP that came so has port 53 for both ends. An answer over UDP would leave from the
socket's own port, so it goes out by a third socket, which is given whole packets (``IPPROTO_RAW``).

Rules
    1. One address, one port, and only what comes by ``lo`` (number 1 in every namespace): a server of the container's
       own on port 53 of any other address, or of all of them, is left alone. A neighbour asks nobody's resolver.
    2. It stands as long as the resolver holds the link. Gone with it: port 53 is closed then, and says so.

What it leaves behind on failure: nothing. What it does not do: answer. Needs: Linux 5.17 with CONFIG_BPF_SYSCALL.

Source: Documentation/bpf/prog_sk_lookup.rst. Why so: docs/why/names-without-nat.md.
"""

from __future__ import annotations

import os
import socket
import struct
from contextlib import ExitStack

from fairlead.core import bpf as lines
from fairlead.host import bpf, netns

_FAMILY, _PROTOCOL, _LOCAL4, _LOCAL_PORT, _DEVICE = 8, 12, 40, 60, 64
"""offsets in struct bpf_sk_lookup (linux/bpf.h)"""
_LOOPBACK = 1
_UDP, _TCP = 0, 1
"""places in the map"""
_ELEMENT, _RELEASE, _ASSIGN = 1, 86, 124
"""helpers: bpf_map_lookup_elem, bpf_sk_release, bpf_sk_assign"""
_PASS = 1
_WAITING = 128


class Door:
    """Where the questions of one namespace come in, and answers go out."""

    def __init__(self, udp: socket.socket, tcp: socket.socket, out: socket.socket, link: int) -> None:
        self.udp, self.tcp, self.out = udp, tcp, out
        self._link = link

    def close(self) -> None:
        """Questions find nobody from now on."""
        if self._link >= 0:
            os.close(self._link)
            self._link = -1
        for end in (self.udp, self.tcp, self.out):
            end.close()


def open_door(path: str, address: str, port: int) -> Door:
    """Stand for ``address``:``port`` in the namespace at ``path``; sockets do not block.

    ``Unsupported`` where the kernel has no BPF for us, ``OSError`` where it has no room.
    """
    with ExitStack() as undo, open(path) as there, netns.inside(there.fileno()):
        udp = undo.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK))
        tcp = undo.enter_context(socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_NONBLOCK))
        out = undo.enter_context(
            socket.socket(socket.AF_INET, socket.SOCK_RAW | socket.SOCK_NONBLOCK, socket.IPPROTO_RAW)
        )
        udp.bind((address, 0))
        tcp.bind((address, 0))
        tcp.listen(_WAITING)
        link = _steer(address, port, there.fileno(), udp.fileno(), tcp.fileno())
        undo.pop_all()
    return Door(udp, tcp, out, link)


def _steer(address: str, port: int, namespace: int, udp: int, tcp: int) -> int:
    """The link: what is asked there, in that namespace, comes to these sockets."""
    with ExitStack() as undo:

        def held(descriptor: int) -> int:
            undo.callback(os.close, descriptor)
            return descriptor

        sockets = held(bpf.make_map(bpf.SOCKMAP, 4, 8, 2))
        for place, end in ((_UDP, udp), (_TCP, tcp)):
            bpf.put(sockets, struct.pack("=I", place), struct.pack("=Q", end))
        program = held(bpf.load(bpf.PROGRAM_SK_LOOKUP, bpf.AT_SK_LOOKUP, _program(address, port, sockets)))
        return bpf.attach(program, namespace, bpf.AT_SK_LOOKUP)


def _program(address: str, port: int, sockets: int) -> bytes:
    (number,) = struct.unpack("=i", socket.inet_aton(address))
    others = "somebody else's"
    return lines.assemble(
        lines.copy(6, 1),
        lines.load(2, 6, _FAMILY),
        lines.unless(2, socket.AF_INET, others),
        lines.load(2, 6, _LOCAL_PORT),
        lines.unless(2, port, others),
        lines.load(2, 6, _LOCAL4),
        lines.unless(2, number, others),
        lines.load(2, 6, _DEVICE),
        lines.unless(2, _LOOPBACK, others),
        lines.number(3, _UDP),
        lines.load(2, 6, _PROTOCOL),
        lines.when(2, socket.IPPROTO_UDP, "known"),
        lines.number(3, _TCP),
        lines.label("known"),
        lines.store(10, -4, 3),
        lines.map_at(1, sockets),
        lines.copy(2, 10),
        lines.add(2, -4),
        lines.call(_ELEMENT),
        lines.null(0, others),
        lines.copy(7, 0),
        lines.copy(1, 6),
        lines.copy(2, 7),
        lines.number(3, 0),
        lines.call(_ASSIGN),
        lines.copy(1, 7),
        lines.call(_RELEASE),
        lines.label(others),
        lines.number(0, _PASS),
        lines.leave(),
    )
