"""Templates: the part of Go's text/template that people type after ``--format``, and in the words of services.

    {{.Name}}  {{.State.Pid}}  {{json .}}  {{index .Ports "80/tcp" 0}}  {{join .Names ", "}}
    {{range .Mounts}}{{.Source}} {{end}}   {{range $name, $net := .Networks}}…{{else}}…{{end}}
    {{if eq .State "running"}}…{{else if .Dead}}…{{else}}…{{end}}   {{with .Health}}…{{end}}
    pipes  {{.Names | upper}},  parentheses,  $variables,  {{- trims -}},  {{/* comments */}}

    text --tokens--> pieces --parse--> nodes --render(data)--> text

Values are what JSON gives: dict, list, str, numbers, bool, None. They print as
Go prints them (``map[a:1]``, ``[x y]``, ``<no value>``).

A callable value takes the words after it as arguments (``{{.Label "color"}}``).

What it does not do: named templates, ``printf`` verbs beyond %s %d %v %q %t %x.
A word it does not know is ``Invalid``, never silently empty.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

from fairlead.errors import Invalid


def _bad(why: str) -> Invalid:
    return Invalid(f"template parsing error: template: :1: {why}")


class _Failed(Exception):
    """Filling in went wrong at ``word``, ``offset`` letters into it."""

    def __init__(self, word: str, why: str, offset: int = 0) -> None:
        super().__init__(why)
        self.word, self.why, self.offset = word, why, offset


# What is in a template


class Text(NamedTuple):
    text: str


class Show(NamedTuple):
    pipe: list[str]


class Block:
    """``if``, ``range`` or ``with``: what to look at, what to do, what else to do."""

    def __init__(self, kind: str, pipe: list[str]) -> None:
        self.kind, self.pipe = kind, pipe
        self.body: list[Any] = []
        self.other: list[Any] = []


_PIECES = re.compile(r"\{\{(- )?(.*?)( -)?\}\}", re.S)
_WORDS = re.compile(r"""\s*("(?:\\.|[^"\\])*"|`[^`]*`|:=|[()|,=]|[^\s()|,"`=:]+)""")


def words_of(code: str) -> list[str]:
    """The words of one action, quoted strings whole."""
    found: list[str] = []
    place = 0
    code = code.strip()
    while place < len(code):
        match = _WORDS.match(code, place)
        if not match:
            raise _bad(f"unexpected {code[place:]!r} in action")
        found.append(match[1])
        place = match.end()
    return found


def parse(source: str) -> list[Any]:
    """A template as nodes; raises ``Invalid`` when it does not hang together."""
    top: list[Any] = []
    here, stack = top, list[tuple[Block, list[Any]]]()
    place, trim = 0, False
    for match in _PIECES.finditer(source):
        text = source[place : match.start()]
        text = text.lstrip() if trim else text
        text = text.rstrip() if match[1] else text
        place, trim = match.end(), bool(match[3])
        if text:
            here.append(Text(text))
        words = [] if match[2].strip().startswith("/*") else words_of(match[2])
        if words:
            here = _place(words, here, stack)
    rest = source[place:]
    if "{{" in rest:
        raise _bad("unclosed action")
    if stack:
        raise _bad("unexpected EOF")
    here.append(Text(rest.lstrip() if trim else rest))
    return top


def _place(words: list[str], here: list[Any], stack: list[tuple[Block, list[Any]]]) -> list[Any]:
    """Put one action where it belongs; returns the list that the next one goes to."""
    if words[0] in ("if", "range", "with"):
        block = Block(words[0], words[1:])
        here.append(block)
        stack.append((block, here))
        return block.body
    if words[0] in ("else", "end") and not stack:
        raise _bad(f"unexpected {{{{{words[0]}}}}}")
    if words[0] == "else":
        block, _ = stack[-1]
        if words[1:2] == ["if"]:
            inner = Block("if", words[2:])
            block.other.append(inner)
            stack[-1] = (inner, stack[-1][1])
            return inner.body
        return block.other
    if words[0] == "end":
        return stack.pop()[1]
    here.append(Show(words))
    return here


# What a template says of some data


def render(source: str, data: Any, words: Mapping[str, Any] = {}) -> str:
    """The template filled from ``data``. What goes wrong is told with its place, as Go tells it.

    ``words``: further functions.
    """
    nodes = parse(source)
    try:
        return _Renderer(data, words).run(nodes, data)
    except _Failed as problem:
        before = source[: max(0, source.find(problem.word))]
        line, column = before.count("\n") + 1, len(before) - before.rfind("\n") - 1 + problem.offset
        raise Invalid(
            f'template parsing error: template: :{line}:{column}: executing "" at <{problem.word}>: {problem.why}'
        ) from None


class _Renderer:
    def __init__(self, data: Any, words: Mapping[str, Any]) -> None:
        self.variables: dict[str, Any] = {"$": data}
        self.words = words

    def run(self, nodes: list[Any], dot: Any) -> str:
        return "".join(self._node(node, dot) for node in nodes)

    def _node(self, node: Any, dot: Any) -> str:
        if isinstance(node, Text):
            return node.text
        if isinstance(node, Show):
            name, pipe = self._assignment(node.pipe)
            value = self.value(pipe, dot)
            if name:
                self.variables[name[0]] = value
                return ""
            return show(value)
        names, pipe = self._assignment(node.pipe)
        value = self.value(pipe, dot)
        if not truth(value):
            return self.run(node.other, dot)
        if node.kind == "range":
            return self._range(node, names, value)
        if names:
            self.variables[names[0]] = value
        return self.run(node.body, value if node.kind == "with" else dot)

    def _range(self, node: Block, names: list[str], value: Any) -> str:
        if isinstance(value, dict):
            pairs = sorted(value.items())
        elif isinstance(value, list | tuple):
            pairs = list(enumerate(value))
        else:
            raise _bad(f"range can't iterate over {show(value)}")
        said = []
        for key, item in pairs:
            if names:
                self.variables |= {names[-1]: item} if len(names) == 1 else {names[0]: key, names[1]: item}
            said.append(self.run(node.body, item))
        return "".join(said)

    def _assignment(self, words: list[str]) -> tuple[list[str], list[str]]:
        """``$k, $v := pipe`` -> (["$k", "$v"], pipe)."""
        for sign in (":=", "="):
            if sign in words:
                cut = words.index(sign)
                return [word for word in words[:cut] if word != ","], words[cut + 1 :]
        return [], words

    def value(self, words: list[str], dot: Any) -> Any:
        """A pipeline: commands joined by ``|``, each result the last argument of the next."""
        commands, depth = [list[str]()], 0
        for word in words:
            depth += (word == "(") - (word == ")")
            if word == "|" and not depth:
                commands.append([])
            else:
                commands[-1].append(word)
        piped: list[Any] = []
        for command in commands:
            piped = [self._command(command, dot, piped)]
        return piped[0]

    def _command(self, words: list[str], dot: Any, piped: list[Any]) -> Any:
        if not words:
            raise _bad("missing value for command")
        if words[0] in FUNCTIONS:
            return _call(words[0], [*self._operands(words[1:], dot), *piped])
        values = self._operands(words, dot)
        if callable(values[0]):
            return values[0](*values[1:], *piped)
        if len(values) > 1 or piped:
            raise _bad(f"can't give argument to non-function {words[0]}")
        return values[0]

    def _operands(self, words: list[str], dot: Any) -> list[Any]:
        values = []
        rest = list(words)
        while rest:
            word = rest.pop(0)
            if word != "(":
                values.append(self._operand(word, dot))
                continue
            inner, depth = list[str](), 1
            while rest and depth:
                inner.append(rest.pop(0))
                depth += (inner[-1] == "(") - (inner[-1] == ")")
            if depth:
                raise _bad("unclosed left paren")
            value = self.value(inner[:-1], dot)
            if rest and rest[0].startswith("."):
                value = follow(value, rest.pop(0))
            values.append(value)
        return values

    def _operand(self, word: str, dot: Any) -> Any:
        if word.startswith("."):
            return follow(dot, word)
        if word.startswith("$"):
            name, point, rest = word.partition(".")
            if name not in self.variables:
                raise _bad(f'undefined variable "{name}"')
            return follow(self.variables[name], point + rest) if point else self.variables[name]
        if word[0] in '"`':
            return _unquoted(word) if word[0] == '"' else word[1:-1]
        if word in ("true", "false", "nil"):
            return {"true": True, "false": False, "nil": None}[word]
        if re.fullmatch(r"-?[0-9]{1,18}", word):
            return int(word)
        if word in FUNCTIONS:
            return _call(word, [])
        if word in self.words:
            return self.words[word]
        raise _bad(f'function "{word}" not defined')


