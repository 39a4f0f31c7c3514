"""Dockerfiles, as far as we have to know them before a build: which images it starts from, and plain mistakes.

    FROM ${BASE:-busybox} AS one        the image "busybox", under the stage name "one"
    COPY --from=redis:7 /x /y           the image "redis:7"
    BOGUS x                             dockerfile parse error on line 3: unknown instruction: BOGUS

And which steps it has (``recipe``): stage by stage up to the target, with the labels of the command line as steps of
their own, as the classic builder counts them. Everything else of a Dockerfile is the builder's.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from fairlead.core.instructions import expand
from fairlead.errors import Invalid

SCRATCH = "scratch"
INSTRUCTIONS = {
    *("ADD", "ARG", "CMD", "COPY", "ENTRYPOINT", "ENV", "EXPOSE", "FROM", "HEALTHCHECK", "LABEL", "MAINTAINER"),
    *("ONBUILD", "RUN", "SHELL", "STOPSIGNAL", "USER", "VOLUME", "WORKDIR"),
}
_MOUNT = re.compile(r"(?:^|\s)--mount=(?:\S*,)?from=([^,\s]+)")
_FLAG = re.compile(r"--([a-z-]+)=(\S+)\s+")
HEREDOC = re.compile(r"\d*<<(-?) ?([\"']?)([A-Za-z0-9_.]+)\2")
_WORD = re.compile(r"""(?:[^\s"'\\]|\\.|"(?:\\.|[^"\\])*"|'[^']*')+""")


class Document(NamedTuple):
    """A here-document: the lines behind a line with ``<<EOF``, up to one that says ``EOF``."""

    name: str
    text: str
    dash: bool
    """``<<-``: tabs at the beginning of its lines do not count"""
    quoted: bool
    """``<<"EOF"``: variables in it are none"""


class Line(NamedTuple):
    """A logical line: comments gone, continued lines joined."""

    number: int
    """of the physical line it begins at, from 1"""
    last: int
    """the physical line it ends at, its heredocs included"""
    word: str
    rest: str
    text: str
    """as written, for people"""
    documents: tuple[Document, ...] = ()


class Stage(NamedTuple):
    """``FROM`` and what follows. ``base``: an image, ``scratch``, or the number of an earlier stage."""

    base: str | int
    lines: tuple[Line, ...]


class Recipe(NamedTuple):
    """What is to be built: ``text`` ends with the target and the labels."""

    text: str
    leading: tuple[Line, ...]
    """``ARG`` before the first stage"""
    stages: tuple[Stage, ...]

    @property
    def steps(self) -> int:
        return len(self.leading) + sum(len(stage.lines) for stage in self.stages)


def check(text: str, name: str, target: str) -> None:
    """``Invalid``, in dockerd's words, for what is no Dockerfile at all. ``target``: the stage to end with, if any."""
    if not text.strip():
        raise Invalid(f"the Dockerfile ({name}) cannot be empty")
    stages = []
    for line in _lines(text):
        if line.word not in INSTRUCTIONS:
            raise Invalid(f"dockerfile parse error on line {line.number}: unknown instruction: {line.word}")
        if line.word == "FROM":
            stages.append(_stage_name(line.rest))
    if target and _target(stages, target) is None:
        raise Invalid(f'target stage "{target}" could not be found')


def recipe(text: str, arguments: Mapping[str, str | None], target: str, labels: Mapping[str, str]) -> Recipe:
    """The steps of a Dockerfile that ``check`` found to be one."""
    leading: list[Line] = []
    groups: list[list[Line]] = []
    for line in _lines(text):
        if line.word == "FROM":
            groups.append([])
        (groups[-1] if groups else leading).append(line)
    names = [_stage_name(group[0].rest) for group in groups]
    if target:
        groups = groups[: (_target(names, target) or 0) + 1]
    physical = lines_of(text)[: groups[-1][-1].last if groups else None]
    for name, value in sorted(labels.items()):
        quoted = " ".join(("LABEL", "=".join(_quoted(part, escape_of(text)) for part in (name, value))))
        physical.append(quoted)
        number = len(physical)
        groups[-1].append(Line(number, number, "LABEL", quoted, f"LABEL {name}={value}"))
    known = leading_arguments(leading, arguments)
    stages = [
        Stage(_base(expand(without_flags(group[0].rest)[1], known), names[:number]), tuple(group))
        for number, group in enumerate(groups)
    ]
    return Recipe("\n".join(physical) + "\n", tuple(leading), tuple(stages))


def _stage_name(rest: str) -> str:
    """``one`` of ``FROM a AS one``; "" without a name."""
    words = without_flags(rest)[1].lower().split()
    return words[2] if len(words) == 3 and words[1] == "as" else ""


def _target(names: list[str], target: str) -> int | None:
    """Which stage a target is, by name or number; a name given twice: the last."""
    if target.lower() in names:
        return len(names) - 1 - names[::-1].index(target.lower())
    return int(target) if target.isascii() and target.isdigit() and int(target) < len(names) else None


def _base(rest: str, earlier: list[str]) -> str | int:
    image = (rest.split() or [""])[0]
    named = image and image.lower() in earlier
    return len(earlier) - 1 - earlier[::-1].index(image.lower()) if named else image


def _quoted(text: str, escape: str) -> str:
    """A word that means just this text: no variable, no end of the word."""
    return '"' + "".join(escape + sign if sign in ('"', "$", escape) else sign for sign in text) + '"'


def leading_arguments(leading: Iterable[Line], arguments: Mapping[str, str | None]) -> dict[str, str]:
    """What ``FROM`` lines may name: the given ones, and the defaults before the first stage."""
    known = {name: value for name, value in arguments.items() if value is not None}
    for line in leading:
        if line.word == "ARG":
            name, _, value = line.rest.partition("=")
            known.setdefault(name.strip(), expand(value.strip().strip("\"'"), known))
    return known


def arguments(recipe: Recipe, stage: int, until: Line, given: Mapping[str, str | None]) -> tuple[str, ...]:
    """The build's arguments that a line of a stage has in its environment."""
    outer = leading_arguments(recipe.leading, given)
    known: dict[str, str] = {}
    for line in recipe.stages[stage].lines if stage < len(recipe.stages) else ():
        if line.number >= until.number > 0:
            break
        if line.word == "ARG":
            name, _, default = line.rest.partition("=")
            value = (
                given.get(name.strip()) or expand(default.strip().strip("\"'"), known) or outer.get(name.strip(), "")
            )
            known |= {name.strip(): value} if value else {}
    return tuple(f"{name}={value}" for name, value in known.items())


def bases(text: str, arguments: Mapping[str, str | None]) -> tuple[str, ...]:
    """The images a Dockerfile names, in order, each once, with arguments filled in. ``Invalid`` if it has no stage."""
    known = {name: value for name, value in arguments.items() if value is not None}
    stages: set[str] = {SCRATCH}
    found: list[str] = []
    began = False
    for line in _lines(text):
        word, rest = line.word, line.rest
        if word == "ARG" and not began:
            name, _, value = rest.partition("=")
            known.setdefault(name.strip(), expand(value.strip().strip("\"'"), known))
        elif word == "FROM":
            began = True
            parts = expand(without_flags(rest)[1], known).split()
            if not parts:
                raise Invalid("dockerfile parse error: FROM requires either one or three arguments")
            if parts[0].lower() not in stages:
                found.append(parts[0])
            if len(parts) == 3:
                stages.add(parts[2].lower())
        for source in _sources(word, rest):
            if source.lower() not in stages and not source.isdigit():
                found.append(expand(source, known))
    if not began:
        raise Invalid("no build stage in current context")
    return tuple(dict.fromkeys(found))


def _sources(word: str, rest: str) -> list[str]:
    """Stages or images that a line takes files from."""
    if word in ("COPY", "ADD"):
        return [source for source in [without_flags(rest)[0].get("from", "")] if source]
    return _MOUNT.findall(rest) if word == "RUN" else []


def without_flags(rest: str) -> tuple[dict[str, str], str]:
    """``--name=value`` words at its beginning, and what follows."""
    flags: dict[str, str] = {}
    while match := _FLAG.match(rest):
        flags[match[1]] = match[2]
        rest = rest[match.end() :]
    return flags, rest


def lines_of(text: str) -> list[str]:
    """Physical lines; only a line feed ends one."""
    return [line.removesuffix("\r") for line in text.removesuffix("\n").split("\n")]


def words_of(rest: str) -> list[str]:
    """As a shell would part them, quotes and all; ``<<`` and a name behind it are one."""
    found: list[str] = []
    for word in _WORD.findall(rest):
        if found and re.fullmatch(r"\d*<<-?", found[-1]):
            found[-1] += f" {word}"
        else:
            found.append(word)
    return found


def escape_of(text: str) -> str:
    """What continues a line at its end: as the first line says, else a backslash."""
    return "`" if re.match(r"\s*#\s*escape\s*=\s*`", text) else "\\"


def _lines(text: str) -> Iterator[Line]:
    escape = escape_of(text)
    physical = lines_of(text)
    whole, first, number = "", 0, 0
    while number < len(physical):
        line = physical[number]
        number += 1
        if line.lstrip().startswith("#") or (whole and not line.strip()):
            continue
        first = first if whole else number
        stripped = line.rstrip()
        if stripped.endswith(escape):
            whole += stripped[:-1]
            if number < len(physical):
                continue
            stripped = ""
        text_of_it = (whole + stripped).strip()
        whole = ""
        word, rest = [*text_of_it.split(None, 1), "", ""][:2]
        if word:
            documents, number = _documents(physical, number, word.upper(), rest)
            yield Line(first, number, word.upper(), rest.strip(), text_of_it, documents)


def _documents(physical: list[str], number: int, word: str, rest: str) -> tuple[tuple[Document, ...], int]:
    """The here-documents that begin behind a line, and the physical line after which the next logical one begins."""
    found: list[Document] = []
    for opening in words_of(rest) if word in ("RUN", "COPY", "ADD") else ():
        begin = HEREDOC.fullmatch(opening)
        if not begin:
            continue
        dash, quote, name = begin.groups()
        lines = [line.lstrip("\t") if dash else line for line in physical[number:]]
        if name in lines:
            body = physical[number : number + lines.index(name)]
            found.append(Document(name, "".join(f"{line}\n" for line in body), bool(dash), bool(quote)))
            number += len(body) + 1
        elif " " not in opening:  # else it may be arithmetic: 1 << 2
            raise Invalid(f"dockerfile parse error on line {number}: unterminated heredoc")
    return tuple(found), number
