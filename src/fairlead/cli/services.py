"""``fairlead service``: what shall run in the swarm, and what does.

    create   flags --servicespec--> a spec --------------> the engine --convergence--> until it runs
    update   flags --servicechange--> its spec, changed --/
    scale, rollback                   of its spec one word, or the one before

What is common to both kinds of flags is in ``serviceflags``, how single values are typed in ``servicewords``. A change
names the version of the service that it was made from: where somebody else was faster, the engine refuses it.
"""

from __future__ import annotations

import sys
import time
from typing import Any

from fairlead.cli import completing, tables
from fairlead.cli.client import Client, Refused, path
from fairlead.cli.command import command, filter_query, filters, form, natural, one_form, quiet, switch
from fairlead.cli.each import each
from fairlead.cli.nodes import resolved
from fairlead.cli.serviceflags import creating, updating
from fairlead.cli.tables import naturally
from fairlead.errors import FairleadError, Invalid

COLUMNS = ("ID", "Name", "Mode", "Replicas", "Image", "Ports")
PLAIN = {"insertDefaults": "false"}
detach = switch("-d", "--detach", help="Do not wait until the tasks run.")


def wait_for(client: Client, service: str, quiet: bool) -> None:
    """Wait until the service has converged, and show how it does."""
    from fairlead.cli.convergence import Silent, wait
    from fairlead.cli.drawing import Board

    wait(client, service, Silent() if quiet else Board())


def warn(answer: Any) -> None:
    for words in (answer or {}).get("Warnings") or []:
        print(words, file=sys.stderr)


@command("[OPTIONS] IMAGE [COMMAND] [ARG...]", own_words=True, complete=completing.images)
@creating
def create(client: Client, image: str, *words: str, **flags: Any) -> int:
    """Create a service."""
    from fairlead.cli.registry import for_image
    from fairlead.cli.servicespec import Found, resolve, spec, tagged

    wanted = spec(Found(client), flags, image, words)
    headers = for_image(image) if flags["with_registry_auth"] else {}
    doubt = ""
    if flags["no_resolve_image"]:
        wanted["TaskTemplate"]["ContainerSpec"]["Image"] = tagged(image)
    else:
        doubt = resolve(client, wanted, headers)
    answer = client.call("POST", "/services/create", body=wanted, headers=headers)
    warn({"Warnings": [*(answer.get("Warnings") or []), *([doubt] if doubt else [])]})
    print(answer["ID"])
    if not flags["detach"]:
        wait_for(client, answer["ID"], bool(flags["quiet"]))
    return 0


@command("[OPTIONS] SERVICE", complete=completing.services)
@updating
def update(client: Client, service: str, **flags: Any) -> int:
    """Change a service."""
    from fairlead.cli.registry import for_image
    from fairlead.cli.servicechange import change
    from fairlead.cli.servicespec import Found, resolve, tagged

    found = client.call("GET", path("services", service), PLAIN)
    spec = found["Spec"]
    query = {"registryAuthFrom": "spec"}
    headers: dict[str, str] = {}
    said = {key for key, value in flags.items() if value is not None and value != []}
    if flags["rollback"]:
        if said - {"rollback", "detach", "quiet"}:
            raise Invalid("other flags may not be combined with --rollback")
        query["rollback"] = "previous"
    else:
        change(Found(client), spec, flags)
    if flags["with_registry_auth"]:
        headers = for_image(spec["TaskTemplate"]["ContainerSpec"]["Image"])
        del query["registryAuthFrom"]
    doubt = ""
    if flags["image"] is not None:
        container = spec["TaskTemplate"]["ContainerSpec"]
        if flags["no_resolve_image"]:
            container["Image"] = tagged(container["Image"])
        else:
            doubt = resolve(client, spec, headers)
    _write(client, found, query, headers, doubt)
    print(service)
    if not flags["detach"]:
        wait_for(client, service, bool(flags["quiet"]))
    return 0


def _write(
    client: Client,
    found: dict[str, Any],
    query: dict[str, Any],
    headers: dict[str, str] | None = None,
    doubt: str = "",
) -> None:
    """Give the engine the changed spec of a service. ``doubt``: a warning of our own."""
    query = {"version": found["Version"]["Index"], **query}
    answer = client.call("POST", path("services", found["ID"], "update"), query, found["Spec"], headers)
    warn({"Warnings": [*((answer or {}).get("Warnings") or []), *([doubt] if doubt else [])]})


