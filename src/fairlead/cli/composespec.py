"""A stack: what a Compose file in its normal form means to the engine.

    networks, secrets, configs    names -> create requests             (external ones are only looked for)
    service(...)                  one service -> ServiceSpec

Everything that a stack makes bears its label, and its name in front of its own: ``shop_web``.
"""

from __future__ import annotations

import base64
from typing import Any

from fairlead.cli.command import content, cpus
from fairlead.cli.create import policy
from fairlead.cli.servicespec import Found, without_none
from fairlead.cli.servicewords import capability
from fairlead.errors import Invalid

LABEL = "com.docker.stack.namespace"
IMAGE = "com.docker.stack.image"
Document = dict[str, Any]
Service = dict[str, Any]


class Stack:
    """A stack by its name and its document."""

    def __init__(self, name: str, document: Document) -> None:
        self.name, self.document = name, document

    def scoped(self, name: str) -> str:
        return f"{self.name}_{name}"

    def labels(self, more: dict[str, str] | None = None) -> dict[str, str]:
        return {**(more or {}), LABEL: self.name}

    # What services share

    def networks(self) -> tuple[dict[str, dict[str, Any]], list[str]]:
        """(create requests by name, names that must be there already) of the networks that services use."""
        used = {name for one in self.document["services"].values() for name in one.get("networks") or {"default": None}}
        made: dict[str, dict[str, Any]] = {}
        outside = []
        for name in sorted(used):
            given = self.document["networks"].get(name)
            if given is None and name != "default":
                given = {}  # its absence is said where it is used
            given = given or {}
            if given.get("external"):
                outside.append(given["name"])
                continue
            ipam = given.get("ipam") or {}
            full = given.get("name") or self.scoped(name)
            made[full] = {
                "Name": full,
                "Driver": given.get("driver") or "overlay",
                "Labels": self.labels(given.get("labels")),
                "Options": given.get("driver_opts"),
                "Internal": given.get("internal", False),
                "Attachable": given.get("attachable", False),
                "IPAM": {
                    "Driver": ipam.get("driver", ""),
                    "Config": [{"Subnet": one.get("subnet", "")} for one in ipam.get("config") or []],
                }
                if ipam
                else None,
            }
        return made, outside

    def kept(self, kind: str) -> list[dict[str, Any]]:
        """Create requests of the stack's own secrets or configs (``kind``: secrets, configs)."""
        found = []
        for name, one in self.document[kind].items():
            if one.get("external"):
                continue
            wish = {"Name": one.get("name") or self.scoped(name), "Labels": self.labels(one.get("labels"))}
            if one.get("driver"):
                wish["Driver"] = {"Name": one["driver"], "Options": one.get("driver_opts")}
            else:
                wish["Data"] = base64.b64encode(content(one.get("file", ""))).decode()
            if one.get("template_driver"):
                wish["Templating"] = {"Name": one["template_driver"]}
            found.append(wish)
        return found

    # Services

    def services(self, found: Found) -> dict[str, dict[str, Any]]:
        """The specs by the services' short names; raises ``Invalid`` that names the service."""
        specs = {}
        for name, one in self.document["services"].items():
            try:
                specs[name] = self._service(found, name, one)
            except Invalid as problem:
                raise Invalid(f"service {name}: {problem.message}") from None
        return specs

    def _service(self, found: Found, name: str, one: Service) -> dict[str, Any]:
        deploy = one.get("deploy") or {}
        secrets, configs = (self._references(found, kind, one) for kind in ("secrets", "configs"))
        place = deploy.get("placement") or {}
        task = {
            "ContainerSpec": {**self._container(one), **without_none({"Secrets": secrets, "Configs": configs})},
            "LogDriver": _log(one.get("logging")),
            "Resources": _resources(deploy.get("resources") or {}),
            "RestartPolicy": _restart(one.get("restart", ""), deploy.get("restart_policy")),
            "Placement": without_none(
                {
                    "Constraints": place.get("constraints"),
                    "Preferences": [
                        {"Spread": {"SpreadDescriptor": each.get("spread", "")}}
                        for each in place.get("preferences") or []
                    ],
                    "MaxReplicas": place.get("max_replicas_per_node"),
                }
            ),
            "Networks": self._networks(name, one),
            "ForceUpdate": 0,
        }
        spec = {
            "Name": self.scoped(name),
            "Labels": {**self.labels(deploy.get("labels")), IMAGE: one["image"]},
            "TaskTemplate": without_none(task),
            "Mode": _mode(deploy.get("mode", ""), deploy.get("replicas")),
            "UpdateConfig": _rollout(deploy.get("update_config")),
            "RollbackConfig": _rollout(deploy.get("rollback_config")),
        }
        return {
            **without_none(spec),
            "EndpointSpec": _endpoint(deploy.get("endpoint_mode", ""), one.get("ports") or []),
        }

    def _container(self, one: Service) -> dict[str, Any]:
        added, dropped = ({capability(word) for word in one.get(key) or []} for key in ("cap_add", "cap_drop"))
        limits = {
            name: limit if isinstance(limit, dict) else {"soft": limit, "hard": limit}
            for name, limit in (one.get("ulimits") or {}).items()
        }
        lines = [text.partition(":") for text in one.get("extra_hosts") or []]
        names = without_none({"Nameservers": one.get("dns"), "Search": one.get("dns_search")})
        fields = {
            "Image": one["image"],
            "Labels": self.labels(one.get("labels")),
            "Command": one.get("entrypoint"),
            "Args": one.get("command"),
            "Hostname": one.get("hostname") or None,
            "Env": [
                key if value is None else f"{key}={value}" for key, value in (one.get("environment") or {}).items()
            ],
            "Dir": one.get("working_dir") or None,
            "User": one.get("user") or None,
            "Init": one.get("init"),
            "StopSignal": one.get("stop_signal") or None,
            "StopGracePeriod": one.get("stop_grace_period"),
            "TTY": one.get("tty") or None,
            "OpenStdin": one.get("stdin_open") or None,
            "ReadOnly": one.get("read_only") or None,
            "Mounts": [self._mount(mount) for mount in one.get("volumes") or []]
            + [{"Type": "tmpfs", "Target": path} for path in one.get("tmpfs") or []],
            "Healthcheck": _health(one.get("healthcheck")),
            "Hosts": [f"{address} {name}" for name, _, address in lines],
            "DNSConfig": names or None,
            "Isolation": one.get("isolation") or None,
            "Sysctls": one.get("sysctls") or None,
            "CapabilityAdd": sorted(added),
            "CapabilityDrop": sorted(dropped - added),
            "Ulimits": [{"Name": name, "Soft": limit["soft"], "Hard": limit["hard"]} for name, limit in limits.items()],
            "OomScoreAdj": one.get("oom_score_adj"),
        }
        return without_none(fields)

    def _networks(self, name: str, one: Service) -> list[dict[str, Any]]:
        found = []
        for network, wish in (one.get("networks") or {"default": None}).items():
            given = self.document["networks"].get(network)
            if given is None and network != "default":
                raise Invalid(f'undefined network "{network}"')
            target = (given or {}).get("name") or self.scoped(network)
            aliases = [
                *((wish or {}).get("aliases") or []),
                *([name] if target not in ("host", "none", "bridge") else []),
            ]
            options = (wish or {}).get("driver_opts")
            found.append(without_none({"Target": target, "Aliases": aliases, "DriverOpts": options}))
        return sorted(found, key=lambda one: str(one["Target"]))

    def _references(self, found: Found, kind: str, one: Service) -> list[dict[str, Any]]:
        wishes = []
        for wish in one.get(kind) or []:
            given = self.document[kind].get(wish["source"])
            if given is None:
                raise Invalid(f'undefined {kind[:-1]} "{wish["source"]}"')
            wishes.append(
                {
                    "source": given.get("name") or self.scoped(wish["source"]),
                    "target": wish.get("target") or wish["source"],
                    "uid": wish.get("uid") or "0",
                    "gid": wish.get("gid") or "0",
                    "mode": wish.get("mode", 0o444),
                }
            )
        word = kind[:-1].title()
        return sorted(found.references(word, wishes), key=lambda one: str(one[f"{word}Name"]))

    def _mount(self, mount: dict[str, Any]) -> dict[str, Any]:
        kind, source = mount["type"], mount.get("source", "")
        made = {
            "Type": kind,
            "Source": source or None,
            "Target": mount.get("target", ""),
            "ReadOnly": mount.get("read_only") or None,
            "Consistency": mount.get("consistency"),
        }
        if kind == "bind" and mount.get("bind"):
            made["BindOptions"] = {"Propagation": mount["bind"].get("propagation", "")}
        elif kind == "tmpfs" and mount.get("tmpfs"):
            made["TmpfsOptions"] = {"SizeBytes": mount["tmpfs"].get("size", 0)}
        elif kind == "volume" and source:
            if source not in self.document["volumes"]:
                raise Invalid(f'undefined volume "{source}"')
            given = self.document["volumes"][source] or {}
            made["Source"] = given.get("name") or self.scoped(source)
            options: dict[str, Any] = {"NoCopy": (mount.get("volume") or {}).get("nocopy") or None}
            options["Subpath"] = (mount.get("volume") or {}).get("subpath")
            if not given.get("external"):
                options["Labels"] = self.labels(given.get("labels"))
                if given.get("driver") or given.get("driver_opts"):
                    options["DriverConfig"] = {"Name": given.get("driver", ""), "Options": given.get("driver_opts")}
            made["VolumeOptions"] = without_none(options) or None
        return without_none(made)


