"""``.dockerignore``: which files of a folder are no part of the build.

    # comment      *.log      **/node_modules      docs/?.md      !docs/a.md

A file is left out when the last pattern that matches it, or a folder above it,
does not begin with ``!``. Patterns are relative to the folder of the build.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from fairlead.errors import Invalid


def patterns(text: str) -> list[tuple[bool, re.Pattern[str]]]:
    """(leave out?, what) of each line that says something."""
    found = []
    for line in text.removeprefix("\ufeff").splitlines():
        if line.startswith("#") or not line.strip():
            continue
        word = line.strip()
        keep = word.startswith("!")
        plain = posixpath.normpath(word.lstrip("!").strip()).lstrip("/")
        if plain != ".":
            found.append((not keep, re.compile(_expression(plain) + r"(?:/.*)?")))
    return found


def _expression(pattern: str) -> str:
    """A pattern as a regular expression; ``*`` and ``?`` stop at slashes, ``**`` does not."""
    done, place = "", 0
    while place < len(pattern):
        letter = pattern[place]
        if pattern.startswith("**/", place):
            done, place = done + "(?:.*/)?", place + 3
            continue
        if pattern.startswith("**", place):
            done, place = done + ".*", place + 2
            continue
        if letter == "[":
            end = pattern.find("]", place + 1)
            if end < 0:
                raise Invalid(f"error checking context: syntax error in pattern: {pattern}")
            done, place = done + pattern[place : end + 1], end
        elif letter == "\\" and place + 1 < len(pattern):
            place += 1
            done += re.escape(pattern[place])
        else:
            done += {"*": "[^/]*", "?": "[^/]"}.get(letter) or re.escape(letter)
        place += 1
    return done


def ignored(name: str, rules: Iterable[tuple[bool, re.Pattern[str]]]) -> bool:
    """Whether the last rule that matches says so."""
    answer = False
    for leave, pattern in rules:
        if pattern.fullmatch(name):
            answer = leave
    return answer


def context(folder: Path, rules: list[tuple[bool, re.Pattern[str]]], always: set[str]) -> Iterator[tuple[str, str]]:
    """(name, path) of every file of the build. An ignored folder is entered only where a ``!`` could save something."""
    exceptions = any(not leave for leave, _ in rules)

    def below(here: Path, prefix: str) -> Iterator[tuple[str, str]]:
        for entry in sorted(here.iterdir()):
            name = f"{prefix}{entry.name}"
            left_out = name not in always and ignored(name, rules)
            if not left_out:
                yield name, str(entry)
            enter = not left_out or exceptions or any(one.startswith(f"{name}/") for one in always)
            if enter and entry.is_dir() and not entry.is_symlink():
                yield from below(entry, f"{name}/")

    return below(folder, "")
