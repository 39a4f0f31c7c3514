"""Options as Docker's users type them: ``-itd``, ``--rm=false``, ``--opt k=v`` many times over.

click knows flags and values. Docker's switches can also be written with a
value (``--sig-proxy=false``), and everything after the image belongs to the
container, whatever it looks like. ``Command`` closes that gap; the small
parsers below turn texts into what the API wants, with Docker's complaints.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import click

from fairlead.errors import Invalid
from fairlead.options import size

YES = ("true", "1", "t", "T", "TRUE", "True")
NO = ("false", "0", "f", "F", "FALSE", "False")


class Command(click.Command):
    """A command whose switches also take ``=true`` and ``=false``. ``own_words``: options end at the first argument."""

    def __init__(self, *args: Any, own_words: bool = False, **more: Any) -> None:
        super().__init__(*args, **more)
        self.own_words = own_words
        if own_words:
            self.allow_interspersed_args = False

    def make_context(self, *args: Any, **more: Any) -> click.Context:
        return super().make_context(*args, **{"help_option_names": ["--help"], "max_content_width": 100, **more})

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        said: dict[str, bool] = {}
        rest = super().parse_args(ctx, list(self._without_switches(args, said)))
        ctx.params |= said
        return rest

    def _without_switches(self, args: list[str], said: dict[str, bool]) -> Iterator[str]:
        """The words without ``--switch=VALUE``, whose meaning goes to ``said``."""
        options = {name: each for each in self.params if isinstance(each, click.Option) for name in each.opts}
        words = iter(args)
        for word in words:
            if word == "--" or (self.own_words and not (word.startswith("-") and len(word) > 1)):
                yield word
                yield from words
                return
            name, equals, value = word.partition("=")
            option = options.get(name)
            if equals and option and option.is_flag and option.name:
                if value not in YES + NO:
                    raise click.UsageError(f'invalid argument "{value}" for "{name}" flag: invalid syntax')
                said[option.name] = value in YES
                continue
            yield word
            if _takes_next(word, options):
                yield from (following for following in [next(words, None)] if following is not None)


def _takes_next(word: str, options: Mapping[str, click.Option]) -> bool:
    """Whether the word after this one is its value (``--name x``, ``-itp 80:80``)."""
    if word.startswith("--"):
        option = options.get(word)
        return bool(option and not option.is_flag)
    if not word.startswith("-"):
        return False
    for place, letter in enumerate(word[1:], 2):
        option = options.get(f"-{letter}")
        if option and not option.is_flag:
            return place == len(word)
    return False


def switch(*names: str, default: bool = False, help: str = "") -> Callable[[Any], Any]:
    """A flag that is on or off."""
    if default:  # naming it says what is so already; only ``--x=false`` changes anything
        return click.option(
            *names, is_flag=True, flag_value=True, type=bool, default=True, help=help + " (default true)"
        )
    return click.option(*names, is_flag=True, help=help)


def many(*names: str, help: str = "") -> Callable[[Any], Any]:
    """A flag that may be given several times."""
    return click.option(*names, multiple=True, help=help)


form = click.option("--format", "form", default="", help="table, table TEMPLATE, json, or a Go template for each row.")
quiet = switch("-q", "--quiet", help="Only print ids.")
no_trunc = switch("--no-trunc", help="Do not shorten.")
filters = many("-f", "--filter", help="key=value; several allowed.")


def filter_query(pairs: Iterable[str]) -> dict[str, list[str]] | None:
    """``-f a=b -f a=c`` as the API has it."""
    query: dict[str, list[str]] = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals:
            raise Invalid(f'invalid argument "{pair}" for "-f, --filter" flag: invalid filter \'{pair}\'')
        query.setdefault(key.strip().lower(), []).append(value.strip())
    return query or None


def pairs_of(texts: Iterable[str]) -> dict[str, str]:
    """``k=v`` texts as a map; a bare ``k`` has the empty value."""
    return {key: value for key, _, value in (text.partition("=") for text in texts)}


def lines_of(files: Iterable[str]) -> Iterator[str]:
    """The lines of ``--env-file`` and ``--label-file`` that say something."""
    for name in files:
        try:
            text = Path(name).read_text()
        except OSError as problem:
            raise Invalid(f"open {name}: {(problem.strerror or '').lower()}") from None
        yield from (line.lstrip() for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#"))


def environment(files: Iterable[str], texts: Iterable[str]) -> list[str]:
    """``-e`` and ``--env-file``: a bare name takes our own value, and is left out when we have none."""
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


def memory(text: str) -> int:
    """Bytes of ``64m``; ``-1`` is unlimited, "" is 0."""
    return -1 if text == "-1" else size(text) if text else 0


def nanoseconds(text: str) -> int:
    """``1m30s``, ``250ms`` as nanoseconds; "" and ``0`` are 0."""
    if text in ("", "0"):
        return 0
    units = {"ns": 1, "us": 10**3, "µs": 10**3, "ms": 10**6, "s": 10**9, "m": 60 * 10**9, "h": 3600 * 10**9}
    parts = re.findall(r"(\d+(?:\.\d+)?)(ns|us|µs|ms|s|m|h)", text)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        raise Invalid(f'time: invalid duration "{text}"')
    return int(sum(float(number) * units[unit] for number, unit in parts))