def _unquoted(word: str) -> str:
    try:
        return str(json.loads(word))
    except ValueError:
        raise _bad(f"invalid syntax: {word}") from None


def follow(value: Any, path: str) -> Any:
    """``.A.b`` from a value; a name that is not there is refused, as with Docker."""
    offset = 0
    for name in path.split(".")[1:]:
        if not name:
            continue
        if value is None:
            return None
        if not isinstance(value, Mapping):
            raise _Failed(path, f"can't evaluate field {name} in type {_kind(value)}", offset)
        if name not in value and hasattr(value, "nothing"):  # a map whose type is known
            return None
        if name not in value:
            if isinstance(value, Sparse) and name in value.absent:
                value = value.absent[name]
                offset += len(name) + 1
                continue
            raise _Failed(path, f'map has no entry for key "{name}"', offset)
        value = value[name]
        offset += len(name) + 1
    return value


def _kind(value: Any) -> str:
    """A value's type, in Go's words."""
    names = {bool: "bool", int: "int", float: "float64", str: "string", list: "[]interface {}"}
    return names.get(type(value), "interface {}")


def truth(value: Any) -> bool:
    """Go's idea of empty: false, 0, nil, and anything of length zero."""
    return bool(value)


def show(value: Any) -> str:
    """A value as Go's ``%v`` prints it. One that knows better how it looks has a method for it, ``shown``."""
    if value is None:
        return "<no value>"
    if isinstance(value, bool):
        return str(value).lower()
    if hasattr(value, "shown"):
        return str(value.shown())
    if isinstance(value, Mapping):
        return "map[" + " ".join(f"{key}:{inner(item)}" for key, item in sorted(value.items())) + "]"
    if isinstance(value, list | tuple):
        return "[" + " ".join(map(inner, value)) + "]"
    return str(value)


