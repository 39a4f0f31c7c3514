"""The sockets of a DHCP client that lives in somebody else's namespace.

    listen(namespace, interface)         raw: hears and says IPv4 packets before the interface has an address
    say(socket, packet, mac)             to one MAC, or to everybody
    hear(socket)                         an IPv4 packet, whether its checksum is one, and who sent it
    call(namespace, interface, address)  UDP from the lease's own address: the kernel finds the way to the server

A filter in the kernel lets nothing through to the raw socket but datagrams for a
DHCP client, so a busy container costs nothing. It is open only while an answer is
awaited, and so is the other one: a lease at rest has no socket, and the container
has its port 68 for itself.
"""

from __future__ import annotations

import ctypes
import socket
import struct

from fairlead.host.netns import inside

EVERYBODY = b"\xff" * 6
CLIENT_PORT = 68
_ETH_P_IP, _SOL_PACKET, _AUXDATA, _ATTACH_FILTER = 0x0800, 263, 8, 26
_UNFINISHED = 1 << 3
"""TP_STATUS_CSUMNOTREADY: the checksum was left to a card that the packet never meets"""
_LARGEST = 2048

_FILTER = (
    (0x30, 0, 0, 9),  # the protocol
    (0x15, 0, 6, socket.IPPROTO_UDP),  # is UDP
    (0x28, 0, 0, 6),  # the fragment's place
    (0x45, 4, 0, 0x1FFF),  # is the first
    (0xB1, 0, 0, 0),  # behind the head
    (0x48, 0, 0, 2),  # the destination port
    (0x15, 0, 1, CLIENT_PORT),  # is a client's
    (0x06, 0, 0, 0xFFFF),  # take it
    (0x06, 0, 0, 0),  # leave it
)


def listen(namespace: str, interface: str) -> socket.socket:
    """A raw socket on ``interface`` in the namespace at that path; ``OSError`` when either is gone."""
    with inside(namespace):
        # Without a protocol it hears nothing yet: first the filter, then the interface.
        sock = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK, 0)
    try:
        code = b"".join(struct.pack("=HBBI", *step) for step in _FILTER)
        held = ctypes.create_string_buffer(code, len(code))
        sock.setsockopt(socket.SOL_SOCKET, _ATTACH_FILTER, struct.pack("HP", len(_FILTER), ctypes.addressof(held)))
        sock.setsockopt(_SOL_PACKET, _AUXDATA, 1)
        sock.bind((interface, _ETH_P_IP))
    except BaseException:
        sock.close()
        raise
    return sock


def say(sock: socket.socket, packet: bytes, mac: bytes = EVERYBODY) -> None:
    """Put an IPv4 packet on the wire of the socket's interface."""
    sock.sendto(packet, (sock.getsockname()[0], _ETH_P_IP, 0, 0, mac))


def hear(sock: socket.socket) -> tuple[bytes, bool, bytes]:
    """The next packet, whether its UDP checksum can be checked, and the sender's MAC; raises ``BlockingIOError``."""
    packet, notes, _, sender = sock.recvmsg(_LARGEST, socket.CMSG_SPACE(20))
    states = [
        struct.unpack_from("=I", data)[0] for level, kind, data in notes if (level, kind) == (_SOL_PACKET, _AUXDATA)
    ]
    return packet, not any(state & _UNFINISHED for state in states), bytes(sender[4])


def call(namespace: str, interface: str, address: str) -> socket.socket:
    """A UDP socket on the lease's own address; ``OSError`` when the address is gone or the port is the container's."""
    with inside(namespace):
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, interface.encode())
        sock.bind((address, CLIENT_PORT))
    except BaseException:
        sock.close()
        raise
    return sock
