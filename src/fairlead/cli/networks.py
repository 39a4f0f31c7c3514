"""``fairlead network``: ls, create, rm, connect, disconnect."""

from __future__ import annotations

import sys
from typing import Any

from fairlead.cli import completing, tables
from fairlead.cli.client import Client, Refused, path
from fairlead.cli.command import (
    command,
    confirmed,
    filter_query,
    filters,
    form,
    integer,
    many,
    no_trunc,
    option,
    pairs_of,
    quiet,
    switch,
)  # fmt: skip
from fairlead.cli.each import Gone, each
from fairlead.errors import Invalid


def _ingress(client: Client, name: str) -> bool:
    """Whether it carries the routing mesh: that one is asked about."""
    try:
        return bool(client.call("GET", path("networks", name)).get("Ingress"))
    except Refused:
        return False


INGRESS = (
    "WARNING! Before removing the routing-mesh network, make sure all the nodes in your swarm run the same docker "
    "engine version. Otherwise, removal may not be effective and functionality of newly create ingress networks will "
    "be impaired."
)


@command("[OPTIONS]")
@filters
@form
@no_trunc
@quiet
def ls(client: Client, filter: list[tuple[str, str]], form: str, no_trunc: bool, quiet: bool) -> int:
    """List networks."""
    found = client.call("GET", "/networks", {"filters": filter_query(filter)})
    rows = [_row(one, no_trunc) for one in sorted(found, key=lambda one: one["Name"])]
    tables.show(rows, form, ("ID", "Name", "Driver", "Scope"), {"ID": "NETWORK ID"}, only="ID" if quiet else "")
    return 0


def _row(one: dict[str, Any], whole: bool) -> dict[str, str]:
    return {
        "ID": one["Id"] if whole else one["Id"][:12],
        "Name": one["Name"],
        "Driver": one["Driver"],
        "Scope": one["Scope"],
        "IPv4": str(one.get("EnableIPv4", True)).lower(),
        "IPv6": str(one["EnableIPv6"]).lower(),
        "Internal": str(one["Internal"]).lower(),
        "Labels": tables.labels(one.get("Labels")),
        "Label": tables.label(one.get("Labels")),
        "CreatedAt": tables.go_time(one["Created"]),
    }


@command("[OPTIONS] NETWORK")
@option("-d", "--driver", default="bridge", help="Kind of network.")
@many("--subnet", word="strings", help="Subnet: 172.28.0.0/16.")
@many("--gateway", word="strings", help="Gateway of a subnet.")
@many("--ip-range", word="strings", help="Part of a subnet that containers get.")
@many("--aux-address", help="Address that nobody gets: name=address.")
@many("-o", "--opt", help="Option of the driver: key=value.")
@many("--label", help="Label: key=value.")
@option("--ipam-driver", default="default", help="Who hands out addresses.")
@many("--ipam-opt", help="Option of the address manager.")
@switch("--internal", help="No way out.")
@switch("--attachable", help="Containers may be attached by hand.")
@switch("--ingress", help="The routing mesh of a swarm.")
@switch("--ipv6", help="With IPv6.")
@switch("--ipv4", default=True, help="With IPv4.")
@switch("--config-only", help="Only a configuration for others to use.")
@option("--config-from", help="Network whose configuration to use.")
@option("--scope", help="Scope of the network.")
def create(client: Client, name: str, **flags: Any) -> int:
    """Create a network; prints its id."""
    made = client.call("POST", "/networks/create", body=wish(name, flags))
    if made.get("Warning"):
        print(f"WARNING: {made['Warning']}", file=sys.stderr)
    print(made["Id"])
    return 0


def wish(name: str, flags: dict[str, Any]) -> dict[str, Any]:
    """The API's create request for these flags."""
    config = _pools(flags["subnet"], flags["gateway"], flags["ip_range"], pairs_of(flags["aux_address"]))
    wanted = {
        "Name": name,
        "Driver": flags["driver"],
        "Scope": flags["scope"],
        "IPAM": {"Driver": flags["ipam_driver"], "Options": pairs_of(flags["ipam_opt"]), "Config": config},
        "Internal": flags["internal"],
        "Attachable": flags["attachable"],
        "Ingress": flags["ingress"],
        "ConfigOnly": flags["config_only"],
        "ConfigFrom": {"Network": flags["config_from"]} if flags["config_from"] else None,
        "Options": pairs_of(flags["opt"]),
        "Labels": pairs_of(flags["label"]),
    }
    # Only what was said is sent: the engine has defaults of its own for these two.
    if flags["ipv6"]:
        wanted["EnableIPv6"] = True
    if not flags["ipv4"]:
        wanted["EnableIPv4"] = False
    return wanted


