"""Driver: what a kind of network adds to the words *network* and *endpoint*. Six questions, no hands.

    check(request)                 parse and refuse bad options, before anything exists
    network(network)               Plan that must stand while the network exists
    endpoint(network, endpoint)    Plan that joins one sandbox to it
    publish(network, endpoint)     Plan for the endpoint's bindings (nft elements)
    publishing(network)            how bindings of this network behave (mode, default host address)
    attachment(network)            what the sandbox gets besides: route, names

A driver returns values and knows nothing of its siblings, the host or the
store. Every question is a pure function of its arguments and of the ``Facts``
the controller looked up beforehand; asked again, it gives the same answer: a
restart rebuilds all wanted objects by asking again.
"""

from __future__ import annotations

from typing import Protocol

import msgspec

from fairlead.core.model import Endpoint, Network, NetworkRequest
from fairlead.core.wanted import Plan
from fairlead.errors import Forbidden


class Facts(msgspec.Struct, kw_only=True):
    """What drivers may know of the machine and the engine's options; looked up once, passed in.

    All who ask have the same object. What of it is about other hosts changes when a swarm is joined or left, while no
    network of several hosts is here.
    """

    default_mtu: int = 1500
    """MTU of the host's default route, 1500 when there is none"""
    firewall: bool = True
    """``--iptables``: we may write nftables"""
    firewall6: bool = True
    """``--ip6tables``: for IPv6 too"""
    forward: bool = True
    """``--ip-forward``"""
    bridge_netfilter: bool = False
    """frames within a bridge pass the IP rules as well (net/bridge/bridge-nf-call-iptables is 1)"""
    drop_foreign: bool = False
    """we turned forwarding on: what is forwarded between networks that are none of ours is dropped"""
    has_ipv6: bool = True
    """this kernel speaks IPv6 (there is a /proc/sys/net/ipv6)"""
    masquerade: bool = True
    """``--ip-masq``"""
    userland_proxy: bool = True
    allow_direct_routing: bool = False
    bridge: str = ""
    """``-b``: a bridge made by somebody else that serves as the default network"""
    vtep: str = ""
    """address of this host at which other hosts' frames arrive (``--cluster-advertise``, ``--data-path-addr``)"""
    underlay_mtu: int = 1500
    """MTU of the way to the other hosts"""
    overlay_port: int = 4789
    """UDP port of frames between hosts; those of encrypted networks have another (``drivers.overlay``)"""


class Attachment(msgspec.Struct, frozen=True, kw_only=True):
    """What a sandbox gets from this network besides the plan."""

    interface_prefix: str = "eth"
    default_route: bool = True
    """the network can lead to the world (not internal)"""
    names: bool = True
    """embedded DNS serves here (user networks; not the default bridge, host, none)"""
    through_host: bool = True
    """packets pass the host's own stack: there is a veth's end on it, and published ports can lead here"""
    gateway_needed: bool = True
    """the default route goes through a gateway; False: straight down the link (ipvlan's l3 modes)"""
    own_mac: bool = True
    """each endpoint has a MAC address of its own (not on ipvlan: there all have the parent's)"""
    way_out: bool = False
    """the network leads to the world, but not by itself: its containers get an interface on ``docker_gwbridge``"""


class Publishing(msgspec.Struct, frozen=True, kw_only=True):
    """How published ports of a network behave, per family."""

    mode4: str = "nat"
    mode6: str = "nat"
    """nat, nat-unprotected, routed, isolated"""
    host_ip4: str = "0.0.0.0"
    host_ip6: str = "::"
    """address a binding gets when the user named none"""


class Driver(Protocol):
    """The contract every driver keeps; ``tests/contract/test_drivers.py`` holds them to it."""

    name: str
    scope: str

    def check(self, request: NetworkRequest, facts: Facts) -> None:
        """Raise ``Invalid``, ``Forbidden`` or ``Unsupported`` in Docker's words; return None when all is well."""

    def network(self, network: Network, facts: Facts) -> Plan:
        """Objects that stand as long as the network does, guards before devices that are up."""

    def endpoint(self, network: Network, endpoint: Endpoint, facts: Facts) -> Plan:
        """Objects that join ``endpoint.interface`` in namespace ``endpoint.sandbox`` to the network.

        Without the default route (``engine.sandboxes`` decides which endpoint is the gateway)."""

    def publish(self, network: Network, endpoint: Endpoint, facts: Facts) -> Plan:
        """Elements that lead ``endpoint.bindings`` to the endpoint."""

    def publishing(self, network: Network) -> Publishing: ...

    def attachment(self, network: Network) -> Attachment: ...

    def device(self, network: Network) -> str:
        """Name of the network's device on the host ("" when it has none)."""


class Unpublished:
    """What drivers answer alike whose packets do not pass the host's stack: there is nothing to lead a port through.

    Published ports are discarded, as in dockerd.
    """

    scope = "local"

    def publish(self, network: Network, endpoint: Endpoint, facts: Facts) -> Plan:
        return ()

    def publishing(self, network: Network) -> Publishing:
        return Publishing()

    def device(self, network: Network) -> str:
        return ""


class Fixed(Unpublished):
    """A driver with one network, made by the engine, that wants nothing of the kernel: ``host`` and ``none``."""

    name = ""

    def check(self, request: NetworkRequest, facts: Facts) -> None:
        raise Forbidden(f'only one instance of "{self.name}" network is allowed')

    def network(self, network: Network, facts: Facts) -> Plan:
        return ()

    def endpoint(self, network: Network, endpoint: Endpoint, facts: Facts) -> Plan:
        return ()

    def attachment(self, network: Network) -> Attachment:
        return Attachment(default_route=False, names=False)
