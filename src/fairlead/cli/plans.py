"""``fairlead plan``: what is wanted of the kernel; and, before a command, what that command would make.

    fairlead plan [WORD]                       what is wanted now
    fairlead plan network create --internal X  what that would add; nothing is made
    fairlead plan run -p 80:80 nginx

The rehearsed commands have the very options of the real ones.
"""

from __future__ import annotations

import sys
from typing import Any

from fairlead.cli import completing, networks, running
from fairlead.cli import create as creation
from fairlead.cli.client import Client
from fairlead.cli.command import Command, command


@command("[WORD]")
def wanted(client: Client, word: str = "") -> int:
    """Show what the engine wants of the kernel, whose wish it is, and why.

    WORD keeps what owners with that word in their name want. plan network create and plan run take the options of
    the real commands: everything is checked, nothing is made."""
    found = client.call("GET", "/fairlead/plan", {"owner": word}) or []
    if word and not found:
        print(f"Nothing is wanted by an owner with {word!r} in its name.", file=sys.stderr)
    return show(found)


def _network_create(client: Client, name: str, **flags: Any) -> int:
    """Show what the network would be made of."""
    return told(client.call("POST", "/fairlead/plan/networks/create", body=networks.wish(name, flags)))


def _run(client: Client, image: str, *words: str, detach: bool, sig_proxy: bool, **flags: Any) -> int:
    """Show what the container's networks would be made of."""
    body = creation.body(flags, image, words, detach=detach)
    return told(client.call("POST", "/fairlead/plan/containers/create", {"name": flags["name"]}, body))


network_create = Command(_network_create, networks.create.usage, _network_create.__doc__ or "", networks.create.flags)
run = Command(
    _run, running.run.usage, _run.__doc__ or "", running.run.flags, own_words=True, complete=completing.images
)


def told(answer: dict[str, Any]) -> int:
    """What would be made, and the warnings."""
    for warning in answer["Warnings"]:
        print(f"WARNING: {warning}", file=sys.stderr)
    if not answer["Plan"]:  # macvlan and ipvlan networks on a device that is there; --network host
        print("Nothing of the kernel would be made.", file=sys.stderr)
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
