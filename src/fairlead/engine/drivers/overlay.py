"""Overlay: one network over many hosts, each frame carried between them in UDP (VXLAN, RFC 7348).

    container a                              container b          eth1 of each: docker_gwbridge, the way out
      eth0                                     eth0
        |                                        |
    [ br0 ]   namespace 1-3f2a91c77b         [ br0 ]
        |                                        |
    [ vxlan0 ] ---- host A ~~~ UDP 4789 ~~~ host B ---- [ vxlan0 ]

    path(network)            namespace, bridge, tunnel: while a container of this host is on the network
    remote(network, other)   how to reach one endpoint of another host
    vtep(network, address)   that host may send to us, and hears what is for everybody

Rules
    1. Nothing is learnt from packets: forwarding and neighbour entries are what the
       cluster told, so a frame goes to one host, or nowhere. ARP and neighbour
       questions about other hosts' containers are answered here (``proxy``).
    2. A frame is accepted from hosts on that network only (``core.rules``: overlay).
       The guard stands before the tunnel. Without a firewall of ours there is no guard,
       and then no overlay network.
    3. The network's subnets are on no device of the host: packets in it cannot
       reach the host, nor the host them.
    4. MTU: the underlay's, less what wraps a frame.
    5. Encrypted networks (``encrypted``) have a port of their own, so that the kernel's policies
       know them by it. They stand on a guard of their own: nothing clear, in or out.

Frames for endpoints that were told of cross from port to port without the bridge (``host.crossings``). What a frame
pays for all this: docs/why/overlay-cost.md.

What it does not do: choose the identifier (``engine.claims``), know other hosts, make keys (``core.keying``).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

from fairlead.core import addresses, inside, remotes
from fairlead.core.bridgeoptions import endpoint_options
from fairlead.core.model import Endpoint, Network, NetworkRequest, Remote
from fairlead.core.wanted import Element, Forwarding, Link, Namespace, Neighbour, Plan, Shaper, Sysctl, Wanted
from fairlead.core.written import family_of
from fairlead.engine.drivers.base import Attachment, Facts, Publishing
from fairlead.errors import Invalid, Unsupported

ENCRYPTED = "encrypted"
SEALED_PORT = 4790
BRIDGE, TUNNEL = "br0", "vxlan0"
EVERYBODY = "00:00:00:00:00:00"
WRAPPING = {4: 50, 6: 70}
"""Bytes around a container's packet on the underlay: Ethernet 14, VXLAN 8, UDP 8, IP 20 or 40."""
SMALLEST = {4: 68, 6: 1280}


class Overlay:
    """Driver of ``overlay`` networks."""

    name = "overlay"
    scope = "global"

    def check(self, request: NetworkRequest, facts: Facts) -> None:
        if not facts.firewall:
            raise Unsupported(
                "overlay networks need the engine's firewall, or anybody could send into them: start it without"
                " --iptables=false"
            )
        mtu, least = request.options.get(remotes.MTU, ""), SMALLEST[6 if request.ipv6 else 4]
        if mtu and not (mtu.isdecimal() and int(mtu) >= least):
            raise Invalid(f"overlay network {request.name}: {remotes.MTU}={mtu} is no MTU: {least} is the least")

    def network(self, network: Network, facts: Facts) -> Plan:
        """Nothing: a host that has no container on the network has nothing of it."""
        return ()

    def place(self, network: Network) -> str:
        return namespace(network)

    def sealed_port(self, network: Network) -> int:
        return SEALED_PORT if ENCRYPTED in network.options else 0

    def path(self, network: Network, facts: Facts) -> Plan:
        """Guard, namespace, bridge, tunnel: what the first container on this host brings and the last takes."""
        return tuple(_path(network, facts))

    def endpoint(self, network: Network, endpoint: Endpoint, facts: Facts) -> Plan:
        own = endpoint_options(endpoint.settings.driver_opts)
        ns, link = namespace(network), endpoint.interface
        veth = Link(
            name=endpoint.device,
            ns=ns,
            kind="veth",
            master=BRIDGE,
            peer=link,
            peer_ns=endpoint.namespace,
            peer_mac=endpoint.mac,
            mtu=_mtu(network, facts),
            why=f"{link} of the container, plugged into the overlay",
        )
        plan: list[Wanted] = [veth]
        if facts.has_ipv6:
            plan.append(Sysctl(ns=ns, path=f"net/ipv6/conf/{endpoint.device}/disable_ipv6", value="1"))
        plan.extend(inside.plan(endpoint, own, facts.has_ipv6))
        if own.rate_in:
            plan.append(Shaper(ns=ns, link=endpoint.device, rate=own.rate_in, why="what may reach the container"))
        return tuple(plan)

    def remote(self, network: Network, other: Remote, facts: Facts) -> Plan:
        """Where its frames go, and who answers for its addresses."""
        ns, who = namespace(network), f"{other.name} on {other.host}"
        plan: list[Wanted] = [
            Forwarding(ns=ns, link=TUNNEL, mac=other.mac, via=other.vtep, why=f"{who} is reached there")
        ]
        for interface in filter(None, (other.ipv4, other.ipv6)):
            address = interface.partition("/")[0]
            plan.append(Neighbour(ns=ns, link=TUNNEL, address=address, mac=other.mac, why=f"answered for {who}"))
        return tuple(plan)

    def vtep(self, network: Network, address: str, facts: Facts) -> Plan:
        """Another host on this network."""
        family, kind = family_of(address), "sealed" if ENCRYPTED in network.options else "vteps"
        item = f"{_port(network, facts)} . {vni(network)} . {address}"
        return (
            Element(map=f"{kind}{family}", item=item, why="a host on this network"),
            Forwarding(
                ns=namespace(network),
                link=TUNNEL,
                mac=EVERYBODY,
                via=address,
                why="it hears what is for everybody (broadcast, multicast)",
            ),
        )

    def publish(self, network: Network, endpoint: Endpoint, facts: Facts) -> Plan:
        return ()

    def publishing(self, network: Network) -> Publishing:
        return Publishing()

    def attachment(self, network: Network) -> Attachment:
        return Attachment(default_route=False, way_out=not network.internal, names=not network.ingress)

    def device(self, network: Network) -> str:
        return ""


