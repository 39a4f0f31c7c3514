"""Here-documents of a Dockerfile, said so that a builder that never heard of them builds the same.

    RUN <<EOF                RUN ["/bin/sh", "-c", "one\\ntwo\\n"]
    one
    two
    EOF

    COPY <<EOF /etc/x        COPY --from=here-documents 5feceb66…/EOF /etc/x        and that file, in a context
    hello $WHO               of its own, so that ``COPY .`` does not see it
    EOF

Rules (BuildKit's)
    1. A ``RUN`` that is nothing but one document gives it to the shell as its command; one that begins with ``#!`` is
       run by the program named there. In any other ``RUN`` the shell itself reads the documents.
    2. Documents of ``COPY`` and ``ADD`` are files, 0644. Variables in them are filled in, unless the name is quoted.
       They are what ``ARG``, ``ENV`` and the base say at that step.
    3. A file lies below a name made of what is in it, so the builder's cache knows when it changed.

What it does not do: documents in ``ONBUILD``; one step that copies documents and other files (refused).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

import msgspec

from fairlead.core.container import Config
from fairlead.core.digest import sha256
from fairlead.core.dockerfile import (
    HEREDOC,
    Document,
    Line,
    Recipe,
    escape_of,
    leading_arguments,
    lines_of,
    without_flags,
    words_of,
)
from fairlead.core.instructions import SHELL, environment, expand, pairs, words
from fairlead.errors import Invalid

CONTEXT = "here-documents"
"""What the builder knows the files by."""
_LONG = re.compile(r"(.{20000,}?\w)(?=\w)")
"""Builders read Dockerfiles by lines of 64 KiB at most, and lines that go on by pieces."""
_SIGN = re.compile(r"\\(?P<kept>.?)|\$(?:\w+|\{[^}]*\})", re.DOTALL)


def without(
    recipe: Recipe, arguments: Mapping[str, str | None], bases: Mapping[str, Config]
) -> tuple[str, dict[str, bytes]]:
    """The Dockerfile without here-documents, and the files that are to be in ``CONTEXT``, by path.

    ``bases``: of what the stages start from. Raises ``Invalid``."""
    if not any(line.documents for stage in recipe.stages for line in stage.lines):
        return recipe.text, {}
    said: dict[int, tuple[int, str]] = {}
    files: dict[str, bytes] = {}
    scopes: list[_Scope] = []
    goes_on = escape_of(recipe.text) + "\n"
    defaults = leading_arguments(recipe.leading, arguments)
    for stage in recipe.stages:
        base = stage.base
        scope = scopes[base].child() if isinstance(base, int) else _Scope(bases.get(base, Config()))
        scopes.append(scope)
        for line in stage.lines:
            if line.documents:
                text = _run(line, scope) if line.word == "RUN" else _copy(line, scope, files)
                said[line.number] = (line.last, _LONG.sub(lambda found: found[1] + goes_on, text))
            scope.hear(line, arguments, defaults)
    return "\n".join(_said_so(lines_of(recipe.text), said)) + "\n", files


def _said_so(physical: list[str], said: Mapping[int, tuple[int, str]]) -> Iterator[str]:
    number = 1
    while number <= len(physical):
        last, text = said.get(number, (number, physical[number - 1]))
        yield text
        number = last + 1


class _Scope:
    """What a stage's variables and its shell are, so far."""

    def __init__(self, base: Config) -> None:
        self.shell = list(base.shell or SHELL)
        self._env = environment(base)
        self._args: dict[str, str] = {}

    def child(self) -> _Scope:
        made = _Scope(Config())
        made.shell, made._env = list(self.shell), dict(self._env)
        return made

    @property
    def variables(self) -> dict[str, str]:
        return self._args | self._env

    def hear(self, line: Line, arguments: Mapping[str, str | None], defaults: Mapping[str, str]) -> None:
        if line.word == "ENV":
            self._env |= pairs("ENV", line.rest, self.variables)
        elif line.word == "SHELL":
            self.shell = _list(line.rest) or self.shell
        elif line.word == "ARG":
            for word in words(line.rest, self.variables):
                name, equals, value = word.partition("=")
                given = arguments.get(name)
                chosen = given if given is not None else value if equals else defaults.get(name)
                if chosen is not None:
                    self._args[name] = chosen


def _run(line: Line, scope: _Scope) -> str:
    command = without_flags(line.rest)[1]
    document, only = line.documents[0], len(words_of(command)) == 1
    script = _content(document)
    if only and script.startswith("#!"):
        program = script.partition("\n")[0].removeprefix("#!").strip()
        exact = f"exec {program} /dev/fd/3 3<<'{document.name}'\n{script}{document.name}\n"
        listed = [*SHELL, exact]
    elif only:
        listed = [*scope.shell, script]
    else:
        parts = (f"{each.text}{each.name}\n" for each in line.documents)
        listed = [*scope.shell, f"{command}\n{''.join(parts)}"]
    return " ".join(("RUN", *_flags(line), msgspec.json.encode(listed).decode()))


def _copy(line: Line, scope: _Scope, files: dict[str, bytes]) -> str:
    given, rest = without_flags(line.rest)
    *sources, target = words_of(rest)
    if "from" in given or HEREDOC.fullmatch(target) or not all(map(HEREDOC.fullmatch, sources)):
        raise Invalid(
            f"dockerfile parse error on line {line.number}: {line.word} takes here-documents and other files in steps"
            " of their own"
        )
    paths = []
    for document in line.documents:
        text = _content(document)
        content = (text if document.quoted else filled(text, scope.variables)).encode(errors="replace")
        path = f"{sha256(content).hexdigest()}/{document.name}"
        files[path] = content
        paths.append(path)
    return " ".join(("COPY", f"--from={CONTEXT}", *_flags(line), *paths, target))


def _flags(line: Line) -> list[str]:
    return line.rest[: len(line.rest) - len(without_flags(line.rest)[1])].split()


def _content(document: Document) -> str:
    lines = lines_of(document.text) if document.text else []
    return "".join(f"{line.lstrip(chr(9)) if document.dash else line}\n" for line in lines)


def filled(text: str, variables: Mapping[str, str]) -> str:
    """Variables replaced; a backslash keeps the sign behind it as it is, quotes are nothing special."""

    def value(found: re.Match[str]) -> str:
        return found["kept"] if found["kept"] is not None else expand(found[0], variables)

    return _SIGN.sub(value, text)


def _list(text: str) -> list[str]:
    try:
        return msgspec.json.decode(text, type=list[str])
    except (msgspec.DecodeError, UnicodeEncodeError):
        return []
