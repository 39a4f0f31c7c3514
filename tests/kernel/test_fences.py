"""A fence lets out what a container says in its own name, and nothing else; frames are made by hand and looked for."""

import socket
import struct
from collections.abc import Iterator
from ipaddress import ip_address

import pytest

from fairlead.core.wanted import Address, Fence, Link, Namespace, Plan, difference
from fairlead.host.linux import LinuxHost
from fairlead.host.netns import socket_in
from lane.pretend import PretendHost

pytestmark = pytest.mark.kernel

EVIL, GOOD, GATE = "02:00:00:00:00:02", "02:00:00:00:00:03", "02:00:00:00:00:01"
EVERY_FRAME = 3
FENCE = Fence(link="veth2", mac=EVIL, addresses=("10.0.0.2", "fd00::2", "fe80::ff:fe00:2"))


def endpoint(number: int) -> Plan:
    ns = f"s{number}"
    return (
        Namespace(name=ns),
        Link(
            name=f"veth{number}",
            kind="veth",
            master="br0",
            peer="eth0",
            peer_ns=ns,
            peer_mac=f"02:00:00:00:00:0{number}",
        ),
        *((FENCE,) if number == 2 else ()),
        Address(ns=ns, link="eth0", address=f"10.0.0.{number}/24"),
        Address(ns=ns, link="eth0", address=f"fd00::{number}/64"),
    )


PLAN: Plan = (
    Link(name="br0", kind="bridge", mac=GATE),
    Address(link="br0", address="10.0.0.1/24"),
    Address(link="br0", address="fd00::1/64"),
    *endpoint(2),
    *endpoint(3),
)


def mac(text: str) -> bytes:
    return bytes.fromhex(text.replace(":", ""))


def framed(payload: bytes, kind: int, source: str = EVIL, tags: bytes = b"") -> bytes:
    return mac(GOOD) + mac(source) + tags + struct.pack("!H", kind) + payload


def arp(sender: str, sender_mac: str = EVIL, op: int = 2, **more: object) -> bytes:
    body = struct.pack("!HHBBH", 1, 0x800, 6, 4, op) + mac(sender_mac) + ip_address(sender).packed
    return framed(body + mac(GOOD) + ip_address("10.0.0.3").packed, 0x806, **more)  # type: ignore[arg-type]


def ip4(source: str, **more: object) -> bytes:
    addresses = ip_address(source).packed + ip_address("10.0.0.3").packed
    start = struct.pack("!BBHHHBB", 0x45, 0, 28, 0, 0, 64, 17)
    total = sum(struct.unpack("!9H", start + addresses))
    head = start + struct.pack("!H", ~(total + (total >> 16)) & 0xFFFF)
    return framed(head + addresses + struct.pack("!HHHH", 1, 2, 8, 0), 0x800, **more)  # type: ignore[arg-type]


def ip6(source: str, body: bytes, header: int = 58, before: bytes = b"") -> bytes:
    head = struct.pack("!IHBB", 0x60000000, len(before) + len(body), header, 255)
    return framed(head + ip_address(source).packed + ip_address("fd00::3").packed + before + body, 0x86DD)


def neighbour(target: str) -> bytes:
    """An advertisement: this address is at my MAC."""
    return struct.pack("!BBHI", 136, 0, 0, 0x60000000) + ip_address(target).packed + b"\2\1" + mac(EVIL)


