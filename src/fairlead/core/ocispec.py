"""A container as the configuration of an OCI runtime: what ``config.json`` says.

    Container + Place (where things are) + Facts (what the machine is)  ->  spec(…)  ->  dict

    process      who, what, with which rights and environment        (core.users, core.capabilities, core.seccomp)
    mounts       the kernel's, ours, the user's                      (core.ocimounts)
    namespaces   its own, the host's, or another container's
    resources    limits and devices                                  (core.ociresources)

Rules
    1. Pure: everything that had to be looked up (users, devices, paths) comes in
       as a value; the same values give the same configuration.
    2. What was asked for and cannot be had is an error, never left out, except
       AppArmor where the kernel has none.
    3. Privileged means: all capabilities, all devices, no filter, nothing masked.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from fairlead.core import capabilities, ocimounts, seccomp
from fairlead.core.container import Config, Container, HostConfig, Mount
from fairlead.core.ociresources import DeviceNode, resources
from fairlead.core.switches import SECURITY, parse_bool
from fairlead.core.users import Identity
from fairlead.errors import FairleadError, Invalid

PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
INIT = "/sbin/docker-init"
UNPRIVILEGED = {"net.ipv4.ip_unprivileged_port_start": "0", "net.ipv4.ping_group_range": "0 2147483647"}
"""Low ports and ping need no rights inside a network namespace of its own: there is nobody to protect."""


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """What a configuration depends on besides the container; looked up once."""

    machine: str = "x86_64"
    """``uname -m``"""
    cgroup: int = 2
    """version of the hierarchy that has the controllers"""
    cgroup_parent: str = "/fairlead"
    capabilities: int = (1 << 41) - 1
    """mask of those the engine may give"""
    apparmor: bool = False
    init: str = ""
    """path on the host of a tiny init"""
    filter_syscalls: bool = True
    """this kernel has seccomp"""


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """Where the parts of one container are."""

    rootfs: str
    network: str | None = ""
    """path of its network namespace; None: the host's; "": a new one"""
    files: Mapping[str, str] = msgspec.field(default_factory=dict)
    """place inside -> host path, of hosts, hostname and resolv.conf"""
    joined: Mapping[str, int] = msgspec.field(default_factory=dict)
    """``pid``, ``ipc`` -> process whose namespace is shared"""
    shm: str = ""
    """host path of a /dev/shm that it shares with other containers; "": one of its own"""
    env: Sequence[str] = ()
    """weaker than the container's own (links)"""
    devices: Sequence[DeviceNode] = ()
    disks: Mapping[str, tuple[int, int]] = msgspec.field(default_factory=dict)
    profile: Mapping[str, Any] | None = None
    """the user's seccomp profile, parsed JSON"""
    cwd_made: bool = True


def spec(
    container: Container, identity: Identity, mounts: Sequence[Mount], place: Place, facts: Facts
) -> dict[str, Any]:
    """The configuration as the runtime reads it."""
    config, host = container.config, container.host
    security = parse_security(host.security_opt)
    refuse_devices(host)
    rights = rights_of(host, facts)
    init = bool(host.init) and (host.pid_mode == "" or host.pid_mode == "private")
    files = {**place.files, **({INIT: facts.init} if init else {})}
    made: dict[str, Any] = {
        "ociVersion": "1.0.2",
        "process": _process(container, identity, rights, security, place, init, facts),
        "root": {"path": place.rootfs, **({"readonly": True} if host.readonly_rootfs else {})},
        "mounts": ocimounts.mounts(container, mounts, files, place.shm, security.writable_cgroups),
        "linux": _linux(container, security, rights, mounts, place, facts),
    }
    if host.uts_mode != "host":
        made["hostname"] = config.hostname or container.short
        if config.domainname:
            made["domainname"] = config.domainname
    if host.annotations:
        made["annotations"] = dict(host.annotations)
    return made


