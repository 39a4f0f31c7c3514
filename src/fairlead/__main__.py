"""The way in: one command, and the name it was called by, decide which part of Fairlead runs.

    fairlead daemon …     the engine                (also: any call under the name dockerd)
    fairlead resolver …   the DNS process           (started by the engine)
    fairlead relay …      the port relay            (started by the engine)
    fairlead leases …     the DHCP clients          (started by the engine)
    fairlead lab …        many hosts on this machine, for learning and for tests
    fairlead …            everything else is the command line, which speaks only HTTP

The parts are imported only when called for, so that ``fairlead ps`` does not
pay for an engine. Exit codes are Docker's: 0 well, 1 refused or failed (also
options of the engine that make no sense), 125 a command line that makes none.
"""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Sequence


def main() -> int:
    """Run what ``sys.argv`` asks for; returns the exit code."""
    name, *words = sys.argv
    if os.path.basename(name) == "dockerd":
        return daemon(words, "dockerd")
    if words[:1] == ["help"] and words[1:] in (["daemon"], ["lab"]):
        words = [words[1], "--help"]
    if words[:1] == ["daemon"]:
        return daemon(words[1:], "fairlead daemon")
    if words[:1] == ["resolver"]:
        from fairlead.engine import resolver
        from fairlead.host.netns import socket_in
        from fairlead.host.steering import open_door

        return resolver.main(words[1:], socket_in, open_door)
    if words[:1] == ["relay"]:
        from fairlead.engine import relay

        return int(relay.main(words[1:]) or 0)
    if words[:1] == ["leases"]:
        from fairlead.engine import leases
        from fairlead.host import dhcp

        return leases.main(words[1:], dhcp)
    if words[:1] == ["lab"]:
        from fairlead.lab import command

        return command.main(words[1:])
    from fairlead.cli.main import main as command_line

    return command_line(words)


def daemon(words: Sequence[str], program: str) -> int:
    """Parse the engine's options and run it until it is told to stop."""
    from fairlead import later
    from fairlead.core import patterns

    gc.disable()  # all that is imported and restored stays; ``daemon`` turns it on again when it listens
    later.postpone()
    with patterns.everywhere():
        import logging  # noqa: F401  # it compiles four patterns, and asks one
    from fairlead import __version__, settings
    from fairlead.errors import Invalid

    try:
        wanted = settings.parse(words, program)
    except Invalid as problem:
        print(f"{program}: {problem.message}\nSee '{program} --help'.", file=sys.stderr)
        return 1
    if wanted.help:
        print(settings.usage(program))
        return 0
    if wanted.version:
        print(f"{program} (Fairlead) version {__version__}")
        return 0
    if wanted.validate:
        print("configuration OK")
        return 0
    from fairlead import daemon as engine

    return int(engine.main(wanted) or 0)


if __name__ == "__main__":
    sys.exit(main())
