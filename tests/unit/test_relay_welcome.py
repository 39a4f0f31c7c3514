"""The relay answers before it accepts: whoever comes in between waits in the port's queue and is served."""

import errno
import select
import socket
from collections.abc import Callable, Iterator

import pytest

from fairlead.engine.loop import READ, Loop
from fairlead.engine.relay import Relay


class Turns(Loop):
    """A loop that goes on by hand. ``room``: how many more sockets it may watch."""

    def __init__(self) -> None:
        super().__init__()
        self.room = 100

    def watch(self, sock: socket.socket, handler: Callable[[], None], mask: int = READ) -> None:
        if not self.room:
            raise OSError(errno.ENOSPC, "No space left on device")
        self.room -= 1
        super().watch(sock, handler, mask)

    def turn(self) -> None:
        """What is due and what is ready, once."""
        self._due()
        for number, _ in self._poll.poll(0):
            self._handlers[number]()

    def until(self, what: Callable[[], object]) -> None:
        """A few seconds at most."""
        end = self.now() + 5
        while not what():
            assert self.now() < end
            self.turn()


@pytest.fixture
def server() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(5)
        yield server


def opened(relay: Relay, server: socket.socket, *ids: str) -> list[int]:
    target, port = server.getsockname()
    entry = {"protocol": "tcp", "address": "127.0.0.1", "port": 0, "target": target, "target_port": port}
    answer = relay.open({"ports": [{"id": id, **entry} for id in ids]})
    assert answer["failed"] == {}
    return [answer["ports"][id] for id in ids]


def test_who_comes_before_the_relay_looks_is_served(server: socket.socket) -> None:
    loop = Turns()
    relay = Relay(loop)
    (port,) = opened(relay, server, "p")
    with socket.create_connection(("127.0.0.1", port), 5) as client:
        client.sendall(b"early")
        loop.until(lambda: relay.statistics({})["connections"])
        peer, _ = server.accept()
        with peer:
            loop.until(lambda: select.select([peer], [], [], 0)[0])
            assert peer.recv(10) == b"early"
    relay.close({"ids": ["p"]})


def test_a_port_that_is_given_up_before_the_relay_looks_is_in_nobodys_way(server: socket.socket) -> None:
    loop = Turns()
    relay = Relay(loop)
    _, port = opened(relay, server, "gone", "stays")
    relay.close({"ids": ["gone"]})
    loop.until(lambda: loop._handlers)
    assert len(loop._handlers) == 1
    with socket.create_connection(("127.0.0.1", port), 5):
        loop.until(lambda: relay.statistics({})["connections"])
    relay.close({"ids": ["stays"]})


def test_without_room_to_watch_a_port_is_kept_and_watched_later(
    server: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fairlead.engine.relay._PAUSE", 0.001)
    loop = Turns()
    relay = Relay(loop)
    loop.room = 0
    (port,) = opened(relay, server, "p")
    with socket.create_connection(("127.0.0.1", port), 5):
        loop.until(lambda: not relay._fresh)
        assert not loop._handlers
        loop.room = 100
        loop.until(lambda: relay.statistics({})["connections"])
    relay.close({"ids": ["p"]})


def test_a_socket_that_the_kernel_would_not_watch_is_not_taken_for_watched() -> None:
    loop = Loop()
    with socket.socket() as sock:
        sock.close()
        with pytest.raises((OSError, ValueError)):
            loop.watch(sock, lambda: None)
    assert not loop._handlers
