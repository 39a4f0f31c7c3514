"""BPF: programs for the kernel, as lines that can be read.

    load(2, 6, 40)              r2 = *(u32 *)(r6 + 40)
    unless(2, 53, "not ours")   if w2 != 53: goto not ours        --assemble(…)-->  8 bytes a line, what bpf(2) takes
    label("not ours")

Registers are 0 to 10: 0 is what a helper or the program returns, 1 to 5 are what a helper is given (and forgets),
6 to 9 stay, 10 is the top of the stack. Numbers are compared as 32 bits.

Rules
    1. Only what a program of ours uses is here. A line that the kernel's verifier would refuse for what it does
       (not for how it is written) can be written: it will say so.
    2. Jumps name a label and go forward.

What it does not do: load anything (``host.bpf``). Source: RFC 9669, the instruction set.
"""

from __future__ import annotations

import struct
import sys
from typing import NamedTuple

_LOAD, _STORE, _MOVE, _COPY, _ADD = 0x61, 0x63, 0xB7, 0xBF, 0x07
_WIDE, _CALL, _EXIT = 0x18, 0x85, 0x95
_EQUAL, _DIFFERENT, _NULL = 0x16, 0x56, 0x15
_LOAD_LONG, _STORE_LONG, _STORE_NUMBER, _FETCH_ADD = 0x79, 0x7B, 0x62, 0xC3
_ADD_ANOTHER, _SHIFT, _REMAINDER = 0x0F, 0x67, 0x9C
_JUMP, _UNLIKE, _AT_LEAST = 0x05, 0x5E, 0x35
_MAP = 1
"""what a wide number is: the descriptor of a map"""


class Line(NamedTuple):
    """One instruction; ``goto`` is a label's name."""

    code: int
    target: int = 0
    source: int = 0
    offset: int = 0
    number: int = 0
    goto: str = ""


class Label(NamedTuple):
    """Where a jump leads."""

    name: str


def label(name: str) -> Label:
    return Label(name)


def number(register: int, value: int) -> Line:
    """register = value"""
    return Line(_MOVE, register, number=value)


def copy(target: int, source: int) -> Line:
    """target = source"""
    return Line(_COPY, target, source)


def add(register: int, value: int) -> Line:
    """register += value"""
    return Line(_ADD, register, number=value)


def load(target: int, source: int, offset: int) -> Line:
    """target = the 32 bits at source + offset"""
    return Line(_LOAD, target, source, offset)


def store(target: int, offset: int, source: int) -> Line:
    """the 32 bits at target + offset = source"""
    return Line(_STORE, target, source, offset)


def load_long(target: int, source: int, offset: int) -> Line:
    """target = the 64 bits at source + offset"""
    return Line(_LOAD_LONG, target, source, offset)


def store_long(target: int, offset: int, source: int) -> Line:
    """the 64 bits at target + offset = source"""
    return Line(_STORE_LONG, target, source, offset)


def store_number(target: int, offset: int, value: int) -> Line:
    """the 32 bits at target + offset = value"""
    return Line(_STORE_NUMBER, target, offset=offset, number=value)


def count_up(target: int, offset: int, register: int) -> Line:
    """the 32 bits at target + offset += register, which becomes what they were; nobody comes between. Linux 5.12"""
    return Line(_FETCH_ADD, target, register, offset, number=1)


def plus(target: int, source: int) -> Line:
    """target += source"""
    return Line(_ADD_ANOTHER, target, source)


def shift_left(register: int, bits: int) -> Line:
    """register <<= bits"""
    return Line(_SHIFT, register, number=bits)


def remainder(target: int, source: int) -> Line:
    """target %= source, both as 32 bits"""
    return Line(_REMAINDER, target, source)


def map_at(register: int, descriptor: int) -> Line:
    """register = a map, by the descriptor it has in the process that loads the program"""
    return Line(_WIDE, register, _MAP, number=descriptor)


def when(register: int, value: int, goto: str) -> Line:
    """to the label if the register's 32 bits are this number"""
    return Line(_EQUAL, register, number=value, goto=goto)


def unless(register: int, value: int, goto: str) -> Line:
    """to the label if they are not"""
    return Line(_DIFFERENT, register, number=value, goto=goto)


def unlike(register: int, other: int, goto: str) -> Line:
    """to the label if the two registers' 32 bits differ"""
    return Line(_UNLIKE, register, other, goto=goto)


def at_least(register: int, value: int, goto: str) -> Line:
    """to the label if all of the register is this number or more: a bound that the verifier believes of addresses"""
    return Line(_AT_LEAST, register, number=value, goto=goto)


def jump(goto: str) -> Line:
    """to the label"""
    return Line(_JUMP, goto=goto)


def null(register: int, goto: str) -> Line:
    """to the label if the pointer in it leads nowhere"""
    return Line(_NULL, register, goto=goto)


def call(helper: int) -> Line:
    """r0 = what that helper of the kernel returns"""
    return Line(_CALL, number=helper)


def leave() -> Line:
    """The program ends, and returns r0."""
    return Line(_EXIT)


def assemble(*lines: Line | Label) -> bytes:
    """The instructions in this machine's order of bytes; ``KeyError`` for a label that is nowhere."""
    places: dict[str, int] = {}
    at = 0
    for line in lines:
        if isinstance(line, Label):
            places[line.name] = at
        else:
            at += _size(line)
    code, at = b"", 0
    for line in lines:
        if isinstance(line, Line):
            at += _size(line)
            offset = places[line.goto] - at if line.goto else line.offset
            code += _written(line, offset) + bytes(8 * (_size(line) - 1))
    return code


def _size(line: Line) -> int:
    """How many places of eight bytes: a wide number's second half is in the next one."""
    return 2 if line.code == _WIDE else 1


def _written(line: Line, offset: int) -> bytes:
    registers = line.target | line.source << 4 if sys.byteorder == "little" else line.target << 4 | line.source
    number = line.number - (1 << 32) if line.number >= 1 << 31 else line.number
    return struct.pack("=BBhi", line.code, registers, offset, number)
