"""Commands and their options, read the way Docker's client reads them.

    @command("stop", "[OPTIONS] CONTAINER [CONTAINER...]", complete=completing.containers)
    @option("-t", "--timeout", word="int", help="Seconds to wait before killing it.")
    def stop(client: Client, *containers: str, timeout: int | None) -> int:
        '''Stop running containers.'''

Rules
    1. The usage text is the grammar: words in brackets may be left out, ``...``
       repeats. Options become keyword arguments, the rest positional ones.
    2. ``-itd``, ``-p80:80``, ``-p=80``, ``--name x``, ``--name=x``, ``--rm=false`` and ``--``
       mean what they mean to Docker. ``own_words``: options end at the first word
       (what follows belongs to the container, whatever it looks like).
    3. An option that makes no sense is 125, a wrong number of words 1; both in
       Docker's words.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from fairlead.errors import FairleadError, Invalid

YES = ("true", "1", "t", "T", "TRUE", "True")
NO = ("false", "0", "f", "F", "FALSE", "False")


class Usage(FairleadError):
    """What was typed makes no sense; ``code`` is the exit code."""

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        self.code = code


class HelpWanted(Exception):
    """``--help`` was typed. ``remark``: what to say about the way it was."""

    def __init__(self, remark: str = "") -> None:
        super().__init__(remark)
        self.remark = remark


class Flag:
    """One option. ``word`` says what its value is ("" for a switch); ``key`` is the argument it becomes."""

    def __init__(
        self, names: Sequence[str], word: str, default: Any, help: str, many: bool, key: str = "",
        read: Callable[[str], Any] | None = None,
    ) -> None:  # fmt: skip
        self.names, self.word, self.default, self.help, self.many = names, word, default, help, many
        self.read = read or READERS.get(word, str)
        self.long = next((name for name in names if name.startswith("--")), names[0])
        self.key = key or self.long.lstrip("-").replace("-", "_")

    @property
    def title(self) -> str:
        """As complaints name it: ``-t, --timeout``."""
        return ", ".join([*(name for name in self.names if len(name) == 2), self.long])

    def value(self, text: str) -> Any:
        try:
            return self.read(text)
        except Invalid as problem:
            quoted = text.replace("\\", "\\\\").replace('"', '\\"')
            raise Usage(f'invalid argument "{quoted}" for "{self.title}" flag: {problem.message}', 125) from None


Complete = Callable[[Any, str], Iterable[str]]


class Command:
    """A function and its grammar. ``run(client, words)`` reads the words and calls it."""

    def __init__(
        self, function: Callable[..., int], usage: str, help: str, flags: Sequence[Flag],
        own_words: bool = False, complete: Complete | None = None,
    ) -> None:  # fmt: skip
        self.function, self.usage, self.help, self.flags = function, usage, help, flags
        self.own_words, self.complete = own_words, complete

    @property
    def summary(self) -> str:
        """The first line of the help."""
        return self.help.partition("\n")[0]

    def counts(self) -> tuple[int, int | None]:
        """How many words the usage asks for: fewest, most (None: any number)."""
        plain = self.usage.partition("\n")[0].replace("[OPTIONS]", "").replace(" | ", "|")
        optional = re.findall(r"(?:^|\s)\[(\S+?)(?: OPTIONS)?\](?=\s|$)", plain)
        needed = re.sub(r"(?:^|\s)\[.*?\](?=\s|$)", " ", plain).split()
        more = "..." in plain or " OPTIONS]" in plain
        return len(needed), None if more else len(needed) + len(optional)

    def parse(self, args: Sequence[str]) -> tuple[list[str], dict[str, Any]]:
        """(words, options) of what was typed."""
        values: dict[str, Any] = {flag.key: [] if flag.many else flag.default for flag in self.flags}
        names = {name: flag for flag in self.flags for name in flag.names}
        words: list[str] = []
        rest = list(args)
        while rest:
            arg = rest.pop(0)
            if arg == "--":
                return words + rest, values
            if arg.startswith("--"):
                self._long(arg, rest, names, values)
            elif arg.startswith("-") and arg != "-":
                self._short(arg, rest, names, values)
            elif self.own_words:
                return [*words, arg, *rest], values
            else:
                words.append(arg)
        return words, values

    def _long(self, arg: str, rest: list[str], names: dict[str, Flag], values: dict[str, Any]) -> None:
        name, equals, text = arg.partition("=")
        flag = names.get(name)
        if name == "--help" and not flag:
            raise HelpWanted
        if flag is None or len(name) == 3:
            raise Usage(f"unknown flag: {name}", 125)
        if not equals and flag.word:
            if not rest:
                raise Usage(f"flag needs an argument: {name}", 125)
            text = rest.pop(0)
        _set(flag, text if equals or flag.word else "true", values)

    def _short(self, arg: str, rest: list[str], names: dict[str, Flag], values: dict[str, Any]) -> None:
        for place, letter in enumerate(arg[1:], 2):
            flag = names.get(f"-{letter}")
            if flag is None:
                if letter == "h":
                    raise HelpWanted("Flag shorthand -h has been deprecated, use --help")
                raise Usage(
                    f"unknown shorthand flag: '{letter}' in {arg if place == 2 else '-' + arg[place - 1 :]}", 125
                )
            after = arg[place:]
            if flag.word or after.startswith("="):
                if not after and not rest:
                    raise Usage(f"flag needs an argument: '{letter}' in {arg}", 125)
                _set(flag, after.removeprefix("=") if after else rest.pop(0), values)
                return
            _set(flag, "true", values)

    def run(self, client: Any, args: Sequence[str]) -> int:
        """Read the words, see that they are as many as they should be, do it."""
        words, values = self.parse(args)
        self.check(len(words), client.typed)
        return int(self.function(client, *words, **values) or 0)

    def check(self, count: int, typed: str) -> None:
        fewest, most = self.counts()
        if count >= fewest and (most is None or count <= most):
            return
        hint = "Run"
        if most == 0:
            wants = "accepts no arguments"
        elif most is None:
            wants, hint = f"requires at least {_arguments(fewest)}", "See"
        elif fewest == most:
            wants = f"requires {_arguments(fewest)}"
        elif fewest == 0:
            wants = f"requires at most {_arguments(most)}"
        else:
            wants = f"requires at least {fewest} and at most {_arguments(most)}"
        program = typed.partition(" ")[0]
        said = f"{program}: '{typed}' {wants}\n\nUsage:  {self.shown(typed)}"
        raise Usage(f"{said}\n\n{hint} '{typed} --help' for more information", 1)

    def shown(self, typed: str) -> str:
        """``fairlead stop [OPTIONS] CONTAINER …``; a second way to use it on a line of its own."""
        return "\n\t".join(f"{typed} {line}".rstrip() for line in self.usage.split("\n"))


def _arguments(count: int) -> str:
    return f"{count} argument" + "s" * (count != 1)


def _set(flag: Flag, text: str, values: dict[str, Any]) -> None:
    value = flag.value(text)
    if not flag.many:
        values[flag.key] = value
    elif flag.word == "strings":
        values[flag.key] += value.split(",")
    else:
        values[flag.key].append(value)


# What an option's text means


def truth(text: str) -> bool:
    if text not in YES + NO:
        raise Invalid(f'strconv.ParseBool: parsing "{text}": invalid syntax')
    return text in YES


def number(text: str) -> int:
    if not re.fullmatch(r"[+-]?\d+", text):
        raise Invalid(f'strconv.ParseInt: parsing "{text}": invalid syntax')
    if len(text) > 19:
        raise Invalid(f'strconv.ParseInt: parsing "{text}": value out of range')
    return int(text)


def natural(text: str) -> int:
    """A number that is not negative."""
    if not re.fullmatch(r"\d+", text):
        raise Invalid(f'strconv.ParseUint: parsing "{text}": invalid syntax')
    if int(text) >= 2**64:
        raise Invalid(f'strconv.ParseUint: parsing "{text}": value out of range')
    return int(text)


def ratio(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise Invalid(f'strconv.ParseFloat: parsing "{text}": invalid syntax') from None


def nanoseconds(text: str) -> int:
    """``1m30s``, ``250ms`` as nanoseconds; "" and ``0`` are 0."""
    if text in ("", "0"):
        return 0
    units = {"ns": 1, "us": 10**3, "µs": 10**3, "ms": 10**6, "s": 10**9, "m": 60 * 10**9, "h": 3600 * 10**9}
    if not re.fullmatch(r"([0-9]{1,18}(\.[0-9]{1,18})?(ns|us|µs|ms|s|m|h))+", text):
        raise Invalid(f'time: invalid duration "{text}"')
    parts = re.findall(r"([0-9.]+)([a-zµ]+)", text)
    return int(sum(float(number) * units[unit] for number, unit in parts))


def memory(text: str) -> int:
    """Bytes of ``64m``; ``-1`` is unlimited, "" is 0."""
    from fairlead.options import size

    return -1 if text == "-1" else size(text) if text else 0


def cpus(text: str) -> int:
    """``1.5`` CPUs as 10⁻⁹ of a CPU."""
    from fractions import Fraction

    try:
        if not -(10**9) < float(text or 0) < 10**9:  # looked at first: 1e999999999 is long when written out
            raise ValueError
        nano = Fraction(text or 0) * 10**9
    except (ValueError, OverflowError):
        raise Invalid(f"failed to parse {text} as a rational number") from None
    if nano.denominator != 1:
        raise Invalid("value is too precise")
    return int(nano)


def limit(text: str) -> dict[str, Any]:
    """``nofile=1024:2048`` in the API's keys."""
    from fairlead.options import ulimit

    name, both = ulimit(text)
    return {"Name": name, "Soft": both.soft, "Hard": both.hard}


