"""Short cuts as data: what the kernel's map is told, and what the programs are made of."""

import struct

import pytest

from fairlead.core import bpf, shortcut
from fairlead.core.bpf import Line


def test_an_address_of_ipv4_is_one_key_for_sockets_of_either_kind() -> None:
    assert shortcut.key(7, "10.0.1.2") == shortcut.key(7, "::ffff:10.0.1.2")
    assert len({shortcut.key(7, "10.0.1.2"), shortcut.key(8, "10.0.1.2"), shortcut.key(7, "fd00::2")}) == 3
    assert len(shortcut.key(2**64 - 1, "fd00::2")) == shortcut.KEY_SIZE


def test_places_follow_how_many_there_are_and_how_one_is_chosen() -> None:
    told = shortcut.value(["10.0.1.5", "10.0.1.6"], "round-robin")
    assert told and len(told) == shortcut.VALUE_SIZE
    assert struct.unpack_from("=III", told) == (2, 1, 0)
    assert told[16:48] == bytes(10) + b"\xff\xff\x0a\0\1\5" + bytes(10) + b"\xff\xff\x0a\0\1\6"
    by_chance = shortcut.value(["fd00::5"], "")
    assert by_chance and struct.unpack_from("=III", by_chance) == (1, 0, 0)


@pytest.mark.parametrize(
    ("places", "policy"), [([], ""), (["10.0.1.5"], "source"), (["10.0.1.5"] * (shortcut.PLACES + 1), "")]
)
def test_what_the_table_has_to_decide(places: list[str], policy: str) -> None:
    assert shortcut.value(places, policy) is None
    assert shortcut.value(["10.0.1.5"] * shortcut.PLACES, "") is not None


def test_the_description_of_types_is_as_long_as_it_says() -> None:
    magic, version, _, head, types, size, words, length = struct.unpack_from("=HBBIIIII", shortcut.TYPES)
    assert (magic, version, head, types) == (0xEB9F, 1, 24, 0)
    assert words == size and head + size + length == len(shortcut.TYPES)


@pytest.mark.parametrize("family", [4, 6])
def test_programs_end_by_letting_the_call_go_on(family: int) -> None:
    """Whatever is found or not: 1 in register 0, then out, and nowhere else."""
    end = bpf.assemble(bpf.number(0, 1), bpf.leave())
    for code in (shortcut.connecting(family, 3, 4), shortcut.naming(family, 4)):
        assert code.endswith(end) and code.count(bpf.assemble(bpf.leave())) == 1


def test_lines_of_the_assembler() -> None:
    """As RFC 9669 writes them."""
    assert bpf.assemble(bpf.load_long(2, 6, 64)) == struct.pack("=BBhi", 0x79, 0x62, 64, 0)
    assert bpf.assemble(bpf.store_number(10, -8, 5)) == struct.pack("=BBhi", 0x62, 0x0A, -8, 5)
    assert bpf.assemble(bpf.count_up(8, 8, 0)) == struct.pack("=BBhi", 0xC3, 0x08, 8, 1)
    jump: list[Line | bpf.Label] = [bpf.jump("on"), bpf.number(0, 7), bpf.label("on"), bpf.leave()]
    assert bpf.assemble(*jump)[:8] == struct.pack("=BBhi", 0x05, 0, 1, 0)
