"""Networks and endpoints in Docker's spelling: what is asked, and what is shown.

Shown shapes are dockerd 28.5.2's; it gives every API version the same ones,
except for the short id among ``Aliases`` before 1.45.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from fairlead.api.wire import get, members
from fairlead.core.allocation import on_network
from fairlead.core.cluster import Attachment, Node, Service, Task
from fairlead.core.model import Endpoint, EndpointSettings, Ipam, Network, NetworkRequest, Remote, Subnet
from fairlead.core.swarmspec import SharedNetwork
from fairlead.errors import Invalid

STRINGS = dict[str, str]
MAY_BE_EMPTY: dict[str, Any] = {"IPAMConfig": {}, "Links": [], "Aliases": [], "DriverOpts": {}}
"""What is shown as null when nothing was said, and empty when it was given so."""


# -- asked ----------------------------------------------------------------------------------


def network_request(body: Any) -> NetworkRequest:
    """Body of ``POST /networks/create``."""
    given = members(body, "", "network.CreateRequest")
    source = members(given.get("configfrom"), ".ConfigFrom", "network.ConfigReference")
    return NetworkRequest(
        name=get(given, "Name", str, ""),
        driver=get(given, "Driver", str, "") or "bridge",
        scope=get(given, "Scope", str, ""),
        internal=get(given, "Internal", bool, False),
        attachable=get(given, "Attachable", bool, False),
        ingress=get(given, "Ingress", bool, False),
        config_only=get(given, "ConfigOnly", bool, False),
        config_from=get(source, "Network", str, "", ".ConfigFrom"),
        ipv4=get(given, "EnableIPv4", bool, None),
        ipv6=get(given, "EnableIPv6", bool, None),
        ipam=_ipam(given.get("ipam")),
        options=get(given, "Options", STRINGS, {}),
        labels=get(given, "Labels", STRINGS, {}),
    )


def _ipam(data: Any) -> Ipam:
    given = members(data, ".IPAM", "network.IPAM")
    pools = given.get("config") or []
    if not isinstance(pools, list):
        raise Invalid("invalid JSON: json: cannot unmarshal into Go struct field .IPAM.Config of type []IPAMConfig")
    config = tuple(_subnet(pool, f".IPAM.Config.{at}") for at, pool in enumerate(pools) if pool is not None)
    options = get(given, "Options", STRINGS, None, ".IPAM")
    return Ipam(get(given, "Driver", str, "", ".IPAM") or "default", options, config, given=bool(config))


def _subnet(data: Any, where: str) -> Subnet:
    given = members(data, where, "network.IPAMConfig")
    return Subnet(
        subnet=get(given, "Subnet", str, "", where),
        ip_range=get(given, "IPRange", str, "", where),
        gateway=get(given, "Gateway", str, "", where),
        auxiliary=get(given, "AuxiliaryAddresses", STRINGS, {}, where),
    )


def endpoint_settings(data: Any, where: str = "") -> EndpointSettings:
    """What one network is asked for a container (``EndpointConfig``, or a value of ``EndpointsConfig``)."""
    given = members(data, where, "network.EndpointSettings")
    ipam = members(given.get("ipamconfig"), f"{where}.IPAMConfig", "network.EndpointIPAMConfig")
    strings = tuple[str, ...]
    return EndpointSettings(
        ipv4=get(ipam, "IPv4Address", str, "", f"{where}.IPAMConfig"),
        ipv6=get(ipam, "IPv6Address", str, "", f"{where}.IPAMConfig"),
        link_local=get(ipam, "LinkLocalIPs", strings, (), f"{where}.IPAMConfig"),
        mac=get(given, "MacAddress", str, "", where),
        aliases=get(given, "Aliases", strings, (), where),
        links=get(given, "Links", strings, (), where),
        driver_opts=get(given, "DriverOpts", STRINGS, {}, where),
        gw_priority=get(given, "GwPriority", int, 0, where),
        empty=tuple(name for name in MAY_BE_EMPTY if given.get(name.lower()) in ({}, [])),
    )


# -- shown ----------------------------------------------------------------------------------


def network(
    network: Network,
    endpoints: Iterable[Endpoint] | None = None,
    elsewhere: Iterable[Remote] = (),
    *,
    here: bool = True,
) -> dict[str, Any]:
    """``GET /networks/{id}``; a list shows no containers (``endpoints`` None). Those of other hosts by endpoint.

    ``here`` false: of a swarm, and this node does not have it, so nobody can say who is on it.
    """
    shown = _network(network, endpoints, elsewhere)
    if here:
        return shown
    return {**shown, "Containers": None, "Options": network.options or None, "Labels": network.labels or None}


def _network(network: Network, endpoints: Iterable[Endpoint] | None, elsewhere: Iterable[Remote]) -> dict[str, Any]:
    return {
        "Name": network.name,
        "Id": network.id,
        "Created": network.created,
        "Scope": network.scope,
        "Driver": network.driver,
        "EnableIPv4": network.ipv4,
        "EnableIPv6": network.ipv6,
        "IPAM": {
            "Driver": network.ipam.driver,
            "Options": network.ipam.options,
            "Config": [_pool(pool) for pool in network.ipam.config] or (None if _poolless(network) else []),
        },
        "Internal": network.internal,
        "Attachable": network.attachable,
        "Ingress": network.ingress,
        "ConfigFrom": {"Network": network.config_from},
        "ConfigOnly": network.config_only,
        "Containers": {
            **{e.container: _resource(e) for e in endpoints or ()},
            **{f"ep-{e.id}": _resource(e) for e in elsewhere},
        },
        "Options": network.options,
        "Labels": network.labels,
    }


def _poolless(network: Network) -> bool:
    return network.driver in ("host", "null") and network.scope == "local"


def services(
    network: Network, services: Iterable[Service], tasks: Iterable[Task], nodes: Iterable[Node]
) -> dict[str, Any]:
    """Name -> virtual address, ports and running tasks, of the services that are on a network."""
    hosts = {node.id: node.address for node in nodes}
    shown: dict[str, Any] = {}
    of: dict[str, Service] = {service.id: service for service in services}
    for service in of.values():
        held = _held(service.addresses, network)
        if held is not None or on_network(service.spec, SharedNetwork(network.id, network)):
            shown[service.spec.name] = _service(held or "")
    for task in tasks:
        at = _held(task.networks, network)
        if at is None or not task.running or task.service not in of:
            continue
        name = of[task.service].spec.name
        shown.setdefault(name, _service(""))["Tasks"].append(
            {
                "Name": f"{name}.{task.slot or task.node}.{task.id}",
                "EndpointID": "",
                "EndpointIP": at,
                "Info": {"Host IP": hosts.get(task.node, "")},
            }
        )
    return shown


def _service(address: str) -> dict[str, Any]:
    return {"VIP": address, "Ports": [], "LocalLBIndex": 0, "Tasks": []}


def _held(attachments: Iterable[Attachment], network: Network) -> str | None:
    """The first address that somebody has on a network, without prefix length."""
    for one in attachments:
        if one.network == network.id and one.addresses:
            return one.addresses[0].partition("/")[0]
    return None


def _pool(pool: Subnet) -> dict[str, Any]:
    """A user's subnet is shown as it was given, one that we chose with its gateway."""
    shown: dict[str, Any] = {
        "Subnet": pool.subnet,
        "IPRange": pool.ip_range,
        "Gateway": "" if pool.gateway_chosen else pool.gateway,
        "AuxiliaryAddresses": pool.auxiliary,
    }
    return {name: value for name, value in shown.items() if value}


