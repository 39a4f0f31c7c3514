"""Ipvlan: containers on the LAN behind one MAC address, the parent's.

    container a     container b
      eth0            eth0                     l2:       a switch in the parent; containers ask for neighbours
        \\               |                      l3, l3s:  a router in the parent; nobody asks, everything is sent down
         +--- ipvlan ports of eth0 ----- LAN            (the LAN needs a route to the subnet); l3s passes netfilter

For LANs that allow one MAC per port (clouds, wireless). As with macvlan
there is no bridge, no NAT, no published port, and no road between
the host and its own containers.

Rules
    1. ``ipvlan_mode``: l2 (default), l3, l3s. ``ipvlan_flag``: bridge (default), private, vepa.
    2. In l3 and l3s the default route has no gateway, and none is set aside.
    3. Nobody has a MAC address of his own: asking for one is refused.
    4. A parent carries ipvlan or macvlan, never both: the kernel refuses the second.
    5. No IPv6 on networks without it, no router advertisements on any.
"""

from __future__ import annotations

from collections.abc import Mapping

from fairlead.core import inside, parents
from fairlead.core.bridgeoptions import lan_endpoint_options, lan_options
from fairlead.core.model import Endpoint, Network, NetworkRequest
from fairlead.core.wanted import Link, Plan
from fairlead.engine.drivers.base import Attachment, Facts, Unpublished
from fairlead.errors import FairleadError, Invalid

FLAGS = ("bridge", "private", "vepa")


class Ipvlan(Unpublished):
    """Driver of ``ipvlan`` networks."""

    name = "ipvlan"

    def check(self, request: NetworkRequest, facts: Facts) -> None:
        parents.mode_of(self.name, request.options)
        _flag(request.options)
        if lan_options(request.options).host_access:
            raise Invalid("host_access=true is for macvlan networks: on ipvlan host and containers share a MAC address")

    def network(self, network: Network, facts: Facts) -> Plan:
        made = parents.link(network)
        return () if made is None else (made,)

    def endpoint(self, network: Network, endpoint: Endpoint, facts: Facts) -> Plan:
        parent, options = parents.parent_of(network), lan_options(network.options)
        link = Link(
            name=endpoint.interface,
            ns=endpoint.namespace,
            kind="ipvlan",
            parent=parent,
            mtu=options.mtu,
            options=(("flags", _flag(network.options)), ("mode", parents.mode_of(self.name, network.options))),
            why=f"the container on {parent}, with its MAC address",
        )
        return (link, *inside.plan(endpoint, lan_endpoint_options(endpoint.settings.driver_opts), facts.has_ipv6))

    def attachment(self, network: Network) -> Attachment:
        return Attachment(
            interface_prefix=lan_options(network.options).prefix,
            default_route=parents.leads_out(network),
            through_host=False,
            gateway_needed=not parents.is_routed(network),
            own_mac=False,
        )


def _flag(options: Mapping[str, str]) -> str:
    flag = options.get("ipvlan_flag") or FLAGS[0]
    if flag not in FLAGS:
        raise FairleadError(f"requested ipvlan flag '{flag}' is not valid, 'bridge' is the ipvlan driver default")
    return flag
