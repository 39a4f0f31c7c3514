"""What ``run`` and ``create`` have in common: Docker's flags on one side, the API's create body on the other.

    flags (OPTIONS)  ->  Config         what travels with the image
                         HostConfig     what is about this machine
                         EndpointsConfig of every --network

Only the shape is made here. Whether it makes sense, the engine says.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from fairlead.cli.command import Flag, Usage, environment, lines_of, many, memory, option, pairs_of
from fairlead.cli.mounts import parse as mount
from fairlead.cli.ports import parse as parse_ports
from fairlead.errors import Invalid

LIMITS = {
    "-m --memory bytes": "Limit of memory: 64m.",
    "--memory-reservation bytes": "Soft limit of memory.",
    "--memory-swap bytes": "Limit of memory and swap together; -1: no limit.",
    "--kernel-memory bytes": "",
    "--cpus decimal": "How many CPUs it may use: 1.5.",
    "-c --cpu-shares int": "Weight among those who want the CPU.",
    "--cpu-period int": "Length of the scheduler's period in microseconds.",
    "--cpu-quota int": "Microseconds of CPU per period.",
    "--cpu-rt-period int": "Length of the real-time period in microseconds.",
    "--cpu-rt-runtime int": "Microseconds of real-time CPU per period.",
    "--cpuset-cpus string": "On which CPUs it may run: 0-2,4.",
    "--cpuset-mems string": "From which nodes its memory may come.",
    "--blkio-weight int": "Weight among those who want the disk (10 to 1000).",
    "--pids-limit int": "How many processes it may have; -1: any.",
    "--restart string": "Restart policy: no, always, unless-stopped, on-failure[:times].",
}
"""What ``update`` can change. (A flag without a text works, but is not shown.)"""

SINGLE = {
    "--name string": "Name of the container.",
    "-h --hostname string": "Host name in the container.",
    "--domainname string": "Domain name in the container.",
    "-u --user string": "User name or id, with :group.",
    "-w --workdir string": "Working directory in the container.",
    "--ip string": "IPv4 address on its network.",
    "--ip6 string": "IPv6 address on its network.",
    "--mac-address string": "MAC address on its network.",
    "--pid string": "Process namespace: host or container:NAME.",
    "--ipc string": "IPC namespace: private, shareable, host or container:NAME.",
    "--uts string": "Host name namespace: host.",
    "--userns string": "User namespace: host.",
    "--cgroupns string": "Cgroup namespace: host or private.",
    "--cgroup-parent string": "Parent cgroup.",
    "--shm-size bytes": "Size of /dev/shm.",
    "--log-driver string": "Where its output goes: json-file, local, none.",
    "--stop-signal string": "Signal that asks it to stop.",
    "--stop-timeout int": "Seconds it gets to stop.",
    "--oom-score-adj int": "How likely the kernel kills it when memory is short (-1000 to 1000).",
    "--memory-swappiness int": "How readily its memory is swapped (0 to 100).",
    "--health-cmd string": "Command that tells whether it is well.",
    "--health-interval duration": "Time between two checks: 30s.",
    "--health-timeout duration": "How long one check may take.",
    "--health-start-period duration": "Time to start up, in which failures do not count.",
    "--health-start-interval duration": "Time between two checks while starting up.",
    "--health-retries int": "Failures in a row that make it unhealthy.",
    "--volume-driver string": "Driver of new volumes.",
    "--runtime string": "OCI runtime.",
    "--isolation string": "",
    "--platform string": "Platform, if the image is for several.",
    "--cidfile string": "File to write the container's id to.",
    "--disable-content-trust": "",
    "-i --interactive": "Keep its input open.",
    "-t --tty": "Give it a terminal.",
    "-P --publish-all": "Publish every exposed port on a port we choose.",
    "--privileged": "All capabilities and devices.",
    "--read-only": "Make its root filesystem read-only.",
    "--rm": "Remove it, with its anonymous volumes, when it ends.",
    "--init": "Run an init in it that forwards signals and reaps processes.",
    "--no-healthcheck": "Ignore the image's health check.",
    "--oom-kill-disable": "Do not let the kernel kill it when memory is short.",
    "-q --quiet": "Do not show the pull.",
}
LISTS = {
    "-e --env list": "Environment variable: NAME=value, or NAME to pass ours on.",
    "--env-file list": "File of environment variables.",
    "-l --label list": "Label: key=value.",
    "--label-file list": "File of labels.",
    "-p --publish list": "Publish a port: [[ip:]host:]container[/protocol].",
    "--expose list": "Expose a port or a range of ports.",
    "-v --volume list": "Mount a folder or a volume: [source:]target[:options].",
    "--mount mount": "Mount: type=bind|volume|tmpfs|image,source=…,target=….",
    "--tmpfs list": "Mount a tmpfs: /path[:options].",
    "--volumes-from list": "Mount what another container mounts.",
    "--network --net network": "Network to connect to: NAME, host, none, container:NAME, or name=…,alias=…,ip=….",
    "--network-alias --net-alias list": "Further name on its networks.",
    "--link list": "Link to another container: NAME[:alias].",
    "--link-local-ip list": "Link-local address.",
    "--dns list": "Name server.",
    "--dns-search list": "Search domain.",
    "--dns-option --dns-opt list": "Resolver option.",
    "--add-host list": "Line of /etc/hosts: name:address (or host-gateway).",
    "--cap-add list": "Capability to add.",
    "--cap-drop list": "Capability to drop.",
    "--security-opt list": "Security option: seccomp=…, no-new-privileges.",
    "--device list": "Device to pass on.",
    "--device-cgroup-rule list": "Rule for devices.",
    "--device-read-bps list": "Limit of reading from a device: /dev/sda:1mb.",
    "--device-write-bps list": "Limit of writing to a device: /dev/sda:1mb.",
    "--device-read-iops list": "Limit of reads a second: /dev/sda:100.",
    "--device-write-iops list": "Limit of writes a second: /dev/sda:100.",
    "--blkio-weight-device list": "Weight for one device: /dev/sda:100.",
    "--group-add list": "Further group of the process.",
    "--sysctl map": "Kernel setting of its namespaces: key=value.",
    "--ulimit ulimit": "Limit of its processes: nofile=1024:2048.",
    "--log-opt list": "Option of the log driver.",
    "--annotation map": "Annotation for the runtime.",
    "--storage-opt list": "Option of the writable layer.",
    "-a --attach list": "Attach to stdin, stdout or stderr.",
}


def _flags(table: dict[str, str], many: bool = False) -> list[Flag]:
    """Flags from lines such as ``-m --memory bytes``."""
    flags = []
    for line, says in table.items():
        names = [word for word in line.split() if word.startswith("-")]
        word = line.split()[-1] if not line.endswith(names[-1]) else ""
        default = {"": False, "string": ""}.get(word)
        flags.append(Flag(names, word, default, says, many, read=mount if word == "mount" else None))
    return flags


def limits(function: Any) -> Any:
    """The flags that ``update`` knows, too."""
    function.__dict__.setdefault("flags", []).extend(_flags(LIMITS))
    return function


def options(function: Any) -> Any:
    """All flags of ``run`` and ``create``, as parameters of the function."""
    flags = [*_flags(SINGLE), *_flags(LISTS, many=True), *_flags(LIMITS)]
    function.__dict__.setdefault("flags", []).extend(flags)
    return option("--pull", default="missing", help="When to pull the image: always, missing, never.")(
        many("--entrypoint", word="string", help="Replaces the image's entrypoint.")(function)
    )


Flags = dict[str, Any]


def body(flags: Flags, image: str, command: tuple[str, ...], *, detach: bool) -> dict[str, Any]:
    """The API's create request for these flags."""
    _check(flags)
    bindings, exposed = parse_ports(flags["publish"], flags["expose"])
    networks = [_network(text) for text in flags["network"]] or [("default", {})]
    return {
        **_config(flags, image, command, exposed, detach),
        "HostConfig": _host_config(flags, bindings, networks[0][0]),
        "NetworkingConfig": {"EndpointsConfig": _endpoints(flags, networks)},
    }