@command("[OPTIONS] SERVICE", complete=completing.services)
@detach
@switch("-q", "--quiet", help="Do not show progress.")
def rollback(client: Client, service: str, detach: bool, quiet: bool) -> int:
    """Go back to the specification before."""
    found = client.call("GET", path("services", service), PLAIN)
    _write(client, found, {"rollback": "previous"})
    print(service)
    if not detach:
        wait_for(client, service, quiet)
    return 0


@command("SERVICE=REPLICAS [SERVICE=REPLICAS...]", complete=completing.services)
@detach
def scale(client: Client, *wishes: str, detach: bool) -> int:
    """Set the number of tasks of services."""
    for text in wishes:
        if "=" not in text:
            program = client.typed.partition(" ")[0]
            raise Invalid(
                f"invalid scale specifier '{text}'.\nSee '{program} service scale --help'.\n\n"
                f"Usage:  {program} service scale SERVICE=REPLICAS [SERVICE=REPLICAS...]\n\n"
                "Scale one or multiple replicated services"
            )
    trouble, changed = [], []
    for text in wishes:
        name, _, number = text.partition("=")
        try:
            _scale(client, name, number)
            print(f"{name} scaled to {number}")
            changed.append(name)
        except Refused as problem:
            trouble.append(f"{name}: Error response from daemon: {problem.message}")
        except Invalid as problem:
            trouble.append(f"{name}: {problem.message}")
    for name in [] if detach else changed:
        try:
            wait_for(client, name, False)
        except FairleadError as problem:
            trouble.append(f"{name}: {problem.message}")
    if trouble:
        raise Invalid("\n".join(trouble))
    return 0


def _scale(client: Client, name: str, number: str) -> None:
    try:
        wanted = natural(number)
    except Invalid as problem:
        raise Invalid(f"invalid replicas value {number}: {problem.message}") from None
    found = client.call("GET", path("services", name), PLAIN)
    mode = found["Spec"]["Mode"]
    if "Replicated" in mode:
        mode["Replicated"]["Replicas"] = wanted
    elif "ReplicatedJob" in mode:
        mode["ReplicatedJob"]["TotalCompletions"] = wanted
    else:
        raise Invalid("scale can only be used with replicated or replicated-job mode")
    _write(client, found, {})


@command("SERVICE [SERVICE...]", complete=completing.services)
def rm(client: Client, *names: str) -> int:
    """Remove services, and their tasks."""
    return each(names, lambda name: client.call("DELETE", path("services", name)))


@command("[OPTIONS]")
@filters
@form
@quiet
def ls(client: Client, filter: list[tuple[str, str]], form: str, quiet: bool) -> int:
    """List services."""
    found = client.call("GET", "/services", {"filters": filter_query(filter), **({} if quiet else {"status": "true"})})
    show(found or [], form, quiet)
    return 0


def show(found: list[dict[str, Any]], form: str, quiet: bool) -> None:
    """Print services as Docker lists them."""
    rows = [row(one) for one in sorted(found, key=lambda one: naturally(one["Spec"]["Name"]))]
    tables.show(rows, form, COLUMNS, {}, only="ID" if quiet else "")


def row(one: dict[str, Any]) -> dict[str, str]:
    """One service as texts, every field that a template may name."""
    from fairlead.cli.tasks import image

    spec = one["Spec"]
    names = {"ReplicatedJob": "replicated job", "GlobalJob": "global job"}
    key = next(iter(spec["Mode"]), "")
    return {
        "ID": one["ID"][:12],
        "Name": spec["Name"],
        "Mode": names.get(key, key.lower()),
        "Replicas": _replicas(one),
        "Image": image((spec["TaskTemplate"].get("ContainerSpec") or {}).get("Image", "")),
        "Ports": published((one.get("Endpoint") or {}).get("Ports") or []),
    }