def inner(value: Any) -> str:
    """The same within something else."""
    return "<nil>" if value is None else show(value)


class NilList(list[Any]):
    """A list that is not there: it prints and counts as an empty one, and is null in JSON."""


class NilMap(dict[str, Any]):
    """The same for a map."""


class NilPointer:
    """To a structure that is not there."""

    def __bool__(self) -> bool:
        return False

    def __str__(self) -> str:
        return "<nil>"


class Sparse(dict[str, Any]):
    """A map of which it is known what else could be in it: asking for that is no mistake."""

    absent: Mapping[str, Any] = MappingProxyType({})


def _json(value: Any) -> str:
    if hasattr(value, "as_json"):
        return str(value.as_json())
    value = getattr(value, "sent", value)
    if isinstance(value, Mapping):
        value = {key: item for key, item in value.items() if not callable(item)} if value else value
    return json.dumps(_plain(value), separators=(",", ":"), ensure_ascii=False)


def _plain(value: Any) -> Any:
    if isinstance(value, NilList | NilMap | NilPointer):
        return None
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list) else value


def _call(name: str, arguments: list[Any]) -> Any:
    deed = FUNCTIONS[name]
    wants = getattr(getattr(deed, "__code__", None), "co_argcount", None)
    several = getattr(getattr(deed, "__code__", None), "co_flags", 0) & 4
    if wants is not None and not several and len(arguments) != wants:
        raise _Failed(name, f"wrong number of args for {name}: want {wants} got {len(arguments)}")
    try:
        return deed(*arguments)
    except (TypeError, ValueError, KeyError, IndexError, AttributeError) as problem:
        raise _Failed(name, f"error calling {name}: {problem}") from None


def _index(value: Any, *keys: Any) -> Any:
    for key in keys:
        if value is None:
            return None
        if isinstance(value, Mapping):
            value = value.get(key, getattr(value, "nothing", None))
        elif isinstance(key, int) and 0 <= key < len(value):
            value = value[key]
        else:
            raise IndexError(f"index out of range: {key}")
    return value


def _printf(pattern: str, *values: Any) -> str:
    rest = list(values)

    def one(match: re.Match[str]) -> str:
        if match[0] == "%%":
            return "%"
        value = rest.pop(0)
        if match[2] == "q":
            return json.dumps(value)
        if match[2] in "dx":
            return str(f"%{match[1]}{match[2]}" % value)
        return f"%{match[1]}s" % show(value)

    return re.sub(r"%(-?\d{0,4}(?:\.\d{1,4})?)([sdvqtx%])", one, pattern)


def _order(values: tuple[Any, ...], test: Callable[[Any, Any], bool]) -> bool:
    first, *others = values
    return any(test(first, other) for other in others)


WIDEST = 10_000
"""Spaces that a template may ask for at once."""
FUNCTIONS: dict[str, Callable[..., Any]] = {
    "json": _json,
    "index": _index,
    "len": len,
    "join": lambda items, separator: separator.join(items or []),
    "split": lambda text, separator: text.split(separator),
    "upper": lambda text: text.upper(),
    "lower": lambda text: text.lower(),
    "title": lambda text: text.title(),
    "truncate": lambda text, length: text[:length],
    "pad": lambda text, before, after: " " * min(before, WIDEST) + text + " " * min(after, WIDEST) if text else text,
    "println": lambda *values: " ".join(map(show, values)) + "\n",
    "print": lambda *values: "".join(map(show, values)),
    "printf": _printf,
    "eq": lambda *values: _order(values, lambda a, b: a == b),
    "ne": lambda a, b: a != b,
    "lt": lambda a, b: a < b,
    "le": lambda a, b: a <= b,
    "gt": lambda a, b: a > b,
    "ge": lambda a, b: a >= b,
    "not": lambda value: not truth(value),
    "and": lambda *values: next((value for value in values if not truth(value)), values[-1]),
    "or": lambda *values: next((value for value in values if truth(value)), values[-1]),
    "slice": lambda value, *ends: value[slice(*ends)],
}
