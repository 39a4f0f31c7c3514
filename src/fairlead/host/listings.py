"""How a table lists that nobody touched: asked of the kernel once, remembered beyond this process.

    text of a table --made--> namespace nobody can reach --listed--> as it should list      once for each text
    found listing  == that?   remembered: mark of the text, mark of the listing             a line in a file

A returning engine compares the host's table (containers have none) with its text before it answers. Making the text
once more to see how it lists is most of that; that it listed like this before says the same.

Rules
    1. Only what the kernel itself listed for this text is remembered, and only equality is concluded from it: with any
       other listing the kernel is asked again. So an old file, or none, costs time and nothing else.
    2. The file is ours alone, and bounded: the newest ``KEPT`` lines survive a start.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

KEPT = 2000

_known: dict[str, str] = {}
_file: Path | None = None


def mark(text: str) -> str:
    """A few digits that tell one text from another. (No cryptography: who can change our tables can do anything.)"""
    data = text.encode()
    return f"{zlib.crc32(data):08x}{zlib.adler32(data):08x}{len(data):x}"


def remember(file: Path) -> None:
    """Know what an engine before us knew, and note what we learn for the next."""
    global _file
    _file = file
    _known.clear()
    with suppress(OSError):
        lines = file.read_text().splitlines()
        _known.update(line.split(" ", 1) for line in lines[-KEPT:] if " " in line)  # type: ignore[misc]
        if len(lines) > KEPT:
            file.write_text("".join(f"{line}\n" for line in lines[-KEPT:]))


def known(text: str, listing: str) -> bool:
    """Whether the kernel was seen to list ``text`` like this."""
    return _known.get(mark(text)) == mark(listing)


def intact(text: str, listing: str, as_it_should_list: Callable[[str], str]) -> bool:
    """Whether ``listing`` is how the kernel lists ``text``; where that is not known, ``as_it_should_list`` asks it."""
    key, found = mark(text), mark(listing)
    if _known.get(key) == found:
        return True
    if listing != as_it_should_list(text):
        return False
    _learn(key, found)
    return True


def _learn(key: str, found: str) -> None:
    """Remember it, here and for the next engine."""
    _known[key] = found
    if _file is not None:
        with suppress(OSError), _file.open("a") as out:
            out.write(f"{key} {found}\n")