def _replicas(one: dict[str, Any]) -> str:
    """``2/3``, with what else is to be known: ``0/2 (3/3 completed)``, ``2/2 (max 2 per node)``."""
    status, mode = one.get("ServiceStatus") or {}, one["Spec"]["Mode"]
    running, desired, done = (status.get(f"{word}Tasks", 0) for word in ("Running", "Desired", "Completed"))
    text = f"{running}/{desired}"
    if "ReplicatedJob" in mode:
        return f"{text} ({done}/{mode['ReplicatedJob'].get('TotalCompletions', 1)} completed)"
    if "GlobalJob" in mode:
        return f"{text} ({done}/{desired + done} completed)"
    most = (one["Spec"]["TaskTemplate"].get("Placement") or {}).get("MaxReplicas", 0)
    return f"{text} (max {most} per node)" if most and "Replicated" in mode else text


def published(ports: list[dict[str, Any]]) -> str:
    """The ports of the mesh: ``*:8080->80/tcp``; runs of numbers drawn together."""
    runs: list[list[Any]] = []
    mesh = [port for port in ports if port.get("PublishMode", "ingress") == "ingress" and port.get("PublishedPort")]
    for port in sorted(mesh, key=lambda port: (port["Protocol"], port["PublishedPort"])):
        outside, inside, kind = port["PublishedPort"], port["TargetPort"], port["Protocol"]
        if runs and runs[-1][4] == kind and runs[-1][1] + 1 == outside and runs[-1][3] + 1 == inside:
            runs[-1][1], runs[-1][3] = outside, inside
        else:
            runs.append([outside, outside, inside, inside, kind])
    return ", ".join(f"*:{_run(a, b)}->{_run(c, d)}/{kind}" for a, b, c, d, kind in runs)


def _run(first: int, last: int) -> str:
    return str(first) if first == last else f"{first}-{last}"


@command("[OPTIONS] SERVICE [SERVICE...]", complete=completing.services)
@filters
@form
@switch("--no-resolve", help="Ids instead of names.")
@switch("--no-trunc", help="Do not shorten.")
@quiet
def ps(client: Client, *names: str, filter: list[tuple[str, str]], **show: Any) -> int:
    """List the tasks of services."""
    from fairlead.cli import tasks

    ids, missing = _ids(client, names)
    if missing and not ids:
        raise Invalid("\n".join(f"no such service: {name}" for name in missing))
    wanted = [(key, resolved(client, value) if key == "node" else value) for key, value in filter]
    query = filter_query([*wanted, *(("service", one) for one in ids)])
    found = client.call("GET", "/tasks", {"filters": query}) or []
    tasks.show(client, found, **{**show, "no_trunc": show["no_trunc"] or show["quiet"]})
    if missing:
        raise Invalid("\n".join(f"no such service: {name}" for name in missing))
    return 0


def _ids(client: Client, names: tuple[str, ...]) -> tuple[list[str], list[str]]:
    """(ids of the services of these names, names of none); a name may be the beginning of an id."""
    by_id = client.call("GET", "/services", {"filters": filter_query(("id", name) for name in names)}) or []
    by_name = client.call("GET", "/services", {"filters": filter_query(("name", name) for name in names)}) or []
    known = {one["Spec"]["Name"]: one["ID"] for one in by_name} | {one["ID"]: one["ID"] for one in by_id}
    ids, missing = [], []
    for name in names:
        starts = [one["ID"] for one in by_id if one["ID"].startswith(name)]
        if name in known:
            ids.append(known[name])
        elif len(starts) == 1:
            ids.append(starts[0])
        else:
            missing.append(name)
    return ids, missing


@command("[OPTIONS] SERVICE [SERVICE...]", complete=completing.services)
@one_form
@switch("--pretty", help="For people.")
def inspect(client: Client, *names: str, form: str, pretty: bool) -> int:
    """Show everything about services."""
    from fairlead.cli.inspecting import collected

    if pretty and form:
        raise Invalid("--format is incompatible with human friendly format")

    def look(name: str) -> Any:
        try:
            return client.call("GET", path("services", name), {"insertDefaults": "true"})
        except Refused as problem:
            if problem.status != 404:
                raise
            raise Invalid(f"Error: no such service: {name}") from None

    if not pretty:
        return collected(names, form, look)
    print("\n".join(_pretty(client, look(name)) for name in names))
    return 0


def _pretty(client: Client, found: dict[str, Any]) -> str:
    from fairlead.cli.pages import service

    names = {}
    for network in found["Spec"]["TaskTemplate"].get("Networks") or []:
        try:
            known = client.call("GET", path("networks", network["Target"]), {"scope": "swarm"})
            names[network["Target"]] = known["Name"]
        except Refused:
            continue
    return service(found, names, time.time())
