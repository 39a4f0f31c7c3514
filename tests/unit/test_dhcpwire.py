"""DHCP on the wire: IP packets there and back, options as servers send them, and as they should not."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairlead.core import dhcpwire as wire
from fairlead.core.model import Lease
from unit.test_dhcp import MASK, answer, packed


def lease(address: str = "10.0.0.50", **options: bytes) -> Lease | None:
    """What is understood of an ACK with these options (``o3=…``) besides the necessary ones."""
    said = {**MASK, 54: packed("10.0.0.1"), 51: (3600).to_bytes(4)}
    said |= {int(name[1:]): value for name, value in options.items()}
    reply = wire.parse(answer(wire.ACK, 7, address, options=said))
    return reply.lease if reply else None


def route(prefix: str, gateway: str) -> bytes:
    address, _, length = prefix.partition("/")
    return bytes((int(length),)) + packed(address)[: (int(length) + 7) // 8] + packed(gateway)


def reply_packet(payload: bytes) -> bytes:
    """``datagram`` makes a client's; turned round, it is a server's."""
    packet = bytearray(wire.datagram(payload, "10.0.0.1", "10.0.0.50"))
    packet[20:24] = struct.pack(">HH", 67, 68)
    return bytes(packet)


def test_a_packet_there_and_back() -> None:
    for payload in (b"hello", b"odd", b"", bytes(1000)):
        assert wire.payload_of(reply_packet(payload)) == payload
        assert wire.payload_of(reply_packet(payload) + b"padding of a short frame") == payload


@given(st.integers(0, 40), st.integers(0, 7))
def test_a_damaged_packet_is_none(at: int, bit: int) -> None:
    packet = bytearray(reply_packet(b"thirteen or so bytes"))
    packet[at] ^= 1 << bit
    if bytes(packet[26:28]) != b"\0\0":  # without a checksum nobody can know
        assert wire.payload_of(bytes(packet)) is None


def test_a_checksum_left_to_the_card_is_not_looked_at() -> None:
    packet = bytearray(reply_packet(b"from this very machine"))
    packet[26] ^= 0xFF
    assert wire.payload_of(bytes(packet)) is None
    assert wire.payload_of(bytes(packet), checked=False) == b"from this very machine"


@given(st.binary(max_size=600))
def test_noise_is_none_or_a_reply(noise: bytes) -> None:
    wire.payload_of(noise)
    assert wire.parse(noise) is None
    reply = wire.parse(answer(wire.ACK, 7, "10.0.0.50", options={54: packed("10.0.0.1")})[:-1] + noise)
    assert reply is None or reply.kind


def test_what_a_router_at_home_says() -> None:
    found = lease(o3=packed("10.0.0.1"), o6=packed("10.0.0.1") + packed("9.9.9.9"), o15=b"lan.example", o26=b"\x05\xdc")
    assert found == Lease(
        address="10.0.0.50/24",
        server="10.0.0.1",
        seconds=3600,
        renew=1800,
        rebind=3150,
        gateway="10.0.0.1",
        dns=("10.0.0.1", "9.9.9.9"),
        search=("lan.example",),
        mtu=1500,
    )


def test_times_of_the_server_when_they_make_sense() -> None:
    found = lease(o58=(60).to_bytes(4), o59=(120).to_bytes(4))
    assert found is not None and (found.renew, found.rebind) == (60, 120)
    for t1, t2 in ((0, 10), (200, 100), (10, 4000)):
        found = lease(o58=t1.to_bytes(4), o59=t2.to_bytes(4))
        assert found is not None and (found.renew, found.rebind) == (1800, 3150)


def test_classless_routes_take_the_place_of_the_router() -> None:
    said = route("10.9.0.0/16", "10.0.0.7") + route("0.0.0.0/0", "10.0.0.2") + route("10.8.0.0/24", "0.0.0.0")
    found = lease(o3=packed("10.0.0.1"), o121=said)
    assert found is not None and found.gateway == "10.0.0.2"
    assert found.routes == (("10.8.0.0/24", ""), ("10.9.0.0/16", "10.0.0.7")), "on-link ones first: others lean on them"


def test_a_single_address_and_a_router_on_the_link() -> None:
    """As some clouds do: /32, and the router by an on-link route."""
    said = route("10.128.0.1/32", "0.0.0.0") + route("0.0.0.0/0", "10.128.0.1")
    found = lease("10.128.0.9", o1=b"\xff" * 4, o121=said)
    assert found is not None and (found.address, found.gateway) == ("10.128.0.9/32", "10.128.0.1")


@pytest.mark.parametrize("said", [
    route("0.0.0.0/1", "10.0.0.1"),
    route("127.0.0.0/8", "10.0.0.1"),
    route("224.0.0.0/8", "10.0.0.1"),
    route("10.9.0.0/16", "192.168.1.1"),
    route("10.9.0.0/16", "10.0.0.50"),
    route("10.9.0.0/16", "10.0.0.255"),
    route("0.0.0.0/1", "0.0.0.0") + route("10.9.0.0/16", "55.1.1.1"),
])  # fmt: skip
def test_routes_that_nobody_should_follow(said: bytes) -> None:
    found = lease(o121=said)
    assert found is not None and found.routes == ()


@pytest.mark.parametrize("router", ["192.168.1.1", "10.0.0.50", "10.0.0.255", "10.0.0.0", "0.0.0.0", "255.255.255.255"])
def test_routers_that_cannot_be(router: str) -> None:
    found = lease(o3=packed(router))
    assert found is not None and found.gateway == ""


@pytest.mark.parametrize("address", ["0.0.0.0", "0.1.2.3", "127.0.0.1", "224.0.0.1", "255.255.255.255", "10.0.0.255"])
def test_addresses_that_no_host_can_have(address: str) -> None:
    assert lease(address) is None


def test_masks() -> None:
    for mask, length in ((b"\xff\xff\xff\xfe", 31), (b"\xff\0\0\0", 8)):
        found = lease(o1=mask)
        assert found is not None and found.address == f"10.0.0.50/{length}"
    for mask in (b"\0\0\0\0", b"\0\0\0\xff", b"\xff\0\xff\0", b"\xff\xff", b"\xfe\0\0\0"):
        assert lease(o1=mask) is None


def test_odd_values_are_left_out() -> None:
    found = lease(o26=b"\0\x44", o15=b"a b..c; nameserver 6.6.6.6\n", o6=b"\x7f\0\0\1\xe0\0\0\1\x09\x09\x09\x09\x01")
    assert found is not None
    assert (found.mtu, found.search, found.dns) == (0, ("a", "nameserver", "6.6.6.6"), ("9.9.9.9",))


def test_a_cut_message_is_none() -> None:
    """Half an address is no address, and half a message none."""
    whole = answer(wire.ACK, 7, "10.0.0.50", options={**MASK, 54: packed("10.0.0.1"), 51: b"\0\0\1\0", 26: b"\5\xdc"})
    assert wire.parse(whole) is not None
    assert wire.parse(whole[:-2]) is None


def test_options_in_borrowed_fields_and_in_parts() -> None:
    """Overload (RFC 2132, 9.3) and long options (RFC 3396)."""
    message = bytearray(
        answer(wire.ACK, 7, "10.0.0.50", options={52: b"\x03", 54: packed("10.0.0.1"), 121: b"\x10\x0a"})
    )
    file, name = b"\x33\4\0\0\x0e\x10\x79\3\x09\x0a\0\xff", b"\x79\2\0\x07\1\4\xff\xff\xff\0\xff"
    message[108 : 108 + len(file)] = file
    message[44 : 44 + len(name)] = name
    reply = wire.parse(bytes(message))
    assert reply is not None and reply.lease is not None
    assert (reply.lease.address, reply.lease.routes) == ("10.0.0.50/24", (("10.9.0.0/16", "10.0.0.7"),))


def test_names_for_the_lan() -> None:
    said = {"web": b"web", "web.example.org": b"web", "a_b c": b"a-b-c", "-x-": b"x", "é": None, "": None}
    assert {name: wire.hostname_option(name).get(12) for name in said} == said
