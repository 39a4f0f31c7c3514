"""``service create``: what was typed, as the API's ServiceSpec.

    flags --spec--> ServiceSpec, networks, secrets and configs by their ids     (``Found`` asks the engine for those)

Only what was said is sent; the rest is the engine's choice.
"""

from __future__ import annotations

from typing import Any

from fairlead.cli.client import Client, path
from fairlead.cli.command import environment, filter_query, pairs_of
from fairlead.errors import Invalid

Flags = dict[str, Any]
ROLLOUT = {
    "Parallelism": ("parallelism", 1),
    "Delay": ("delay", None),
    "FailureAction": ("failure_action", "pause"),
    "Monitor": ("monitor", 5 * 10**9),
    "MaxFailureRatio": ("max_failure_ratio", 0),
    "Order": ("order", "stop-first"),
}
"""The API's key -> (the end of the flag, what is sent when others of its kind were said)."""
RESTART = {
    "Condition": ("condition", "any"),
    "Delay": ("delay", 5 * 10**9),
    "MaxAttempts": ("max_attempts", 0),
    "Window": ("window", None),
}
HEALTH = {
    "Interval": "health_interval",
    "Timeout": "health_timeout",
    "StartPeriod": "health_start_period",
    "StartInterval": "health_start_interval",
    "Retries": "health_retries",
}


def without_none(fields: dict[str, Any]) -> dict[str, Any]:
    """Only the fields that say something."""
    return {key: value for key, value in fields.items() if value is not None and value != []}


