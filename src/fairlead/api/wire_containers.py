"""Containers in Docker's spelling: the create call, ``inspect``, ``ps``.

    JSON --create--> Config, HostConfig, settings per network       a record says all that people asked for
    record + Place --inspect, summary--> JSON                       ``Place``: what only a running engine knows besides

Most members are written by ``wire`` from the fields. Here is what is more than a field: where API versions differ (a
MAC address was the container's before 1.44, and is its endpoint's since), and what depends on whether it runs or ever
ran: before its first start a container has networks by name alone, after its end they have no addresses.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from msgspec.structs import replace

from fairlead.api import times, wire, wire_mounts
from fairlead.api.wire import member, members
from fairlead.api.wire_networks import endpoint, endpoint_settings
from fairlead.core.container import NEVER, Config, Container, HostConfig, Mount, State
from fairlead.core.model import Endpoint, EndpointSettings
from fairlead.engine.endpoints import names_of
from fairlead.errors import Invalid

Version = tuple[int, int]
MAC_PER_NETWORK = (1, 44)
LEAST_KERNEL_MEMORY = 6 << 20
MAC_DEPRECATED = (
    "The container-wide MacAddress field is now deprecated. It should be specified in EndpointsConfig instead."
)
SHORT_ID_AMONG_ALIASES = (1, 45)
"""API versions before this one find a container's short id among its aliases."""


class Create(NamedTuple):
    """A parsed ``POST /containers/create``."""

    config: Config
    host: HostConfig
    networks: dict[str, EndpointSettings]
    warnings: list[str]


class Place(NamedTuple):
    """What the engine knows of a container's networks and files that its record does not say."""

    endpoints: Sequence[Endpoint] = ()
    network_ids: Mapping[str, str] = {}
    """name or id as asked -> id, for the networks that exist"""
    network_names: Mapping[str, str] = {}
    """id -> name"""
    publishing: Collection[str] = ()
    """ids of the networks through which ports can be published; on others none is told"""
    links: Sequence[str] = ()
    """its legacy links, as Docker tells them: ``/target:/own/alias``"""
    sandbox_key: str = ""
    files: Mapping[str, str] = {}
    """``ResolvConfPath`` and its like, when they exist"""
    graph: Mapping[str, Any] = {}
    """``GraphDriver.Data``"""
    driver: str = ""
    """Docker's name of what holds its files: ``overlay2``"""
    exec_ids: Sequence[str] = ()


# -- asked ----------------------------------------------------------------------------------


def create(body: Any, version: Version) -> Create:
    """The three parts of the create call, with what old API versions meant by leaving things out."""
    given = members(body, "", "container.CreateRequest")
    flat = {name: item for name, item in given.items() if name not in ("hostconfig", "networkingconfig")}
    if not flat:
        raise Invalid("config cannot be empty in order to create a container")
    config = wire.read(Config, flat)
    host = wire.read(HostConfig, given.get("hostconfig", {}), ".HostConfig")
    wire_mounts.check(host.mounts, ".HostConfig.Mounts")
    memory = wire.get(members(given.get("hostconfig"), "", "HostConfig"), "KernelMemory", int, 0, ".HostConfig")
    if version < (1, 42) and 0 < memory < LEAST_KERNEL_MEMORY:
        raise Invalid("Minimum kernel memory limit allowed is 6MB")  # of later versions it is no field
    networks = _networks(given.get("networkingconfig"), version)
    if version < (1, 44) and config.healthcheck is not None:
        config = replace(config, healthcheck=replace(config.healthcheck, start_interval=0))
    if version < (1, 40):
        host = replace(host, ipc_mode=host.ipc_mode or "shareable", cgroupns_mode=host.cgroupns_mode or "host")
    networks = _place_mac(config, host, networks, version)
    warnings = [MAC_DEPRECATED] if config.mac_address and version >= MAC_PER_NETWORK else []
    return Create(replace(config, mac_address=""), host, networks, warnings)


