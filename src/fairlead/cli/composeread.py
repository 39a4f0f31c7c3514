"""Compose files, read: from what people may write in five ways to one normal form.

    files --load--> filled in --> checked --> normal form of each --merge--> one

In the normal form lists are lists, maps are maps, ports and mounts are spelled out, time spans are nanoseconds, sizes
bytes, files absolute, the environment has its values. ``show`` is the way back: what ``stack config`` prints.
"""

from __future__ import annotations

import os
import posixpath
import re
import sys
from collections.abc import Callable, Mapping
from typing import Any

from fairlead.cli import composeshape, composeyaml
from fairlead.cli.command import content, memory, nanoseconds
from fairlead.cli.composefill import fill
from fairlead.cli.pages import duration
from fairlead.cli.servicewords import words
from fairlead.errors import Invalid

Service = dict[str, Any]
FORBIDDEN = {
    "extends": "Support for `extends` is not implemented yet.",
    "volume_driver": "Instead of setting the volume driver on the service, define a volume using the top-level "
    "`volumes` option and specify the driver there.",
    "volumes_from": "To share a volume between services, define it using the top-level `volumes` option and reference "
    "it from each service that shares it using the service-level `volumes` option.",
    **dict.fromkeys(
        ("cpu_quota", "cpu_shares", "cpuset", "mem_limit", "memswap_limit"),
        "Set resource limits using deploy.resources",
    ),
}
UNSUPPORTED = (
    *(
        "build",
        "cgroupns_mode",
        "cgroup_parent",
        "devices",
        "domainname",
        "external_links",
        "ipc",
        "links",
        "mac_address",
    ),
    *("network_mode", "pid", "privileged", "restart", "security_opt", "shm_size", "userns_mode"),
)
DEPRECATED = {
    "container_name": "Setting the container name is not supported.",
    "expose": "Exposing ports is unnecessary - services on the same network can access each other's containers on any "
    "port.",
}
TIMES = ("delay", "monitor", "window", "interval", "timeout", "start_period", "start_interval", "stop_grace_period")


class Files:
    """Compose files, loaded but not yet looked into. ``folder``: what their paths are relative to."""

    def __init__(self, names: list[str]) -> None:
        if not names:
            raise Invalid("Specify a Compose file (with --compose-file)")
        if names[0] == "-":
            self.folder, self.documents = os.getcwd(), [composeyaml.load(sys.stdin.read())]
            return
        self.folder = os.path.dirname(os.path.abspath(names[0]))
        self.documents = [composeyaml.load(content(name).decode()) for name in names]

    def remarks(self) -> list[str]:
        """What stacks do not heed."""
        services = [one for document in self.documents for one in (document.get("services") or {}).values() if one]
        said: list[str] = []
        if ignored := sorted(key for key in UNSUPPORTED if any(key in one for one in services)):
            said.append(f"Ignoring unsupported options: {', '.join(ignored)}\n")
        if old := [f"{key}: {why}\n" for key, why in DEPRECATED.items() if any(key in one for one in services)]:
            said.append("\n".join(["Ignoring deprecated options:\n", *sorted(old)]) + "\n")
        return said


def read(files: Files, variables: Mapping[str, str], *, filled: bool = True) -> dict[str, Any]:
    """All files as one document in the normal form; raises ``Invalid`` in Docker's words."""
    made = [_one(document, files.folder, variables, filled) for document in files.documents]
    if len({one["version"] for one in made}) > 1:
        versions = " and ".join(one["version"] for one in made[:2])
        raise Invalid(f"version mismatched between two composefiles : {versions}")
    whole = made[0]
    for other in made[1:]:
        whole = _merged(whole, other)
    return whole