class Security(msgspec.Struct, frozen=True):
    """``--security-opt``, parsed. ``seccomp``: "" the default, ``unconfined``, or a profile's JSON text."""

    no_new_privileges: bool = False
    seccomp: str = ""
    apparmor: str = ""
    unmasked: bool = False
    writable_cgroups: bool = False
    label: tuple[str, ...] = ()


def parse_security(options: Sequence[str] | None) -> Security:
    """``Invalid`` in dockerd's words for what is none."""
    parsed: dict[str, Any] = {}
    for option in options or ():
        name, equals, value = option.partition("=") if "=" in option else option.partition(":")
        if name in SECURITY:
            parsed[SECURITY[name]] = option == name or bool(parse_bool(value))
        elif option == "systempaths=unconfined":
            parsed["unmasked"] = True
        elif not equals:
            raise Invalid(f'invalid --security-opt 1: "{option}"')
        elif name in ("seccomp", "apparmor"):
            parsed[name] = value
        elif name == "label":
            parsed["label"] = (*parsed.get("label", ()), value)
        else:
            raise Invalid(f'invalid --security-opt 2: "{option}"')
    return Security(**parsed)


def refuse_devices(host: HostConfig) -> None:
    """``--gpus``: no driver here makes devices on request; without them the container is not what was asked for."""
    for request in host.device_requests or ():
        driver, ids = request.get("Driver") or "", request.get("DeviceIDs") or ()
        if driver == "cdi":
            raise FairleadError(f"CDI device injection failed: unresolvable CDI devices {', '.join(ids)}")
        wanted = " ".join(f"[{' '.join(each)}]" for each in request.get("Capabilities") or ())
        raise FairleadError(f'could not select device driver "{driver}" with capabilities: [{wanted}]')


def rights_of(host: HostConfig, facts: Facts) -> tuple[str, ...]:
    """Capabilities of the container's root."""
    known = capabilities.known(facts.capabilities)
    return known if host.privileged else capabilities.settle(host.cap_add, host.cap_drop, known)


def environment(config: Config, hostname: str, home: str, weaker: Sequence[str] = (), tty: bool = False) -> list[str]:
    """Defaults, then links, then the container's own; a name alone (``FOO``) takes it away."""
    made: dict[str, str] = {}
    defaults = [PATH, f"HOSTNAME={hostname}", *(["TERM=xterm"] if tty else [])]
    for item in (*defaults, *weaker, *(config.env or ())):
        name, equals, _ = item.partition("=")
        if equals:
            made[name] = item
        else:
            made.pop(name, None)
    made.setdefault("HOME", f"HOME={home}")
    return list(made.values())


def caps_of(identity: Identity, rights: Sequence[str]) -> dict[str, list[str]]:
    """The capability sets of a process: only root keeps them over the start of a program."""
    full = list(rights)
    own = full if identity.uid == 0 else []
    return {"bounding": full, "effective": own, "permitted": own}


def _process(
    container: Container,
    identity: Identity,
    rights: Sequence[str],
    security: Security,
    place: Place,
    init: bool,
    facts: Facts,
) -> dict[str, Any]:
    config, host = container.config, container.host
    arguments = [container.path, *container.args]
    made: dict[str, Any] = {
        "terminal": config.tty,
        "user": user_of(identity),
        "args": [INIT, "--", *arguments] if init else arguments,
        "env": environment(config, config.hostname or container.short, identity.home, place.env, config.tty),
        "cwd": config.working_dir or "/",
        "capabilities": caps_of(identity, rights),
        "noNewPrivileges": security.no_new_privileges,
        "oomScoreAdj": host.oom_score_adj,
    }
    if config.tty and all(host.console_size):
        made["consoleSize"] = {"height": host.console_size[0], "width": host.console_size[1]}
    if host.ulimits:
        made["rlimits"] = [
            {"type": "RLIMIT_" + limit.name.upper(), "hard": _unsigned(limit.hard), "soft": _unsigned(limit.soft)}
            for limit in host.ulimits
        ]
    if facts.apparmor and security.apparmor and not host.privileged:
        made["apparmorProfile"] = security.apparmor
    return made