def _place_mac(
    config: Config, host: HostConfig, networks: dict[str, EndpointSettings], version: Version
) -> dict[str, EndpointSettings]:
    """The container-wide MAC belongs to the network of the container's mode; before 1.44 there was no other."""
    old, mac = version < MAC_PER_NETWORK, config.mac_address
    if old and not mac:
        return {name: replace(settings, mac="") for name, settings in networks.items()}
    if not mac:
        return networks
    if host.network_mode in ("host", "none") or host.network_mode.startswith("container:"):
        if old:
            raise Invalid("conflicting options: mac-address and the network mode")
        return networks
    name = "bridge" if host.network_mode in ("", "default") else host.network_mode
    if name not in networks and name == "bridge" and "default" in networks:
        name = "default"
    main = networks.get(name, EndpointSettings())
    if main.mac and main.mac != mac and not old:
        raise Invalid(
            "the container-wide MAC address must match the endpoint-specific MAC address for the main network,"
            " or be left empty"
        )
    return {**networks, name: replace(main, mac=mac)}


def _networks(data: Any, version: Version) -> dict[str, EndpointSettings]:
    given = members(data, ".NetworkingConfig", "network.NetworkingConfig")
    where = ".NetworkingConfig.EndpointsConfig"
    endpoints = given.get("endpointsconfig")
    if endpoints is not None and not isinstance(endpoints, dict):
        raise wire.wrong(endpoints, where, "map[string]*network.EndpointSettings")
    found = {name: endpoint_settings(item, member(where, name)) for name, item in (endpoints or {}).items()}
    if version < (1, 44) and len(found) > 1:
        raise Invalid(f"Container cannot be connected to network endpoints: {', '.join(found)}")
    return found


# -- shown: one container ------------------------------------------------------------------


def inspect(container: Container, place: Place, version: Version) -> dict[str, Any]:
    """``GET /containers/{id}/json``."""
    return {
        "Id": container.id,
        "Created": container.created,
        "Path": container.path,
        "Args": list(container.args),
        "State": state(container.state),
        "Image": container.image,
        "ResolvConfPath": place.files.get("ResolvConfPath", ""),
        "HostnamePath": place.files.get("HostnamePath", ""),
        "HostsPath": place.files.get("HostsPath", ""),
        "LogPath": place.files.get("LogPath", ""),
        "Name": "/" + container.name,
        "RestartCount": container.state.restart_count,
        "Driver": place.driver,
        "Platform": container.platform,
        "MountLabel": "",
        "ProcessLabel": "",
        "AppArmorProfile": "",
        "ExecIDs": list(place.exec_ids) or None,
        "HostConfig": wire.write(replace(container.host, links=tuple(place.links) or None)),
        "GraphDriver": {"Data": dict(place.graph) or None, "Name": place.driver},
        "Mounts": mounts(container),
        "Config": _config(container),
        "NetworkSettings": _network_settings(container, place, version),
    }


def state(state: State) -> dict[str, Any]:
    shown = {
        "Status": state.status,
        "Running": state.running or state.status == "restarting",
        "Paused": state.status == "paused",
        "Restarting": state.status == "restarting",
        "OOMKilled": state.oom_killed,
        "Dead": state.status == "dead",
        "Pid": state.pid,
        "ExitCode": state.exit_code,
        "Error": state.error,
        "StartedAt": state.started_at,
        "FinishedAt": state.finished_at,
    }
    if state.health is not None:
        shown["Health"] = {
            "Status": state.health.status,
            "FailingStreak": state.health.failing_streak,
            "Log": [
                {"Start": probe.start, "End": probe.end, "ExitCode": probe.exit_code, "Output": probe.output}
                for probe in state.health.log
            ],
        }
    return shown


def _config(container: Container) -> dict[str, Any]:
    """The portable half; the MAC asked of the network of its mode is shown here too, where it used to be asked."""
    main = container.networks.get(container.host.network_mode)
    config = container.config
    if main is not None and main.mac and not config.mac_address:
        config = replace(config, mac_address=main.mac)
    shown: dict[str, Any] = wire.write(config)
    shown["Labels"] = shown["Labels"] or {}
    return shown


