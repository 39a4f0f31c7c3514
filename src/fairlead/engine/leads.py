"""Where a relayed TCP port leads: to one target, or to one of a service's tasks; what the task is told of its client.

    client 192.0.2.7 --> port 8080 of this node --choose--> 10.0.0.5:80  "PROXY v2, 192.0.2.7:40000 to 192.0.2.9:8080"

A lead is chosen as the kernel's maps choose: by weight at random, in turn, or by the client's address (the same one on
every node). The header is version 2 of haproxy's PROXY protocol: binary, before the first byte of the connection.
"""

import ipaddress
import os
import socket
import zlib
from collections.abc import Iterable
from typing import NamedTuple, Self

_SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"
_PROXIED = 0x21
"""version 2, and there is a client"""
_TCP = {4: 0x11, 6: 0x21}


class Lead(NamedTuple):
    """``proxied``: it wants the header."""

    address: str
    port: int
    weight: int = 1
    proxied: bool = False

    def choose(self, client: str) -> Self:
        """There is no other."""
        return self


class Leads:
    """``policy``: as ``core.serving.POLICIES``."""

    def __init__(self, leads: Iterable[Lead], policy: str = "") -> None:
        self.all = tuple(leads)
        self.policy, self._turn = policy, 0
        self._places = [lead for lead in self.all for _ in range(lead.weight)]

    def choose(self, client: str) -> Lead | None:
        """For a client's address; None: there is nobody."""
        if not self._places:
            return None
        if self.policy == "source":
            number = zlib.crc32(ipaddress.ip_address(client.partition("%")[0]).packed)
        elif self.policy == "round-robin":
            number = self._turn = self._turn + 1
        else:
            number = int.from_bytes(os.urandom(4), "big")
        return self._places[number % len(self._places)]


def header(connection: socket.socket) -> bytes:
    """About a connection that came in."""
    (client, client_port, *_), (own, own_port, *_) = connection.getpeername(), connection.getsockname()
    ends = [ipaddress.ip_address(text.partition("%")[0]) for text in (client, own)]
    body = b"".join(end.packed for end in ends) + b"".join(port.to_bytes(2, "big") for port in (client_port, own_port))
    return _SIGNATURE + bytes((_PROXIED, _TCP[ends[0].version])) + len(body).to_bytes(2, "big") + body
