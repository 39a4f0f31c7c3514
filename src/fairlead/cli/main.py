"""The command line: finds the command that was typed, and turns every failure into words and an exit code.

    fairlead [-H host] COMMAND …

Rules
    1. Only the module of the command that was typed is imported (``COMMANDS``).
    2. Commands return their exit code. What goes wrong comes here as one of our
       errors and leaves as one line on standard error.
    3. 125: the command line itself makes no sense. 1: the engine refused.
       130: interrupted. Commands that run something return what it returned.

What it does not do: anything itself. All it knows, it asks over HTTP.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence

import click

from fairlead import __version__
from fairlead.cli.client import Client, Refused
from fairlead.errors import FairleadError

COMMANDS = {
    "run": "running:run",
    "create": "running:create",
    "exec": "running:execute",
    "start": "running:start",
    "attach": "running:attach",
    "ps": "containers:ps",
    "inspect": "containers:inspect",
    "logs": "containers:logs",
    "port": "containers:port",
    "top": "containers:top",
    "diff": "containers:diff",
    "stop": "containers:stop",
    "restart": "containers:restart",
    "kill": "containers:kill",
    "pause": "containers:pause",
    "unpause": "containers:unpause",
    "rename": "containers:rename",
    "wait": "containers:wait",
    "rm": "containers:rm",
    "network": "networks:network",
    "images": "images:images",
    "image": "images:image",
    "pull": "images:pull",
    "import": "images:import_",
    "load": "images:load",
    "save": "images:save",
    "tag": "images:tag",
    "rmi": "images:rmi",
    "volume": "volumes:volume",
    "events": "system:events",
    "plan": "plans:plan",
    "doctor": "doctor:doctor",
    "explain": "explain:explain",
    "info": "system:info",
    "version": "system:version",
    "completion": "system:completion",
}
"""Command -> where it lives below ``fairlead.cli``; in the order of the help page."""

PARTS = {
    "daemon": "Run the engine (also under the name dockerd).",
    "lab": "Many hosts on this machine, for learning and for tests.",
}
"""Commands that ``fairlead.__main__`` runs before click is asked; here only for the help page."""


class Lazy(click.Group):
    """A group that imports a command when it is typed."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        place = COMMANDS.get(cmd_name)
        if place is None:
            return None
        module, _, name = place.partition(":")
        command: click.Command = getattr(importlib.import_module(f"fairlead.cli.{module}"), name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        super().format_commands(ctx, formatter)
        with formatter.section("Parts"):
            formatter.write_dl(list(PARTS.items()))


@click.command("fairlead", cls=Lazy, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("-H", "--host", default="", help="Engine to talk to: unix:///path or tcp://address:port.")
@click.option("--tls", is_flag=True, help="Use TLS.")
@click.option(
    "--tlsverify", is_flag=True, envvar="DOCKER_TLS_VERIFY", help="Use TLS and check the engine's certificate."
)
@click.option("--tlscerts", default="", envvar="DOCKER_CERT_PATH", help="Folder of ca.pem, cert.pem and key.pem.")
@click.version_option(__version__, "-v", "--version", message="fairlead %(version)s")
@click.pass_context
def cli(ctx: click.Context, host: str, tls: bool, tlsverify: bool, tlscerts: str) -> None:
    """Gives containers their networks. Speaks Docker's API to the engine; start that with: fairlead daemon."""
    ctx.obj = Client(host, tls=tls, verify=tlsverify, certificates=tlscerts)


def main(words: Sequence[str]) -> int:
    """Run one command line; returns the exit code."""
    try:
        code = cli.main(list(words), prog_name="fairlead", standalone_mode=False, complete_var="_FAIRLEAD_COMPLETE")
        sys.stdout.flush()
        return int(code or 0)
    except click.exceptions.Exit as end:
        return end.exit_code
    except click.exceptions.NoArgsIsHelpError as problem:
        problem.show()
        return 0 if not words else 125
    except click.UsageError as problem:
        problem.show()
        return 125
    except click.ClickException as problem:
        problem.show()
        return 1
    except (click.Abort, KeyboardInterrupt):
        return 130
    except Refused as problem:
        print(f"Error response from daemon: {problem.message}", file=sys.stderr)
    except FairleadError as problem:
        print(problem.message, file=sys.stderr)
    except BrokenPipeError:
        sys.stderr.close()  # whoever read us is gone; so is the need to say more
    return 1