def condition(text: str) -> tuple[str, str]:
    """``key=value`` of a filter."""
    key, equals, value = text.partition("=")
    if not equals:
        raise Invalid("bad format of filter (expected name=value)")
    return key.strip().lower(), value.strip()


READERS: dict[str, Callable[[str], Any]] = {
    "": truth, "int": number, "bytes": memory, "duration": nanoseconds, "decimal": cpus, "ulimit": limit,
    "filter": condition, "uint": natural, "uint32": natural, "float": ratio,
}  # fmt: skip


# How to write one


def option(
    *names: str, word: str = "string", default: Any = "", help: str = "", many: bool = False, key: str = "",
    read: Callable[[str], Any] | None = None,
) -> Callable[..., Any]:  # fmt: skip
    """An option of the function below. ``word``: what its value is; the value's kind follows from it, or from ``read``.
    Without ``help`` it works, but is shown nowhere."""

    def add(function: Any) -> Any:
        flag = Flag(names, word, default, help, many, key, read)
        function.__dict__.setdefault("flags", []).insert(0, flag)
        return function

    return add


def switch(*names: str, default: bool = False, help: str = "", key: str = "") -> Callable[..., Any]:
    """An option that is on or off."""
    return option(*names, word="", default=default, help=help + " (default true)" if default else help, key=key)


