"""Short cuts at connect(): that they are taken, that nobody sees it, and what is there when they are not.

client (10.0.0.2)  web1 (.3)  web2 (.4)  web3 (.5)    as in ``test_vips``, which runs on both roads
"""

import errno
import logging
import os
import socket
from pathlib import Path

import pytest

from fairlead.core.wanted import HOST, Namespace
from fairlead.host import bpf, connections, shortcuts
from fairlead.host.linux import LinuxHost
from fairlead.host.netns import inside, socket_in
from kernel.test_vips import GROUND, PORT, SHORT, VIRTUAL, Listeners, address, call, host, listeners, shares, vip
from lane.pretend import PretendHost

__all__ = ["host", "listeners"]
pytestmark = [pytest.mark.kernel, pytest.mark.parametrize("host", [SHORT], indirect=True)]


def turned(host: LinuxHost, sock: socket.socket) -> bool:
    """Whether its packets are for the service's address when they set out."""
    source = f"sport={sock.getsockname()[1]}"
    with inside(host.namespace_path("s2")):
        flows = Path("/proc/thread-self/net/nf_conntrack").read_text().splitlines()
    (flow,) = (line.split() for line in flows if source in line.split())
    return any(word in flow for word in (f"dst={VIRTUAL[4]}", "dst=fd00:0000:0000:0000:0000:0000:0000:0099"))


def called(host: LinuxHost, kind: socket.AddressFamily, target: str) -> socket.socket:
    sock = socket_in(host.namespace_path("s2"), kind, socket.SOCK_STREAM)
    sock.settimeout(5)
    sock.connect((target, PORT))
    return sock


WAYS = [
    (socket.AF_INET, VIRTUAL[4], 4),
    (socket.AF_INET6, VIRTUAL[6], 6),
    (socket.AF_INET6, f"::ffff:{VIRTUAL[4]}", 4),
]


@pytest.mark.parametrize(("kind", "target", "family"), WAYS)
def test_no_packet_is_turned_and_nobody_sees_it(
    host: LinuxHost, listeners: Listeners, kind: socket.AddressFamily, target: str, family: int
) -> None:
    host.make([vip((3, 1), family=family)])
    with called(host, kind, target) as sock:
        assert sock.getpeername()[:2] == (target, PORT)
        assert not turned(host, sock)
        number, there, peer = listeners.accepted()
        assert (number, peer.removeprefix("::ffff:")) == (3, address(2, family))
        there.close()
    with called(host, kind, target.replace("99", "3")) as sock:
        assert sock.getpeername()[0] == target.replace("99", "3"), "who calls the task itself sees the task"


def test_a_socket_that_was_led_once_and_calls_somebody_else(host: LinuxHost, listeners: Listeners) -> None:
    host.make([vip((3, 1))])
    with socket_in(host.namespace_path("s2"), socket.AF_INET, socket.SOCK_STREAM) as sock:
        assert sock.connect_ex((VIRTUAL[4], PORT + 1)) == errno.ECONNREFUSED
        sock.connect((address(4), PORT))
        assert sock.getpeername() == (address(4), PORT)


@pytest.mark.parametrize("family", [4, 6])
def test_in_turn_and_by_chance_and_by_weight(host: LinuxHost, listeners: Listeners, family: int) -> None:
    host.make([vip((3, 1), (4, 2), family=family, policy="round-robin")])
    assert shares(host, listeners, 30, family) == {3: 10, 4: 20}
    with call(host, family) as sock:
        assert not turned(host, sock)


def test_other_namespaces_have_their_own(pretend_host: PretendHost, host: LinuxHost, listeners: Listeners) -> None:
    host.make([vip((3, 1)), vip((4, 1), ns="s5")])
    assert shares(host, listeners, 5) == {3: 5}
    assert shares(host, listeners, 5, ns="s5") == {4: 5}
    pretend_host.run("ip", "route", "add", "unreachable", VIRTUAL[4], ns="s4")
    with pytest.raises(OSError) as refusal:
        call(host, ns="s4")
    assert refusal.value.errno == errno.EHOSTUNREACH


@pytest.mark.parametrize("more", [vip((3, 1), policy="source"), vip(*((n % 3 + 3, n % 7 + 1) for n in range(99)))])
def test_what_is_not_for_it_goes_by_the_table(host: LinuxHost, listeners: Listeners, more: object) -> None:
    """Also what was for it a moment ago."""
    host.make([vip((3, 1))])
    host.make([more])
    with call(host) as sock:
        assert turned(host, sock) and sock.getpeername() == (VIRTUAL[4], PORT)


