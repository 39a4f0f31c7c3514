"""What ``run`` and ``create`` have in common: Docker's flags on one side, the API's create body on the other.

    flags (OPTIONS)  ->  Config         what travels with the image
                         HostConfig     what is about this machine
                         EndpointsConfig of every --network

Only the shape is made here. Whether it makes sense, the engine says.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from fairlead.cli.options import environment, lines_of, many, memory, nanoseconds, pairs_of, switch
from fairlead.cli.ports import parse as parse_ports
from fairlead.errors import Invalid
from fairlead.options import ulimit

TEXTS = {
    "--name": "Name of the container.",
    "-h --hostname": "Host name in the container.",
    "--domainname": "Domain name in the container.",
    "-u --user": "User name or id, with :group.",
    "-w --workdir": "Working directory in the container.",
    "--ip": "IPv4 address on its network.",
    "--ip6": "IPv6 address on its network.",
    "--mac-address": "MAC address on its network.",
    "--restart": "Restart policy: no, always, unless-stopped, on-failure[:times].",
    "--pid": "Process namespace: host or container:NAME.",
    "--ipc": "IPC namespace: private, shareable, host or container:NAME.",
    "--uts": "Host name namespace: host.",
    "--userns": "User namespace: host.",
    "--cgroupns": "Cgroup namespace: host or private.",
    "--cgroup-parent": "Parent cgroup.",
    "-m --memory": "Limit of memory: 64m.",
    "--memory-reservation": "Soft limit of memory.",
    "--memory-swap": "Limit of memory and swap together; -1: no limit.",
    "--shm-size": "Size of /dev/shm.",
    "--cpus": "How many CPUs it may use: 1.5.",
    "--cpuset-cpus": "On which CPUs it may run: 0-2,4.",
    "--cpuset-mems": "From which nodes its memory may come.",
    "--log-driver": "Where its output goes: json-file, local, none.",
    "--stop-signal": "Signal that asks it to stop.",
    "--health-cmd": "Command that tells whether it is well.",
    "--health-interval": "Time between two checks: 30s.",
    "--health-timeout": "How long one check may take.",
    "--health-start-period": "Time to start up, in which failures do not count.",
    "--health-start-interval": "Time between two checks while starting up.",
    "--entrypoint": "Replaces the image's entrypoint.",
    "--volume-driver": "Driver of new volumes.",
    "--runtime": "OCI runtime.",
    "--platform": "Platform, if the image is for several.",
    "--cidfile": "File to write the container's id to.",
}
NUMBERS = {
    "-c --cpu-shares": "Weight among those who want the CPU.",
    "--cpu-period": "Length of the scheduler's period in microseconds.",
    "--cpu-quota": "Microseconds of CPU per period.",
    "--pids-limit": "How many processes it may have; -1: any.",
    "--oom-score-adj": "How likely the kernel kills it when memory is short (-1000 to 1000).",
    "--blkio-weight": "Weight among those who want the disk (10 to 1000).",
    "--memory-swappiness": "How readily its memory is swapped (0 to 100).",
    "--stop-timeout": "Seconds it gets to stop.",
    "--health-retries": "Failures in a row that make it unhealthy.",
}
LISTS = {
    "-e --env": "Environment variable: NAME=value, or NAME to pass ours on.",
    "--env-file": "File of environment variables.",
    "-l --label": "Label: key=value.",
    "--label-file": "File of labels.",
    "-p --publish": "Publish a port: [[ip:]host:]container[/protocol].",
    "--expose": "Expose a port or a range of ports.",
    "-v --volume": "Mount a folder or a volume: [source:]target[:options].",
    "--mount": "Mount: type=bind|volume|tmpfs,source=…,target=….",
    "--tmpfs": "Mount a tmpfs: /path[:options].",
    "--volumes-from": "Mount what another container mounts.",
    "--network": "Network to connect to: NAME, host, none, container:NAME, or name=…,alias=…,ip=….",
    "--net": "Same as --network.",
    "--network-alias": "Further name on its networks.",
    "--net-alias": "Same as --network-alias.",
    "--link": "Link to another container: NAME[:alias].",
    "--link-local-ip": "Link-local address.",
    "--dns": "Name server.",
    "--dns-search": "Search domain.",
    "--dns-option": "Resolver option.",
    "--add-host": "Line of /etc/hosts: name:address (or host-gateway).",
    "--cap-add": "Capability to add.",
    "--cap-drop": "Capability to drop.",
    "--security-opt": "Security option: seccomp=…, no-new-privileges.",
    "--device": "Device to pass on.",
    "--device-cgroup-rule": "Rule for devices.",
    "--group-add": "Further group of the process.",
    "--sysctl": "Kernel setting of its namespaces: key=value.",
    "--ulimit": "Limit of its processes: nofile=1024:2048.",
    "--log-opt": "Option of the log driver.",
    "--annotation": "Annotation for the runtime.",
    "--storage-opt": "Option of the writable layer.",
    "-a --attach": "Attach to stdin, stdout or stderr.",
}
SWITCHES = {
    "-i --interactive": "Keep its input open.",
    "-t --tty": "Give it a terminal.",
    "-P --publish-all": "Publish every exposed port on a port we choose.",
    "--privileged": "All capabilities and devices.",
    "--read-only": "Make its root filesystem read-only.",
    "--rm": "Remove it, with its anonymous volumes, when it ends.",
    "--init": "Run an init in it that forwards signals and reaps processes.",
    "--no-healthcheck": "Ignore the image's health check.",
    "--oom-kill-disable": "Do not let the kernel kill it when memory is short.",
}


def options(function: Callable[..., Any]) -> Callable[..., Any]:
    """All flags of ``run`` and ``create``, as parameters of the function."""
    for names, says in reversed(TEXTS.items()):
        function = click.option(*names.split(), default="", help=says)(function)
    for names, says in reversed(NUMBERS.items()):
        function = click.option(*names.split(), type=int, help=says)(function)
    for names, says in reversed(LISTS.items()):
        function = many(*names.split(), help=says)(function)
    for names, says in reversed(SWITCHES.items()):
        function = switch(*names.split(), help=says)(function)
    return click.option(
        "--pull", type=click.Choice(["always", "missing", "never"]), default="missing", help="When to pull the image."
    )(function)


Flags = dict[str, Any]


def body(flags: Flags, image: str, command: tuple[str, ...], *, detach: bool) -> dict[str, Any]:
    """The API's create request for these flags."""
    bindings, exposed = parse_ports(flags["publish"], flags["expose"])
    networks = [_network(text) for text in (*flags["network"], *flags["net"])] or [("default", {})]
    return {
        **_config(flags, image, command, exposed, detach),
        "HostConfig": _host_config(flags, bindings, networks[0][0]),
        "NetworkingConfig": {"EndpointsConfig": _endpoints(flags, networks)},
    }