def _one(document: dict[str, Any], folder: str, variables: Mapping[str, str], filled: bool) -> dict[str, Any]:
    version = document.get("version", composeshape.NEWEST)
    if isinstance(version, str):
        version = {"": composeshape.NEWEST, "3": "3.0"}.get(version, version)
        if version not in composeshape.VERSIONS:
            raise Invalid(f"unsupported Compose file version: {version}")
    services = document.get("services")
    given = [one for one in services.values() if isinstance(one, dict)] if isinstance(services, dict) else []
    if bad := sorted(f"{key}: {why}" for key, why in FORBIDDEN.items() if any(key in one for one in given)):
        raise Invalid("Compose file contains unsupported options:\n\n" + "\n\n".join(bad) + "\n")
    if filled:
        document = fill(document, variables)
    if not isinstance(version, str):
        raise Invalid("version must be a string")
    composeshape.check(document)
    return {
        "version": version,
        "services": {
            name: service(one or {}, folder, variables)
            for name, one in sorted((document.get("services") or {}).items())
        },
        **{
            kind: {
                name: _shared(kind, name, one or {}, folder) for name, one in sorted((document.get(kind) or {}).items())
            }
            for kind in ("networks", "volumes", "secrets", "configs")
        },
        **{key: value for key, value in document.items() if key.startswith("x-")},
    }


# Services


def service(one: Service, folder: str, variables: Mapping[str, str]) -> Service:
    """One service in the normal form."""
    made = {key: NORMAL[key](value) if key in NORMAL else value for key, value in one.items()}
    variables_of: dict[str, str | None] = {}
    for name in made.get("env_file") or []:
        for line in _env_lines(os.path.join(folder, name)):
            key, equals, value = line.partition("=")
            variables_of[key] = value if equals else None
    variables_of |= made.get("environment") or {}
    if variables_of:
        made["environment"] = {
            key: variables[key] if not value and key in variables else value
            for key, value in sorted(variables_of.items())
        }
    for mount in made.get("volumes") or []:
        if mount["type"] == "bind":
            mount["source"] = _source(mount, folder, variables)
    return made


def _env_lines(name: str) -> list[str]:
    from fairlead.cli.command import lines_of

    return list(lines_of([name]))


def _source(mount: dict[str, Any], folder: str, variables: Mapping[str, str]) -> str:
    source = str(mount.get("source") or "")
    if not source:
        raise Invalid('invalid mount config for type "bind": field Source must not be empty')
    if source.startswith("~") and "HOME" in variables:
        source = variables["HOME"] + source[1:]
    return source if posixpath.isabs(source) else os.path.normpath(os.path.join(folder, source))


