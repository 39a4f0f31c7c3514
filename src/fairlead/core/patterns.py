"""Patterns: regular expressions that are compiled when one is first asked, and most are not asked at a start.

    _ID = pattern(r"[0-9a-f]{64}")        takes a microsecond
    _ID.fullmatch(text)                   compiles, the first time; costs what ``re`` costs ever after

For a module's constants that a start does not use; to everyone but ``pattern`` it is what ``re.compile`` returns. A
mistake in the expression shows at its first use.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, AnyStr, cast

_compile = re.compile


def pattern(text: AnyStr, flags: re.RegexFlag = re.NOFLAG) -> re.Pattern[AnyStr]:
    """``re.compile(text, flags)``, at its first use."""
    return cast("re.Pattern[AnyStr]", _Pattern(text, flags))


@contextmanager
def everywhere() -> Iterator[None]:
    """Whoever says ``re.compile`` meanwhile gets such a one: for importing what compiles more than it asks."""
    re.compile = pattern  # type: ignore[assignment]
    try:
        yield
    finally:
        re.compile = _compile


class _Pattern:
    def __init__(self, text: Any, flags: re.RegexFlag) -> None:
        self._asked = text, flags

    def __getattr__(self, name: str) -> Any:
        """Called for what is not there yet; what was found stays."""
        found = self.__dict__[name] = getattr(_compile(*self._asked), name)
        return found
