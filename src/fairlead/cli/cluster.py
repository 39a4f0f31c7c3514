"""``fairlead cluster``: the hosts that share networks, and the key that seals their gossip."""

from __future__ import annotations

from typing import Any

from fairlead.cli import tables
from fairlead.cli.client import Client
from fairlead.cli.command import command, form, no_trunc, quiet


@command("[OPTIONS]")
@form
@no_trunc
@quiet
def hosts(client: Client, form: str, no_trunc: bool, quiet: bool) -> int:
    """List the hosts that share networks, and which of them live."""
    rows = [_row(one, no_trunc) for one in client.call("GET", "/fairlead/cluster/hosts")]
    tables.show(rows, form, ("ID", "Host", "Address", "Status", "Distance"), {}, only="ID" if quiet else "")
    return 0


def _row(one: dict[str, Any], whole: bool) -> dict[str, str]:
    far = one["Distance"]
    return {
        "ID": one["ID"] if whole else one["ID"][:12],
        "Host": one["Host"] + (" *" if one["Self"] else ""),
        "Address": one["Address"],
        "State": one["State"],
        "Status": words(one),
        "Distance": "" if far is None else f"{1000 * far:.1f} ms",
    }


def words(one: dict[str, Any]) -> str:
    """``alive``, or ``failed (12 seconds ago)``."""
    return one["State"] if one["State"] == "alive" else f"{one['State']} ({tables.span(one['Since'])} ago)"


@command("[OPTIONS]")
@form
def keys(client: Client, form: str) -> int:
    """List the keys that seal gossip: by fingerprint, who has which."""
    rows = [
        {"Fingerprint": key["Fingerprint"], "Used": "yes" if key["Used"] else "", "Hosts": ", ".join(key["Hosts"])}
        for key in client.call("GET", "/fairlead/cluster/keys")
    ]
    tables.show(rows, form, ("Fingerprint", "Used", "Hosts"), {})
    return 0


@command("")
def rotate_key(client: Client) -> int:
    """Seal gossip with a new key: added everywhere, used everywhere, the old one removed."""
    client.call("POST", "/fairlead/cluster/keys/rotate")
    return 0
