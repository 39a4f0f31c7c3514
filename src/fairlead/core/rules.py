"""Rules: the one nftables table of the host, and the elements that networks, bindings and endpoints are in it.

    machine_plan(…)         the table, empty, and the kernel's forwarding: the same on every machine
    network_elements(…)     what a network is:  its bridge, its subnets, how open it is
    binding_elements(…)     what ``-p`` is:     (protocol, host port) -> (address, port)

A packet meets a handful of rules, however many networks and ports there are, and one that goes on its way in a
connection meets the fewest: looking up the name of a device costs as much as ten comparisons, so its group, a number,
is asked before its name, and what kind of device it is decides whether more must be asked (what comes by a cable comes
from none of our bridges).
What other hosts' tunnels send is most of what a busy host hears: it is asked first, in the chain itself.

    client -> host:8080        guard, published:  published4[tcp . 8080] -> 172.17.0.2 . 80     forward: dnat, enters
    host   -> 127.0.0.1:8080   output, published: the same map; leaves with the bridge's address (postrouting)
    container -> world         forward: leaves freely;  postrouting: masquerade, unless it stays in its network
    container -> other network forward, entering: neither dnat nor exposed: dropped
    neighbour -> 172.17.0.2    forward, entering: neither dnat nor exposed: dropped
    neighbour -> 127.0.0.1     guard: dropped, before any map is looked at
    host B    -> VXLAN here    guard, overlay: B is on that network (@th,96,24: VXLAN's network identifier), or dropped
    encrypted overlays         guard, leaving: it came in ESP, or will leave so, or it is dropped (core.keying)
    VXLAN, both ways           guard, leaving: not tracked: each connection within would be two of the host's

Rules
    1. We only ever *drop*. ``accept`` ends our own chain and nothing else: whatever the
       host's firewall drops stays dropped, in whichever order the two are asked.
    2. What enters a network in the original direction of its connection needs a
       reason of its own, every packet of it: dnat by somebody's map, or an exposed port.
       "Established" is none. So a connection that came in while our table was away
       (a flushed firewall) is cut when the table is back. What has no connection
       (untracked, invalid) has no reason either.
    3. Internal networks come before everything: neither dnat nor replies cross their edge. Their devices are bridges
       and in a set of their own, so whatever comes by another kind of device need not be asked about them.
    4. Published ports are for packets to addresses of this host (``fib daddr type
       local``): what is only passing through to somebody else's port 53 passes.
    5. Sets are keyed by device name where they say who, by address where they say
       where to. Rules name devices by name, never by index. A device's group only says sooner
       what its name says: where somebody changed it, the next rule says the same.
    6. Nothing relies on a packet's incoming device after routing, nor on being asked only
       once: with bridge-nf-call-iptables=1 frames within a bridge come here too, and then
       postrouting is told no incoming device. (Where it is told one that is no bridge, no
       subnet of ours need be looked for: ours come by bridges, the host's own by none.)
    7. [::1] is left alone: the kernel never lets it off the loopback device, so the
       relay serves it. For the same reason the guard needs no word about it.

What it does not do: decide which ports or addresses (``core.ports``,
``core.addresses``), isolate the ports of one bridge (``Link`` option ``isolated``,
drivers/bridge), or know the kernel.

See it: docs/packets/. Why so: docs/why/one-table.md, docs/why/entering.md.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator

import msgspec

from fairlead.core.model import PortBinding
from fairlead.core.wanted import Element, Plan, Skeleton, Sysctl, Wanted
from fairlead.core.written import family_of

GROUP = 0x666C
"""of the devices in @networks that we made (``Link.group``): what most packets that pass are asked, a number and not a
name. Who has another group is known by name."""
NAT_MODES = ("nat", "nat-unprotected")
CLOSING = ("networks", "same", "internal", "apart", "overlays", "sealed", "vteps4", "vteps6", "sealed4", "sealed6")
"""Sets without which more would pass (or what belongs together would not); all others open something."""

USER_TABLE = """\
table inet fairlead-user {
    chain forward {
        type filter hook forward priority -10; policy accept;
    }
}
"""
"""A table for people's own rules about published traffic: declared, never replaced, never read.

