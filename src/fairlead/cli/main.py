"""The command line: finds the command that was typed, and turns every failure into words and an exit code.

    fairlead [-H host] COMMAND …

Rules
    1. Only the module of the command that was typed is imported (``cli.catalog``).
    2. Commands return their exit code. What goes wrong comes here as one of our
       errors and leaves as one line on standard error.
    3. 125: the options make no sense. 1: the words do not, or the engine refused.
       130: interrupted. Commands that run something return what it returned.
    4. Called by the name docker, we call ourselves so too.

What it does not do: anything itself. All it knows, it asks over HTTP.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from fairlead import __version__
from fairlead.cli.catalog import GROUPS, ROOT, find, load
from fairlead.cli.client import Client, Refused, Tls
from fairlead.cli.command import HelpWanted, Usage
from fairlead.errors import FairleadError


def _client(values: dict[str, object]) -> Client:
    """Whom the options and the environment say to talk to, and how."""
    hosts = values["host"]
    assert isinstance(hosts, list)
    if len(hosts) > 1:
        raise Usage("Specify only one -H", 1)
    if values["config"]:
        os.environ["DOCKER_CONFIG"] = str(values["config"])
    if values["context"] not in ("", "default"):
        raise Usage(f'context "{values["context"]}": context not found', 1)
    verify = bool(values["tlsverify"] or os.environ.get("DOCKER_TLS_VERIFY"))
    tls = None
    if verify or values["tls"] or os.environ.get("DOCKER_TLS"):
        folder = os.environ.get("DOCKER_CERT_PATH") or os.path.expanduser("~/.docker")
        pairs = (("tlscacert", "ca.pem"), ("tlscert", "cert.pem"), ("tlskey", "key.pem"))
        files = [str(values[flag] or os.path.join(folder, file)) for flag, file in pairs]
        tls = Tls(verify, *files)
    return Client(hosts[0] if hosts else "", tls)


def _dispatch(words: Sequence[str], program: str) -> int:
    typed, usage = program, ROOT
    try:
        rest, values = ROOT.parse(words)
        if values["version"]:
            print(f"Fairlead version {__version__}")
            return 0
        client = _client(values)
        name, after = find(rest)
        if not name:
            return _group(rest, program)
        typed = " ".join([program, *rest[: len(rest) - len(after)]])
        client.typed, usage = typed, load(name)
        return usage.run(client, after)
    except HelpWanted as asked:
        from fairlead.cli.help import command_page, root_page

        print(asked.remark, file=sys.stderr) if asked.remark else None
        print(root_page(program) if usage is ROOT else command_page(usage, typed))
        return 0
    except Usage as problem:
        print(problem.message, file=sys.stderr)
        if problem.code == 125:
            print(f"\nUsage:  {usage.shown(typed)}\n\nRun '{typed} --help' for more information", file=sys.stderr)
        return problem.code


def _group(words: Sequence[str], program: str) -> int:
    """No command was typed, or none that is known."""
    from fairlead.cli.help import group_page, root_page

    if not words:
        print(root_page(program))
        return 0
    group = words[0] if words[0] in GROUPS else ""
    typed = f"{program} {group}".rstrip()
    after = words[1:] if group else words
    if group and (not after or after[0] in ("--help", "-h")):
        print(group_page(group, program))
        return 0
    if after[0].startswith("-"):
        raise Usage(
            f"unknown flag: {after[0]}\n\nUsage:  {typed} COMMAND\n\nRun '{typed} --help' for more information", 1
        )
    hint = f"\n\nUsage:  {typed}" if group else ""
    said = f"{program}: unknown command: {typed} {after[0]}{hint}\n\nRun '{typed} --help' for more information"
    raise Usage(said, 1)


def main(words: Sequence[str]) -> int:
    """Run one command line; returns the exit code."""
    program = "docker" if os.path.basename(sys.argv[0]) == "docker" else "fairlead"
    try:
        code = _dispatch(words, program)
        sys.stdout.flush()
        return code
    except KeyboardInterrupt:
        return 130
    except Refused as problem:
        print(f"Error response from daemon: {problem.message}", file=sys.stderr)
    except FairleadError as problem:
        print(problem.message, file=sys.stderr)
        return int(getattr(problem, "code", 1))
    except BrokenPipeError:
        sys.stderr.close()  # whoever read us is gone; so is the need to say more
    return 1