def test_a_change_that_is_refused_leaves_the_table_to_decide(
    host: LinuxHost, listeners: Listeners, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The map must not say what the table does not."""
    host.make([vip((3, 1))])
    monkeypatch.setattr("fairlead.host.vips._told", lambda *_: (_ for _ in ()).throw(ValueError("no")))
    with pytest.raises(ValueError, match="no"):
        host.make([vip((4, 1))])
    with call(host) as sock:
        assert turned(host, sock) and listeners.accepted()[0] == 3


def test_the_engine_ends_and_comes_back(pretend_host: PretendHost, host: LinuxHost, listeners: Listeners) -> None:
    host.make([vip((3, 1))])
    before = call(host)
    _, there, _ = listeners.accepted()
    host._doors.shortcuts.close()
    with call(host) as sock:
        assert turned(host, sock), "the table stands"
    before.send(b"still here")
    there.settimeout(5)
    assert there.recv(100) == b"still here"
    assert before.getpeername()[0] == address(3), "what nobody keeps is not known"
    again = LinuxHost(pretend_host.root)
    again.look([*GROUND, vip((3, 1))])
    with call(host) as sock:
        assert not turned(host, sock), "what is looked at and stands is led again"
    again.close()
    with call(host) as sock:
        assert turned(host, sock)
    for sock in (before, there):
        sock.close()


def test_looking_does_not_change_whose_turn_it_is(host: LinuxHost, listeners: Listeners) -> None:
    wanted = vip((3, 1), (4, 1), (5, 1), policy="round-robin")
    host.make([wanted])
    (first,) = shares(host, listeners, 1)
    host.look([wanted])
    (second,) = shares(host, listeners, 1)
    assert second != first


def test_of_a_namespace_that_is_gone_nothing_is_left(host: LinuxHost, monkeypatch: pytest.MonkeyPatch) -> None:
    host.make([Namespace(name="s9"), vip((3, 1), ns="s9"), vip((3, 1), ns="s2")])
    taken: list[bytes] = []
    take = bpf.take
    monkeypatch.setattr(bpf, "take", lambda table, key: (taken.append(key), take(table, key)))
    host.remove([Namespace(name="s9"), vip((3, 1), ns="s9")])
    assert len(set(taken)) == 1 and set(host._doors.shortcuts._led) == {"s2"}
    host.remove([vip((3, 1))])
    assert len(set(taken)) == 2


def test_without_control_groups_of_version_2_the_table_does_it_all(
    tmp_path: Path, host: LinuxHost, listeners: Listeners, caplog: pytest.LogCaptureFixture
) -> None:
    host._doors.shortcuts._root = tmp_path
    with caplog.at_level(logging.INFO):
        host.make([vip((3, 1))])
        host.make([vip((4, 1))])
    assert [record.message for record in caplog.records if "version 2" in record.message] == [
        "packets to services' addresses are turned one by one: "
        f"no control groups of version 2 are mounted at {tmp_path} or {tmp_path}/unified"
    ]
    with call(host) as sock:
        assert turned(host, sock)


def test_a_kernel_that_closes_nobodys_connections_gets_none(monkeypatch: pytest.MonkeyPatch, host: LinuxHost) -> None:
    monkeypatch.setattr(connections, "DESTROY", 99)
    short = shortcuts.Shortcuts()
    assert not short._ready()


def test_descriptors_are_given_back(host: LinuxHost) -> None:
    count = len(os.listdir("/proc/self/fd"))
    for _ in range(3):
        short = shortcuts.Shortcuts()
        assert short._ready()
        short.close()
    assert len(os.listdir("/proc/self/fd")) == count


@pytest.mark.parametrize(("kind", "target", "family"), WAYS)
def test_only_connections_to_who_is_gone_are_closed(
    host: LinuxHost, listeners: Listeners, kind: socket.AddressFamily, target: str, family: int
) -> None:
    """Also of one that only listens for what comes."""
    host.make([vip((3, 1), family=family)])
    gone, stays = called(host, kind, target), called(host, kind, target.replace("99", "4"))
    kept = [listeners.accepted() for _ in range(2)]
    host.forget_answers([("", address(3, family), 0)], "s2")
    with pytest.raises(ConnectionAbortedError):
        gone.recv(100)
    stays.send(b"!")
    there = next(sock for number, sock, _ in kept if number == 4)
    there.settimeout(5)
    assert there.recv(100) == b"!"
    for sock in (gone, stays, *(sock for _, sock, _ in kept)):
        sock.close()


def test_of_the_host_nothing_is_closed(host: LinuxHost, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the mesh forgets there are flows of others."""
    host.make([vip((3, 1))])
    monkeypatch.setattr(connections, "cut_to", lambda *_: pytest.fail("it was"))
    host.forget_answers([("", address(3), 0)], HOST)
    host.forget_answers([("tcp", address(3), 80)], "s3")
