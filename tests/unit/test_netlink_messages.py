"""Netlink messages as bytes, without a kernel."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairlead.core.wanted import Address, Link, Route
from fairlead.errors import Internal, Unsupported
from fairlead.host import links, netlink, routing
from fairlead.host.links import Around, Place, Seen


@given(st.lists(st.tuples(st.integers(1, 100), st.binary(max_size=40)), unique_by=lambda pair: pair[0]))
def test_attributes_come_back_as_they_went(pairs: list[tuple[int, bytes]]) -> None:
    data = b"".join(netlink.attribute(kind, value) for kind, value in pairs)
    assert len(data) % 4 == 0
    assert netlink.attributes(data) == dict(pairs)


def test_garbage_ends_the_reading() -> None:
    assert netlink.attributes(struct.pack("=HH", 2, 1) + b"rubbish") == {}


def test_the_kernels_sentence_is_found_behind_the_echoed_request() -> None:
    sentence = netlink.text(1, "Unknown device type")
    whole = struct.pack("=i", -95) + struct.pack("=IHHII", 20, 16, 5, 7, 0) + b"abcd" + sentence
    capped = struct.pack("=i", -95) + struct.pack("=IHHII", 20, 16, 5, 7, 0) + sentence
    for payload, flags in ((whole, netlink.ACK_TLVS), (capped, netlink.ACK_TLVS | netlink.CAPPED)):
        refusal = netlink._refusal(payload, flags)
        assert refusal and refusal.errno == 95 and str(refusal) == "Unknown device type"
    assert netlink._refusal(struct.pack("=i", 0) + bytes(16), 0) is None
    bare = netlink._refusal(struct.pack("=i", -1) + bytes(16), 0)
    assert bare and str(bare) == "Operation not permitted"


def test_a_broadcast_address_where_there_is_room_for_one() -> None:
    def broadcast(address: str) -> bytes | None:
        return netlink.attributes(routing.add(Address(link="x", address=address), 1).body, 8).get(4)

    assert broadcast("172.18.0.2/16") == bytes([172, 18, 255, 255])
    assert broadcast("10.0.0.0/31") is None
    assert broadcast("10.0.0.1/32") is None
    assert broadcast("fd00::1/64") is None


def test_what_is_no_address_is_said_so() -> None:
    with pytest.raises(Internal, match="'tomorrow' is no address"):
        routing.add(Route(destination="0.0.0.0/0", gateway="tomorrow", ns=""), 1)


def test_the_mark_fits_the_kernel_whatever_the_owner() -> None:
    body = links.alias(Link(name="x", kind="veth", owner="é" * 200))
    mark = netlink.attributes(body)[links.IFALIAS]
    assert len(mark) <= 255
    assert mark.decode().startswith("fairlead:é")


@pytest.mark.parametrize("option", [("mode", "sideways"), ("sparkle", "1")])
def test_options_we_do_not_know_are_refused(option: tuple[str, str]) -> None:
    with pytest.raises(Unsupported, match=option[0]):
        links.create(Link(name="x", kind="macvlan", options=(option,)), Place(index=2))


def test_what_a_wish_leaves_open_is_left_open_when_read_back() -> None:
    device = Seen(
        index=7,
        name="br0",
        kind="bridge",
        alias="fairlead:network RED",
        mtu=1400,
        mac="02:00:00:00:00:01",
        master=0,
        up=True,
        group=0,
        lower=0,
        elsewhere=False,
        own=netlink.u16(9, 8) + netlink.u32(4, 30000),
        as_port=b"",
    )
    for wish in (
        Link(name="br0", kind="bridge"),
        Link(name="br0", kind="bridge", mtu=1400),
        Link(name="br0", kind="bridge", mac="02:00:00:00:00:01", options=(("group_fwd_mask", "0x8"),)),
    ):
        assert links.as_link(device, "", Around(), wish) == wish
    full = links.as_link(device, "", Around(), None)
    assert (full.mtu, full.mac, full.owner) == (1400, "02:00:00:00:00:01", "network RED")
    other = Link(name="br0", kind="bridge", options=(("group_fwd_mask", "16"),))
    assert links.as_link(device, "", Around(), other) != other


def test_what_can_change_and_what_must_be_made_anew() -> None:
    bridge = Link(name="br0", kind="bridge", mtu=1500)
    assert links.can_become(bridge, Link(name="br0", kind="bridge", mtu=1400, options=(("stp", "1"),)))
    vxlan = Link(name="vx0", kind="vxlan", options=(("id", "1"),))
    assert links.can_become(vxlan, Link(name="vx0", kind="vxlan", mtu=1450, options=(("id", "1"),)))
    assert not links.can_become(vxlan, Link(name="vx0", kind="vxlan", options=(("id", "2"),)))
    veth = Link(name="v0", kind="veth", peer="eth0", peer_ns="a")
    assert not links.can_become(veth, Link(name="v0", kind="veth", peer="eth0", peer_ns="b"))
