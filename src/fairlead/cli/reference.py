"""The reference pages, written from what they describe: settings from the table, commands from the parser.

    python -m fairlead.cli.reference DOCS     writes DOCS/reference/settings.md and cli.md

A test compares them with the files, so the manual cannot drift.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from fairlead.cli.catalog import COMMANDS, load
from fairlead.cli.command import Command
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
    return "\n".join([*lines, *_other_settings()]) + "\n"


def _other_settings() -> list[str]:
    """Those of dockerd that do nothing here, and those that we refuse."""
    lines = [
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
    return lines


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
        "TLS: `--tlsverify`, `--tlscacert`, `--tlscert`, `--tlskey`, or `$DOCKER_TLS_VERIFY` and `$DOCKER_CERT_PATH`.",
        "",
        "Exit codes: 0 well; 1 the engine refused, or the words are too many or too few; 125 the options make no",
        "sense or a container could not be made; 126 and 127 the command in the container cannot be executed or was",
        "not found; else what the container returned.",
        "",
        "Called by the name `docker` (a link will do), it calls itself so, too. Commands of the groups `container`,",
        "`image`, `system` that have a shorter name are told by that: `fairlead container ls` is `fairlead ps`.",
        "",
        "Completion: `source <(fairlead completion bash)` in `~/.bashrc`; `zsh` and `fish` likewise.",
        "",
    ]
    for name in COMMANDS:
        if name.startswith("_") or name in SAME:
            continue
        lines += _command(load(name), f"fairlead {name}")
    return "\n".join(lines)


SHORT = {place for name, place in COMMANDS.items() if " " not in name}
SAME = {name for name, place in COMMANDS.items() if " " in name and place in SHORT}
"""Commands of a group that are known by a shorter name, too."""


def _command(command: Command, typed: str) -> list[str]:
    lines = [f"## {typed}", "", command.help, ""]
    lines += [f"    {typed} {usage}".rstrip() for usage in command.usage.split("\n")]
    lines.append("")
    flags = [flag for flag in command.flags if flag.help]
    if flags:
        lines += ["| Option | |", "|---|---|"]
        lines += [f"| {' '.join(f'`{name}`' for name in flag.names)} | {_cell(flag.help)} |" for flag in flags]
        lines.append("")
    return lines


def _cell(text: str | None) -> str:
    return (text or "").replace("|", "\\|")


def main(folder: Path) -> None:
    (folder / "reference").mkdir(parents=True, exist_ok=True)
    (folder / "reference" / "settings.md").write_text(settings_page())
    (folder / "reference" / "cli.md").write_text(cli_page())


if __name__ == "__main__":
    main(Path(sys.argv[1]))
