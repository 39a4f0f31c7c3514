"""Addresses before ports: written by us, read back, and what is neither."""

import pytest

from fairlead.core.written import bracketed, family_of, joined, parted
from fairlead.errors import Invalid


@pytest.mark.parametrize(
    ("address", "family", "text"),
    [
        ("172.18.0.2", 4, "172.18.0.2:80"),
        ("fd00::2", 6, "[fd00::2]:80"),
        ("::", 6, "[::]:80"),
        ("box.example", 4, "box.example:80"),
    ],
)
def test_an_address_before_a_port_is_read_back(address: str, family: int, text: str) -> None:
    assert family_of(address) == family
    assert joined(address, 80) == text == f"{bracketed(address)}:80"
    assert parted(text) == parted(text, 2377) == (address, 80)


@pytest.mark.parametrize("text", ["172.18.0.2", "fd00::2", "[fd00::2]", "eth0"])
def test_without_a_port_the_usual_one_is_meant(text: str) -> None:
    assert parted(text) == (text.strip("[]"), 0)
    assert parted(text, 2377) == (text.strip("[]"), 2377)


@pytest.mark.parametrize("text", ["box:70000", "box:x", "[fd00::1]:", "box:-1", "box:²", "box:" + "9" * 5000])
def test_what_is_no_port_is_refused_by_name(text: str) -> None:
    with pytest.raises(Invalid, match="invalid port in address") as caught:
        parted(text)
    assert text in str(caught.value)
