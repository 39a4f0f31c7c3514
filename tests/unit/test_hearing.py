"""Both mouths of a program, heard in order."""

import os

from fairlead.host.hearing import LARGEST, Ear


async def heard(ear: Ear) -> list[tuple[str, bool]]:
    return [line async for line in ear.lines()]


async def test_a_complaint_comes_before_what_was_said_after_it() -> None:
    ear = Ear()
    os.write(ear.error, b"oh\nno")
    os.write(ear.out, b"so\n")
    assert await heard(ear) == [("oh\n", True), ("so\n", False), ("no", True)]


async def test_lines_end_with_a_line_feed_or_a_carriage_return() -> None:
    ear = Ear()
    os.write(ear.out, b"10%\r20%\r\nrest")
    assert [line for line, _ in await heard(ear)] == ["10%\r", "20%\r\n", "rest"]


async def test_a_line_without_end_comes_in_pieces() -> None:
    ear = Ear()
    os.set_blocking(ear.out, False)
    sent = os.write(ear.out, b"x" * LARGEST)
    assert "".join(line for line, _ in await heard(ear)) == "x" * sent


async def test_nothing_stays_open() -> None:
    before = set(os.listdir("/proc/self/fd"))
    ear = Ear()
    lines = ear.lines()
    os.write(ear.out, b"a\nb\n")
    assert await anext(lines) == ("a\n", False)
    await lines.aclose()  # type: ignore[attr-defined]
    assert set(os.listdir("/proc/self/fd")) == before
