"""Dockerfiles, as far as we have to know them before a build: which images it starts from, and plain mistakes.

    FROM ${BASE:-busybox} AS one        the image "busybox", under the stage name "one"
    COPY --from=redis:7 /x /y           the image "redis:7"
    BOGUS x                             dockerfile parse error on line 3: unknown instruction: BOGUS

Everything else of a Dockerfile is the builder's.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from fairlead.core.instructions import expand
from fairlead.errors import Invalid

SCRATCH = "scratch"
INSTRUCTIONS = {
    *("ADD", "ARG", "CMD", "COPY", "ENTRYPOINT", "ENV", "EXPOSE", "FROM", "HEALTHCHECK", "LABEL", "MAINTAINER"),
    *("ONBUILD", "RUN", "SHELL", "STOPSIGNAL", "USER", "VOLUME", "WORKDIR"),
}
_MOUNT = re.compile(r"(?:^|\s)--mount=(?:\S*,)?from=([^,\s]+)")
_FLAG = re.compile(r"--([a-z-]+)=(\S+)\s+")


def check(text: str, name: str, target: str) -> None:
    """``Invalid``, in dockerd's words, for what is no Dockerfile at all. ``target``: the stage to end with, if any."""
    if not text.strip():
        raise Invalid(f"the Dockerfile ({name}) cannot be empty")
    stages = []
    for line, word, rest in _lines(text):
        if word not in INSTRUCTIONS and "<<" not in text:  # a heredoc's lines are no instructions
            raise Invalid(f"dockerfile parse error on line {line}: unknown instruction: {word}")
        if word == "FROM":
            stages.append((rest.split() or [""])[-1].lower())
    if target and target.lower() not in stages and not (target.isdigit() and int(target) < len(stages)):
        raise Invalid(f'target stage "{target}" could not be found')


def bases(text: str, arguments: Mapping[str, str | None]) -> tuple[str, ...]:
    """The images a Dockerfile names, in order, each once, with arguments filled in. ``Invalid`` if it has no stage."""
    known = {name: value for name, value in arguments.items() if value is not None}
    stages: set[str] = {SCRATCH}
    found: list[str] = []
    began = False
    for _, word, rest in _lines(text):
        if word == "ARG" and not began:
            name, _, value = rest.partition("=")
            known.setdefault(name.strip(), expand(value.strip().strip("\"'"), known))
        elif word == "FROM":
            began = True
            parts = expand(_without_flags(rest)[1], known).split()
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
        return [source for source in [_without_flags(rest)[0].get("from", "")] if source]
    return _MOUNT.findall(rest) if word == "RUN" else []


def _without_flags(rest: str) -> tuple[dict[str, str], str]:
    flags: dict[str, str] = {}
    while match := _FLAG.match(rest):
        flags[match[1]] = match[2]
        rest = rest[match.end() :]
    return flags, rest


def _lines(text: str) -> Iterator[tuple[int, str, str]]:
    """(number, instruction, rest) of every logical line: comments gone, continued lines joined."""
    escape = "`" if re.match(r"\s*#\s*escape\s*=\s*`", text) else "\\"
    whole, first = "", 0
    for number, line in enumerate(text.splitlines(), 1):
        if line.lstrip().startswith("#") or (whole and not line.strip()):
            continue
        stripped, first = line.rstrip(), first if whole else number
        if stripped.endswith(escape):
            whole += stripped[:-1] + " "
            continue
        word, _, rest = (whole + stripped).strip().partition(" ")
        whole = ""
        if word:
            yield first, word.upper(), rest.strip()
    if whole.strip():
        word, _, rest = whole.strip().partition(" ")
        yield first, word.upper(), rest.strip()
