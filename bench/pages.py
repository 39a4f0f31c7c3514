"""Short requests: an HTTP server that answers at once, and a client that asks again as soon as it has an answer.

client    ``ASKERS`` connections that stay open, one request under way on each:  rate, and the p99 of what each took
server    two bytes for whatever is asked

Connections are kept, as browsers and proxies keep them: what a new one costs is measured by itself (``paths.knock``).
"""

import selectors
import socket
import time
from statistics import quantiles
from typing import Any

from bench.paths import PORT

PAGES = PORT + 3
ASKERS = 8
ROOM = 4096
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 2\r\n\r\nok"
NAME = "bench.example.com"
"""what leads to it where many are behind one port"""


def serve() -> None:
    """For ever. A request fits into one read, and is one."""
    chooser = selectors.DefaultSelector()
    door = socket.create_server(("0.0.0.0", PAGES), backlog=1024)
    chooser.register(door, selectors.EVENT_READ)
    while True:
        for key, _ in chooser.select():
            if key.fileobj is door:
                peer, _ = door.accept()
                peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                chooser.register(peer, selectors.EVENT_READ)
                continue
            peer = key.fileobj  # type: ignore[assignment]
            try:
                if peer.recv(ROOM):
                    peer.send(ANSWER)
                    continue
            except OSError:
                pass  # who went away with a reset
            chooser.unregister(peer)
            peer.close()


def ask(address: str, port: int, seconds: float) -> dict[str, Any]:
    """Requests per second, and microseconds that one in a hundred exceeds."""
    request = f"GET / HTTP/1.1\r\nHost: {NAME}\r\n\r\n".encode()
    chooser = selectors.DefaultSelector()
    since: dict[socket.socket, float] = {}
    for _ in range(ASKERS):
        peer = socket.create_connection((address, port), 5)
        peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        chooser.register(peer, selectors.EVENT_READ, peer)
    begun = time.perf_counter()
    for key in chooser.get_map().values():
        since[key.data] = time.perf_counter()
        key.data.send(request)
    took: list[float] = []
    while (now := time.perf_counter()) < begun + seconds:
        for key, _ in chooser.select(5):
            answer = key.data.recv(ROOM)
            assert answer.startswith(b"HTTP/1.1 200") and answer.endswith(b"ok"), answer
            now = time.perf_counter()
            took.append(now - since[key.data])
            since[key.data] = now
            key.data.send(request)
    for peer in since:
        peer.close()
    return {"rate": len(took) / (now - begun), "p99": quantiles(took, n=100)[-1] * 1e6}
