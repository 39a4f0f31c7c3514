"""``service update``: what was typed, written over a service's spec.

    spec (as the engine has it) + flags --change--> the same spec, changed

Lists are changed by ``--X-add`` and ``--X-rm`` and sorted, so that what is the same stays the same: a task is replaced
only when its spec differs.
"""

from __future__ import annotations

from typing import Any

from fairlead.cli.command import environment, pairs_of
from fairlead.cli.servicespec import HEALTH, Flags, Found, policy, rollout
from fairlead.cli.servicewords import resources as generic
from fairlead.errors import Invalid

Spec = dict[str, Any]
PLAIN = {
    "Image": "image",
    "Args": "args",
    "Command": "entrypoint",
    "Dir": "workdir",
    "User": "user",
    "Hostname": "hostname",
    "StopSignal": "stop_signal",
    "StopGracePeriod": "stop_grace_period",
    "Init": "init",
    "TTY": "tty",
    "ReadOnly": "read_only",
    "Isolation": "isolation",
    "OomScoreAdj": "oom_score_adj",
}


def change(found: Found, spec: Spec, flags: Flags) -> None:
    """Write what was said into the spec; raises ``Invalid`` for what makes no sense."""
    task = spec["TaskTemplate"]
    container = task["ContainerSpec"]
    spec["Labels"] = _map(spec.get("Labels"), flags["label_add"], flags["label_rm"])
    _set(container, "Labels", _map(container.get("Labels"), flags["container_label_add"], flags["container_label_rm"]))
    container |= {key: flags[flag] for key, flag in PLAIN.items() if flags[flag] is not None}
    _container(container, flags)
    _resources(task, flags)
    _set(task, "RestartPolicy", policy(flags, task.get("RestartPolicy")))
    _placement(task, flags)
    if flags["network_add"] or flags["network_rm"]:
        _networks(found, spec, flags)
    _replicas(spec["Mode"], flags)
    for kind in ("update", "rollback"):
        key = f"{kind.title()}Config"
        _set(spec, key, rollout(flags, kind, spec.get(key)))
    _endpoint(spec, flags)
    if flags["log_driver"]:
        task["LogDriver"] = {"Name": flags["log_driver"], "Options": pairs_of(flags["log_opt"])}
    if flags["force"]:
        task["ForceUpdate"] = task.get("ForceUpdate", 0) + 1
    _health(container, flags)
    for kind in ("Secret", "Config"):
        gone = flags[f"{kind.lower()}_rm"]
        kept = [one for one in container.get(f"{kind}s") or [] if one[f"{kind}Name"] not in gone]
        _set(container, f"{kind}s", kept + found.references(kind, flags[f"{kind.lower()}_add"]))


def _set(where: Spec, key: str, value: Any) -> None:
    """Nothing to say is not said."""
    if value:
        where[key] = value
    else:
        where.pop(key, None)


def _map(present: dict[str, str] | None, added: list[str], gone: list[str]) -> dict[str, str]:
    both = {**(present or {}), **pairs_of(added)}
    return {key: value for key, value in both.items() if key not in gone}


def _list(present: list[str] | None, added: list[str], gone: list[str]) -> list[str]:
    """Sorted when it was changed, each once."""
    if not added and not gone:
        return present or []
    return sorted(set([*(present or []), *added]) - set(gone))


def _container(container: Spec, flags: Flags) -> None:
    if flags["env_add"] or flags["env_rm"]:
        variables = {text.partition("=")[0]: text for text in container.get("Env") or []}
        variables |= {text.partition("=")[0]: text for text in environment((), flags["env_add"])}
        _set(container, "Env", [text for name, text in variables.items() if name not in flags["env_rm"]])
    _mounts(container, flags)
    _set(container, "Groups", _list(container.get("Groups"), flags["group_add"], flags["group_rm"]))
    if any(flags[f"{kind}_{verb}"] for kind in ("dns", "dns_search", "dns_option") for verb in ("add", "rm")):
        known = container.get("DNSConfig") or {}
        container["DNSConfig"] = {}
        for key, kind in (("Nameservers", "dns"), ("Search", "dns_search"), ("Options", "dns_option")):
            changed = sorted(set([*(known.get(key) or []), *flags[f"{kind}_add"]]) - set(flags[f"{kind}_rm"]))
            _set(container["DNSConfig"], key, changed)
    if flags["host_add"] or flags["host_rm"]:
        gone = {text.partition(":")[0] for text in flags["host_rm"]}
        lines = [
            line for line in container.get("Hosts") or [] if line.split()[1:2] != [] and line.split()[1] not in gone
        ]
        _set(container, "Hosts", sorted({*lines, *flags["host_add"]}))
    if flags["sysctl_add"] or flags["sysctl_rm"]:
        _set(container, "Sysctls", _map(container.get("Sysctls"), flags["sysctl_add"], flags["sysctl_rm"]))
    if flags["ulimit_add"] or flags["ulimit_rm"]:
        limits = {one["Name"]: one for one in [*(container.get("Ulimits") or []), *flags["ulimit_add"]]}
        _set(container, "Ulimits", [one for name, one in sorted(limits.items()) if name not in flags["ulimit_rm"]])
    if flags["cap_add"] or flags["cap_drop"]:
        _capabilities(container, flags)
    if flags["credential_spec"]:
        container["Privileges"] = {**(container.get("Privileges") or {}), "CredentialSpec": flags["credential_spec"]}


def _mounts(container: Spec, flags: Flags) -> None:
    mounts: dict[str, Spec] = {}
    for mount in flags["mount_add"]:
        if mount["Target"] in mounts:
            raise Invalid("duplicate mount target")
        mounts[mount["Target"]] = mount
    for mount in container.get("Mounts") or []:
        mounts.setdefault(mount["Target"], mount)
    kept = [mount for target, mount in mounts.items() if target not in flags["mount_rm"]]
    _set(container, "Mounts", sorted(kept, key=lambda mount: (mount.get("Source", ""), mount["Target"])))