Declaring what is there already changes nothing in it, so this text may be
loaded at every start. Its chain is asked before ours.
"""

_SETS = """\
    set networks {
        typeof iifname
        comment "networks of ours that others may be reached from"
    }
    set same {
        typeof iifname . oifname
        comment "in and out by the same network"
    }
    set internal {
        typeof iifname
        comment "networks of ours that nothing is forwarded into or out of"
    }
    set apart {
        typeof iifname
        comment "containers here do not talk to each other (icc off)"
    }
    set open4 {
        typeof iifname
        comment "IPv4: reachable from outside at container addresses, all ports"
    }
    set open6 {
        typeof iifname
        comment "the same for IPv6"
    }
    set routed4 {
        typeof iifname
        comment "IPv4: container addresses answer pings from anywhere"
    }
    set routed6 {
        typeof iifname
        comment "the same for IPv6"
    }
    set exposed4 {
        type ipv4_addr . inet_proto . inet_service
        comment "ports reachable at the container's own address, from anywhere"
    }
    set exposed6 {
        type ipv6_addr . inet_proto . inet_service
        comment "the same for IPv6"
    }
    set trusted4 {
        type ifname . ipv4_addr . inet_proto . inet_service
        comment "the same, from one device only"
    }
    set trusted6 {
        type ifname . ipv6_addr . inet_proto . inet_service
        comment "the same for IPv6"
    }
    set home4 {
        typeof ip saddr . oifname
        flags interval
        comment "subnets where they are at home: what stays keeps its address"
    }
    set home6 {
        typeof ip6 saddr . oifname
        flags interval
        comment "the same for IPv6"
    }
    set masquerade4 {
        type ipv4_addr
        flags interval
        comment "subnets that leave with the host's address"
    }
    set masquerade6 {
        type ipv6_addr
        flags interval
        comment "the same for IPv6"
    }
    map source4 {
        type ipv4_addr : ipv4_addr
        flags interval
        comment "subnets that leave with a certain address of the host"
    }
    map source6 {
        type ipv6_addr : ipv6_addr
        flags interval
        comment "the same for IPv6"
    }
    map published4 {
        type inet_proto . inet_service : ipv4_addr . inet_service
        comment "ports of every IPv4 address of the host"
    }
    map published6 {
        type inet_proto . inet_service : ipv6_addr . inet_service
        comment "ports of every IPv6 address of the host"
    }
    map published_at4 {
        type ipv4_addr . inet_proto . inet_service : ipv4_addr . inet_service
        comment "ports of one IPv4 address of the host"
    }
    map published_at6 {
        type ipv6_addr . inet_proto . inet_service : ipv6_addr . inet_service
        comment "ports of one IPv6 address of the host"
    }
    set overlays {
        typeof th dport . @th,96,24
        comment "overlay networks of ours: VXLAN port and network identifier"
    }
    set sealed {
        typeof th dport . @th,96,24
        comment "those of them that must be encrypted"
    }
    set vteps4 {
        typeof th dport . @th,96,24 . ip saddr
        comment "hosts on overlay networks of ours"
    }
    set vteps6 {
        typeof th dport . @th,96,24 . ip6 saddr
        comment "the same over IPv6"
    }
    set sealed4 {
        typeof th dport . @th,96,24 . ip saddr
        comment "hosts on those that must be encrypted"
    }
    set sealed6 {
        typeof th dport . @th,96,24 . ip6 saddr
        comment "the same over IPv6"
    }