def _check(flags: Flags) -> None:
    """What Docker's client refuses before it asks anybody."""
    for text in flags["env"]:
        if text.startswith("="):
            raise _bad(text, "-e, --env", f"invalid environment variable: {text}")
    for text in flags["add_host"]:
        if ":" not in text and "=" not in text:
            raise _bad(text, "--add-host", f'bad format for add-host: "{text}"')
    for text in flags["dns"]:
        if not all(letter in "0123456789abcdefABCDEF.:%" for letter in text):
            raise _bad(text, "--dns", f"IP address is not correctly formatted: {text}")
    if flags["rm"] and flags["restart"] not in (None, "", "no"):
        raise Invalid("conflicting options: cannot specify both --restart and --rm")


def _bad(text: str, flag: str, why: str) -> Usage:
    return Usage(f'invalid argument "{text}" for "{flag}" flag: {why}', 125)


def _security(text: str) -> str:
    """``seccomp=FILE``: the engine is sent what is in the file."""
    key, equals, value = text.partition("=")
    if key != "seccomp" or not equals or value in ("unconfined", "builtin"):
        return text
    try:
        with open(value) as file:
            return f"seccomp={file.read()}"
    except OSError as problem:
        raise Invalid(f"opening seccomp profile ({value}) failed: {(problem.strerror or '').lower()}") from None


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


def _entrypoint(texts: list[str]) -> list[str] | None:
    """The last one counts; an empty one says that there is none."""
    return [texts[-1]] if texts else None


def _volume(text: str) -> tuple[str, str]:
    """(source, target) of ``-v``; an anonymous volume has no source."""
    parts = text.split(":")
    return (parts[0], parts[1]) if len(parts) > 1 else ("", text)


