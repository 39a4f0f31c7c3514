"""Go's complaints about JSON, and that the scanner takes exactly what a JSON parser takes."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairlead.api import gojson

SAID = [
    ("{bad", "invalid character 'b' looking for beginning of object key string"),
    ("", "unexpected EOF"),
    ("[1,]", "invalid character ']' looking for beginning of value"),
    ('{"a":1,}', "invalid character '}' looking for beginning of object key string"),
    ('{"a" 1}', "invalid character '1' after object key"),
    ('{"a":1 "b"}', "invalid character '\"' after object key:value pair"),
    ("[1 2]", "invalid character '2' after array element"),
    ('{"a":1', "unexpected EOF"),
    ("nul]", "invalid character ']' in literal null (expecting 'l')"),
    ('"\\x"', "invalid character 'x' in string escape code"),
    ('"\\u12g4"', "invalid character 'g' in \\u hexadecimal character escape"),
    ('"a\nb"', "invalid character '\\n' in string literal"),
    ("-x", "invalid character 'x' in numeric literal"),
    ("'", "invalid character '\\'' looking for beginning of value"),
    ("\x00", "invalid character '\\x00' looking for beginning of value"),
    ("[" * 20000, "exceeded max depth"),
]


@pytest.mark.parametrize(("text", "words"), SAID, ids=[text[:20] for text, _ in SAID])
def test_the_words(text: str, words: str) -> None:
    assert gojson.complaint(text) == words


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=12,
)


@given(VALUES, st.sampled_from([None, 2]))
def test_what_is_json_is_not_complained_about(value: object, indent: int | None) -> None:
    assert gojson.complaint(json.dumps(value, indent=indent)) == ""


@given(VALUES, st.data())
def test_agrees_with_a_parser_on_damaged_text(value: object, data: st.DataObject) -> None:
    text = json.dumps(value)
    at = data.draw(st.integers(0, max(0, len(text) - 1)))
    damaged = text[:at] + data.draw(st.sampled_from(list('{}[]",:x1 \n'))) + text[at + 1 :]
    try:
        json.JSONDecoder(strict=True).raw_decode(damaged.lstrip())
        well = True
    except ValueError:
        well = False
    if "NaN" not in damaged and "Infinity" not in damaged:
        assert (gojson.complaint(damaged) == "") == well
