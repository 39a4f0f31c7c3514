"""``fairlead stack``: the services of a Compose file, made and kept together.

    files --composeread--> one document --composespec--> wishes in the API's words
    wishes --here--> networks, secrets, configs, services: made, or changed

The engine knows no stacks: what belongs to one has its name in a label, and ``NAME_`` before its own.

Rules
    1. What is there already stays: networks as they are, the rest changed to what the file says now. Nothing is removed
       but by ``rm``, and services by ``--prune``.
    2. What cannot be made or changed ends a deployment where it stands; to deploy again goes on from there.
    3. ``rm`` goes on after a refusal, and tells at the end which stack is not all gone.
"""

from __future__ import annotations

import os
import sys
import time
from typing import TYPE_CHECKING, Any

from fairlead.cli import completing, tables
from fairlead.cli.client import Client, Refused, path
from fairlead.cli.command import command, filter_query, filters, form, many, no_trunc, option, quiet, switch
from fairlead.cli.tables import naturally
from fairlead.errors import FairleadError, Invalid

if TYPE_CHECKING:
    from fairlead.cli.composespec import Stack

LABEL = "com.docker.stack.namespace"
FILES = many("-c", "--compose-file", word="strings", help='Compose file; "-" is standard input.')
ENDED = ("complete", "failed", "rejected", "shutdown", "orphaned", "remove")
PAUSE = 0.2


def _of(stack: str, more: list[tuple[str, str]] | None = None) -> dict[str, list[str]] | None:
    """The filter for what belongs to a stack."""
    return filter_query([*(more or []), ("label", f"{LABEL}={stack}")])


def _listed(client: Client, kind: str, stack: str, **query: Any) -> list[dict[str, Any]]:
    return client.call("GET", f"/{kind}", {"filters": _of(stack), **query}) or []


def _named(name: str) -> None:
    if not name.strip("\"' \t\n"):
        raise Invalid(f'invalid stack name: "{name}"')


@command("[OPTIONS]")
@FILES
@switch("--skip-interpolation", help="Leave variables as they are.")
def config(client: Client, compose_file: list[str], skip_interpolation: bool) -> int:
    """Show what Compose files come to, merged and filled in."""
    from fairlead.cli.composeread import Files, read, show

    print(show(read(Files(compose_file), os.environ, filled=not skip_interpolation)), end="")
    return 0


@command("[OPTIONS] STACK", complete=completing.stacks)
@FILES
@switch("--with-registry-auth", help="Give the nodes our credentials for the registry.")
@switch("--prune", help="Remove services that are no longer in the file.")
@option("--resolve-image", default="always", help="When to ask the registry for digests: always, changed, never.")
@option("-d", "--detach", word="", default=None, help="Do not wait until the services run (default true).")
@switch("-q", "--quiet", help="Do not show progress.")
def deploy(client: Client, name: str, compose_file: list[str], resolve_image: str, **flags: Any) -> int:
    """Make the services of Compose files, or change them to what the files say."""
    from fairlead.cli.composeread import Files, read
    from fairlead.cli.composespec import Stack

    _named(name)
    files = Files(compose_file)
    document = read(files, os.environ)
    for words in files.remarks():
        print(words, file=sys.stderr)
    for short, one in document["services"].items():
        if not one.get("image"):
            raise Invalid(f"invalid image reference for service {short}: no image specified")
    if resolve_image not in ("always", "changed", "never"):
        raise Invalid(f"Invalid option {resolve_image} for flag --resolve-image")
    if flags["detach"] is None:
        print(
            "Since --detach=false was not specified, tasks will be created in the background.\n"
            "In a future release, --detach=false will become the default.",
            file=sys.stderr,
        )
    _manager(client)
    ids = _deploy(client, Stack(name, document), resolve_image, flags)
    if flags["detach"] is False:
        from fairlead.cli.services import wait_for

        for service in ids:
            wait_for(client, service, flags["quiet"])
    return 0


def _manager(client: Client) -> None:
    if not client.call("GET", "/info")["Swarm"].get("ControlAvailable"):
        program = client.typed.partition(" ")[0]
        raise Invalid(
            f'this node is not a swarm manager. Use "{program} swarm init" or "{program} swarm join" to connect this '
            "node to swarm and try again"
        )