"""

_CHAINS = """\
    chain guard {
        type filter hook prerouting priority raw; policy accept;
        meta l4proto udp th dport . @th,96,24 . ip saddr @vteps4 meta iifkind != "bridge" notrack accept
        ip daddr 127.0.0.0/8 iifname != "lo" counter drop comment "loopback addresses do not come from outside"
        ip saddr 127.0.0.0/8 iifname != "lo" counter drop comment "nor from containers"
        meta l4proto udp jump from_tunnels
    }
    chain from_tunnels {
        th dport . @th,96,24 . ip6 saddr @vteps6 meta iifkind != "bridge" notrack accept
        th dport . @th,96,24 @overlays goto overlay
    }
    chain overlay {
        iifname @networks counter drop comment "VXLAN for a network of ours from a container"
        iifname @internal counter drop comment "from a container of an internal one"
        th dport . @th,96,24 @sealed meta ipsec missing counter drop comment "in clear"
        th dport . @th,96,24 . ip saddr @vteps4 notrack accept
        th dport . @th,96,24 . ip6 saddr @vteps6 notrack accept
        th dport . @th,96,24 . ip saddr @sealed4 notrack accept
        th dport . @th,96,24 . ip6 saddr @sealed6 notrack accept
        counter drop comment "VXLAN for a network of ours from a host that is not on it"
    }
    chain leaving {
        type filter hook output priority raw; policy accept;
        meta l4proto udp th dport . @th,96,24 . ip daddr @vteps4 notrack accept
        meta l4proto udp jump to_tunnels
    }
    chain to_tunnels {
        th dport . @th,96,24 . ip6 daddr @vteps6 notrack accept
        th dport . @th,96,24 @sealed rt ipsec missing counter drop comment "in clear"
        th dport . @th,96,24 @overlays notrack
    }
    chain prerouting {
        type nat hook prerouting priority dstnat; policy accept;
        fib daddr type local jump published
    }
    chain output {
        type nat hook output priority -100; policy accept;
        ip6 daddr ::1 accept comment "the relay's"
        fib daddr type local jump published
    }
    chain published {
        dnat ip to ip daddr . meta l4proto . th dport map @published_at4
        meta nfproto ipv4 dnat ip to meta l4proto . th dport map @published4
        dnat ip6 to ip6 daddr . meta l4proto . th dport map @published_at6
        meta nfproto ipv6 dnat ip6 to meta l4proto . th dport map @published6
    }
    chain forward {
        type filter hook forward priority filter; policy accept;
        meta oifgroup GROUP goto entering comment "into a network of ours"
        meta iifgroup GROUP meta oifkind != "bridge" accept comment "out of one, by a cable"
        oifname @networks goto entering
        meta oifkind "bridge" oifname @internal goto closed
        iifname @networks accept
        iifname @internal counter drop comment "internal: nothing leaves"
        FOREIGN
    }
    chain within {
        iifname @apart ct status dnat accept
        iifname @apart counter drop comment "icc is off"
        accept
    }
    chain between {
        iifname . oifname @same goto within
        iifname @internal counter drop comment "internal: nothing crosses over"
    }
    chain closed {
        iifname . oifname @same goto within
        oifname @internal counter drop comment "internal: nothing enters"
    }
    chain entering {
        meta iifkind "bridge" jump between
        ct direction reply accept
        ct status dnat accept
        ct state related accept comment "errors about connections that were let in"
        ip daddr . meta l4proto . th dport @exposed4 accept
        ip6 daddr . meta l4proto . th dport @exposed6 accept
        iifname . ip daddr . meta l4proto . th dport @trusted4 accept
        iifname . ip6 daddr . meta l4proto . th dport @trusted6 accept
        meta l4proto icmp oifname @routed4 accept
        meta l4proto ipv6-icmp oifname @routed6 accept
        iifname != @networks meta nfproto ipv4 oifname @open4 accept
        iifname != @networks meta nfproto ipv6 oifname @open6 accept
        counter drop comment "another network, or container addresses from outside"
    }
    chain postrouting {
        type nat hook postrouting priority srcnat; policy accept;
        meta iifkind != "bridge" accept comment "what came by a cable keeps its address"
        ip saddr 127.0.0.0/8 oifname @networks masquerade comment "from the host's loopback"
        ip saddr . oifname @home4 goto at_home
        ip6 saddr . oifname @home6 goto at_home
        snat ip to ip saddr map @source4
        snat ip6 to ip6 saddr map @source6
        ip saddr @masquerade4 masquerade
        ip6 saddr @masquerade6 masquerade
    }
    chain at_home {
        ct status dnat masquerade comment "back into its network by way of the host"
        accept
    }
