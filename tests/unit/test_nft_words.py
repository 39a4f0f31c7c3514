"""nft's notation: one spelling of many, and libnftables' JSON as words."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairlead.core.wanted import Element
from fairlead.host import nft


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ('"br-0a1b" . "docker0"', "br-0a1b . docker0"),
        ("0x10", "16"),
        ("10.0.0.1/32", "10.0.0.1"),
        ("10.0.0.0-10.0.0.255", "10.0.0.0/24"),
        ("2001:DB8:0::1 . tcp . 80", "2001:db8::1 . tcp . 80"),
        ("jump  no", "jump  no"),
    ],
)
def test_spellings_of_the_same(one: str, other: str) -> None:
    assert nft.canonical(one) == nft.canonical(other)


@pytest.mark.parametrize(("one", "other"), [("10.0.0.0/24", "10.0.0.0/25"), ("tcp . 80", "udp . 80"), ("br-1", "br-2")])
def test_spellings_of_what_is_not_the_same(one: str, other: str) -> None:
    assert nft.canonical(one) != nft.canonical(other)


@given(st.ip_addresses(), st.integers(1, 65535))
def test_canonical_is_canonical(address: object, port: int) -> None:
    once = nft.canonical(f"{address} . tcp . {port}")
    assert nft.canonical(once) == once == f"{address} . tcp . {port}"


def test_json_as_words() -> None:
    objects = [
        {"metainfo": {}},
        {
            "map": {
                "table": "fairlead",
                "name": "m",
                "elem": [
                    [{"concat": ["tcp", 80]}, {"concat": ["10.0.0.2", 8080]}],
                    [{"prefix": {"addr": "10.0.0.0", "len": 8}}, {"jump": {"target": "no"}}],
                    [{"range": ["10.0.5.1", "10.0.5.9"]}, {"accept": None}],
                    [{"elem": {"val": "::1", "comment": "x"}}, {"goto": {"target": "no"}}],
                ],
            }
        },
        {"set": {"table": "fairlead", "name": "s", "elem": [{"concat": ["br0", "br1"]}, 5]}},
        {"set": {"table": "other", "name": "s", "elem": [5]}},
        {"set": {"table": "fairlead", "name": "empty"}},
    ]
    assert [(*item.key[2:], item.value) for item in nft._elements(objects, "")] == [
        ("m", "tcp . 80", "10.0.0.2 . 8080"),
        ("m", "10.0.0.0/8", "jump no"),
        ("m", "10.0.5.1-10.0.5.9", "accept"),
        ("m", "::1", "goto no"),
        ("s", "br0 . br1", ""),
        ("s", "5", ""),
    ]


def test_many_elements_are_few_commands() -> None:
    items = [Element(map="m", item=str(number), value="accept") for number in range(250)]
    text = nft._commands("create", [*items, Element(map="s", item="1")])
    assert [line.split("{")[0] for line in text.splitlines()] == ["create element inet fairlead m "] * 3 + [
        "create element inet fairlead s "
    ]
    assert " : " not in nft._commands("delete", items)


def test_a_root_without_protocols_is_told_what_it_lacks() -> None:
    said = "netlink: Error: Could not resolve protocol name\nadd rule inet fairlead in meta l4proto tcp drop\n"
    complaint = nft.Denied(said).as_error("table inet fairlead").message
    assert complaint == "cannot make table inet fairlead: /etc/protocols is missing (Debian: the package netbase)"