def _health(flags: Flags) -> dict[str, Any] | None:
    """``--health-*`` as the API has it; None when nothing was said."""
    times = {
        "Interval": flags["health_interval"] or 0,
        "Timeout": flags["health_timeout"] or 0,
        "StartPeriod": flags["health_start_period"] or 0,
        "StartInterval": flags["health_start_interval"] or 0,
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
            raise _bad(text, "--network", f"invalid field key {key}")
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
    aliases = [*wish.get("Aliases", []), *flags["network_alias"]]
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
    return {
        "Binds": [text for text in flags["volume"] if ":" in text],
        "ContainerIDFile": flags["cidfile"],
        "LogConfig": {"Type": flags["log_driver"], "Config": pairs_of(flags["log_opt"])},
        "NetworkMode": network,
        "PortBindings": bindings,
        "RestartPolicy": policy(flags["restart"] or "no"),
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
        "SecurityOpt": [_security(text) for text in flags["security_opt"]] or None,
        "StorageOpt": pairs_of(flags["storage_opt"]) or None,
        "Tmpfs": {path: rest for path, _, rest in (text.partition(":") for text in flags["tmpfs"])} or None,
        "Sysctls": pairs_of(flags["sysctl"]) or None,
        "Annotations": pairs_of(flags["annotation"]) or None,
        "Runtime": flags["runtime"],
        "Init": True if flags["init"] else None,
        "Mounts": flags["mount"],
        **_resources(flags),
    }


def _resources(flags: Flags) -> dict[str, Any]:
    """What is limited but cannot be changed later, and what can."""
    return {
        **changeable(flags),
        "MemorySwappiness": flags["memory_swappiness"],
        "ShmSize": flags["shm_size"] or 0,
        "CgroupParent": flags["cgroup_parent"],
        "OomKillDisable": flags["oom_kill_disable"] or None,
        "OomScoreAdj": flags["oom_score_adj"] or 0,
        "Ulimits": flags["ulimit"] or None,
        "Devices": [_device(text) for text in flags["device"]],
        "DeviceCgroupRules": flags["device_cgroup_rule"] or None,
        "BlkioDeviceReadBps": _rates(flags["device_read_bps"], memory),
        "BlkioDeviceWriteBps": _rates(flags["device_write_bps"], memory),
        "BlkioDeviceReadIOps": _rates(flags["device_read_iops"], int),
        "BlkioDeviceWriteIOps": _rates(flags["device_write_iops"], int),
        "BlkioWeightDevice": _rates(flags["blkio_weight_device"], int, "Weight"),
    }


def changeable(flags: Flags) -> dict[str, Any]:
    """The limits that ``update`` can change."""
    return {
        "CpuShares": flags["cpu_shares"] or 0,
        "CpuPeriod": flags["cpu_period"] or 0,
        "CpuQuota": flags["cpu_quota"] or 0,
        "CpuRealtimePeriod": flags["cpu_rt_period"] or 0,
        "CpuRealtimeRuntime": flags["cpu_rt_runtime"] or 0,
        "CpusetCpus": flags["cpuset_cpus"],
        "CpusetMems": flags["cpuset_mems"],
        "NanoCpus": flags["cpus"] or 0,
        "Memory": flags["memory"] or 0,
        "MemoryReservation": flags["memory_reservation"] or 0,
        "MemorySwap": flags["memory_swap"] or 0,
        "BlkioWeight": flags["blkio_weight"] or 0,
        "PidsLimit": flags["pids_limit"],
    }


def policy(text: str) -> dict[str, Any]:
    """``on-failure:3`` in the API's keys."""
    name, _, times = text.partition(":")
    if text and not name:
        raise Invalid("invalid restart policy format: no policy provided before colon")
    if times and not re.fullmatch("-?[0-9]{1,18}", times):
        raise Invalid("invalid restart policy format: maximum retry count must be an integer")
    return {"Name": name, "MaximumRetryCount": int(times or 0)}


def _rates(texts: list[str], number: Callable[[str], int], key: str = "Rate") -> list[dict[str, Any]] | None:
    """``/dev/sda:1mb`` in the API's keys."""
    found = []
    for text in texts:
        device, _, rate = text.rpartition(":")
        try:
            found.append({"Path": device, key: number(rate)})
        except (Invalid, ValueError):
            raise Invalid(f"invalid rate for device: {text}. The correct format is <device-path>:<number>") from None
        if not device.startswith("/dev/"):
            raise Invalid(f"bad format for device path: {text}")
    return found or None


def _device(text: str) -> dict[str, str]:
    parts = text.split(":")
    inside = parts[1] if len(parts) > 1 and parts[1].startswith("/") else parts[0]
    rights = parts[-1] if len(parts) > 1 and not parts[-1].startswith("/") else "rwm"
    return {"PathOnHost": parts[0], "PathInContainer": inside, "CgroupPermissions": rights}