def mounts(container: Container) -> list[dict[str, Any]]:
    """``Mounts``: all but those of ``--tmpfs``, which are in ``HostConfig`` alone."""
    asked = {place.rstrip("/") for place in container.host.tmpfs or ()}
    return [mount(item) for item in container.mounts if item.type != "tmpfs" or item.destination not in asked]


def mount(mount: Mount) -> dict[str, Any]:
    """One line of ``Mounts``; a volume also has a name and a driver."""
    shown: dict[str, Any] = {"Type": mount.type}
    if mount.name:
        shown["Name"] = mount.name
    shown |= {"Source": mount.source, "Destination": mount.destination}
    if mount.driver:
        shown["Driver"] = mount.driver
    return {**shown, "Mode": mount.mode, "RW": mount.rw, "Propagation": mount.propagation}


# -- shown: its networks -------------------------------------------------------------------


def _network_settings(container: Container, place: Place, version: Version) -> dict[str, Any]:
    running = container.state.running
    default = next((e for e in place.endpoints if place.network_names.get(e.network) == "bridge"), None)
    address4, _, prefix4 = (default.ipv4 if default else "").partition("/")
    address6, _, prefix6 = (default.ipv6 if default else "").partition("/")
    return {
        "Bridge": "",
        "SandboxID": container.sandbox or (container.id if running else ""),
        "SandboxKey": place.sandbox_key if running else "",
        "Ports": _port_map(container, place) if running else {},
        "HairpinMode": False,
        "LinkLocalIPv6Address": "",
        "LinkLocalIPv6PrefixLen": 0,
        "SecondaryIPAddresses": None,
        "SecondaryIPv6Addresses": None,
        "EndpointID": default.id if default else "",
        "Gateway": default.gateway4 if default else "",
        "GlobalIPv6Address": address6,
        "GlobalIPv6PrefixLen": int(prefix6 or 0),
        "IPAddress": address4,
        "IPPrefixLen": int(prefix4 or 0),
        "IPv6Gateway": default.gateway6 if default else "",
        "MacAddress": default.mac if default else "",
        "Networks": networks(container, place, version),
    }


def networks(container: Container, place: Place, version: Version, *, brief: bool = False) -> dict[str, Any]:
    """``Networks`` by name; ``brief`` as in a list, where names and aliases are not told."""
    by_network = {e.network: e for e in place.endpoints}
    shown = {}
    for asked, settings in container.networks.items():
        id = place.network_ids.get(asked, "")
        found = by_network.get(id)
        begun = container.state.started_at != NEVER
        if begun and found is None:
            settings = replace(settings, mac="")
        names = found.names if found else _names(container, asked, settings)
        aliases = settings.aliases
        if version < SHORT_ID_AMONG_ALIASES and _has_names(asked):
            aliases = (*aliases, container.short)
        if brief:
            aliases, names = (), ()
            empty = tuple(name for name in settings.empty if name == "IPAMConfig")
            settings = replace(settings, links=(), link_local=(), driver_opts={}, empty=empty)
        name = place.network_names.get(id, asked)
        shown[name] = endpoint(settings, id if begun else "", found, aliases, names)
    return shown


def _names(container: Container, network: str, settings: EndpointSettings) -> tuple[str, ...]:
    """Its names where it was before it stopped."""
    return names_of(container, settings) if container.state.started_at != NEVER and _has_names(network) else ()


def _has_names(network: str) -> bool:
    return network not in ("bridge", "default", "host", "none")


def _exposed(container: Container) -> list[tuple[int, str]]:
    found = {(int(port), protocol or "tcp") for port, protocol in _split(container.config.exposed_ports or {})}
    return sorted(found | {(one.port, one.protocol) for row in container.ports for one in row.each()})


_PORTS = re.compile("[0-9]{1,5}(-[0-9]{1,5})?")


