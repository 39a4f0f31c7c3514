"""The reference pages, written from what they describe: settings from the table, commands from the parser.

    python -m fairlead.cli.reference DOCS     writes DOCS/reference/settings.md and cli.md

A test compares them with the files, so the manual cannot drift.
"""

from __future__ import annotations

import sys
from inspect import cleandoc
from pathlib import Path
from typing import Any

import click

from fairlead.cli.main import COMMANDS, cli
from fairlead.options import IGNORED, REFUSED, as_go
from fairlead.settings import PROGRAMS, table


def settings_page() -> str:
    """docs/reference/settings.md."""
    lines = [
        "# Settings of the engine",
        "",
        "Written from the table in `src/fairlead/settings.py` by `scripts/docs`; so is `fairlead daemon --help`.",
        "",
        "Every option can be a flag or a key of `daemon.json`, with dockerd's names and rules: given in both places is",
        "refused, an unknown key is refused by name. Run under the name `dockerd`, three defaults differ:",
        "",
        "| | `fairlead daemon` | `dockerd` |",
        "|---|---|---|",
    ]
    ours, theirs = PROGRAMS["fairlead daemon"], PROGRAMS["dockerd"]
    for word, name in (("socket", "hosts"), ("process id", "pidfile"), ("file of settings", "config_file")):
        lines.append(f"| {word} | `{_plain(ours[name])}` | `{_plain(theirs[name])}` |")
    lines += ["", "| Flag | Key | Kind | Default | What it does |", "|---|---|---|---|---|"]
    for option, default in table():
        flags = " ".join(f"`{flag}`" for flag in option.flags)
        key = f"`{option.key}`" if option.key else ""
        value = f"`{_plain(default)}`" if default not in ("", (), {}) else ""
        if option.name in ours:
            value = "see above"
        lines.append(f"| {flags} | {key} | {option.kind.word} | {value} | {option.says} |")
    lines += [
        "",
        "## Accepted, without effect",
        "",
        "Options of dockerd that have no meaning here. Each costs one line of warning.",
        "",
        "| Option | Why it has no effect |",
        "|---|---|",
    ]
    lines += [f"| `--{name}` | {reason} |" for name, reason in sorted(IGNORED.items())]
    lines += [
        "",
        "## Refused",
        "",
        "Options of dockerd that promise safety we do not give. The engine does not start with them.",
        "",
        "| Option | What would go wrong |",
        "|---|---|",
    ]
    lines += [f"| `{name}` | {reason} |" for name, reason in sorted(REFUSED.items())]
    return "\n".join(lines) + "\n"


def _plain(value: Any) -> str:
    return as_go(value[0]) if isinstance(value, tuple) and len(value) == 1 else as_go(value)


def cli_page() -> str:
    """docs/reference/cli.md."""
    lines = [
        "# The fairlead command",
        "",
        "Written from the parser (`scripts/docs`). The commands, flags, tables and exit codes are Docker's.",
        "",
        "Whom it talks to: `-H`, else `$FAIRLEAD_HOST`, else `$DOCKER_HOST`, else `/var/run/fairlead.sock`,",
        "else `/var/run/docker.sock`.",
        "",
        "Exit codes: 0 well; 1 the engine refused; 125 the command line makes no sense or a container could not be",
        "made; 126 and 127 the command in the container cannot be executed or was not found; else what the container",
        "returned.",
        "",
        "Completion: `source <(fairlead completion bash)` in `~/.bashrc`; `zsh` and `fish` likewise.",
        "",
    ]
    root = click.Context(cli, info_name="fairlead")
    for name in COMMANDS:
        command = cli.get_command(root, name)
        lines += _command(command, ["fairlead", name])
    return "\n".join(lines)


def _command(command: Any, words: list[str]) -> list[str]:
    if isinstance(command, click.Group):
        return [line for name, inner in command.commands.items() for line in _command(inner, [*words, name])]
    arguments = [_argument(each) for each in command.params if isinstance(each, click.Argument)]
    lines = [
        f"## {' '.join(words)}",
        "",
        cleandoc(command.help or ""),  # Python keeps the indentation until 3.12
        "",
        f"    {' '.join([*words, '[OPTIONS]', *arguments])}",
        "",
    ]
    options = [each for each in command.params if isinstance(each, click.Option)]
    if options:
        lines += ["| Option | |", "|---|---|"]
        lines += [f"| {' '.join(f'`{flag}`' for flag in each.opts)} | {_cell(each.help)} |" for each in options]
        lines.append("")
    return lines


def _argument(argument: click.Argument) -> str:
    name = (argument.name or "").upper() + ("..." if argument.nargs == -1 else "")
    return name if argument.required else f"[{name}]"


def _cell(text: str | None) -> str:
    return (text or "").replace("|", "\\|")


def main(folder: Path) -> None:
    (folder / "reference").mkdir(parents=True, exist_ok=True)
    (folder / "reference" / "settings.md").write_text(settings_page())
    (folder / "reference" / "cli.md").write_text(cli_page())


if __name__ == "__main__":
    main(Path(sys.argv[1]))
