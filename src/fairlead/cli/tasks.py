"""Tasks: what ``service ps``, ``node ps`` and ``stack ps`` list, newest first, the old ones of a slot below it.

ID             NAME        IMAGE   NODE   DESIRED STATE   CURRENT STATE            ERROR
2ov0qjlo2i9k   web.1       nginx   h1     Running         Running 22 seconds ago
g2kh3x4i4uws    \\_ web.1   nginx   h2     Shutdown        Failed 25 seconds ago    "task: non-zero exit (1)"
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from fairlead.cli import tables
from fairlead.cli.client import Client, Refused, path
from fairlead.cli.tables import naturally

COLUMNS = ("ID", "Name", "Image", "Node", "DesiredState", "CurrentState", "Error", "Ports")


class Names:
    """Names of services and nodes for their ids, each asked once. Without ``resolve``, or when it is gone: the id."""

    def __init__(self, client: Client, resolve: bool = True) -> None:
        self.client, self.resolve = client, resolve
        self.known: dict[str, str] = {}

    def service(self, service: str) -> str:
        return self._name("services", service, lambda found: found["Spec"]["Name"], {"insertDefaults": "false"})

    def node(self, node: str) -> str:
        def name(found: dict[str, Any]) -> str:
            return str(found["Spec"].get("Name") or found["Description"]["Hostname"])

        return self._name("nodes", node, name)

    def _name(
        self, kind: str, which: str, name: Callable[[Any], str], query: dict[str, str] | None = None
    ) -> str:  # fmt: skip
        if not which or not self.resolve:
            return which
        if which not in self.known:
            try:
                self.known[which] = name(self.client.call("GET", path(kind, which), query))
            except Refused:
                self.known[which] = which
        return self.known[which]


def image(text: str) -> str:
    """Without the digest, when there is a tag."""
    plain, at, _ = text.partition("@")
    return plain if at and ":" in plain.rpartition("/")[2] else text


def show(
    client: Client, found: list[dict[str, Any]], form: str, no_resolve: bool, no_trunc: bool, quiet: bool
) -> None:  # fmt: skip
    """Print tasks as Docker lists them."""
    names = Names(client, not no_resolve)
    named = [
        (f"{names.service(one.get('ServiceID', ''))}.{one.get('Slot') or one.get('NodeID', '')}", one) for one in found
    ]
    named.sort(key=lambda pair: pair[1]["CreatedAt"], reverse=True)
    named.sort(key=lambda pair: naturally(pair[0]))
    indent = not form or form.startswith("table")
    rows, before = [], ""
    for name, one in named:
        shown = f" \\_ {name}" if indent and name == before else name
        rows.append(_row(one, shown, names.node(one.get("NodeID", "")), no_trunc, time.time()))
        before = name
    tables.show(rows, form, COLUMNS, {}, only="ID" if quiet else "")


def _row(one: dict[str, Any], name: str, node: str, whole: bool, now: float) -> dict[str, str]:
    status = one["Status"]
    since = tables.span(now - tables.seconds_of(status["Timestamp"])).lower()
    error = status.get("Err", "")
    error = f'"{error if whole else tables.ellipsis(error, 30)}"' if error else ""
    ports = sorted(
        f"*:{port['PublishedPort']}->{port['TargetPort']}/{port['Protocol']}"
        for port in (status.get("PortStatus") or {}).get("Ports") or []
    )
    picture = (one["Spec"].get("ContainerSpec") or {}).get("Image", "")
    return {
        "ID": one["ID"] if whole else one["ID"][:12],
        "Name": name,
        "Image": picture if whole else image(picture),
        "Node": node,
        "DesiredState": one["DesiredState"].title(),
        "CurrentState": f"{status['State'].title()} {since} ago",
        "Error": error,
        "Ports": ",".join(ports),
    }