def _split(ports: Iterable[str]) -> Iterable[tuple[str, str]]:
    for port in ports:
        number, _, protocol = port.partition("/")
        first, _, last = number.partition("-")
        if _PORTS.fullmatch(number):
            for one in range(int(first), int(last or first) + 1):
                yield str(one), protocol


def _tells_ports(place: Place) -> bool:
    return any(endpoint.network in place.publishing for endpoint in place.endpoints)


def _port_map(container: Container, place: Place) -> dict[str, Any]:
    """``{"80/tcp": [{"HostIp": …, "HostPort": …}], "81/udp": null}``."""
    if not _tells_ports(place):
        return {}
    shown: dict[str, Any] = {f"{port}/{protocol}": None for port, protocol in _exposed(container)}
    for found in place.endpoints:
        for binding in sorted(found.published, key=_binding_order):
            where = shown.setdefault(f"{binding.port}/{binding.protocol}", None) or []
            where.append({"HostIp": binding.host_ip, "HostPort": str(binding.host_port)})
            shown[f"{binding.port}/{binding.protocol}"] = where
    return shown


def _binding_order(binding: Any) -> tuple[Any, ...]:
    """IPv4 before IPv6."""
    return (binding.port, binding.protocol, ":" in binding.host_ip, binding.host_port, binding.host_ip)


# -- shown: a list --------------------------------------------------------------------------


def summary(container: Container, place: Place, version: Version, links: Sequence[str] = ()) -> dict[str, Any]:
    """One line of ``GET /containers/json``."""
    return {
        "Id": container.id,
        "Names": sorted(["/" + container.name, *links]),
        "Image": container.config.image,
        "ImageID": container.image,
        "Command": _command(container),
        "Created": times.nanoseconds(container.created) // times.SECOND,
        "Ports": ports(container, place),
        "Labels": container.config.labels or {},
        "State": container.state.status,
        "Status": status(container.state, times.now()),
        "HostConfig": _host_summary(container.host),
        "NetworkSettings": {"Networks": networks(container, place, version, brief=True)},
        "Mounts": mounts(container),
    }


def _host_summary(host: HostConfig) -> dict[str, Any]:
    shown: dict[str, Any] = {"NetworkMode": host.network_mode}
    return {**shown, "Annotations": host.annotations} if host.annotations else shown


def _command(container: Container) -> str:
    """The command as Docker shows it: words with spaces in them are quoted."""
    words = [f"'{word}'" if " " in word else word for word in container.args]
    return " ".join([container.path, *words])


def ports(container: Container, place: Place) -> list[dict[str, Any]]:
    """Those of a running container: published, with their place outside, and exposed."""
    if not container.state.running or not _tells_ports(place):
        return []
    bindings = sorted((b for e in place.endpoints for b in e.published), key=_binding_order)
    shown: list[dict[str, Any]] = [
        {"IP": b.host_ip, "PrivatePort": b.port, "PublicPort": b.host_port, "Type": b.protocol} for b in bindings
    ]
    published = {(b.port, b.protocol) for b in bindings}
    for port, protocol in _exposed(container):
        if (port, protocol) not in published:
            shown.append({"PrivatePort": port, "Type": protocol})
    return shown


def status(state: State, moment: int) -> str:
    """``Up 3 seconds (healthy)``, ``Exited (0) 2 minutes ago``; ``moment`` in nanoseconds since the epoch."""

    def since(text: str) -> str:
        return times.human(max(0, moment - times.nanoseconds(text)) / times.SECOND)

    if state.status == "paused":
        return f"Up {since(state.started_at)} (Paused)"
    if state.status == "restarting":
        return f"Restarting ({state.exit_code}) {since(state.finished_at)} ago"
    if state.status == "running":
        word = state.health.status if state.health is not None else ""
        word = "health: starting" if word == "starting" else word
        return f"Up {since(state.started_at)}" + (f" ({word})" if word else "")
    if state.status == "removing":
        return "Removal In Progress"
    if state.status == "dead":
        return "Dead"
    if state.started_at == NEVER:
        return "Created"
    return f"Exited ({state.exit_code}) {since(state.finished_at)} ago"