def _log(given: dict[str, Any] | None) -> dict[str, Any] | None:
    return None if given is None else {"Name": given.get("driver", ""), "Options": given.get("options")}


def _mode(mode: str, replicas: int | None) -> dict[str, Any]:
    if mode in ("global", "global-job"):
        if replicas is not None:
            raise Invalid("replicas can only be used with replicated or replicated-job mode")
        return {"Global": {}} if mode == "global" else {"GlobalJob": {}}
    if mode in ("", "replicated"):
        return {"Replicated": without_none({"Replicas": replicas})}
    if mode == "replicated-job":
        return {"ReplicatedJob": without_none({"MaxConcurrent": replicas, "TotalCompletions": replicas})}
    raise Invalid(f"Unknown mode: {mode}")


def _resources(given: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for part, key in (("limits", "Limits"), ("reservations", "Reservations")):
        if part not in given:
            continue
        some = given[part]
        kinds = [
            {"DiscreteResourceSpec": {"Kind": spec.get("kind", ""), "Value": spec.get("value", 0)}}
            for spec in (one.get("discrete_resource_spec") or {} for one in some.get("generic_resources") or [])
        ]
        found[key] = without_none(
            {
                "NanoCPUs": cpus(some["cpus"]) if some.get("cpus") else None,
                "MemoryBytes": some.get("memory"),
                "Pids": some.get("pids"),
                "GenericResources": kinds,
            }
        )
    return found


def _restart(old: str, given: dict[str, Any] | None) -> dict[str, Any] | None:
    """``deploy.restart_policy``, else what ``restart`` means to a service."""
    if given is not None:
        keys = {"Condition": "condition", "Delay": "delay", "MaxAttempts": "max_attempts", "Window": "window"}
        return without_none({key: given.get(name) for key, name in keys.items()})
    wish = policy(old)
    name, times = wish["Name"], wish["MaximumRetryCount"] or None
    if name in ("", "no"):
        return None
    if name not in ("always", "unless-stopped", "on-failure"):
        raise Invalid(
            f"invalid restart policy: unknown policy '{name}' (must be one of 'no', 'always', 'on-failure', or "
            "'unless-stopped')"
        )
    return without_none({"Condition": "on-failure" if name == "on-failure" else "any", "MaxAttempts": times})


def _rollout(given: dict[str, Any] | None) -> dict[str, Any] | None:
    if given is None:
        return None
    return without_none(
        {
            "Parallelism": given.get("parallelism", 1),
            "Delay": given.get("delay"),
            "FailureAction": given.get("failure_action"),
            "Monitor": given.get("monitor"),
            "MaxFailureRatio": given.get("max_failure_ratio", 0),
            "Order": given.get("order"),
        }
    )


def _health(given: dict[str, Any] | None) -> dict[str, Any] | None:
    if given is None:
        return None
    if given.get("disable"):
        if given.get("test"):
            raise Invalid("test and disable can't be set at the same time")
        return {"Test": ["NONE"]}
    keys = {
        "Test": "test",
        "Interval": "interval",
        "Timeout": "timeout",
        "StartPeriod": "start_period",
        "StartInterval": "start_interval",
        "Retries": "retries",
    }
    return without_none({key: given.get(name) for key, name in keys.items()})


def _endpoint(mode: str, ports: list[dict[str, Any]]) -> dict[str, Any]:
    made = [
        without_none(
            {
                "Protocol": port.get("protocol"),
                "TargetPort": port.get("target", 0),
                "PublishedPort": port.get("published"),
                "PublishMode": port.get("mode"),
            }
        )
        for port in sorted(ports, key=lambda port: port.get("published", 0))
    ]
    return without_none({"Mode": mode.lower() or None, "Ports": made})