def namespace(network: Network) -> str:
    """Name of the network's own namespace on each host that has it."""
    return f"1-{network.id[:10]}"


def vni(network: Network) -> str:
    """The network's identifier on the wire: 24 bits, the same on all hosts; "…" while nobody has chosen it."""
    return network.options.get(remotes.VNI, "…")


def _port(network: Network, facts: Facts) -> int:
    return SEALED_PORT if ENCRYPTED in network.options else facts.overlay_port


def _path(network: Network, facts: Facts) -> Iterator[Wanted]:
    """What a host has of the network, whichever containers are on it."""
    ns, mtu, port = namespace(network), _mtu(network, facts), _port(network, facts)
    if port == SEALED_PORT:
        yield Element(map="sealed", item=f"{port} . {vni(network)}", why="nothing of it comes or goes in clear")
    yield Element(
        map="overlays", item=f"{port} . {vni(network)}", why="what comes in for it must come from a host on it"
    )
    yield Namespace(name=ns, why=f"the part of {network.name} that is on this host")
    yield Link(
        name=BRIDGE,
        ns=ns,
        kind="bridge",
        mac=addresses.mac_from_dice(hashlib.sha256(f"overlay {network.id} {facts.vtep}".encode()).digest()),
        mtu=mtu,
        why=f"the containers of this host on {network.name}",
    )
    options = _tunnel(vni(network), facts.vtep, port)
    yield Link(name=TUNNEL, ns=ns, kind="vxlan", master=BRIDGE, mtu=mtu, options=options, why="to the other hosts")
    yield from _silence(network, ns, facts)


def _tunnel(number: str, vtep: str, port: int) -> tuple[tuple[str, str], ...]:
    """A tunnel that is told everything about the other hosts and learns nothing from what comes in."""
    options = {"id": number, "port": str(port), "learning": "0", "proxy": "1"}
    if ":" in vtep:
        options |= {"local6": vtep, "udp_zero_csum6_rx": "1", "udp_zero_csum6_tx": "1"}
    else:
        options["local"] = vtep
    return tuple(sorted(options.items()))


def _silence(network: Network, ns: str, facts: Facts) -> Iterator[Sysctl]:
    """What a new namespace does by itself, and nobody needs there."""
    for name in ("iptables", "ip6tables", "arptables"):
        # A new namespace begins with these on: a tenth of each frame's cost, for rules that nobody has here.
        yield Sysctl(ns=ns, path=f"net/bridge/bridge-nf-call-{name}", value="0", why="frames meet no firewall here")
    if facts.has_ipv6:
        for device in (BRIDGE, TUNNEL):
            # The tunnel's proxy answers neighbour questions only on a device that speaks IPv6.
            off = "1" if device == BRIDGE or not network.ipv6 else "0"
            yield Sysctl(ns=ns, path=f"net/ipv6/conf/{device}/disable_ipv6", value=off)
            yield Sysctl(ns=ns, path=f"net/ipv6/conf/{device}/accept_ra", value="0")
            yield Sysctl(ns=ns, path=f"net/ipv6/conf/{device}/addr_gen_mode", value="1", why="and says nothing itself")


def _mtu(network: Network, facts: Facts) -> int:
    """The user's, or what fits into the underlay's."""
    if chosen := int(network.options.get(remotes.MTU, 0)):
        return chosen
    wrapping = WRAPPING[family_of(facts.vtep)]
    if ENCRYPTED not in network.options:
        return facts.underlay_mtu - wrapping
    # ESP: what it carries (all but the IP header) and 2 bytes, in fours, with 8 bytes of header, 8 of nonce, 16 of tag.
    ip = wrapping - 30
    return (facts.underlay_mtu - ip - 32) // 4 * 4 - 2 - 30
