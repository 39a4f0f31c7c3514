"""BPF written as lines: what bpf(2) is given."""

import struct

import pytest

from fairlead.core import bpf
from fairlead.errors import Unsupported
from fairlead.host import bpf as hands


def read(code: bytes) -> list[tuple[int, int, int, int]]:
    return [struct.unpack_from("=BBhi", code, at) for at in range(0, len(code), 8)]


def test_lines_are_the_instructions_of_rfc_9669() -> None:
    code = bpf.assemble(bpf.number(0, 1), bpf.copy(6, 1), bpf.load(2, 6, 40), bpf.store(10, -4, 3), bpf.leave())
    assert read(code) == [
        (0xB7, 0, 0, 1),
        (0xBF, 0x16, 0, 0),
        (0x61, 0x62, 40, 0),
        (0x63, 0x3A, -4, 0),
        (0x95, 0, 0, 0),
    ]


def test_jumps_lead_to_their_label_past_wide_numbers() -> None:
    code = bpf.assemble(
        bpf.unless(2, 53, "out"), bpf.map_at(1, 7), bpf.when(2, 53, "out"), bpf.call(1), bpf.label("out"), bpf.leave()
    )
    assert [line[2] for line in read(code)] == [4, 0, 0, 1, 0, 0]
    assert read(code)[1:3] == [(0x18, 0x11, 0, 7), (0, 0, 0, 0)], "a map takes two places"
    with pytest.raises(KeyError):
        bpf.assemble(bpf.null(0, "nowhere"))


def test_a_number_of_32_bits_may_have_the_highest_one() -> None:
    assert read(bpf.assemble(bpf.unless(2, 0xFE00007F, "out"), bpf.label("out")))[0][3] == 0xFE00007F - (1 << 32)


def test_a_kernel_that_lets_us_have_none_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    class Denying:
        def syscall(self, *words: object) -> int:
            hands.ctypes.set_errno(1)
            return -1

    monkeypatch.setattr(hands, "_libc", Denying())
    with pytest.raises(Unsupported, match=r"Operation not permitted.*CONFIG_BPF_SYSCALL"):
        hands.make_map(hands.SOCKMAP, 4, 8, 2)