class Found:
    """Ids that the engine has for names."""

    def __init__(self, client: Client) -> None:
        self.client = client

    def networks(self, wishes: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """The wishes, ``Target`` an id; in the order of ids, so that the order they were typed in is no change."""
        ids = [self.network(wish["Target"]) for wish in wishes]
        both = [{**wish, "Target": one} for wish, one in zip(wishes, ids, strict=True)]
        return sorted(both, key=lambda wish: wish["Target"])

    def network(self, name: str) -> str:
        return str(self.client.call("GET", path("networks", name), {"scope": "swarm"})["Id"])

    def references(self, kind: str, wishes: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """``kind``: Secret or Config. What was typed in the API's keys, with the ids."""
        if not wishes:
            return []
        targets: set[str] = set()
        for wish in wishes:
            if wish["target"] in targets:
                raise Invalid(f"duplicate {kind.lower()} target for {wish['source']} not allowed")
            targets.add(wish["target"])
        query = {"filters": filter_query(("name", name) for name in dict.fromkeys(wish["source"] for wish in wishes))}
        found = {one["Spec"]["Name"]: one["ID"] for one in self.client.call("GET", f"/{kind.lower()}s", query) or []}
        for wish in wishes:
            if wish["source"] not in found:
                raise Invalid(f"{kind.lower()} not found: {wish['source']}")
        return [
            {
                "File": {"Name": wish["target"], "UID": wish["uid"], "GID": wish["gid"], "Mode": wish["mode"]},
                f"{kind}ID": found[wish["source"]],
                f"{kind}Name": wish["source"],
            }
            for wish in wishes
        ]


def spec(found: Found, flags: Flags, image: str, command: tuple[str, ...]) -> dict[str, Any]:
    """The ServiceSpec for these flags; raises ``Invalid`` for what makes no sense together."""
    mode = _mode(flags)
    rollouts = {
        "UpdateConfig": rollout(flags, "update", None), "RollbackConfig": rollout(flags, "rollback", None),
    }  # fmt: skip
    if mode.keys() & {"ReplicatedJob", "GlobalJob"} and any(rollouts.values()):
        raise Invalid("update and rollback configuration is not supported for jobs")
    container = _container(flags, image, command)
    task = {
        "ContainerSpec": container,
        "Resources": _resources(flags),
        "RestartPolicy": policy(flags, None),
        "Placement": without_none(
            {
                "Constraints": flags["constraint"],
                "Preferences": flags["placement_pref"],
                "MaxReplicas": flags["replicas_max_per_node"] or None,
            }
        ),
        "Networks": found.networks(flags["network"]),
        "LogDriver": {"Name": flags["log_driver"], "Options": pairs_of(flags["log_opt"])}
        if flags["log_driver"]
        else None,
        "ForceUpdate": 0,
    }
    container |= without_none(
        {"Secrets": found.references("Secret", flags["secret"]), "Configs": found.references("Config", flags["config"])}
    )
    ports = [port for ports in flags["publish"] for port in ports]
    return {
        **without_none({"Name": flags["name"]}),
        "Labels": pairs_of(flags["label"]),
        "TaskTemplate": without_none(task),
        "Mode": mode,
        **without_none(rollouts),
        "EndpointSpec": without_none({"Mode": (flags["endpoint_mode"] or "vip").lower(), "Ports": ports}),
    }


def _mode(flags: Flags) -> dict[str, Any]:
    mode, replicas, most = flags["mode"] or "replicated", flags["replicas"], flags["max_concurrent"]
    if mode not in ("replicated", "global", "replicated-job", "global-job"):
        raise Invalid(f"Unknown mode: {mode}, only replicated and global supported")
    if most is not None and mode != "replicated-job":
        raise Invalid("max-concurrent can only be used with replicated-job mode")
    if mode.startswith("global"):
        for name, value in (("replicas", replicas), ("replicas-max-per-node", flags["replicas_max_per_node"])):
            if value is not None:
                raise Invalid(f"{name} can only be used with replicated or replicated-job mode")
        return {"Global": {}} if mode == "global" else {"GlobalJob": {}}
    if mode == "replicated":
        return {"Replicated": without_none({"Replicas": replicas})}
    atonce = most if most is not None else replicas
    return {"ReplicatedJob": without_none({"MaxConcurrent": atonce, "TotalCompletions": replicas})}


def _container(flags: Flags, image: str, command: tuple[str, ...]) -> dict[str, Any]:
    variables: dict[str, str] = {}
    for text in environment(flags["env_file"], flags["env"]):
        variables.pop(text.partition("=")[0], None)  # said again, it counts from there
        variables[text.partition("=")[0]] = text
    fields = {
        "Image": image,
        "Labels": pairs_of(flags["container_label"]) or None,
        "Command": flags["entrypoint"],
        "Args": list(command),
        "Hostname": flags["hostname"],
        "Env": list(variables.values()),
        "Dir": flags["workdir"],
        "User": flags["user"],
        "Groups": flags["group"],
        "Privileges": {"CredentialSpec": flags["credential_spec"]} if flags["credential_spec"] else None,
        "Init": bool(flags["init"]),
        "StopSignal": flags["stop_signal"],
        "TTY": flags["tty"] or None,
        "ReadOnly": flags["read_only"] or None,
        "Mounts": flags["mount"],
        "StopGracePeriod": flags["stop_grace_period"],
        "Healthcheck": _health(flags),
        "Hosts": flags["host"],
        "DNSConfig": without_none(
            {"Nameservers": flags["dns"], "Search": flags["dns_search"], "Options": flags["dns_option"]}
        ),
        "Isolation": flags["isolation"] or None,
        "Sysctls": pairs_of(flags["sysctl"]) or None,
        "CapabilityAdd": flags["cap_add"],
        "CapabilityDrop": flags["cap_drop"],
        "Ulimits": flags["ulimit"],
        "OomScoreAdj": flags["oom_score_adj"],
    }
    return without_none(fields)


def _resources(flags: Flags) -> dict[str, Any]:
    from fairlead.cli.servicewords import resources

    limits = {"NanoCPUs": flags["limit_cpu"], "MemoryBytes": flags["limit_memory"], "Pids": flags["limit_pids"]}
    wanted = {
        "NanoCPUs": flags["reserve_cpu"],
        "MemoryBytes": flags["reserve_memory"],
        "GenericResources": resources(flags["generic_resource"]),
    }
    return {"Limits": without_none(limits), "Reservations": without_none(wanted)}


def _said(flags: Flags, kind: str, table: dict[str, tuple[str, Any]]) -> dict[str, Any]:
    return without_none({key: flags[f"{kind}_{end}"] for key, (end, _) in table.items()})


def rollout(flags: Flags, kind: str, present: dict[str, Any] | None) -> dict[str, Any] | None:
    """``--update-*`` or ``--rollback-*`` written over what is; None when nothing was said and nothing is."""
    said = _said(flags, kind, ROLLOUT)
    start = {key: value for key, (_, value) in ROLLOUT.items()} if present is None else present
    return without_none({**start, **said}) if said else present


def policy(flags: Flags, present: dict[str, Any] | None) -> dict[str, Any] | None:
    """``--restart-*`` written over what is; None when nothing was said and nothing is."""
    said = _said(flags, "restart", RESTART)
    start = {key: value for key, (_, value) in RESTART.items()} if present is None else present
    return without_none({**start, **said}) if said else present


def _health(flags: Flags) -> dict[str, Any] | None:
    said = without_none({key: flags[flag] for key, flag in HEALTH.items()})
    if flags["no_healthcheck"]:
        if said or flags["health_cmd"]:
            raise Invalid("--no-healthcheck conflicts with --health-* options")
        return {"Test": ["NONE"]}
    if not said and not flags["health_cmd"]:
        return None
    return {**({"Test": ["CMD-SHELL", flags["health_cmd"]]} if flags["health_cmd"] else {}), **said}


def tagged(image: str) -> str:
    """With ``:latest`` when it has neither tag nor digest; untouched when it is no name of an image."""
    plain = image.rpartition("/")[2]
    return image if ":" in plain or "@" in plain else f"{image}:latest"


def resolve(client: Client, wanted: dict[str, Any], headers: dict[str, str]) -> str:
    """Fix the image to what the registry has under that name, and the platforms that it is for; returns a warning."""
    from fairlead.errors import FairleadError

    container = wanted["TaskTemplate"]["ContainerSpec"]
    image = container["Image"] = tagged(container["Image"])
    if "@" in image:
        return ""
    try:
        known = client.call("GET", f"/distribution/{image}/json", headers=headers)
        container["Image"] = f"{image}@{known['Descriptor']['digest']}"
        platforms = [
            {"Architecture": "" if one["architecture"] == "arm" else one["architecture"], "OS": one["os"]}
            for one in known.get("Platforms") or []
        ]
        wanted["TaskTemplate"].setdefault("Placement", {})["Platforms"] = platforms
    except (FairleadError, KeyError, TypeError):
        return (
            f"image {image} could not be accessed on a registry to record\n"
            f"its digest. Each node will access {image} independently,\n"
            "possibly leading to different nodes running different\nversions of the image.\n"
        )
    return ""