def _deploy(client: Client, stack: Stack, resolve: str, flags: dict[str, Any]) -> list[str]:
    """Networks first, then secrets and configs, then services; returns the services' ids."""
    from fairlead.cli.servicespec import Found

    if flags["prune"]:
        wanted = {stack.scoped(name) for name in stack.document["services"]}
        gone = [one for one in _listed(client, "services", stack.name) if one["Spec"]["Name"] not in wanted]
        _remove(client, "service", gone)
    wishes, outside = stack.networks()
    for network in outside:
        _is_there(client, network)
    known = {one["Name"] for one in _listed(client, "networks", stack.name)}
    for network, wish in wishes.items():
        if network not in known:
            print(f"Creating network {network}")
            _make(client, "network", network, wish)
    for kind in ("secret", "config"):
        for wish in stack.kept(f"{kind}s"):
            _keep(client, kind, wish)
    specs = stack.services(Found(client))
    present = {one["Spec"]["Name"]: one for one in _listed(client, "services", stack.name)}
    return [_service(client, spec, present.get(spec["Name"]), resolve, flags) for spec in specs.values()]


def _is_there(client: Client, network: str) -> None:
    if network in ("host", "bridge", "none", "default"):
        return  # every node has its own
    try:
        found = client.call("GET", path("networks", network))
    except Refused as problem:
        if problem.status != 404:
            raise
        raise Invalid(
            f'network "{network}" is declared as external, but could not be found. You need to create a swarm-scoped '
            "network before the stack is deployed"
        ) from None
    if found["Scope"] != "swarm":
        raise Invalid(
            f'network "{network}" is declared as external, but it is not in the right scope: "{found["Scope"]}" '
            'instead of "swarm"'
        )


def _make(client: Client, kind: str, name: str, wish: dict[str, Any], **more: Any) -> Any:
    try:
        return client.call("POST", f"/{kind}s/create", body=wish, **more)
    except Refused as problem:
        raise Invalid(f"failed to create {kind} {name}: Error response from daemon: {problem.message}") from None


def _keep(client: Client, kind: str, wish: dict[str, Any]) -> None:
    try:
        found = client.call("GET", path(f"{kind}s", wish["Name"]))
    except Refused as problem:
        if problem.status != 404:
            raise
        print(f"Creating {kind} {wish['Name']}")
        _make(client, kind, wish["Name"], wish)
        return
    try:
        client.call("POST", path(f"{kind}s", found["ID"], "update"), {"version": found["Version"]["Index"]}, wish)
    except Refused as problem:
        words = f"failed to update {kind} {wish['Name']}: Error response from daemon: {problem.message}"
        raise Invalid(words) from None


def _service(
    client: Client, spec: dict[str, Any], present: dict[str, Any] | None, when: str, flags: dict[str, Any]
) -> str:  # fmt: skip
    """Make the service, or change it; returns its id."""
    from fairlead.cli.composespec import IMAGE
    from fairlead.cli.registry import for_image
    from fairlead.cli.servicespec import resolve, tagged

    container = spec["TaskTemplate"]["ContainerSpec"]
    headers = for_image(container["Image"]) if flags["with_registry_auth"] else {}
    same = bool(present) and (present or {})["Spec"].get("Labels", {}).get(IMAGE) == container["Image"]
    if not present:
        print(f"Creating service {spec['Name']}")
        resolve(client, spec, headers) if when != "never" else None
        container["Image"] = container["Image"] if when != "never" else tagged(container["Image"])
        return str(_make(client, "service", spec["Name"], spec, headers=headers)["ID"])
    print(f"Updating service {spec['Name']} (id: {present['ID']})")
    before = present["Spec"]["TaskTemplate"]
    doubt = ""
    if when == "always" or (when == "changed" and not same):
        doubt = resolve(client, spec, headers)
    elif when == "changed":
        container["Image"] = before["ContainerSpec"]["Image"]
        if platforms := (before.get("Placement") or {}).get("Platforms"):
            spec["TaskTemplate"]["Placement"]["Platforms"] = platforms
    else:
        container["Image"] = tagged(container["Image"])
    spec["TaskTemplate"]["ForceUpdate"] = before.get("ForceUpdate", 0)
    query = {"version": present["Version"]["Index"]}
    try:
        answer = client.call("POST", path("services", present["ID"], "update"), query, spec, headers)
    except Refused as problem:
        words = f"failed to update service {spec['Name']}: Error response from daemon: {problem.message}"
        raise Invalid(words) from None
    for words in [*((answer or {}).get("Warnings") or []), *([doubt] if doubt else [])]:
        print(words, file=sys.stderr)
    return str(present["ID"])


