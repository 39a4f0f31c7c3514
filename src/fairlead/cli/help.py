"""Help pages: what ``--help`` shows, and ``help COMMAND``, in the shape of Docker's."""

from __future__ import annotations

from collections.abc import Iterable
from textwrap import wrap

from fairlead.cli.catalog import COMMANDS, GROUPS, PARTS, ROOT, find, load
from fairlead.cli.client import Client
from fairlead.cli.command import Command, Flag, Usage, command

WIDTH = 100


@command("[COMMAND...]", own_words=True)
def topic(client: Client, *words: str) -> int:
    """Show what COMMAND --help shows, of a command or a group of them."""
    program = client.typed.partition(" ")[0]
    name, after = find(words)
    group = words[0] if not name and words and words[0] in GROUPS else ""
    if after and after != [group]:
        raise Usage(f"unknown help topic: {after[1 if group else 0]}", 1)
    if name:
        print(command_page(load(name), " ".join([program, *words])))
    else:
        print(group_page(group, program) if group else root_page(program))
    return 0


def root_page(program: str) -> str:
    """All commands, groups first."""
    single = [name for name in COMMANDS if " " not in name and not name.startswith("_")]
    return "\n".join(
        [
            f"Usage:  {program} [OPTIONS] COMMAND\n\n{ROOT.help}\n",
            *_section("Groups of commands:", GROUPS.items()),
            *_section("Commands:", ((name, load(name).summary) for name in single)),
            *_section("Parts:", PARTS.items()),
            *_options(ROOT.flags),
            f"Run '{program} COMMAND --help' for more information on a command.",
        ]
    )


def group_page(group: str, program: str) -> str:
    """The commands of a group."""
    names = [name for name in COMMANDS if name.startswith(f"{group} ")]
    return "\n".join(
        [
            f"Usage:  {program} {group} COMMAND\n\n{GROUPS[group]}\n",
            *_section("Commands:", ((name.partition(" ")[2], load(name).summary) for name in names)),
            f"Run '{program} {group} COMMAND --help' for more information on a command.",
        ]
    )


def command_page(command: Command, typed: str) -> str:
    """One command and its options."""
    return "\n".join([f"Usage:  {command.shown(typed)}\n\n{command.help}\n", *_options(command.flags)]).rstrip()


def _section(title: str, rows: Iterable[tuple[str, str]]) -> list[str]:
    rows = list(rows)
    width = max(len(name) for name, _ in rows)
    return [title, *(f"  {name:<{width}}  {says}".rstrip() for name, says in rows), ""]


def _options(flags: Iterable[Flag]) -> list[str]:
    named = {names_of(flag): flag for flag in flags if flag.help}
    if not named:
        return []
    width = max(map(len, named))
    lines = []
    for name, flag in sorted(named.items(), key=lambda pair: pair[1].key):
        says = wrap(flag.help, max(30, WIDTH - width - 5))
        lines.append(f"  {name:<{width}}   {says[0]}")
        lines += [f"  {'':<{width}}   {line}" for line in says[1:]]
    return ["Options:", *lines, ""]


def names_of(flag: Flag) -> str:
    """``-f, --filter filter``; long names stand under each other."""
    short = [name for name in flag.names if len(name) == 2]
    long = [name for name in flag.names if len(name) > 2]
    start = f"{short[0]}, " if short else "    "
    return f"{start}{', '.join(long)} {flag.word}".rstrip()