def _config(
    flags: Flags, image: str, command: tuple[str, ...], exposed: dict[str, Any], detach: bool
) -> dict[str, Any]:
    chosen = {stream.lower() for stream in flags["attach"]}
    attached = {name: not detach and (name in chosen or not chosen) for name in ("stdout", "stderr")}
    stdin = not detach and flags["interactive"] and (not chosen or "stdin" in chosen)
    named: dict[str, Any] = {target: {} for source, target in map(_volume, flags["volume"]) if not source}
    return {
        "Hostname": flags["hostname"],
        "Domainname": flags["domainname"],
        "User": flags["user"],
        "AttachStdin": stdin,
        "AttachStdout": attached["stdout"],
        "AttachStderr": attached["stderr"],
        "ExposedPorts": exposed,
        "Tty": flags["tty"],
        "OpenStdin": flags["interactive"],
        "StdinOnce": stdin,
        "Env": environment(flags["env_file"], flags["env"]),
        "Cmd": list(command) or None,
        "Healthcheck": _health(flags),
        "Image": image,
        "Volumes": named,
        "WorkingDir": flags["workdir"],
        "Entrypoint": _entrypoint(flags["entrypoint"]),
        "Labels": pairs_of((*lines_of(flags["label_file"]), *flags["label"])),
        "StopSignal": flags["stop_signal"],
        "StopTimeout": flags["stop_timeout"],
    }


def _entrypoint(text: str) -> list[str] | None:
    return [text] if text else None


def _volume(text: str) -> tuple[str, str]:
    """(source, target) of ``-v``; an anonymous volume has no source."""
    parts = text.split(":")
    return (parts[0], parts[1]) if len(parts) > 1 else ("", text)