def _resource(endpoint: Endpoint | Remote) -> dict[str, str]:
    return {
        "Name": endpoint.name,
        "EndpointID": endpoint.id,
        "MacAddress": endpoint.mac,
        "IPv4Address": endpoint.ipv4,
        "IPv6Address": endpoint.ipv6,
    }


def endpoint(
    settings: EndpointSettings,
    network_id: str,
    found: Endpoint | None,
    aliases: tuple[str, ...],
    names: tuple[str, ...],
) -> dict[str, Any]:
    """A container's side of one network: what it asked, and (``found``) what came of it."""
    address4, _, prefix4 = (found.ipv4 if found else "").partition("/")
    address6, _, prefix6 = (found.ipv6 if found else "").partition("/")
    nothing = {name: MAY_BE_EMPTY[name] for name in settings.empty}
    return {
        "IPAMConfig": _asked_addresses(settings) or nothing.get("IPAMConfig"),
        "Links": list(settings.links) or nothing.get("Links"),
        "Aliases": list(aliases) or nothing.get("Aliases"),
        "MacAddress": found.mac if found else settings.mac,
        "DriverOpts": settings.driver_opts or nothing.get("DriverOpts"),
        "GwPriority": settings.gw_priority,
        "NetworkID": network_id,
        "EndpointID": found.id if found else "",
        "Gateway": found.gateway4 if found else "",
        "IPAddress": address4,
        "IPPrefixLen": int(prefix4 or 0),
        "IPv6Gateway": found.gateway6 if found else "",
        "GlobalIPv6Address": address6,
        "GlobalIPv6PrefixLen": int(prefix6 or 0),
        "DNSNames": list(names) or None,
    }


def _asked_addresses(settings: EndpointSettings) -> dict[str, Any]:
    asked: dict[str, Any] = {
        "IPv4Address": settings.ipv4,
        "IPv6Address": settings.ipv6,
        "LinkLocalIPs": list(settings.link_local),
    }
    return {name: value for name, value in asked.items() if value}
