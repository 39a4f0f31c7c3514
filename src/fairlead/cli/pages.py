"""What ``inspect --pretty`` shows of nodes, services, secrets and configs: Docker's pages, word for word.

All functions are pure: what the API says in, a text out. ``now`` is an argument.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping
from typing import Any

from fairlead.cli import tables

Fields = Mapping[str, Any]


def _labels(labels: Mapping[str, str] | None, sign: str = " - ", title: str = "Labels:") -> Iterator[str]:
    if labels:
        yield title
        for key, value in sorted(labels.items()):
            yield f"{sign}{key}" + (f"={value}" if value else "")


def _moment(stamp: str) -> str:
    return tables.go_time(stamp).lower()


def duration(nanoseconds: int) -> str:
    """``1m30s``, as Go writes a time span."""
    if not nanoseconds:
        return "0s"
    if nanoseconds < 10**9:
        unit, size = ("ms", 10**6) if nanoseconds >= 10**6 else ("µs", 10**3) if nanoseconds >= 10**3 else ("ns", 1)
        return f"{nanoseconds / size:g}{unit}"
    minutes, rest = divmod(nanoseconds, 60 * 10**9)
    seconds = f"{rest / 10**9:.9f}".rstrip("0").rstrip(".")
    if not minutes:
        return f"{seconds}s"
    return f"{minutes // 60}h{minutes % 60}m{seconds}s" if minutes >= 60 else f"{minutes}m{seconds}s"


def size(number: int) -> str:
    return tables.bytes_of(number, 4, 1024.0)


def secret(one: Fields) -> str:
    spec = one["Spec"]
    return "\n".join(
        [
            f"ID:              {one['ID']}",
            f"Name:              {spec['Name']}",
            *_labels(spec.get("Labels")),
            f"Driver:            {(spec.get('Driver') or {}).get('Name', '')}",
            f"Created at:        {_moment(one['CreatedAt'])}",
            f"Updated at:        {_moment(one['UpdatedAt'])}",
        ]
    )


def config(one: Fields) -> str:
    spec = one["Spec"]
    return "\n".join(
        [
            f"ID:\t\t\t{one['ID']}",
            f"Name:\t\t\t{spec['Name']}",
            *_labels(spec.get("Labels")),
            f"Created at:            \t{_moment(one['CreatedAt'])}",
            f"Updated at:            \t{_moment(one['UpdatedAt'])}",
            f"Data:\n{base64.b64decode(spec.get('Data') or '').decode(errors='replace')}",
        ]
    )


def node(one: Fields) -> str:
    return "\n".join(_node(one))


def _node(one: Fields) -> Iterator[str]:
    spec, about, status = one["Spec"], one["Description"], one["Status"]
    yield f"ID:\t\t\t{one['ID']}"
    if spec.get("Name"):
        yield f"Name:\t\t\t{spec['Name']}"
    yield from _labels(spec.get("Labels"))
    yield f"Hostname:              \t{about.get('Hostname', '')}"
    yield f"Joined at:             \t{_moment(one['CreatedAt'])}"
    yield f"Status:\n State:\t\t\t{status.get('State', '').title()}"
    if status.get("Message"):
        yield f" Message:              \t{status['Message']}"
    yield f" Availability:         \t{spec.get('Availability', '').title()}"
    if status.get("Addr"):
        yield f" Address:\t\t{status['Addr']}"
    if manager := one.get("ManagerStatus"):
        yield f"Manager Status:\n Address:\t\t{manager.get('Addr', '')}"
        yield f" Raft Status:\t\t{manager.get('Reachability', '').title()}"
        yield f" Leader:\t\t{'Yes' if manager.get('Leader') else 'No'}"
    platform = about.get("Platform") or {}
    yield f"Platform:\n Operating System:\t{platform.get('OS', '')}"
    yield f" Architecture:\t\t{platform.get('Architecture', '')}"
    resources = about.get("Resources") or {}
    yield f"Resources:\n CPUs:\t\t\t{resources.get('NanoCPUs', 0) // 10**9}"
    yield f" Memory:\t\t{size(resources.get('MemoryBytes', 0))}"
    yield from _engine(about.get("Engine") or {})
    if about.get("TLSInfo"):
        tls = about["TLSInfo"]
        yield f"TLS Info:\n TrustRoot:\n{tls.get('TrustRoot', '')}"
        yield f" Issuer Subject:\t{tls.get('CertIssuerSubject', '')}"
        yield f" Issuer Public Key:\t{tls.get('CertIssuerPublicKey', '')}"


def _engine(engine: Fields) -> Iterator[str]:
    plugins: dict[str, list[str]] = {}
    for plugin in engine.get("Plugins") or []:
        plugins.setdefault(plugin["Type"], []).append(plugin["Name"])
    if plugins:
        yield "Plugins:"
        for kind, names in sorted(plugins.items()):
            yield f" {kind}:\t\t{', '.join(sorted(names))}"
    yield f"Engine Version:\t\t{engine.get('EngineVersion', '')}"
    yield from _labels(engine.get("Labels"), title="Engine Labels:")


def service(one: Fields, networks: Mapping[str, str], now: float) -> str:
    """``networks``: the names of its networks by id."""
    spec = one["Spec"]
    task = spec["TaskTemplate"]
    lines = [
        f"\nID:\t\t{one['ID']}",
        f"Name:\t\t{spec['Name']}",
        *_labels(spec.get("Labels"), " "),
        *_mode(spec["Mode"]),
        *_update_status(one.get("UpdateStatus") or {}, now),
        *_placement(task.get("Placement") or {}),
        *_rollout("Update", spec.get("UpdateConfig")),
        *_rollout("Rollback", spec.get("RollbackConfig")),
        *_container(task.get("ContainerSpec") or {}),
        *_log(task.get("LogDriver")),
        *_resources(task.get("Resources")),
    ]
    targets = [network["Target"] for network in task.get("Networks") or spec.get("Networks") or []]
    if targets:
        lines.append(f"Networks: {' '.join(networks.get(target) or target for target in targets)} ")
    text = "\n".join([*lines, *_endpoint(one.get("Endpoint") or {}, spec.get("EndpointSpec") or {})])
    return text + _health((task.get("ContainerSpec") or {}).get("Healthcheck"))


def _mode(mode: Fields) -> Iterator[str]:
    if "Global" in mode:
        yield "Service Mode:\tGlobal"
    elif "Replicated" in mode:
        yield "Service Mode:\tReplicated"
        if mode["Replicated"].get("Replicas") is not None:
            yield f" Replicas:\t{mode['Replicated']['Replicas']}"
    else:
        yield "Service Mode:"


def _update_status(status: Fields, now: float) -> Iterator[str]:
    if not status.get("State"):
        return
    yield f"UpdateStatus:\n State:\t\t{status['State']}"
    if status.get("StartedAt"):
        yield f" Started:\t{tables.span(now - tables.seconds_of(status['StartedAt']))} ago"
    if status["State"] == "completed" and status.get("CompletedAt"):
        yield f" Completed:\t{tables.span(now - tables.seconds_of(status['CompletedAt']))} ago"
    yield f" Message:\t{status.get('Message', '')}"


def _placement(placement: Fields) -> Iterator[str]:
    yield "Placement:"
    if placement.get("Constraints"):
        yield f" Constraints:\t[{' '.join(placement['Constraints'])}]"
    spreads = [f"spread={one['Spread']['SpreadDescriptor']}" for one in placement.get("Preferences") or []]
    if spreads:
        yield f" Preferences:   [{' '.join(spreads)}]"
    if placement.get("MaxReplicas"):
        yield f" Max Replicas Per Node:   {placement['MaxReplicas']}"


def _rollout(word: str, rules: Fields | None) -> Iterator[str]:
    if rules is None:
        return
    yield f"{word}Config:\n Parallelism:\t{rules.get('Parallelism', 0)}"
    if rules.get("Delay"):
        yield f" Delay:\t\t{duration(rules['Delay'])}"
    yield f" On failure:\t{rules.get('FailureAction', '')}"
    if rules.get("Monitor"):
        yield f" Monitoring Period: {duration(rules['Monitor'])}"
    yield f" Max failure ratio: {rules.get('MaxFailureRatio', 0):g}"
    yield f" {word} order:".ljust(20) + rules.get("Order", "")


def _container(spec: Fields) -> Iterator[str]:
    yield f"ContainerSpec:\n Image:\t\t{spec.get('Image', '')}"
    for word, key in (("Args", "Args"), ("Env", "Env")):
        if spec.get(key):
            yield f" {word}:\t\t{''.join(f'{text} ' for text in spec[key])}"
    if spec.get("Dir"):
        yield f" Dir:\t\t{spec['Dir']}"
    if spec.get("Init") is not None:
        yield f" Init:\t\t{str(spec['Init']).lower()}"
    if spec.get("User"):
        yield f" User: {spec['User']}"
    if spec.get("CapabilityAdd") or spec.get("CapabilityDrop"):
        yield "Capabilities:"
        for word in ("Add", "Drop"):
            if spec.get(f"Capability{word}"):
                yield f" {word}: {', '.join(spec[f'Capability{word}'])}"
    if spec.get("Sysctls"):
        yield "SysCtls:"
        yield from (f" {key}" + (f": {value}" if value else "") for key, value in sorted(spec["Sysctls"].items()))
    if spec.get("Ulimits"):
        yield "Ulimits:"
        limits = sorted(spec["Ulimits"], key=lambda one: one["Name"])
        yield from (f" {one['Name']}: {one.get('Soft', 0)}:{one.get('Hard', 0)}" for one in limits)
    yield from _files(spec)


def _files(spec: Fields) -> Iterator[str]:
    if spec.get("Mounts"):
        yield "Mounts:"
    for mount in spec.get("Mounts") or []:
        yield f" Target:\t{mount.get('Target', '')}\n  Source:\t{mount.get('Source', '')}"
        yield f"  ReadOnly:\t{str(mount.get('ReadOnly', False)).lower()}\n  Type:\t\t{mount.get('Type', '')}"
    for word in ("Config", "Secret"):
        if spec.get(f"{word}s"):
            yield f"{word}s:"
        for one in spec.get(f"{word}s") or []:
            yield f" Target:\t{(one.get('File') or {}).get('Name', '')}\n  Source:\t{one[f'{word}Name']}"


def _log(driver: Fields | None) -> Iterator[str]:
    if driver is None:
        return
    yield "Log Driver:"
    if driver.get("Name"):
        yield f" Name:\t\t{driver['Name']}"
    if driver.get("Options"):
        yield " LogOpts:"
        yield from (
            f"  {key}" + (f":       {value}" if value else "") for key, value in sorted(driver["Options"].items())
        )
    yield ""


def _resources(resources: Fields | None) -> Iterator[str]:
    if resources is None:
        return
    yield "Resources:"
    for word in ("Reservations", "Limits"):
        some = resources.get(word) or {}
        if some.get("NanoCPUs") or some.get("MemoryBytes") or (word == "Limits" and some.get("Pids")):
            yield f" {word}:"
        if some.get("NanoCPUs"):
            yield f"  CPU:\t\t{some['NanoCPUs'] / 10**9:g}"
        if some.get("MemoryBytes"):
            yield f"  Memory:\t{size(some['MemoryBytes'])}"
        if word == "Limits" and some.get("Pids"):
            yield f"  PIDs:\t\t{some['Pids']}"


def _endpoint(endpoint: Fields, wanted: Fields) -> Iterator[str]:
    yield f"Endpoint Mode:\t{wanted.get('Mode', '')}"
    ports = endpoint.get("Ports") or []
    if not ports:
        return
    yield "Ports:"
    for at, port in enumerate(ports, 1):
        yield f" PublishedPort = {port.get('PublishedPort', 0)}\n  Protocol = {port.get('Protocol', '')}"
        last = " " if at == len(ports) else ""
        yield f"  TargetPort = {port.get('TargetPort', 0)}\n  PublishMode = {port.get('PublishMode', '')}{last}"


def _health(check: Fields | None) -> str:
    """Docker begins it where the line before ends, and ends it with a blank line of its own."""
    if check is None:
        return "\n"
    lines = [
        "\n Healthcheck:",
        f"  Interval = {duration(check.get('Interval', 0))}",
        f"  Retries = {check.get('Retries', 0)}",
        f"  StartPeriod =\t{duration(check.get('StartPeriod', 0))}",
        f"  Timeout =\t{duration(check.get('Timeout', 0))}",
    ]
    if check.get("Test"):
        lines.append("  Tests:")
        lines += [f"\t Test = {word}" for word in check["Test"]]
        return "\n".join(lines) + " \n"
    return "\n".join(lines) + "\n"
