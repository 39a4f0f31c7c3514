"""What Go would say about a broken JSON text: the words a Docker client shows its user.

Parsing itself is msgspec's. Only when that fails is the text walked once more,
by this scanner, to find the character at which Go's own scanner stops and the
sentence it says there. It accepts and rejects what RFC 8259 does.

    {bad          invalid character 'b' looking for beginning of object key string
    {"a":1        unexpected EOF
    [1,]          invalid character ']' looking for beginning of value

Rule: it never recurses, so a million opening brackets are only a long loop.
"""

from __future__ import annotations

from fairlead.core.patterns import pattern

_SPACE = " \t\r\n"
_NUMBER = pattern(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?")
_WORDS = {"t": "true", "f": "false", "n": "null"}
_CLOSING = {"{": "}", "[": "]"}
_ESCAPES = '"\\/bfnrt'
_HEX = "0123456789abcdefABCDEF"
DEEPEST = 10000
"""Go's own limit on nesting."""


class _Stop(Exception):
    """Where and why Go would have stopped."""


def complaint(text: str) -> str:
    """Go's sentence about the first error in ``text``; "" when its first value is well formed."""
    try:
        _Scanner(text).value()
    except _Stop as stop:
        return str(stop)
    return ""


def _quote(character: str) -> str:
    if character == "'":
        return r"'\''"
    if character == '"':
        return "'\"'"
    if character.isprintable():
        return f"'{character}'"
    named = {"\n": r"\n", "\t": r"\t", "\r": r"\r", "\b": r"\b", "\f": r"\f", "\v": r"\v", "\a": r"\a"}
    return "'" + named.get(character, f"\\x{ord(character):02x}" if ord(character) < 256 else character) + "'"


class _Scanner:
    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0

    def _peek(self) -> str:
        """The next character that is not space."""
        while self._at < len(self._text) and self._text[self._at] in _SPACE:
            self._at += 1
        return self._here()

    def _here(self) -> str:
        if self._at >= len(self._text):
            raise _Stop("unexpected EOF")
        return self._text[self._at]

    def _fail(self, context: str) -> _Stop:
        return _Stop(f"invalid character {_quote(self._here())} {context}")

    def value(self) -> None:
        """One whole value. ``open_`` holds a bracket a level: the opening one while fresh, then the closing one."""
        open_: list[str] = []
        self._begin(open_)
        while open_:
            if len(open_) > DEEPEST:
                raise _Stop("exceeded max depth")
            self._step(open_)

    def _begin(self, open_: list[str]) -> None:
        first = self._peek()
        if first in "{[":
            self._at += 1
            open_.append(first)
        else:
            self._scalar(first)

    def _step(self, open_: list[str]) -> None:
        """The innermost container's end, or its next member up to the beginning of the value."""
        fresh, end = open_[-1] in "{[", _CLOSING.get(open_[-1], open_[-1])
        here = self._peek()
        if here == end:
            self._at += 1
            open_.pop()
            return
        if not fresh:
            if here != ",":
                raise self._fail("after object key:value pair" if end == "}" else "after array element")
            self._at += 1
        open_[-1] = end
        if end == "}":
            self._key()
        self._begin(open_)

    def _key(self) -> None:
        if self._peek() != '"':
            raise self._fail("looking for beginning of object key string")
        self._string()
        if self._peek() != ":":
            raise self._fail("after object key")
        self._at += 1

    def _scalar(self, first: str) -> None:
        if first == '"':
            self._string()
        elif first in _WORDS:
            self._word(_WORDS[first])
        elif first == "-" or (first.isascii() and first.isdigit()):
            self._number()
        else:
            raise self._fail("looking for beginning of value")

    def _word(self, word: str) -> None:
        for index, letter in enumerate(word):
            if self._here() != letter:
                raise self._fail(f"in literal {word} (expecting {_quote(word[index])})")
            self._at += 1

    def _number(self) -> None:
        found = _NUMBER.match(self._text, self._at)
        if found is None:
            self._at += 1
            raise self._fail("in numeric literal")
        self._at = found.end()

    def _string(self) -> None:
        self._at += 1
        while (here := self._here()) != '"':
            if here < " ":
                raise self._fail("in string literal")
            self._at += 1
            if here == "\\":
                self._escape()
        self._at += 1

    def _escape(self) -> None:
        here = self._here()
        if here == "u":
            for _ in range(4):
                self._at += 1
                if self._here() not in _HEX:
                    raise self._fail("in \\u hexadecimal character escape")
        elif here not in _ESCAPES:
            raise self._fail("in string escape code")
        self._at += 1