def _plain(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else "" if value is None else str(value)


def pairs(value: Any) -> dict[str, str]:
    """Labels and their like: a map, or a list of ``key=value``."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in sorted(value.items())}
    return dict(sorted((key, rest) for key, _, rest in (text.partition("=") for text in value or [])))


def _environment(value: Any) -> dict[str, str | None]:
    if isinstance(value, dict):
        return {key: None if item is None else _plain(item) for key, item in value.items()}
    return {key: rest if equals else None for key, equals, rest in (text.partition("=") for text in value or [])}


def _hosts(value: Any) -> list[str]:
    return (
        sorted(f"{key}:{_plain(item)}" for key, item in value.items()) if isinstance(value, dict) else list(value or [])
    )


def _texts(value: Any) -> list[str]:
    return [value] if isinstance(value, str) else [_plain(item) for item in value or []]


def _command(value: Any) -> list[str]:
    return words(value) if isinstance(value, str) else list(value or [])


def _ports(value: list[Any]) -> list[dict[str, Any]]:
    from fairlead.cli.ports import parse

    found: list[dict[str, Any]] = []
    for one in value:
        if isinstance(one, dict):
            found.append({**one})
            continue
        bindings, _ = parse([str(one)])
        for inside, outside in sorted(bindings.items()):
            target, _, protocol = inside.partition("/")
            for binding in outside:
                port: dict[str, Any] = {"mode": "ingress", "target": int(target)}
                if binding["HostPort"].isdigit():
                    port["published"] = int(binding["HostPort"])
                found.append({**port, "protocol": protocol})
    return found


def _mounts(value: list[Any]) -> list[dict[str, Any]]:
    return [{**one} if isinstance(one, dict) else mount(one) for one in value]


def mount(text: str) -> dict[str, Any]:
    """``[source:]target[:options]`` spelled out."""
    parts = text.split(":")
    if not all(parts) or len(parts) > 3:
        raise Invalid(
            f"invalid spec: {text}: {'empty section between colons' if not all(parts) else 'too many colons'}"
        )
    if len(parts) == 1:
        return {"type": "volume", "target": text}
    source, target, *rest = parts
    made: dict[str, Any] = {"type": "bind" if source[0] in "./~" else "volume", "source": source, "target": target}
    for option in ",".join(rest).split(","):
        if option in ("ro", "rw"):
            made["read_only"] = option == "ro"
        elif option == "nocopy":
            made["volume"] = {"nocopy": True}
        elif re.fullmatch("r?(shared|slave|private)", option):
            made["bind"] = {"propagation": option}
    return made


def _references(value: list[Any]) -> list[dict[str, Any]]:
    return [{"source": one} if isinstance(one, str) else one for one in value]


def _networks(value: Any) -> dict[str, Any]:
    return dict(sorted(value.items())) if isinstance(value, dict) else dict.fromkeys(sorted(value or []))


def _health(value: dict[str, Any]) -> dict[str, Any]:
    test = value.get("test")
    return _timed({**value, **({"test": ["CMD-SHELL", test]} if isinstance(test, str) else {})})


def _timed(value: dict[str, Any]) -> dict[str, Any]:
    return {key: nanoseconds(item) if key in TIMES else item for key, item in value.items()}


def _deploy(value: dict[str, Any] | None) -> dict[str, Any]:
    made = dict(value or {})
    if "labels" in made:
        made["labels"] = pairs(made["labels"])
    for key in ("update_config", "rollback_config", "restart_policy"):
        if key in made:
            made[key] = _timed(made[key])
    if "resources" in made:
        made["resources"] = {
            part: {key: memory(item) if key == "memory" else item for key, item in some.items()}
            for part, some in made["resources"].items()
        }
    return made


def _logging(value: dict[str, Any]) -> dict[str, Any]:
    return {**value, **({"options": pairs(value["options"])} if "options" in value else {})}


NORMAL: dict[str, Callable[[Any], Any]] = {
    **dict.fromkeys(("labels", "sysctls"), pairs),
    **dict.fromkeys(("dns", "dns_search", "env_file", "tmpfs", "expose", "group_add"), _texts),
    **dict.fromkeys(("command", "entrypoint"), _command),
    **dict.fromkeys(("secrets", "configs"), _references),
    "build": lambda value: {"context": value} if isinstance(value, str) else value,
    "environment": _environment,
    "extra_hosts": _hosts,
    "ports": _ports,
    "volumes": _mounts,
    "networks": _networks,
    "healthcheck": _health,
    "deploy": _deploy,
    "logging": _logging,
    "stop_grace_period": nanoseconds,
    "shm_size": lambda value: memory(str(value)),
    "ulimits": lambda value: dict(sorted(value.items())),
}


# Networks, volumes, secrets, configs


def _shared(kind: str, name: str, one: dict[str, Any], folder: str) -> dict[str, Any]:
    """What services share, in the normal form: ``external`` is true or not there, and then there is a ``name``."""
    made = {**one}
    for key in ("labels", "driver_opts"):
        if key in made:
            made[key] = pairs(made[key])
    external = made.pop("external", False)
    if external:
        for key in ("driver", "driver_opts", "ipam", "file", "labels"):
            if kind == "volumes" and made.get(key):
                raise Invalid(f'conflicting parameters "external" and "{key}" specified for volume "{name}"')
        given = external.get("name") if isinstance(external, dict) else None
        made |= {"external": True, "name": given or made.get("name") or name}
    elif made.get("file"):
        made["file"] = os.path.normpath(os.path.join(folder, os.path.expanduser(made["file"])))
    return made


# Several files


def _merged(one: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    made = {**one, **{key: value for key, value in other.items() if key.startswith("x-")}}
    made["services"] = dict(sorted(one["services"].items()))
    for name, service in sorted(other["services"].items()):
        made["services"][name] = _over(one["services"][name], service) if name in one["services"] else service
    made["services"] = dict(sorted(made["services"].items()))
    for kind in ("networks", "volumes", "secrets", "configs"):
        made[kind] = dict(sorted({**one[kind], **other[kind]}.items()))
    return made


KEYED: dict[str, Callable[[dict[str, Any]], Any]] = {
    "ports": lambda port: port.get("published", 0),
    "volumes": lambda mount: mount["target"],
    "secrets": lambda one: one["source"],
    "configs": lambda one: one["source"],
}


def _over(one: Any, other: Any, key: str = "") -> Any:
    """The second laid over the first: maps key by key, lists one behind the other, of things with a key the later."""
    if isinstance(one, dict) and isinstance(other, dict):
        both = {name: _over(one[name], item, name) if name in one else item for name, item in other.items()}
        return {**one, **both}
    if isinstance(one, list) and isinstance(other, list) and key not in ("command", "entrypoint", "test"):
        if key in KEYED:
            found = {KEYED[key](item): item for item in [*one, *other]}
            return [item for _, item in sorted(found.items(), key=lambda pair: pair[0])]
        return one + [item for item in other if item not in one]
    return other


# The way back

ORDER = (
    *("build", "cap_add", "cap_drop", "cgroupns_mode", "cgroup_parent", "command", "configs", "container_name"),
    *("credential_spec", "depends_on", "deploy", "devices", "dns", "dns_search", "domainname", "entrypoint"),
    *("environment", "env_file", "expose", "external_links", "extra_hosts", "group_add", "hostname", "healthcheck"),
    *(
        "image",
        "init",
        "ipc",
        "isolation",
        "labels",
        "links",
        "logging",
        "mac_address",
        "network_mode",
        "networks",
        "pid",
    ),
    *("ports", "privileged", "read_only", "restart", "secrets", "security_opt", "shm_size", "stdin_open"),
    *("stop_grace_period", "stop_signal", "sysctls", "tmpfs", "tty", "ulimits", "user", "userns_mode", "volumes"),
    *("working_dir", "oom_score_adj"),
)
INNER = (
    *("mode", "replicas", "labels", "update_config", "rollback_config", "resources", "restart_policy", "placement"),
    *("endpoint_mode", "condition", "parallelism", "delay", "max_attempts", "window", "failure_action", "monitor"),
    *("max_failure_ratio", "order", "limits", "reservations", "cpus", "memory", "pids", "generic_resources"),
    *("constraints", "preferences", "max_replicas_per_node", "kind", "value"),
    *("test", "timeout", "interval", "retries", "start_period", "start_interval", "disable"),
    *("type", "source", "target", "published", "protocol", "uid", "gid", "read_only", "consistency", "bind", "volume"),
    *("tmpfs", "soft", "hard", "name", "file", "driver", "driver_opts", "options", "ipam", "config", "subnet"),
    *("external", "internal", "attachable"),
)


def show(document: dict[str, Any]) -> str:
    """The document as YAML, as Docker writes it."""
    whole: dict[str, Any] = {"version": document["version"]}
    if document["services"]:
        whole["services"] = {name: _shown(one, ORDER) for name, one in document["services"].items()}
    for kind in ("networks", "volumes", "secrets", "configs"):
        if document[kind]:
            whole[kind] = {name: _shown(one, (*INNER, "labels")) for name, one in document[kind].items()}
    return composeyaml.dump({**whole, **{key: value for key, value in document.items() if key.startswith("x-")}})


def _shown(one: dict[str, Any], order: tuple[str, ...]) -> dict[str, Any]:
    """The keys that say something, in their order."""
    found = {}
    last = {"labels"} if "subnet" in order and order is not INNER else set()
    for key in [*(name for name in order if name not in last), *last, *(key for key in one if key not in order)]:
        value = one.get(key)
        if key not in one or value is False or value in ("", [], {}):
            continue
        found[key] = _value(key, value)
    return found


def _value(key: str, value: Any) -> Any:
    if key in TIMES:
        return duration(value)
    if key == "memory":
        return str(value)
    if key in ("environment", "labels", "sysctls", "driver_opts", "options", "networks", "ulimits"):
        return {name: _shown(item, INNER) if isinstance(item, dict) else item for name, item in value.items()}
    if key in ("secrets", "configs"):
        return [_shown(item, ("source", "target", "uid", "gid", "mode")) for item in value]
    if isinstance(value, dict):
        return _shown(value, INNER)
    return (
        [_shown(item, INNER) if isinstance(item, dict) else item for item in value]
        if isinstance(value, list)
        else value
    )
