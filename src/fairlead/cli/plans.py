"""``fairlead plan``: what is wanted of the kernel; and, before a command, what that command would make.

    fairlead plan [WORD]                       what is wanted now
    fairlead plan network create --internal X  what that would add; nothing is made
    fairlead plan run -p 80:80 nginx

The rehearsed commands have the very options of the real ones.
"""

from __future__ import annotations

import sys
from typing import Any

import click

from fairlead.cli import create as creation
from fairlead.cli import networks, running
from fairlead.cli.client import Client
from fairlead.cli.options import Command
from fairlead.cli.running import pass_client


class Plans(click.Group):
    """The group of rehearsed commands; any other word is an owner's."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] in self.commands:
            return super().resolve_command(ctx, args)
        return "wanted", wanted, args


@click.group("plan", cls=Plans, invoke_without_command=True, subcommand_metavar="[WORD | COMMAND …]")
@click.pass_context
def plan(ctx: click.Context) -> int:
    """Show what the engine wants of the kernel, or what a command would make.

    WORD keeps what owners with that word in their name want. COMMAND is network create or run, with their options:
    everything is checked, nothing is made."""
    return int(ctx.invoke(wanted, word="") or 0) if ctx.invoked_subcommand is None else 0


@click.command("wanted", cls=Command)
@click.argument("word", required=False, default="")
@pass_client
def wanted(client: Client, word: str) -> int:
    """Show what the engine wants of the kernel, whose wish it is, and why."""
    found = client.call("GET", "/fairlead/plan", {"owner": word}) or []
    if word and not found:
        print(f"Nothing is wanted by an owner with {word!r} in its name.", file=sys.stderr)
    return show(found)


@plan.group("network")
def network() -> None:
    """Rehearse a command about networks."""


def network_create(client: Client, name: str, **flags: Any) -> int:
    """Show what the network would be made of."""
    answer = client.call("POST", "/fairlead/plan/networks/create", body=networks.wish(name, flags))
    return told(answer)


def run(client: Client, image: str, command: tuple[str, ...], detach: bool, sig_proxy: bool, **flags: Any) -> int:
    """Show what the container's networks would be made of."""
    body = creation.body(flags, image, command, detach=detach)
    return told(client.call("POST", "/fairlead/plan/containers/create", {"name": flags["name"]}, body))


network.add_command(
    Command(
        "create",
        params=networks.create.params,
        callback=pass_client(network_create),
        help=network_create.__doc__,
    )
)
plan.add_command(Command("run", params=running.run.params, callback=pass_client(run), help=run.__doc__, own_words=True))


def told(answer: dict[str, Any]) -> int:
    """What would be made, and the warnings."""
    for warning in answer["Warnings"]:
        print(f"WARNING: {warning}", file=sys.stderr)
    return show(answer["Plan"])


def show(found: list[dict[str, str]]) -> int:
    """A line an object below its owner, reasons behind them."""
    lines = [(item["Owner"], (item["Object"].splitlines() or [item["Kind"]])[0], item["Why"]) for item in found]
    width = min(72, max((len(line) for _, line, _ in lines), default=0))
    owner = ""
    for whose, line, why in lines:
        if whose != owner:
            print(owner := whose)
        print(f"    {line:<{width}}   # {why}" if why else f"    {line}")
    return 0
