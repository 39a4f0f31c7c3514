"""Bridge: a network on one machine, as dockerd's ``bridge`` driver makes it.

    container a            container b
      eth0 (sandbox)         eth0 (sandbox)
        |                      |
      veth3f2a91c            veth77b01de
        +--------- br-3f2a… ---+          gateway address; the host routes, core.rules says what may pass

Everything is a plan: rules first, then the bridge with its settings and
addresses. The device is up only when its guards stand, and is taken away before
they are.

Rules
    1. ``docker0`` for the default network, ``br-<12 of the id>`` for others, unless named.
       With ``-b`` the device is somebody else's: we bring rules, never a link or an address.
    2. Every device refuses router advertisements. A network without IPv6 has none at
       all on its devices, not even link-local.
    3. ``icc=false`` isolates the bridge's ports from each other, in the bridge (no
       bridge-netfilter), and the way over the gateway in the rules.
    4. The bridge's MAC comes from the network's id: it does not change when ports
       come and go, so containers' neighbour tables stay right.
    5. With ``--iptables=false`` there is not one element. Without rules there is also no
       ``route_localnet``: it would be a door without its guard.

What it does not do: choose addresses or ports, set the default route
(``engine.sandboxes``), look at the machine.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from functools import lru_cache

from fairlead.core import addresses, inside, rules
from fairlead.core.bridgeoptions import ANTISPOOF, BridgeOptions, EndpointOptions, bridge_options, endpoint_options
from fairlead.core.digest import sha256
from fairlead.core.model import Endpoint, Network, NetworkRequest
from fairlead.core.wanted import Address, Element, Fence, Link, Plan, Shaper, Sysctl, Wanted
from fairlead.core.written import family_of
from fairlead.engine.drivers.base import Attachment, Facts, Publishing
from fairlead.errors import Invalid

DEFAULT_DEVICE = "docker0"


class Bridge:
    """Driver of ``bridge`` networks."""

    name = "bridge"
    scope = "local"

    def check(self, request: NetworkRequest, facts: Facts) -> None:
        options = bridge_options(request.options)
        if options.antispoof and not facts.firewall:
            raise Invalid(f"{ANTISPOOF} needs the firewall, which this daemon leaves alone (--iptables=false)")
        if "isolated" in (options.mode4, options.mode6) and not request.internal:
            raise Invalid("gateway mode 'isolated' can only be used for an internal network")
        for pool in request.ipam.config:
            if ":" in pool.subnet:
                _check_subnet6(pool.subnet)

    def network(self, network: Network, facts: Facts) -> Plan:
        options = _options(network)
        plan: list[Wanted] = []
        if facts.firewall:
            plan.extend(_allowed(rules.network_elements(_rules(network, facts)), facts))
        plan.extend(self._bridge(network, options, facts))
        return tuple(plan)

    def endpoint(self, network: Network, endpoint: Endpoint, facts: Facts) -> Plan:
        options, own = _options(network), _endpoint_options(endpoint)
        ns, link = endpoint.namespace, endpoint.interface
        veth = Link(
            name=endpoint.device,
            kind="veth",
            master=self.device(network),
            peer=link,
            peer_ns=ns,
            peer_mac=endpoint.mac,
            mtu=options.mtu or facts.default_mtu,
            options=_port_options(options, facts),
            why=f"{link} of the container, plugged into {self.device(network)}",
        )
        slow = Shaper(link=endpoint.device, rate=own.rate_in, why="what may reach the container")
        fence = (_fence(endpoint),) if options.antispoof else ()
        plan = (veth, *fence, *_port_settings(endpoint, facts), *inside.plan(endpoint, own, facts.has_ipv6))
        return (*plan, slow) if own.rate_in else plan

    def publish(self, network: Network, endpoint: Endpoint, facts: Facts) -> Plan:
        if not facts.firewall:
            return ()
        found = rules.binding_elements(endpoint.bindings, endpoint.address4, endpoint.address6, _rules(network, facts))
        return tuple(_allowed(found, facts))

    def publishing(self, network: Network) -> Publishing:
        """A default host address of one family means no binding in the other, as in dockerd."""
        options = _options(network)
        default = options.host_binding
        if default == "0.0.0.0":
            where = {"host_ip4": "0.0.0.0", "host_ip6": "::"}
        elif ":" in default:
            where = {"host_ip4": "", "host_ip6": default}
        else:
            where = {"host_ip4": default, "host_ip6": ""}
        return Publishing(mode4=options.mode4, mode6=options.mode6, **where)

    def attachment(self, network: Network) -> Attachment:
        default = _options(network).default_bridge or network.predefined
        return Attachment(
            interface_prefix=_options(network).prefix, default_route=not network.internal, names=not default
        )

    def device(self, network: Network) -> str:
        options = _options(network)
        return options.name or (DEFAULT_DEVICE if options.default_bridge else f"br-{network.short}")

    # -- the device ---------------------------------------------------------------------

    def _bridge(self, network: Network, options: BridgeOptions, facts: Facts) -> Iterator[Wanted]:
        device = self.device(network)
        foreign = options.default_bridge and bool(facts.bridge)
        if not foreign:
            yield Link(
                name=device,
                kind="bridge",
                mac=addresses.mac_from_dice(sha256(f"bridge {network.id}".encode()).digest()),
                mtu=options.mtu or facts.default_mtu,
                group=0 if network.internal else rules.GROUP,
                why=f"the switch of network {network.name}",
            )
        if facts.firewall and not network.internal:
            why = "replies to the host's own 127.0.0.1 come back here; the guard keeps everybody else's out"
            yield Sysctl(path=f"net/ipv4/conf/{device}/route_localnet", value="1", why=why)
        if network.internal and not foreign:
            why = "internal: nothing that comes from here is forwarded, also while somebody has flushed the rules"
            yield Sysctl(path=f"net/ipv4/conf/{device}/forwarding", value="0", why=why)
        if not foreign and facts.has_ipv6:
            yield Sysctl(path=f"net/ipv6/conf/{device}/accept_ra", value="0", why="no container is the host's router")
            yield Sysctl(path=f"net/ipv6/conf/{device}/disable_ipv6", value="0" if network.ipv6 else "1")
            why = "its link-local address asks for neighbours; while it were tentative, nothing would be forwarded"
            yield Sysctl(path=f"net/ipv6/conf/{device}/accept_dad", value="0", why=why)
        if not foreign:
            yield from self._gateways(network, options)

    def _gateways(self, network: Network, options: BridgeOptions) -> Iterator[Address]:
        for pool in network.ipam.config:
            six = family_of(pool.subnet) == 6
            mode, inhibited = (options.mode6, False) if six else (options.mode4, options.inhibit_ipv4)
            if pool.gateway and mode != "isolated" and not inhibited:
                address = f"{pool.gateway}/{pool.subnet.partition('/')[2]}"
                yield Address(link=self.device(network), address=address, why="the containers' gateway")


def _port_options(options: BridgeOptions, facts: Facts) -> tuple[tuple[str, str], ...]:
    """As a port of the bridge. ``hairpin``: with bridge-netfilter a container that calls its own published port is
    translated within the bridge, and the frame has to go back where it came from."""
    found = [("hairpin", "1")] if facts.bridge_netfilter else []
    return tuple(found if options.icc else [*found, ("isolated", "1")])


def _port_settings(endpoint: Endpoint, facts: Facts) -> Iterator[Sysctl]:
    if facts.has_ipv6:
        path = f"net/ipv6/conf/{endpoint.device}/disable_ipv6"
        yield Sysctl(path=path, value="1", why="a port of a bridge has no address, and believes nobody")


def _fence(endpoint: Endpoint) -> Fence:
    """Its addresses, the link-local ones it was given, and the one it makes of its MAC."""
    given = (text.partition("/")[0] for text in endpoint.settings.link_local)
    own = (endpoint.address4, endpoint.address6, _made_of(endpoint.mac) if endpoint.ipv6 else "", *given)
    why = f"{endpoint.interface} of the container speaks for its own addresses only"
    return Fence(link=endpoint.device, mac=endpoint.mac, addresses=tuple(filter(None, own)), why=why)


def _made_of(mac: str) -> str:
    """The link-local address that the kernel makes of a MAC (RFC 4291, appendix A)."""
    first, *rest = bytes.fromhex(mac.replace(":", ""))
    identifier = bytes([first ^ 2, *rest[:2], 0xFF, 0xFE, *rest[2:]])
    return str(ipaddress.IPv6Address(b"\xfe\x80" + bytes(6) + identifier))


def _rules(network: Network, facts: Facts) -> rules.NetworkRules:
    """The network as ``core.rules`` wants to know it."""
    options = _options(network)
    return rules.NetworkRules(
        device=Bridge().device(network),
        subnets=tuple(pool.subnet for pool in network.ipam.config),
        internal=network.internal,
        icc=options.icc,
        masquerade=options.masquerade,
        mode4=options.mode4,
        mode6=options.mode6,
        source4=options.host_ipv4,
        source6=options.host_ipv6,
        trusted=options.trusted,
        direct=facts.allow_direct_routing,
    )


def _allowed(elements: tuple[Element, ...], facts: Facts) -> Iterator[Element]:
    """All of them, or with ``--ip6tables=false`` those that are not about IPv6."""
    return (element for element in elements if facts.firewall6 or not element.map.endswith("6"))


def _options(network: Network) -> BridgeOptions:
    return _read(tuple(sorted(network.options.items())))


@lru_cache(maxsize=4096)
def _read(options: tuple[tuple[str, str], ...]) -> BridgeOptions:
    return bridge_options(dict(options))


def _endpoint_options(endpoint: Endpoint) -> EndpointOptions:
    return endpoint_options(endpoint.settings.driver_opts)


def _check_subnet6(subnet: str) -> None:
    """IPv6 subnets that would fight with the kernel's own link-local prefix, or are no subnets for hosts."""
    try:
        multicast = addresses.contains("ff00::/8", subnet.partition("/")[0])
        linklocal = addresses.contains("fe80::/64", subnet.partition("/")[0])
    except ValueError:
        return
    if multicast:
        raise Invalid(f"multicast subnet '{subnet}' is not allowed")
    if linklocal and subnet != "fe80::/64":
        raise Invalid(f"'{subnet}' clashes with the Link-Local prefix 'fe80::/64'")