def user_of(identity: Identity) -> dict[str, Any]:
    """The ``user`` part of a process."""
    groups = {"additionalGids": list(identity.groups)} if identity.groups else {}
    return {"uid": identity.uid, "gid": identity.gid, **groups}


def _unsigned(limit: int) -> int:
    """-1 is no limit: the kernel's largest number."""
    return limit if limit >= 0 else (1 << 64) - 1


def _linux(
    container: Container,
    security: Security,
    rights: Sequence[str],
    mounts: Sequence[Mount],
    place: Place,
    facts: Facts,
) -> dict[str, Any]:
    host = container.host
    made: dict[str, Any] = {
        "cgroupsPath": cgroup_path(container, facts),
        "namespaces": _namespaces(host, place, facts),
        "resources": resources(host, place.devices, dict(place.disks)),
    }
    sysctls = {**(UNPRIVILEGED if place.network is not None else {}), **(host.sysctls or {})}
    optional: dict[str, Any] = {
        "sysctl": sysctls,
        "devices": [_device(node) for node in place.devices],
        "seccomp": _filter(host, security, rights, place, facts),
        "rootfsPropagation": ocimounts.propagation(mounts),
    }
    if not host.privileged and not security.unmasked:
        masked, readonly = host.masked_paths, host.readonly_paths
        optional["maskedPaths"] = list(ocimounts.MASKED if masked is None else masked)
        optional["readonlyPaths"] = list(ocimounts.READONLY if readonly is None else readonly)
    made.update({key: value for key, value in optional.items() if value})
    return made


def cgroup_path(container: Container, facts: Facts) -> str:
    """Where its limits are, below the root of the hierarchy: ``/fairlead/3f2a…``."""
    parent = "/" + (container.host.cgroup_parent or facts.cgroup_parent).strip("/")
    return f"{parent.rstrip('/')}/{container.id}"


def _filter(
    host: HostConfig, security: Security, rights: Sequence[str], place: Place, facts: Facts
) -> dict[str, Any] | None:
    if host.privileged or security.seccomp == "unconfined":
        return None
    if not facts.filter_syscalls:
        if place.profile is not None:
            raise Invalid("seccomp is not enabled in your kernel, cannot run a custom seccomp profile")
        return None
    if place.profile is not None:
        return seccomp.from_docker(place.profile, set(rights), facts.machine)
    return seccomp.profile(set(rights), facts.machine)


def _namespaces(host: HostConfig, place: Place, facts: Facts) -> list[dict[str, str]]:
    """Those the container does not share with the host. Ours for pid and ipc, or the path of another's."""
    made: list[dict[str, str]] = [{"type": "mount"}]
    if place.network is not None:
        made.append({"type": "network", **({"path": place.network} if place.network else {})})
    if host.uts_mode != "host":
        made.append({"type": "uts"})
    for kind, mode in (("pid", host.pid_mode), ("ipc", host.ipc_mode)):
        if kind in place.joined:
            made.append({"type": kind, "path": f"/proc/{place.joined[kind]}/ns/{kind}"})
        elif mode.startswith("container:"):
            raise Invalid(f"cannot join the {kind} namespace of {mode.partition(':')[2]}: it is not running")
        elif mode != "host":
            made.append({"type": kind})
    cgroups = host.cgroupns_mode or ("private" if facts.cgroup == 2 and not host.privileged else "host")
    if cgroups == "private":
        made.append({"type": "cgroup"})
    return made


def _device(node: DeviceNode) -> dict[str, Any]:
    return {
        "path": node.path,
        "type": node.kind,
        "major": node.major,
        "minor": node.minor,
        "fileMode": node.mode,
        "uid": node.uid,
        "gid": node.gid,
    }
