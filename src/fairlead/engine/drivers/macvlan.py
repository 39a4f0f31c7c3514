"""Macvlan: containers on the LAN itself, each with a MAC address of its own.

    container a     container b                     the host
      eth0            eth0                            |  hx3f2a… (only with host_access)
        \\               |                             |
         +--- macvlan ports of eth0 (the parent) -----+----- the LAN, its router, its machines

The interface is made inside the sandbox, hanging on a device of the host. There
is no bridge, no veth, no NAT and no rule: packets do not pass the host's stack, so
ports are not published (all of a container's ports are on the LAN), and the
host itself cannot reach its containers: frames of the parent never come
back up through the parent.

Rules
    1. ``macvlan_mode``: bridge (default: neighbours on one parent talk directly), private
       (never), vepa (only if the switch turns frames round), passthru (one container has the parent).
    2. A parent that is there is used and left as it is; what we made goes (``core.parents``).
    3. No IPv6 on networks without it, no router advertisements on any.
    4. ``host_access=true``: a macvlan of the host's own on the same parent, with a route and a
       fixed neighbour entry for each container. The host speaks there with its own address (or
       the one reserved by ``--aux-address host=…``), answers only those whom it would
       answer there, and never asks: so the LAN does not learn a second MAC for the host.

What it does not do: publish ports, isolate (whoever is on the LAN is on the LAN).
"""

from __future__ import annotations

from collections.abc import Iterator

from fairlead.core import inside, parents
from fairlead.core.bridgeoptions import LanOptions, lan_endpoint_options, lan_options
from fairlead.core.model import Endpoint, Network, NetworkRequest
from fairlead.core.wanted import Address, Link, Neighbour, Plan, Route, Sysctl, Wanted
from fairlead.engine.drivers.base import Attachment, Facts, Unpublished
from fairlead.errors import Invalid

HOST_ADDRESS = "host"
"""Name of the ``--aux-address`` that the host takes for ``host_access``."""


class Macvlan(Unpublished):
    """Driver of ``macvlan`` networks."""

    name = "macvlan"

    def check(self, request: NetworkRequest, facts: Facts) -> None:
        mode = parents.mode_of(self.name, request.options)
        if lan_options(request.options).host_access and mode != "bridge":
            raise Invalid(f"host_access=true needs macvlan_mode=bridge: in mode {mode} the host cannot be a neighbour")

    def network(self, network: Network, facts: Facts) -> Plan:
        made = parents.link(network)
        plan: list[Wanted] = [] if made is None else [made]
        if _options(network).host_access:
            plan.extend(_shim(network, facts))
        return tuple(plan)

    def endpoint(self, network: Network, endpoint: Endpoint, facts: Facts) -> Plan:
        parent, mode = parents.parent_of(network), parents.mode_of(self.name, network.options)
        link = Link(
            name=endpoint.interface,
            ns=endpoint.namespace,
            kind="macvlan",
            parent=parent,
            mac=endpoint.mac,
            mtu=_options(network).mtu or (endpoint.lease.mtu if endpoint.lease else 0),
            options=(("mode", mode),),
            why=f"the container on {parent}, beside the host",
        )
        ways = tuple(_ways(network, endpoint)) if _options(network).host_access else ()
        return (
            link,
            *inside.plan(endpoint, lan_endpoint_options(endpoint.settings.driver_opts), facts.has_ipv6),
            *ways,
        )

    def attachment(self, network: Network) -> Attachment:
        return Attachment(
            interface_prefix=_options(network).prefix,
            default_route=parents.leads_out(network),
            through_host=False,
        )

    def device(self, network: Network) -> str:
        return f"hx{network.short}" if _options(network).host_access else ""


def _options(network: Network) -> LanOptions:
    return lan_options(network.options)


# -- the host as a neighbour --------------------------------------------------------------


def _shim(network: Network, facts: Facts) -> Iterator[Wanted]:
    device, parent = Macvlan().device(network), parents.parent_of(network)
    yield Link(
        name=device,
        kind="macvlan",
        parent=parent,
        mtu=_options(network).mtu,
        options=(("mode", "bridge"),),
        why=f"the host as a neighbour of the containers of {network.name}",
    )
    why = "on the LAN the host is where it always was: here it answers only containers"
    yield Sysctl(path=f"net/ipv4/conf/{device}/arp_filter", value="1", why=why)
    six = [address for address in _host_addresses(network) if ":" in address]
    if facts.has_ipv6:
        yield Sysctl(path=f"net/ipv6/conf/{device}/accept_ra", value="0", why="routers are believed on the parent")
        yield Sysctl(path=f"net/ipv6/conf/{device}/disable_ipv6", value="0" if six else "1")
    for address in _host_addresses(network):
        length = 128 if ":" in address else 32
        yield Address(link=device, address=f"{address}/{length}", why="reserved for the host")


def _host_addresses(network: Network) -> list[str]:
    return [pool.auxiliary[HOST_ADDRESS] for pool in network.ipam.config if HOST_ADDRESS in pool.auxiliary]


def _ways(network: Network, endpoint: Endpoint) -> Iterator[Wanted]:
    """The host's way to one container. IPv6 answers only for addresses of the device: it needs a reserved one."""
    device, reserved = Macvlan().device(network), _host_addresses(network)
    for address in filter(None, (endpoint.address4, endpoint.address6)):
        six = ":" in address
        source = next((own for own in reserved if (":" in own) == six), "")
        if six and not source:
            continue
        destination = f"{address}/{128 if six else 32}"
        yield Route(destination=destination, link=device, source=source, why=f"the host reaches {endpoint.name}")
        yield Neighbour(link=device, address=address, mac=endpoint.mac, why="the host never asks the LAN")
