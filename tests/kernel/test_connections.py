"""Connections to a port are cut, and no others."""

import errno
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


def test_those_to_an_address_are_cut_also_while_they_are_tried(pretend_host: PretendHost) -> None:
    pretend_host.open()
    pretend_host.run("ip", "link", "add", "silent", "type", "veth", "peer", "deaf")
    pretend_host.run("ip", "address", "add", "10.77.0.1/24", "dev", "silent")
    for name in ("silent", "deaf"):
        pretend_host.run("ip", "link", "set", name, "up")
    with ExitStack() as stack:
        stays, _ = stack.enter_context(connected(socket.AF_INET, "127.0.0.1", 2378))
        tried = [stack.enter_context(socket.socket()) for _ in range(2)]
        for sock, target in zip(tried, ("10.77.0.2", "10.77.0.3"), strict=True):
            sock.setblocking(False)
            assert sock.connect_ex((target, 80)) == errno.EINPROGRESS
        assert connections.cut_to(["10.77.0.2", "fd00::2"]) == 1
        assert [sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) for sock in tried] == [errno.ECONNABORTED, 0]
        assert stays.getpeername()[1] == 2378
    pretend_host.run("ip", "link", "delete", "silent")