def integer(*names: str, default: int | None = None, help: str = "") -> Callable[..., Any]:
    """An option that is a number; None when it was not said."""
    return option(*names, word="int", default=default, help=help)


def many(
    *names: str, word: str = "list", help: str = "", read: Callable[[str], Any] | None = None
) -> Callable[..., Any]:
    """An option that may be given several times. ``strings``: or once, with commas."""
    return option(*names, word=word, help=help, many=True, read=read)


def command(usage: str = "", *, own_words: bool = False, complete: Complete | None = None) -> Callable[..., Command]:
    """Makes a command of the function; its docstring is the help."""

    def make(function: Callable[..., int]) -> Command:
        lines = (function.__doc__ or "").strip().splitlines()
        help = "\n".join(line.strip() for line in lines)
        return Command(function, usage, help, getattr(function, "flags", []), own_words, complete)

    return make


form = option("--format", key="form", help="table, table TEMPLATE, json, or a Go template for each row.")
one_form = option("-f", "--format", key="form", help="json, or a Go template.")
quiet = switch("-q", "--quiet", help="Only print ids.")
no_trunc = switch("--no-trunc", help="Do not shorten.")
filters = many("-f", "--filter", word="filter", help="key=value; several allowed.")
long_filters = many("--filter", word="filter", help="key=value; several allowed.")
force = switch("-f", "--force", help="Do not ask.")


def filter_query(pairs: Iterable[tuple[str, str]]) -> dict[str, list[str]] | None:
    """``-f a=b -f a=c`` as the API has it."""
    query: dict[str, list[str]] = {}
    for key, value in pairs:
        query.setdefault(key, []).append(value)
    return query or None


def pairs_of(texts: Iterable[str]) -> dict[str, str]:
    """``k=v`` texts as a map; a bare ``k`` has the empty value."""
    return {key: value for key, _, value in (text.partition("=") for text in texts)}


def content(name: str) -> bytes:
    """What is in a file that was named; ``Invalid`` in Go's words when it cannot be read."""
    try:
        with open(name, "rb") as file:
            return file.read()
    except OSError as problem:
        raise Invalid(f"open {name}: {(problem.strerror or '').lower()}") from None


def lines_of(files: Iterable[str]) -> Iterator[str]:
    """The lines of ``--env-file`` and ``--label-file`` that say something."""
    for name in files:
        text = content(name).decode()
        yield from (line.lstrip() for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#"))


def environment(files: Iterable[str], texts: Iterable[str]) -> list[str]:
    """``-e`` and ``--env-file``: a bare name takes our own value, and is left out when we have none."""
    import os

    found = []
    for text in (*lines_of(files), *texts):
        name, equals, _ = text.partition("=")
        if not name:
            raise Invalid(f"invalid environment variable: {text}")
        if equals:
            found.append(text)
        elif name in os.environ:
            found.append(f"{name}={os.environ[name]}")
    return found


def confirmed(warning: str, between: str = "\n") -> bool:
    """Ask, as ``prune`` does; only ``y`` is yes."""
    import sys

    print(f"{warning}{between}Are you sure you want to continue? [y/N] ", end="", flush=True)
    return sys.stdin.readline().strip().lower() in ("y", "yes")
