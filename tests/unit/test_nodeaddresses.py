"""Where a node listens and is found: as typed, by interface, or the only address there is; else Docker's refusals."""

import pytest

from fairlead.core import nodeaddresses
from fairlead.errors import FairleadError

LO, ETH0, ETH1 = ("lo", "127.0.0.1/8"), ("eth0", "192.0.2.1/24"), ("eth1", "198.51.100.1/24")
BRIDGE, SIX, LINK = ("docker0", "172.17.0.1/16"), ("eth0", "2001:db8::1/64"), ("eth0", "fe80::1/64")
MORE = ("eth0", "192.0.2.9/24")


@pytest.mark.parametrize(
    ("text", "listening", "here", "found"),
    [
        ("192.0.2.7", "0.0.0.0:2377", (ETH0,), "192.0.2.7:2377"),
        ("192.0.2.7:99", "0.0.0.0:2377", (ETH0,), "192.0.2.7:99"),
        ("192.0.2.7", "0.0.0.0:4000", (ETH0,), "192.0.2.7:4000"),
        ("eth1", "0.0.0.0:2377", (ETH0, ETH1), "198.51.100.1:2377"),
        ("eth1:99", "0.0.0.0:2377", (ETH0, ETH1), "198.51.100.1:99"),
        ("", "0.0.0.0:2377", (LO, ETH0, BRIDGE, LINK), "192.0.2.1:2377"),
        ("", "0.0.0.0:2377", (LO, ETH0, SIX), "192.0.2.1:2377"),
        ("", "[::]:2377", (LO, SIX, LINK), "[2001:db8::1]:2377"),
        ("", "198.51.100.1:4000", (ETH0, ETH1), "198.51.100.1:4000"),
        ("[2001:db8::1]:99", "[::]:2377", (), "[2001:db8::1]:99"),
        ("2001:db8::1", "[::]:2377", (), "[2001:db8::1]:2377"),
    ],
)
def test_where_others_find_it(text: str, listening: str, here: tuple[tuple[str, str], ...], found: str) -> None:
    assert nodeaddresses.advertise(text, listening, here) == found


@pytest.mark.parametrize(
    ("text", "here", "words"),
    [
        (
            "",
            (ETH0, ETH1),
            r"multiple addresses on different interfaces \(192.0.2.1 on eth0 and 198.51.100.1 on eth1\)",
        ),
        (
            "",
            (ETH0, MORE),
            r"multiple addresses on interface eth0 \(192.0.2.1 and 192.0.2.9\) - specify one with --adv",
        ),
        ("", (LO, BRIDGE), "could not find the system's IP address"),
        ("eth0", (ETH0, MORE), "interface eth0 has more than one IPv4 address"),
        ("eth9", (ETH0,), "advertise address must be a non-zero IP address or network interface"),
        ("0.0.0.0", (ETH0,), "advertise address must be a non-zero IP address"),
        ("192.0.2.1:x", (ETH0,), "invalid port"),
    ],
)
def test_what_cannot_be_decided(text: str, here: tuple[tuple[str, str], ...], words: str) -> None:
    with pytest.raises(FairleadError, match=words):
        nodeaddresses.advertise(text, "0.0.0.0:2377", here)


def test_whose_address_it_is() -> None:
    assert nodeaddresses.device_of("198.51.100.1:2377", (ETH0, ETH1)) == "eth1"
    assert nodeaddresses.device_of("203.0.113.1", (ETH0, ETH1)) == nodeaddresses.device_of("eth0", (ETH0,)) == ""


def test_where_it_listens_and_sends_data() -> None:
    assert nodeaddresses.listen("0.0.0.0:2377", ()) == "0.0.0.0:2377"
    assert nodeaddresses.listen("eth0", (ETH0,)) == "192.0.2.1:2377"
    assert nodeaddresses.data_path("", ()) == ""
    assert nodeaddresses.data_path("eth0", (ETH0,)) == "192.0.2.1"
    for text in ("", ":2377", "eth9:2377"):
        with pytest.raises(FairleadError):
            nodeaddresses.listen(text, (ETH0,))
    with pytest.raises(FairleadError, match="data path address"):
        nodeaddresses.data_path("0.0.0.0", (ETH0,))