def _remove(client: Client, kind: str, found: list[dict[str, Any]]) -> bool:
    """Remove all of these; True when each could be."""
    well = True
    if kind == "service":
        found = sorted(found, key=lambda one: str(one["Spec"]["Name"]))
    for one in found:
        name, which = (one["Name"], one["Id"]) if kind == "network" else (one["Spec"]["Name"], one["ID"])
        print(f"Removing {kind} {name}")
        try:
            client.call("DELETE", path(f"{kind}s", which))
        except FairleadError as problem:
            print(f"Failed to remove {kind} {which}: {problem.message}", file=sys.stderr)
            well = False
    return well


@command("[OPTIONS] STACK [STACK...]", complete=completing.stacks)
@option("-d", "--detach", word="", default=True, help="Do not wait until it is gone (default true).")
def rm(client: Client, *names: str, detach: bool) -> int:
    """Remove stacks: services, secrets, configs and networks."""
    for name in names:
        _named(name)
    trouble = []
    for name in names:
        kinds = ("service", "network", "secret", "config")
        found = {kind: _listed(client, f"{kind}s", name) for kind in kinds}
        if not any(found.values()):
            print(f"Nothing found in stack: {name}", file=sys.stderr)
            continue
        order = ("service", "secret", "config", "network")
        if not all([_remove(client, kind, found[kind]) for kind in order]):
            trouble.append(f"Failed to remove some resources from stack: {name}")
        elif not detach:
            _gone(client, name)
    if trouble:
        raise Invalid("\n".join(trouble))
    return 0


def _gone(client: Client, stack: str) -> None:
    """Wait until no task of the stack is left that runs."""
    while any(one["Status"]["State"] not in ENDED for one in _listed(client, "tasks", stack)):
        time.sleep(PAUSE)


@command("[OPTIONS]")
@form
def ls(client: Client, form: str) -> int:
    """List stacks."""
    found: dict[str, int] = {}
    for one in client.call("GET", "/services", {"filters": filter_query([("label", LABEL)])}) or []:
        labels = one["Spec"].get("Labels") or {}
        if LABEL not in labels:
            raise Invalid(f"cannot get label {LABEL} for service {one['ID']}")
        found[labels[LABEL]] = found.get(labels[LABEL], 0) + 1
    rows = [{"Name": name, "Services": str(found[name])} for name in sorted(found, key=naturally)]
    tables.show(rows, form, ("Name", "Services"), {})
    return 0


@command("[OPTIONS] STACK", complete=completing.stacks)
@filters
@form
@quiet
def services(client: Client, stack: str, filter: list[tuple[str, str]], form: str, quiet: bool) -> int:
    """List the services of a stack."""
    from fairlead.cli.services import show

    _named(stack)
    status = {} if quiet else {"status": "true"}
    found = client.call("GET", "/services", {"filters": _of(stack, filter), **status}) or []
    if not found:
        print(f"Nothing found in stack: {stack}", file=sys.stderr)
        return 0
    show(found, form, quiet)
    return 0


@command("[OPTIONS] STACK", complete=completing.stacks)
@filters
@form
@switch("--no-resolve", help="Ids instead of names.")
@no_trunc
@quiet
def ps(client: Client, stack: str, filter: list[tuple[str, str]], **show: Any) -> int:
    """List the tasks of a stack."""
    from fairlead.cli import tasks

    _named(stack)
    found = client.call("GET", "/tasks", {"filters": _of(stack, filter)}) or []
    if not found:
        raise Invalid(f"nothing found in stack: {stack}")
    tasks.show(client, found, **show)
    return 0