def _health(flags: Flags) -> dict[str, Any] | None:
    """``--health-*`` as the API has it; None when nothing was said."""
    times = {
        "Interval": nanoseconds(flags["health_interval"]),
        "Timeout": nanoseconds(flags["health_timeout"]),
        "StartPeriod": nanoseconds(flags["health_start_period"]),
        "StartInterval": nanoseconds(flags["health_start_interval"]),
        "Retries": flags["health_retries"] or 0,
    }
    said = bool(flags["health_cmd"] or any(times.values()))
    if flags["no_healthcheck"]:
        if said:
            raise Invalid("--no-healthcheck conflicts with --health-* options")
        return {"Test": ["NONE"]}
    if not said:
        return None
    return {**times, **({"Test": ["CMD-SHELL", flags["health_cmd"]]} if flags["health_cmd"] else {})}


def _network(text: str) -> tuple[str, dict[str, Any]]:
    """A network's name and its own settings: ``RED`` or ``name=RED,alias=db,ip=10.0.0.9``."""
    if "=" not in text:
        return text, {}
    name, wish = "", dict[str, Any]()
    address: dict[str, Any] = {}
    for part in text.split(","):
        key, _, value = part.partition("=")
        if key == "name":
            name = value
        elif key == "alias":
            wish.setdefault("Aliases", []).append(value)
        elif key in ("ip", "ip6"):
            address["IPv4Address" if key == "ip" else "IPv6Address"] = value
        elif key == "mac-address":
            wish["MacAddress"] = value
        elif key == "driver-opt":
            option, _, meaning = value.partition("=")
            wish.setdefault("DriverOpts", {})[option] = meaning
        elif key == "gw-priority":
            wish["GwPriority"] = int(value)
        else:
            raise Invalid(f'invalid argument "{text}" for "--network" flag: invalid field key {key}')
    return name, {**wish, **({"IPAMConfig": address} if address else {})}


def _endpoints(flags: Flags, networks: list[tuple[str, dict[str, Any]]]) -> dict[str, Any]:
    """EndpointsConfig: the plain flags (--ip, --network-alias, --link …) belong to the first network."""
    first, wish = networks[0]
    wish = dict(wish)
    address = dict(wish.get("IPAMConfig", {}))
    for flag, key in (("ip", "IPv4Address"), ("ip6", "IPv6Address")):
        if flags[flag]:
            address[key] = flags[flag]
    if flags["link_local_ip"]:
        address["LinkLocalIPs"] = list(flags["link_local_ip"])
    aliases = [*wish.get("Aliases", []), *flags["network_alias"], *flags["net_alias"]]
    if address:
        wish["IPAMConfig"] = address
    if aliases:
        wish["Aliases"] = aliases
    if flags["link"] and first not in ("default", "bridge"):
        wish["Links"] = [link if ":" in link else f"{link}:{link}" for link in flags["link"]]
    if flags["mac_address"]:
        wish["MacAddress"] = flags["mac_address"]
    return {first: wish, **dict(networks[1:])}


def _host_config(flags: Flags, bindings: dict[str, Any], network: str) -> dict[str, Any]:
    policy, _, times = flags["restart"].partition(":")
    if times and not times.isdigit():
        raise Invalid(f"invalid restart policy format: maximum retry count must be an integer: {times}")
    return {
        "Binds": [text for text in flags["volume"] if ":" in text],
        "ContainerIDFile": flags["cidfile"],
        "LogConfig": {"Type": flags["log_driver"], "Config": pairs_of(flags["log_opt"])},
        "NetworkMode": network,
        "PortBindings": bindings,
        "RestartPolicy": {"Name": policy or "no", "MaximumRetryCount": int(times or 0)},
        "AutoRemove": flags["rm"],
        "VolumeDriver": flags["volume_driver"],
        "VolumesFrom": list(flags["volumes_from"]) or None,
        "CapAdd": list(flags["cap_add"]) or None,
        "CapDrop": list(flags["cap_drop"]) or None,
        "CgroupnsMode": flags["cgroupns"],
        "Dns": list(flags["dns"]),
        "DnsOptions": list(flags["dns_option"]),
        "DnsSearch": list(flags["dns_search"]),
        "ExtraHosts": [
            text.replace("=", ":", 1) if ":" not in text.partition("=")[0] else text for text in flags["add_host"]
        ]
        or None,
        "GroupAdd": list(flags["group_add"]) or None,
        "IpcMode": flags["ipc"],
        "Links": list(flags["link"]) or None,
        "PidMode": flags["pid"],
        "UTSMode": flags["uts"],
        "UsernsMode": flags["userns"],
        "Privileged": flags["privileged"],
        "PublishAllPorts": flags["publish_all"],
        "ReadonlyRootfs": flags["read_only"],
        "SecurityOpt": list(flags["security_opt"]) or None,
        "StorageOpt": pairs_of(flags["storage_opt"]) or None,
        "Tmpfs": {path: rest for path, _, rest in (text.partition(":") for text in flags["tmpfs"])} or None,
        "Sysctls": pairs_of(flags["sysctl"]) or None,
        "Annotations": pairs_of(flags["annotation"]) or None,
        "Runtime": flags["runtime"],
        "Init": True if flags["init"] else None,
        "Mounts": [_mount(text) for text in flags["mount"]],
        **_resources(flags),
    }


