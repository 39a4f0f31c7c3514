"""Flows of a mapping that came or went are forgotten, and no others."""

import socket
import subprocess

import pytest

from fairlead.core.wanted import Skeleton
from fairlead.host import conntrack
from fairlead.host.linux import LinuxHost
from fairlead.host.netlink import NETFILTER, Netlink
from lane.pretend import PretendHost

pytestmark = pytest.mark.kernel

TRACKING = Skeleton(text="chain tracking { type filter hook output priority 0; ct state new accept; }")


@pytest.fixture
def host(pretend_host: PretendHost) -> LinuxHost:
    made = pretend_host.open()
    made.make([TRACKING])
    return made


def flows() -> set[tuple[int, str, int]]:
    netlink = Netlink.here(NETFILTER)
    every = conntrack._flows(netlink, conntrack._header(socket.AF_UNSPEC), conntrack._ORIGINAL)
    found = {flow for flow, _ in every if flow[2]}
    netlink.close()
    return found


def talk(address: str, port: int) -> None:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as client:
        client.sendto(b"hello", (address, port))


def test_only_flows_of_the_binding_are_forgotten(host: LinuxHost) -> None:
    for address in ("127.0.0.1", "127.0.0.2", "::1"):
        for port in (5300, 5301):
            talk(address, port)
    assert len(flows()) == 6
    host.forget_flows([("udp", "127.0.0.1", 5300)])
    assert (17, "127.0.0.1", 5300) not in flows() and len(flows()) == 5
    host.forget_flows([("tcp", "", 5301), ("udp", "192.0.2.1", 5301)])
    assert len(flows()) == 5
    host.forget_flows([("udp", "0.0.0.0", 5301)])
    assert flows() == {(17, "127.0.0.2", 5300), (17, "::1", 5300)}
    host.forget_flows([("udp", "", 5300), ("sctp", "", 1)])
    assert flows() == set()
    host.remove([TRACKING])


def test_flows_are_forgotten_by_who_answers_them(host: LinuxHost) -> None:
    for address in ("127.0.0.1", "127.0.0.2", "::1"):
        talk(address, 5300)
    host.forget_answers([("udp", "127.0.0.1", 5300), ("udp", "::1", 5301)])
    assert flows() == {(17, "127.0.0.2", 5300), (17, "::1", 5300)}
    host.forget_answers([("udp", "::1", 5300), ("udp", "127.0.0.2", 5300)])
    assert flows() == set()
    host.remove([TRACKING])


def test_who_calls_again_and_is_led_to_another_is_not_forgotten(
    host: LinuxHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between our look and our word: the same client from the same port, answered by a task that is not gone."""
    seen, ports = conntrack._flows, range(20000, 20050)

    def call(task: str) -> None:
        chain = f"type nat hook output priority -100; ip daddr 127.0.0.9 dnat to {task};"
        words = f"table ip t {{ }}; delete table ip t; table ip t {{ chain c {{ {chain} }}; }}"
        subprocess.run(["nft", words], check=True)
        for port in ports:
            conntrack.forget([("udp", "127.0.0.9", port)])
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
                client.bind(("127.0.0.1", port))
                client.sendto(b"hello", ("127.0.0.9", port))

    def looked(netlink: Netlink, question: bytes, way: int) -> list[tuple[tuple[int, str, int], bytes]]:
        found = list(seen(netlink, question, way))
        if way == conntrack._REPLY:
            call("127.0.0.2")
        return found

    call("127.0.0.1")
    monkeypatch.setattr(conntrack, "_flows", looked)
    host.forget_answers([("udp", "127.0.0.1", port) for port in ports])
    monkeypatch.undo()
    netlink = Netlink.here(NETFILTER)
    again = list(conntrack._flows(netlink, conntrack._header(socket.AF_UNSPEC), conntrack._REPLY))
    netlink.close()
    subprocess.run(["nft", "delete table ip t"], check=True)
    assert {(17, "127.0.0.2", port) for port in ports} <= {flow for flow, _ in again}
    host.remove([TRACKING])


def test_many_flows_are_forgotten_at_once(host: LinuxHost) -> None:
    for port in range(20000, 20300):
        talk("127.0.0.1", port)
    talk("127.0.0.1", 30000)
    host.forget_flows([("udp", "", port) for port in range(20000, 20300)])
    assert flows() == {(17, "127.0.0.1", 30000)}
    host.remove([TRACKING])


def test_the_kernel_chooses_when_there_are_many(host: LinuxHost, monkeypatch: pytest.MonkeyPatch) -> None:
    for port in range(20000, 20050):
        talk("127.0.0.1", port)
    netlink = Netlink.here(NETFILTER)
    question = conntrack._header(socket.AF_INET) + conntrack._choice(17, 20007)
    chosen = list(conntrack._flows(netlink, question, conntrack._ORIGINAL))
    netlink.close()
    assert [flow for flow, _ in chosen] == [(17, "127.0.0.1", 20007)]
    monkeypatch.setattr(conntrack, "WORTH_CHOOSING", 10)
    host.forget_flows([("udp", "", 20007), ("udp", "", 20008)])
    assert len(flows()) == 48
    host.remove([TRACKING])
