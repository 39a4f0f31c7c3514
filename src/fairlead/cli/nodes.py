"""``fairlead node``: the members of a swarm."""

from __future__ import annotations

from typing import Any

from fairlead.cli import completing, tables
from fairlead.cli.client import Client, Refused, path
from fairlead.cli.command import command, filter_query, filters, form, many, one_form, option, quiet, switch
from fairlead.cli.each import each
from fairlead.cli.tables import naturally
from fairlead.errors import Invalid

TABLE = (
    "table {{.ID}} {{if .Self}}*{{else}} {{end}}\\t{{.Hostname}}\\t{{.Status}}\\t{{.Availability}}"
    "\\t{{.ManagerStatus}}\\t{{.EngineVersion}}"
)


@command("[OPTIONS]")
@filters
@form
@quiet
def ls(client: Client, filter: list[tuple[str, str]], form: str, quiet: bool) -> int:
    """List the nodes of the swarm."""
    found = client.call("GET", "/nodes", {"filters": filter_query(filter)}) or []
    swarm = {} if quiet else client.call("GET", "/info")["Swarm"]
    rows = [
        _row(one, swarm) for one in sorted(found, key=lambda one: naturally(one["Description"].get("Hostname", "")))
    ]
    plain = form in ("", "table") and not quiet
    heads = {"Self": "", "TLSStatus": "TLS STATUS"}
    tables.show(rows, TABLE if plain else form, (), heads, only="ID" if quiet else "")
    return 0


def _row(one: dict[str, Any], swarm: dict[str, Any]) -> dict[str, Any]:
    about, manager = one["Description"], one.get("ManagerStatus") or {}
    return {
        "ID": one["ID"],
        "Self": one["ID"] == swarm.get("NodeID"),
        "Hostname": about.get("Hostname", ""),
        "Status": one["Status"].get("State", "").title(),
        "Availability": one["Spec"].get("Availability", "").title(),
        "ManagerStatus": "Leader" if manager.get("Leader") else manager.get("Reachability", "").title(),
        "EngineVersion": (about.get("Engine") or {}).get("EngineVersion", ""),
        "TLSStatus": _trust(about.get("TLSInfo"), (swarm.get("Cluster") or {}).get("TLSInfo")),
    }


def _trust(has: dict[str, Any] | None, wanted: dict[str, Any] | None) -> str:
    """Whether a node's certificate is by the swarm's present authority."""
    if not has or not wanted:
        return "Unknown"
    return "Ready" if has == wanted else "Needs Rotation"


def resolved(client: Client, name: str) -> str:
    """``self`` as the id of the node that we speak to."""
    if name != "self":
        return name
    node = client.call("GET", "/info")["Swarm"].get("NodeID")
    if not node:
        client.call("GET", "/nodes")  # an engine that is no manager says so better than we could
        raise Invalid("node ID not found in /info")
    return str(node)


@command("[OPTIONS] self|NODE [NODE...]", complete=completing.nodes)
@one_form
@switch("--pretty", help="For people.")
def inspect(client: Client, *names: str, form: str, pretty: bool) -> int:
    """Show everything about nodes."""
    from fairlead.cli.inspecting import collected

    def look(name: str) -> Any:
        return client.call("GET", path("nodes", resolved(client, name)))

    if not pretty:
        return collected(names, form, look)
    from fairlead.cli.pages import node

    for name in names:
        print(node(look(name)))
    return 0


@command("[OPTIONS] NODE", complete=completing.nodes)
@option("--availability", help="What the node is for: active, pause, drain.")
@option("--role", help="worker or manager.")
@many("--label-add", help="Label: key=value.")
@many("--label-rm", help="Label to remove.")
def update(client: Client, node: str, availability: str, role: str, label_add: list[str], label_rm: list[str]) -> int:
    """Change a node."""
    found = client.call("GET", path("nodes", node))
    spec = found["Spec"]
    labels = dict(spec.get("Labels") or {}) | {
        key: value for key, _, value in (text.partition("=") for text in label_add)
    }
    for key in label_rm:
        if key not in labels:
            raise Invalid(f"key {key} doesn't exist in node's labels")
        del labels[key]
    spec |= {
        "Labels": labels,
        "Role": role or spec.get("Role"),
        "Availability": availability or spec.get("Availability"),
    }
    _write(client, found)
    print(node)
    return 0


def _write(client: Client, node: dict[str, Any]) -> None:
    client.call("POST", path("nodes", node["ID"], "update"), {"version": node["Version"]["Index"]}, node["Spec"])


def _roles(client: Client, names: tuple[str, ...], role: str, already: str, done: str) -> int:
    for name in names:
        node = client.call("GET", path("nodes", name))
        if node["Spec"]["Role"] == role:
            print(f"Node {name} is already a {already}.")
            continue
        node["Spec"]["Role"] = role
        _write(client, node)
        print(done.format(name))
    return 0


@command("NODE [NODE...]", complete=completing.nodes)
def promote(client: Client, *names: str) -> int:
    """Make managers of workers."""
    return _roles(client, names, "manager", "manager", "Node {} promoted to a manager in the swarm.")


@command("NODE [NODE...]", complete=completing.nodes)
def demote(client: Client, *names: str) -> int:
    """Make workers of managers."""
    return _roles(client, names, "worker", "worker", "Manager {} demoted in the swarm.")


@command("[OPTIONS] NODE [NODE...]", complete=completing.nodes)
@switch("-f", "--force", help="Also when it is not down.")
def rm(client: Client, *names: str, force: bool) -> int:
    """Remove nodes that have left, or are lost."""
    return each(names, lambda name: client.call("DELETE", path("nodes", name), {"force": force}))


@command("[OPTIONS] [NODE...]", complete=completing.nodes)
@filters
@option("--format", key="form", help="table, table TEMPLATE, json, or a Go template for each row.")
@switch("--no-resolve", help="Ids instead of names.")
@switch("--no-trunc", help="Do not shorten.")
@quiet
def ps(client: Client, *names: str, filter: list[tuple[str, str]], **show: Any) -> int:
    """List the tasks of nodes; of this one when none is named."""
    from fairlead.cli import tasks

    found: list[dict[str, Any]] = []
    refusals = []
    for name in names or ("self",):
        try:
            node = client.call("GET", path("nodes", resolved(client, name)))
            query = filter_query([*filter, ("node", node["ID"])])
            found += client.call("GET", "/tasks", {"filters": query}) or []
        except Refused as problem:
            refusals.append(f"Error response from daemon: {problem.message}")
    if found or not refusals:
        tasks.show(client, found, **show)
    if refusals:
        raise Invalid("\n".join(refusals))
    return 0
