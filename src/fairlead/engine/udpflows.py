"""UDP clients of one relayed port: a socket towards the target for each, forgotten after a silence.

    client A --> our port --> socket A --> target
             <--          <--          <--          from the address A wrote to

On a wildcard address the kernel would choose the source of an answer by its
routes, and a client on another of our addresses would not recognise it; so we
ask where each datagram was sent to (IP_PKTINFO) and answer from there.
"""

from __future__ import annotations

import socket
import struct
from _socket import socket as Bare
from typing import Any

from fairlead.engine.loop import Loop, Timer

FLOWS = 1024
FLOW_IDLE = 90.0
_BURST = 64
_SIZE = 65535
_PKTINFO4, _RECVPKTINFO6, _PKTINFO6 = 8, 49, 50
_ROOM = socket.CMSG_SPACE(20)


class _Flow:
    """One client: its socket towards the target, and how to answer it."""

    __slots__ = ("active", "back", "client", "sock")

    def __init__(self, sock: socket.socket, client: Any, back: list[tuple[int, int, bytes]], now: float) -> None:
        self.sock, self.client, self.back, self.active = sock, client, back, now


class Flows:
    """All flows of one port."""

    def __init__(self, loop: Loop, sock: Bare, target: tuple[str, int]) -> None:
        self._loop, self._sock, self._target = loop, sock, target
        self._flows: dict[Any, _Flow] = {}
        """oldest activity first"""
        self._timer: Timer | None = None
        if sock.family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, _RECVPKTINFO6, 1)
        else:
            sock.setsockopt(socket.IPPROTO_IP, _PKTINFO4, 1)

    def __len__(self) -> int:
        return len(self._flows)

    def ready(self) -> None:
        """Datagrams from clients."""
        for _ in range(_BURST):
            try:
                data, said, _, client = self._sock.recvmsg(_SIZE, _ROOM)
            except OSError:
                return
            key = (client, *(item[2] for item in said))
            flow = self._flows.pop(key, None)
            if flow is None:
                try:
                    flow = self._open(client, [_back(*item) for item in said], key)
                except OSError:
                    continue
            self._flows[key] = flow
            flow.active = self._loop.now()
            try:
                flow.sock.send(data)
            except OSError:
                continue

    def _open(self, client: Any, back: list[tuple[int, int, bytes]], key: Any) -> _Flow:
        if len(self._flows) >= FLOWS:
            self._drop(next(iter(self._flows)))
        sock = socket.socket(socket.AF_INET6 if ":" in self._target[0] else socket.AF_INET, socket.SOCK_DGRAM)
        try:
            sock.setblocking(False)
            sock.connect(self._target)
        except BaseException:
            sock.close()
            raise
        flow = _Flow(sock, client, back, self._loop.now())
        self._loop.watch(sock, lambda: self._answer(flow, key))
        if self._timer is None:
            self._timer = self._loop.later(FLOW_IDLE, self._sweep)
        return flow

    def _answer(self, flow: _Flow, key: Any) -> None:
        """Datagrams from the target."""
        if key in self._flows:
            self._flows[key] = self._flows.pop(key)
        flow.active = self._loop.now()
        for _ in range(_BURST):
            try:
                data = flow.sock.recv(_SIZE)
            except BlockingIOError:
                return
            except OSError:
                continue  # the target's port is closed: it may open again
            try:
                self._sock.sendmsg([data], flow.back, 0, flow.client)
            except OSError:
                continue

    def _sweep(self) -> None:
        self._timer = None
        now = self._loop.now()
        while self._flows:
            key, flow = next(iter(self._flows.items()))
            if flow.active + FLOW_IDLE > now:
                self._timer = self._loop.later(flow.active + FLOW_IDLE - now, self._sweep)
                return
            self._drop(key)

    def _drop(self, key: Any) -> None:
        flow = self._flows.pop(key)
        self._loop.unwatch(flow.sock)
        flow.sock.close()

    def close(self) -> None:
        for key in tuple(self._flows):
            self._drop(key)
        if self._timer is not None:
            self._timer.cancel()


def _back(level: int, kind: int, data: bytes) -> tuple[int, int, bytes]:
    """The control message that makes an answer leave from where the question arrived."""
    if level == socket.IPPROTO_IP and kind == _PKTINFO4:
        _, _, address = struct.unpack("i4s4s", data)
        return level, kind, struct.pack("i4s4s", 0, address, b"\0" * 4)
    address6, index = struct.unpack("16sI", data)
    link_local = address6[0] == 0xFE and address6[1] & 0xC0 == 0x80
    return level, _PKTINFO6, struct.pack("16sI", address6, index if link_local else 0)