"""

_FRAMES = 'meta iifkind "bridge" meta oifkind "bridge" accept comment "frames within a bridge, or between bridges"'
_OURS = "iifname @networks accept"
_FOREIGN = 'meta nfproto ipv{} counter drop comment "forwarding is on for containers only"'


def skeleton(drop_foreign: Collection[int] = ()) -> Skeleton:
    """The host's table without any network in it.

    ``drop_foreign``: families (4, 6) for which this engine turned the kernel's
    forwarding on, so that the host must not begin to route between networks
    that are none of ours.
    """
    lines = [_OURS, _FRAMES, *(_FOREIGN.format(family) for family in sorted(drop_foreign))] if drop_foreign else []
    chains = _CHAINS.replace("        FOREIGN\n", "".join(f"        {line}\n" for line in lines))
    chains = chains.replace("GROUP", str(GROUP))
    return Skeleton(text=_SETS + chains, why="the fixed part of the host's firewall; networks are elements of its sets")


def machine_plan(
    *, firewall: bool = True, forward: bool = True, ipv6: bool = False, drop_foreign: Collection[int] = ()
) -> Plan:
    """What the host itself needs before any network: the table, and the kernel's forwarding.

    One owner wants it, at every start and again when the first network with
    IPv6 comes (``ipv6``): turning on IPv6 forwarding makes the kernel ignore router
    advertisements on devices with ``accept_ra=1``, so it waits until it is needed.
    The table comes first: nothing is forwarded that no rule has seen.
    """
    plan: list[Wanted] = [skeleton(drop_foreign)] if firewall else []
    if forward:
        plan.append(Sysctl(path="net/ipv4/ip_forward", value="1", why="containers reach the world through this host"))
    if forward and ipv6:
        for name in ("default", "all"):
            plan.append(Sysctl(path=f"net/ipv6/conf/{name}/forwarding", value="1", why="and in IPv6"))
    return tuple(plan)


class NetworkRules(msgspec.Struct, frozen=True, kw_only=True):
    """A network as the firewall sees it."""

    device: str
    """the bridge"""
    subnets: tuple[str, ...] = ()
    """both families"""
    internal: bool = False
    icc: bool = True
    masquerade: bool = True
    mode4: str = "nat"
    mode6: str = "nat"
    """``nat``, ``nat-unprotected``, ``routed`` or ``isolated``"""
    source4: str = ""
    source6: str = ""
    """leave with this address of the host instead of whichever fits the route"""
    trusted: tuple[str, ...] = ()
    """host devices that may come in to published ports at container addresses"""
    direct: bool = False
    """so may everybody"""

    def mode(self, family: int) -> str:
        return self.mode6 if family == 6 else self.mode4


def network_elements(network: NetworkRules) -> tuple[Element, ...]:
    """What a network is in the table: guards first. Nothing here is per endpoint."""
    return tuple(_of_network(network))


def _of_network(network: NetworkRules) -> Iterator[Element]:
    device = quoted(network.device)
    if not network.icc:
        yield Element(map="apart", item=device, why="icc is off: containers here do not talk to each other")
    if network.internal:
        yield Element(map="internal", item=device, why="internal: nothing is forwarded into or out of it")
    else:
        yield Element(map="networks", item=device, why="what enters here needs a reason")
    yield Element(map="same", item=f"{device} . {device}", why="what stays in the network passes")
    if network.internal:
        return
    for family in (4, 6):
        if network.mode(family) == "routed":
            yield Element(map=f"routed{family}", item=device, why="gateway mode routed: its addresses answer pings")
        if network.mode(family) == "nat-unprotected":
            yield Element(map=f"open{family}", item=device, why="gateway mode nat-unprotected: open at all ports")
    for subnet in network.subnets:
        item = f"{subnet} . {device}"
        yield Element(map=f"home{family_of(subnet)}", item=item, why="what stays in its network keeps its address")
    if network.masquerade:
        yield from _leaving(network)


def _leaving(network: NetworkRules) -> Iterator[Element]:
    """How packets of each subnet leave: with the host's address, a certain one of them, or their own."""
    for subnet in network.subnets:
        family = family_of(subnet)
        source = network.source6 if family == 6 else network.source4
        if network.mode(family) not in NAT_MODES:
            continue
        if source:
            yield Element(map=f"source{family}", item=subnet, value=source, why="leaves with this address of the host")
        else:
            yield Element(map=f"masquerade{family}", item=subnet, why="leaves with the host's address")


def binding_elements(
    bindings: Iterable[PortBinding], address4: str, address6: str, network: NetworkRules
) -> tuple[Element, ...]:
    """What leads published ports to the container at these addresses ("": it has none of that family).

    A binding of a family that the container has no address of is not for the
    kernel (the relay carries it); it gives no element.
    """
    found: dict[tuple[str, str], Element] = {}
    for binding in () if network.internal else bindings:
        family = family_of(binding.host_ip)
        target, mode = (address6, network.mode6) if family == 6 else (address4, network.mode4)
        if not target:
            continue
        if binding.host_port and mode in NAT_MODES:
            found.update({(element.map, element.item): element for element in _published(binding, family, target)})
        if mode == "routed" or (mode in NAT_MODES and (network.direct or network.trusted)):
            for element in (e for one in binding.each() for e in _exposed(one, family, target, network)):
                found[element.map, element.item] = element
    return tuple(found.values())


def _published(row: PortBinding, family: int, target: str) -> Iterator[Element]:
    name, head = f"published{family}", f"{row.protocol} . "
    if row.host_ip not in ("0.0.0.0", "::"):
        name, head = f"published_at{family}", f"{row.host_ip} . {head}"
    for host_port, port in zip(
        range(row.host_port, row.host_port + row.span), range(row.port, row.port + row.span), strict=True
    ):
        why = f"host port {host_port} leads to port {port} of the container"
        yield Element(map=name, item=f"{head}{host_port}", value=f"{target} . {port}", why=why)


def _exposed(binding: PortBinding, family: int, target: str, network: NetworkRules) -> Iterator[Element]:
    """Who may come to the container's own address: everybody, or whoever comes in by certain devices."""
    item = f"{target} . {binding.protocol} . {binding.port}"
    if network.direct or network.mode(family) == "routed":
        yield Element(map=f"exposed{family}", item=item, why="reachable at the container's own address")
        return
    for device in network.trusted:
        why = f"reachable from {device} at the container's own address"
        yield Element(map=f"trusted{family}", item=f"{quoted(device)} . {item}", why=why)


def quoted(device: str) -> str:
    """A device name in nft's notation."""
    return f'"{device}"'
