"""Patterns are what ``re.compile`` makes of them, from the first question on and not before."""

from __future__ import annotations

import re

import pytest

from fairlead.core.patterns import everywhere, pattern


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


def test_whoever_is_imported_meanwhile_compiles_late() -> None:
    real = re.compile
    with everywhere():
        late = re.compile("[")
        good = re.compile("a+")
    assert re.compile is real and good.fullmatch("aa") is not None
    with pytest.raises(re.error):
        late.search("")
