"""Connections to a port are cut, and no others."""

import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest

from fairlead.host import connections
from lane.pretend import PretendHost

pytestmark = pytest.mark.kernel


@contextmanager
def connected(family: socket.AddressFamily, address: str, port: int) -> Iterator[tuple[socket.socket, socket.socket]]:
    """Who called, and who was called."""
    with socket.socket(family) as listening:
        listening.bind((address, port))
        listening.listen()
        with socket.create_connection((address, port)) as caller:
            called, _ = listening.accept()
            with called:
                yield caller, called
                with socket.create_connection((address, port)):  # who listens goes on
                    pass


def test_those_to_the_port_alone_are_cut(pretend_host: PretendHost) -> None:
    pretend_host.open()
    with ExitStack() as stack:
        places = [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")]
        doomed = [stack.enter_context(connected(*place, 2378)) for place in places]
        others = [stack.enter_context(connected(*place, 2377)) for place in places]
        assert connections.cut(2378) == 2
        for caller, called in doomed:
            with pytest.raises(ConnectionError):
                called.recv(1)
            with pytest.raises(ConnectionError):
                caller.recv(1)
        for caller, called in others:
            caller.sendall(b"x")
            assert called.recv(1) == b"x"
        assert connections.cut(2378) == 0