def _pools(subnets: Any, gateways: Any, ranges: Any, reserved: dict[str, str]) -> list[dict[str, Any]]:
    """IPAM.Config: every gateway, range and reserved address goes to the subnet that holds it."""
    if len(subnets) < max(len(ranges), len(gateways)):
        raise Invalid("every ip-range or gateway must have a corresponding subnet")
    pools: dict[str, dict[str, Any]] = {}
    for subnet in subnets:
        if subnet in pools:
            raise Invalid("multiple overlapping subnet configuration is not supported")
        pools[subnet] = {"Subnet": subnet, "AuxiliaryAddresses": {}}
    for word, key, values in (("ip-range", "IPRange", ranges), ("gateway", "Gateway", gateways)):
        for value in values:
            home = _home(pools, value, f"no matching subnet for {word.removeprefix('ip-')} {value}")
            if key in home:
                raise Invalid(f"cannot configure multiple {word}s ({value}, {home[key]}) on the same subnet")
            home[key] = value
    for name, value in reserved.items():
        _home(pools, value, f"no matching subnet for aux-address {value}")["AuxiliaryAddresses"][name] = value
    return list(pools.values())


def _home(pools: dict[str, dict[str, Any]], value: str, complaint: str) -> dict[str, Any]:
    import ipaddress

    for subnet, pool in pools.items():
        try:
            if ipaddress.ip_interface(value).ip in ipaddress.ip_network(subnet, strict=False):
                return pool
        except ValueError as problem:
            raise Invalid(f"invalid CIDR address: {problem}") from None
    raise Invalid(complaint)


@command("NETWORK [NETWORK...]", complete=completing.networks)
@switch("-f", "--force", help="Not there is fine too.")
def rm(client: Client, *networks: str, force: bool) -> int:
    """Remove networks."""

    def one(name: str) -> None:
        try:
            if _ingress(client, name) and not confirmed(INGRESS):
                raise Gone
            client.call("DELETE", path("networks", name))
        except Refused as problem:
            if not (force and problem.status == 404):
                raise
            raise Gone from None

    return each(networks, one)


@command("[OPTIONS] NETWORK CONTAINER", complete=completing.networks)
@option("--ip", help="IPv4 address.")
@option("--ip6", help="IPv6 address.")
@many("--alias", word="strings", help="Further name on this network.")
@many("--link", help="Link to another container: NAME[:alias].")
@many("--link-local-ip", word="strings", help="Link-local address.")
@many("--driver-opt", word="strings", help="Option for the driver: key=value.")
@integer("--gw-priority", default=0, help="Highest gives the default route.")
@option("--mac-address", help="MAC address.")
def connect(client: Client, network: str, container: str, **flags: Any) -> int:
    """Connect a container to a network."""
    wish: dict[str, Any] = {
        "IPAMConfig": {
            "IPv4Address": flags["ip"], "IPv6Address": flags["ip6"], "LinkLocalIPs": list(flags["link_local_ip"]),
        },
        "Links": [link if ":" in link else f"{link}:{link}" for link in flags["link"]] or None,
        "Aliases": list(flags["alias"]) or None,
        "DriverOpts": pairs_of(flags["driver_opt"]) or None,
        "GwPriority": flags["gw_priority"],
    }  # fmt: skip
    if flags["mac_address"]:
        wish["MacAddress"] = flags["mac_address"]
    client.call("POST", path("networks", network, "connect"), body={"Container": container, "EndpointConfig": wish})
    return 0


@command("[OPTIONS] NETWORK CONTAINER", complete=completing.networks)
@switch("-f", "--force", help="Also when the container is gone.")
def disconnect(client: Client, network: str, container: str, force: bool) -> int:
    """Disconnect a container from a network."""
    client.call("POST", path("networks", network, "disconnect"), body={"Container": container, "Force": force})
    return 0
