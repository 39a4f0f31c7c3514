"""Durations for people, times for machines."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairlead.api import times
from fairlead.errors import Invalid


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0, "Less than a second"),
        (0.99, "Less than a second"),
        (1, "1 second"),
        (3.7, "3 seconds"),
        (59.9, "59 seconds"),
        (60, "About a minute"),
        (119, "About a minute"),
        (120, "2 minutes"),
        (59 * 60 + 59, "59 minutes"),
        (3600, "About an hour"),
        (3600 * 1.49, "About an hour"),
        (3600 * 1.5, "2 hours"),
        (3600 * 47, "47 hours"),
        (3600 * 48, "2 days"),
        (86400 * 13, "13 days"),
        (86400 * 14, "2 weeks"),
        (86400 * 60, "2 months"),
        (86400 * 365 * 2, "2 years"),
    ],
)
def test_human(seconds: float, words: str) -> None:
    assert times.human(seconds) == words


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1136073600", 1136073600 * 10**9),
        ("1136073600.000000001", 1136073600 * 10**9 + 1),
        ("1136073600.5", 1136073600 * 10**9 + 5 * 10**8),
        ("2006-01-01T00:00:00Z", 1136073600 * 10**9),
        ("2006-01-01T01:00:00+01:00", 1136073600 * 10**9),
        ("2006-01-01T00:00:00.000000007Z", 1136073600 * 10**9 + 7),
        ("2006-01-01", 1136073600 * 10**9),
        ("2006-01-01T00:00", 1136073600 * 10**9),
        ("10m", 10**18 - 600 * 10**9),
        ("1h30m", 10**18 - 5400 * 10**9),
        ("1.5s", 10**18 - 15 * 10**8),
        ("0", 0),
    ],
)
def test_timestamp(text: str, expected: int) -> None:
    assert times.timestamp(text, 10**18) == expected


@pytest.mark.parametrize("text", ["x", "10", "2006-13-01", "2006-01-01T99:00:00Z", "-", "1h2"])
def test_no_timestamp(text: str) -> None:
    if text == "10":
        assert times.timestamp(text, 0) == 10 * 10**9
    else:
        with pytest.raises(Invalid):
            times.timestamp(text, 0)


@given(st.integers(0, 4 * 10**18))
def test_text_and_back(moment: int) -> None:
    assert times.nanoseconds(times.text(moment)) == moment