def _capabilities(container: Spec, flags: Flags) -> None:
    """To add what was dropped only takes it off the list of dropped ones, and the other way round."""
    added, dropped = set(container.get("CapabilityAdd") or []), set(container.get("CapabilityDrop") or [])
    more, less = set(flags["cap_add"]) - {"RESET"}, set(flags["cap_drop"]) - {"RESET"}
    if "RESET" in flags["cap_add"]:
        added = set()
    if "RESET" in flags["cap_drop"]:
        dropped = set()
    both = more & less
    more, less = more - both, less
    added, dropped = (added - less) | (more - dropped), (dropped - more) | (less - added)
    _set(container, "CapabilityAdd", sorted(added))
    _set(container, "CapabilityDrop", sorted(dropped))


def _resources(task: Spec, flags: Flags) -> None:
    parts = {
        "Limits": {"NanoCPUs": "limit_cpu", "MemoryBytes": "limit_memory", "Pids": "limit_pids"},
        "Reservations": {"NanoCPUs": "reserve_cpu", "MemoryBytes": "reserve_memory"},
    }
    for part, keys in parts.items():
        said = {key: flags[flag] for key, flag in keys.items() if flags[flag] is not None}
        if said:
            resources = task.setdefault("Resources", {})
            resources[part] = {**(resources.get(part) or {}), **said}
    if flags["generic_resource_add"] or flags["generic_resource_rm"]:
        wanted = task.setdefault("Resources", {}).setdefault("Reservations", {})
        known = {one["DiscreteResourceSpec"]["Kind"]: one for one in wanted.get("GenericResources") or []}
        known |= {one["DiscreteResourceSpec"]["Kind"]: one for one in generic(flags["generic_resource_add"])}
        for kind in flags["generic_resource_rm"]:
            if known.pop(kind, None) is None:
                raise Invalid(f"could not find generic-resource `{kind}` to remove it")
        _set(wanted, "GenericResources", list(known.values()))


def _placement(task: Spec, flags: Flags) -> None:
    placement = task.setdefault("Placement", {})
    if flags["constraint_add"] or flags["constraint_rm"]:
        kept = [*(placement.get("Constraints") or []), *flags["constraint_add"]]
        _set(placement, "Constraints", sorted(one for one in kept if one not in flags["constraint_rm"]))
    if flags["placement_pref_add"] or flags["placement_pref_rm"]:
        kept = [one for one in placement.get("Preferences") or [] if one not in flags["placement_pref_rm"]]
        _set(placement, "Preferences", kept + flags["placement_pref_add"])
    if flags["replicas_max_per_node"] is not None:
        _set(placement, "MaxReplicas", flags["replicas_max_per_node"])


def _networks(found: Found, spec: Spec, flags: Flags) -> None:
    task = spec["TaskTemplate"]
    present = task.get("Networks") or spec.pop("Networks", None) or []
    spec.pop("Networks", None)
    gone = {found.network(name) for name in flags["network_rm"]}
    kept = [one for one in present if one["Target"] not in gone]
    known = {one["Target"] for one in kept}
    for wish in flags["network_add"]:
        target = found.network(wish["Target"])
        if target in known:
            raise Invalid(f"service is already attached to network {wish['Target']}")
        known.add(target)
        kept.append({**wish, "Target": target})
    _set(task, "Networks", sorted(kept, key=lambda one: one["Target"]))


def _replicas(mode: Spec, flags: Flags) -> None:
    if flags["replicas"] is not None:
        if "Replicated" not in mode:
            raise Invalid("replicas can only be used with replicated mode")
        mode["Replicated"]["Replicas"] = flags["replicas"]


def _port(port: Spec) -> str:
    mode = port.get("PublishMode") or "ingress"
    return f"{port.get('PublishedPort', 0)}:{port['TargetPort']}/{port.get('Protocol') or 'tcp'}/{mode}"


def _endpoint(spec: Spec, flags: Flags) -> None:
    if flags["endpoint_mode"]:
        spec.setdefault("EndpointSpec", {})["Mode"] = flags["endpoint_mode"]
    added, gone = ([port for ports in flags[f"publish_{verb}"] for port in ports] for verb in ("add", "rm"))
    if not added and not gone:
        return
    endpoint = spec.setdefault("EndpointSpec", {})

    def goes(port: Spec) -> bool:
        keys = ("TargetPort", "Protocol", "PublishMode")
        return any(all((port.get(key) or one[key]) == one[key] for key in keys) for one in gone)

    present = {_port(port): port for port in endpoint.get("Ports") or []}
    kept = [port for port in present.values() if not goes(port)]
    kept += [port for port in added if _port(port) not in present]
    _set(endpoint, "Ports", sorted(kept, key=_port))


def _health(container: Spec, flags: Flags) -> None:
    said = {key: flags[flag] for key, flag in HEALTH.items() if flags[flag] is not None}
    if flags["no_healthcheck"]:
        if said or flags["health_cmd"] is not None:
            raise Invalid("--no-healthcheck conflicts with --health-* options")
        container["Healthcheck"] = {"Test": ["NONE"]}
    elif said or flags["health_cmd"] is not None:
        check = {**(container.get("Healthcheck") or {}), **said}
        if check.get("Test") == ["NONE"]:
            del check["Test"]
        if flags["health_cmd"] is not None:
            _set(check, "Test", ["CMD-SHELL", flags["health_cmd"]] if flags["health_cmd"] else None)
        container["Healthcheck"] = check