OPTIONS = b"\x3a\0\1\4\0\0\0\0"
"""A header of hop-by-hop options before ICMPv6, with nothing in it."""
FRAMES: dict[str, tuple[bytes, bool]] = {
    "its own ARP answer": (arp("10.0.0.2"), True),
    "a question before it has an address": (arp("0.0.0.0", op=1), True),
    "its own packet": (ip4("10.0.0.2"), True),
    "a packet before it has an address": (ip4("0.0.0.0"), True),
    "its own IPv6": (ip6("fd00::2", bytes(8), 17), True),
    "IPv6 from its link-local address": (ip6("fe80::ff:fe00:2", bytes(8), 17), True),
    "its own neighbour answer": (ip6("fd00::2", neighbour("fd00::2")), True),
    "a question before it has an IPv6 address": (ip6("::", b"\x87" + bytes(23)), True),
    "something else": (framed(b"hello" * 12, 0x88B5), True),
    "the gateway's ARP": (arp("10.0.0.1"), False),
    "a neighbour's ARP": (arp("10.0.0.3"), False),
    "a neighbour's ARP as a question": (arp("10.0.0.3", op=1), False),
    "its own ARP with another MAC in it": (arp("10.0.0.2", GOOD), False),
    "the gateway's ARP with an empty tag": (arp("10.0.0.1", tags=b"\x81\0\0\0"), False),
    "the gateway's ARP with two tags": (arp("10.0.0.1", tags=b"\x88\xa8\0\0\x81\0\0\0"), False),
    "another MAC": (arp("10.0.0.2", source=GOOD), False),
    "another MAC with something else": (framed(b"hello" * 12, 0x88B5, source=GATE), False),
    "a neighbour's packet": (ip4("10.0.0.3"), False),
    "the world's packet": (ip4("8.8.8.8"), False),
    "a neighbour's IPv6": (ip6("fd00::3", bytes(8), 17), False),
    "another link-local address": (ip6("fe80::1", bytes(8), 17), False),
    "the gateway's neighbour answer": (ip6("fd00::2", neighbour("fd00::1")), False),
    "the same behind a header of options": (ip6("fd00::2", neighbour("fd00::1"), 0, OPTIONS), False),
    "a router's advertisement": (ip6("fe80::ff:fe00:2", b"\x86" + bytes(15)), False),
    "a redirect": (ip6("fe80::ff:fe00:2", b"\x89" + bytes(39)), False),
}


@pytest.fixture
def host(pretend_host: PretendHost) -> Iterator[LinuxHost]:
    opened = pretend_host.open()
    opened.make(PLAN)
    yield opened
    opened.remove(PLAN)
    opened.settle()


def arrivals(host: LinuxHost, *names: str) -> set[str]:
    """Which of the frames come to the neighbour; a last one, that always passes, says that there are no more."""
    ear = socket_in(host.namespace_path("s3"), socket.AF_PACKET, socket.SOCK_RAW, socket.htons(EVERY_FRAME))
    mouth = socket_in(host.namespace_path("s2"), socket.AF_PACKET, socket.SOCK_RAW)
    ear.bind(("eth0", EVERY_FRAME))
    mouth.bind(("eth0", 0))
    ear.settimeout(5)
    last = framed(b"the last" * 8, 0x88B5)
    for name in names or FRAMES:
        mouth.send(FRAMES[name][0])
    mouth.send(last)
    heard = set()
    while (data := ear.recv(2048)) != last:
        heard.add(data)
    ear.close()
    mouth.close()
    # a tag is taken off on its way in, wherever it was
    said = {name: FRAMES[name][0] for name in names or FRAMES}
    return {name for name, sent in said.items() if sent in heard or sent[:12] + sent[16:] in heard}


def test_only_what_is_said_in_ones_own_name_comes_out(pretend_host: PretendHost, host: LinuxHost) -> None:
    assert arrivals(host) == {what for what, (_, passes) in FRAMES.items() if passes}
    host.remove([FENCE])
    lies = [what for what, (_, passes) in FRAMES.items() if not passes and "MAC" not in what]
    assert arrivals(host, *lies) == set(lies), "which anybody may say without a fence"


def test_they_talk_as_before(pretend_host: PretendHost, host: LinuxHost) -> None:
    for source, target in (
        ("s2", "10.0.0.3"),
        ("s2", "fd00::3"),
        ("s3", "10.0.0.2"),
        ("s3", "fd00::2"),
        ("s2", "fd00::1"),
    ):
        pretend_host.run("ping", "-c1", "-W2", target, ns=source)


def test_it_is_missed_and_made_again(pretend_host: PretendHost, host: LinuxHost) -> None:
    assert difference(PLAN, host.look(PLAN)) == ((), ())
    for deed in (
        ("nft", "flush", "ruleset"),
        ("nft", "flush", "table", "netdev", "fairlead-veth2"),
        ("ip", "link", "delete", "veth2"),
    ):
        pretend_host.run(*deed)
        lost, _ = difference(PLAN, host.look(PLAN))
        assert lost, deed
        host.make(lost)
        assert difference(PLAN, host.look(PLAN)) == ((), ()), deed
        assert arrivals(host, "the gateway's ARP", "its own packet") == {"its own packet"}, deed


def test_another_engine_finds_it_and_one_that_nobody_wants(pretend_host: PretendHost, host: LinuxHost) -> None:
    other = pretend_host.open()
    assert difference(PLAN, other.look(PLAN)) == ((), ())
    without = tuple(item for item in PLAN if item is not FENCE)
    _, surplus = difference(without, other.look(without))
    assert [item.key for item in surplus] == [FENCE.key]