def _resources(flags: Flags) -> dict[str, Any]:
    try:
        cpus = int(float(flags["cpus"] or 0) * 10**9)
    except ValueError:
        text = flags["cpus"]
        raise Invalid(
            f'invalid argument "{text}" for "--cpus" flag: failed to parse {text} as a rational number'
        ) from None
    return {
        "CpuShares": flags["cpu_shares"] or 0,
        "CpuPeriod": flags["cpu_period"] or 0,
        "CpuQuota": flags["cpu_quota"] or 0,
        "CpusetCpus": flags["cpuset_cpus"],
        "CpusetMems": flags["cpuset_mems"],
        "NanoCpus": cpus,
        "Memory": memory(flags["memory"]),
        "MemoryReservation": memory(flags["memory_reservation"]),
        "MemorySwap": memory(flags["memory_swap"]),
        "MemorySwappiness": flags["memory_swappiness"],
        "ShmSize": memory(flags["shm_size"]),
        "BlkioWeight": flags["blkio_weight"] or 0,
        "CgroupParent": flags["cgroup_parent"],
        "OomKillDisable": flags["oom_kill_disable"] or None,
        "OomScoreAdj": flags["oom_score_adj"] or 0,
        "PidsLimit": flags["pids_limit"],
        "Ulimits": [
            {"Name": name, "Soft": limit.soft, "Hard": limit.hard} for name, limit in map(ulimit, flags["ulimit"])
        ]
        or None,
        "Devices": [_device(text) for text in flags["device"]],
        "DeviceCgroupRules": list(flags["device_cgroup_rule"]) or None,
    }


def _device(text: str) -> dict[str, str]:
    parts = text.split(":")
    inside = parts[1] if len(parts) > 1 and parts[1].startswith("/") else parts[0]
    rights = parts[-1] if len(parts) > 1 and not parts[-1].startswith("/") else "rwm"
    return {"PathOnHost": parts[0], "PathInContainer": inside, "CgroupPermissions": rights}


def _mount(text: str) -> dict[str, Any]:
    """``type=bind,source=/a,target=/b,readonly`` in the API's keys."""
    mount: dict[str, Any] = {"Type": "volume"}
    for part in text.split(","):
        key, equals, value = part.partition("=")
        if not equals and key not in ("readonly", "ro", "volume-nocopy"):
            raise Invalid(
                f'invalid argument "{text}" for "--mount" flag: invalid field \'{part}\' must be a key=value pair'
            )
        if key == "type":
            mount["Type"] = value
        elif key in ("source", "src"):
            mount["Source"] = value
        elif key in ("target", "dst", "destination"):
            mount["Target"] = value
        elif key in ("readonly", "ro"):
            mount["ReadOnly"] = not equals or value in ("true", "1")
        elif key == "bind-propagation":
            mount["BindOptions"] = {"Propagation": value}
        elif key == "volume-nocopy":
            mount.setdefault("VolumeOptions", {})["NoCopy"] = not equals or value in ("true", "1")
        elif key in ("tmpfs-size", "tmpfs-mode"):
            mode = key == "tmpfs-mode"
            mount.setdefault("TmpfsOptions", {})["Mode" if mode else "SizeBytes"] = (
                int(value, 8) if mode else memory(value)
            )
        else:
            raise Invalid(f"invalid argument \"{text}\" for \"--mount\" flag: unexpected key '{key}' in '{part}'")
    if not mount.get("Target"):
        raise Invalid(f'invalid argument "{text}" for "--mount" flag: target is required')
    return mount
