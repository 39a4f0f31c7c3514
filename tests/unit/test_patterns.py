"""Patterns are what ``re.compile`` makes of them, from the first question on and not before."""

from __future__ import annotations

import re

from fairlead.core.patterns import pattern


def test_it_is_the_expression_itself_to_who_asks() -> None:
    word = pattern(r"(?P<first>[a-z])[a-z]*", re.IGNORECASE)
    found = word.fullmatch("Harbour")
    assert found and found["first"] == "H"
    assert not word.fullmatch("8080") and word.sub("x", "a b") == "x x" and word.groups == 1
    assert pattern(rb"\d+").findall(b"80:8080") == [b"80", b"8080"]


def test_it_is_compiled_when_it_is_first_asked() -> None:
    wrong = pattern("(")
    try:
        wrong.match("")
    except re.error:
        return
    raise AssertionError("compiled by somebody else?")
