"""Explain: a packet walked hop by hop through wanted objects, until it arrives or something stops it.

    web -> db:5432
      route   on the link of eth0 (172.18.0.0/16); web speaks as 172.18.0.2
      switch  eth0 is plugged into br-1a2b… (network RED), and so is eth0 of container db
      arrive  container db gets it at 172.18.0.3 port 5432 tcp, from 172.18.0.2

The walk knows stacks, cables and the host; what the firewall says comes from
following the very rules the kernel has (``core.ruleset``). Every hop holds the
objects it relied on, so each line can be checked against the kernel. Where the kernel
can be asked for its way, and other people have rules, they are walked too (``core.steps``).

Rules
    1. The walk follows the first packet of a connection; answers are let through by
       the kernel's memory of it. That the answer has a way back is looked at.
    2. It says whether a packet *arrives*. Whether a process listens there is the
       container's own affair.
    3. What stops is told with what would make it work; there may be more than one way.

What it does not do: resolve names (``core.asking``), or know engine, host or time.
"""

from __future__ import annotations

from dataclasses import replace

from fairlead.core.choosing import Choosing
from fairlead.core.ruleset import Packet
from fairlead.core.steps import ELSEWHERE, WORLD, Hop, Walked, at
from fairlead.core.terrain import DIRECT, Socket, Terrain, Way, is_loopback
from fairlead.core.wanted import HOST


def walk(terrain: Terrain, start: str, packet: Packet, *, forwarding: bool = True, lot: int = 0) -> Walked:
    """Send ``packet`` from the stack ``start``: a namespace, ``HOST``, or ``WORLD`` (``packet.arrives`` tells where).

    An empty ``source`` is chosen as the kernel would. ``forwarding``: the host routes between its devices. ``lot``:
    which of a service's tasks is chosen (``Walked.lots``).
    """
    walker = _Walker(terrain, forwarding, Walked(packet))
    walker.lot = lot
    if legacy := terrain.others(HOST).legacy:
        says = (
            f"legacy iptables has tables here ({', '.join(legacy)}): what they do cannot be seen; iptables-legacy-save"
        )
        walker.walked.hops.append(Hop("others", says, unsure=True))
    if start == WORLD:
        by = f" by {packet.arrives}" if packet.arrives else ""  # a host without a default route names no device
        walker.note("enter", f"comes in{by} from {packet.source}, for {packet.target}")
        walker.on_host()
    elif start == HOST:
        walker.from_host()
    else:
        walker.from_stack(start)
    if walker.walked.arrived:
        walker.answer(start)
    return walker.walked


class _Walker(Choosing):
    """One packet under way."""

    def __init__(self, terrain: Terrain, forwarding: bool, walked: Walked) -> None:
        super().__init__(terrain, forwarding, walked)
        self.me: Socket | None = None
        """the caller's plug in its bridge"""
        self.passage: tuple[str, str] | None = None
        """(who called, the device by which it left the host), when the host routed it"""

    # -- from a container ------------------------------------------------------------------

    def from_stack(self, ns: str) -> None:
        """Out of a stack of its own: itself, the link, or the gateway."""
        terrain, target = self.terrain, self.packet.target
        if is_loopback(target) or terrain.holds(ns, target):
            self.packet = replace(self.packet, source=target)
            return self.arrive(
                ns, f"{terrain.title(ns)} calls itself, and gets it on its loopback at {at(self.packet)}"
            )
        way = self._way(ns)
        if way is None:
            return None
        self.packet = replace(self.packet, source=self.packet.source or way.source, leaves=way.device)
        self.note("route", _road(terrain.title(ns), way, self.packet), *way.objects)
        if (onward := self.led(ns, way)) is None:
            return None
        way = onward
        if self._others("output", ns=ns) or self._others("postrouting", ns=ns):
            return None
        self.packet = replace(self.packet, leaves="")
        link = terrain.link(ns, way.device)
        if link is None:
            return self.stop("nobody", "switch", f"{way.device} is not one of ours: where it leads is not known")
        if link.kind in DIRECT:
            return self.on_cable(ns, link.parent, dict(link.options).get("mode", "bridge"), way.gateway)
        return self.across(Socket(ns, way.device, link, way.objects[0]), way)  # type: ignore[arg-type]

    def across(self, me: Socket, way: Way) -> None:
        """Over the bridge the interface is plugged into, to a neighbour or to the host."""
        terrain, bridge, hop = self.terrain, me.link.master, way.gateway or self.packet.target
        self.walked.switch, self.me = bridge, me
        where = f"{me.device} is plugged into {bridge} ({terrain.network(bridge, me.link.ns)})"
        there = terrain.neighbour(bridge, hop, me.link.ns)
        if self._on_switch(me, there, bridge):
            return None
        if there is None and terrain.beyond(me.link.ns, hop):
            return self.tunnel(me, where, hop)
        if there is None:
            return self.stop("nobody", "switch", f"{where}, where nobody has {hop}: no answer to who-has", me.link)
        if there.ns == HOST:
            self.note("switch", f"{where}; {hop} is the host's own end of it", me.link, there.link, there.address)
            self.packet = replace(self.packet, arrives=there.device)
            return self.on_host()
        theirs = f"{there.device} of {terrain.title(there.ns)}"
        if _isolated(me) and _isolated(there):
            says = (
                f"{where}, and so is {theirs}, but the ports of this bridge are isolated from each other (icc is off)"
            )
            return self.stop("switch", "switch", says, me.link, there.link)
        self.note("switch", f"{where}, and so is {theirs}", me.link, there.link)
        if there.address.address.partition("/")[0] != self.packet.target:
            return self.stop("nobody", "route", f"{terrain.title(there.ns)} is the gateway, and forwards for nobody")
        return self.deliver(there)

    def _on_switch(self, me: Socket, there: Socket | None, bridge: str) -> bool:
        """Rules for frames; and with bridge-netfilter those for packets, too. True: it ended here."""
        packet, onwards = self.packet, there is not None and there.ns != HOST and me.link.ns == HOST
        hooks = ("prerouting", "forward", "postrouting") if onwards else ("prerouting", "input")
        self.packet = replace(packet, arrives=me.link.name, leaves=there.link.name if there and onwards else bridge)
        ended = me.link.ns == HOST and any(self._others(hook, "bridge") for hook in hooks)
        if not ended and onwards and ("hairpin", "1") in me.link.options:
            self.packet = replace(packet, arrives=bridge, leaves=bridge)
            ended = self._others("forward")
        self.packet = packet
        return ended

    def tunnel(self, me: Socket, where: str, hop: str) -> None:
        """An overlay: another host has the address."""
        answer, way = self.terrain.beyond(me.link.ns, hop) or (None, None)
        if answer is None or way is None:
            return None
        self.note("switch", f"{where}; {way.link} answers that {hop} is {answer.mac}", me.link, answer)
        seal = self.terrain.sealing(me.link.ns, way)
        if seal and seal.need == "nothing":
            says = f"frames for it must be encrypted, and no key is agreed upon with {way.via} (yet)"
            return self.stop("key", "tunnel", says, way, seal)
        how, known = "UDP, in ESP" if seal else "UDP", self.terrain.way(HOST, way.via)
        by = f", out by {known.device}" if known else ""
        self.note("tunnel", f"in {how} to {way.via}{by}: {way.why}", way, *([seal] if seal else []))
        if self.carried(way.via, self.terrain.tunnel_port(me.link.ns, way.link)):
            self.arrive(ELSEWHERE, f"the host {way.via} gets it for {at(self.packet)}")

    def carried(self, host: str, port: int) -> bool:
        """The frame itself, from this host to the other, and one that answers it. False: it ended here."""
        inner = self.packet
        self.packet = Packet(source="", target=host, protocol="udp", port=port)
        onward = self._way(HOST)
        if onward is not None:
            self.packet = replace(self.packet, source=onward.source, leaves=onward.device)
        sent = onward is not None and not self._others("output") and not self._others("postrouting")
        if sent and onward is not None:
            self.packet = Packet(source=host, target=onward.source, protocol="udp", port=port, arrives=onward.device)
            if self._others("prerouting") or self._others("input"):
                last = self.walked.hops.pop()
                self.walked.hops.append(
                    replace(last, at="answer", says=f"a frame that answers comes in, but {last.says}")
                )
                sent = False
        if sent:
            self.packet = inner
        return sent

    def on_cable(self, ns: str, parent: str, mode: str, gateway: str) -> None:
        """A macvlan or ipvlan device: the host's rules never see what it sends."""
        terrain, target = self.terrain, self.packet.target
        self.note("cable", f"leaves straight by the cable of {parent}: no bridge, no rule of the host sees it")
        there = terrain.on_cable(parent, gateway or target)
        if there is not None and mode in ("bridge", "l2", "l3", "l3s"):
            return self.deliver(there)
        if there is not None:
            return self.stop("switch", "cable", f"mode {mode} keeps the containers of {parent} apart on this machine")
        if terrain.is_hosts(target):
            says = f"{target} is the host's own: the kernel keeps a host and what hangs on its cable apart"
            return self.stop("switch", "cable", says)
        return self.leave(parent)

    # -- on the host ------------------------------------------------------------------------

    def on_host(self) -> None:
        """It came in by a device of the host: rules, then here or onwards."""
        if self._others("ingress", "netdev") or self.guarded():
            return None
        six = self.packet.family == 6  # the kernel refuses [::1] before it asks any rule, 127/8 only when it routes
        if not (six and is_loopback(self.packet.target)) and self._judged("prerouting"):
            return None
        if is_loopback(self.packet.target):
            says = "the host takes loopback addresses from its own loopback device only"
            return self.stop("loopback", "route", f"{says}, not from {self.packet.arrives}")
        if not self.terrain.is_hosts(self.packet.target):
            return self.forward()
        road = self._kernel(HOST)
        return self.into_host() if road is None or road.leads else self._refuse(HOST, road)

    def from_host(self) -> None:
        """A process of the host calls."""
        terrain, target = self.terrain, self.packet.target
        if terrain.is_hosts(target):
            source = target
        elif (way := self._way(HOST)) is None:
            return None
        else:
            source = way.source
        self.packet = replace(self.packet, source=self.packet.source or source)
        if self._judged("output"):
            return None
        if terrain.is_hosts(self.packet.target):
            return self.into_host()
        onward = self._way(HOST)
        if onward is None:
            return None
        self.packet = replace(self.packet, leaves=onward.device)
        self.passage = self.packet.source, onward.device
        self.note("route", _road("the host", onward, self.packet))
        return None if self._judged("postrouting") else self.out()

    def into_host(self) -> None:
        """It is for the host: for the relay where that serves the port, else for whoever listens."""
        packet = self.packet
        if self.refused() or (packet.arrives and self._others("input")):
            return None
        carried = next((c for c in self.terrain.carried if _serves(c.protocol, c.address, c.port, packet)), None)
        if carried is None:
            return self.arrive(HOST, f"the host's own processes get it at {at(packet)}: no published port of ours")
        called = self.by_relay(carried)
        if called is None:
            return None
        self.note("relay", f"the relay listens at {at(packet)} and calls {called.address} port {called.port}")
        self.packet = Packet(source="", target=called.address, protocol=packet.protocol, port=called.port)
        return self.from_host()

    def forward(self) -> None:
        """It is for somebody else: through the host."""
        if not self.forwarding:
            setting = "net/ipv4/ip_forward" if self.packet.family == 4 else "net/ipv6/conf/all/forwarding"
            return self.stop("forwarding", "forward", f"the host does not forward: {setting} is off")
        way = self._way(HOST)
        if way is None:
            return None
        self.packet = replace(self.packet, leaves=way.device)
        self.passage = self.packet.source, way.device
        onto = self.terrain.network(way.device)
        self.note("route", f"the host sends {self.packet.target} out by {way.device}" + _also(onto, way.device))
        if self._judged("forward") or self._judged("postrouting"):
            return None
        return self.out()

    def out(self) -> None:
        """Off the host: to whoever has the address on that network, or into the world."""
        device = self.packet.leaves
        link = self.terrain.link(HOST, device)
        if link and device in self.terrain.legs and (own := self.terrain.way(HOST, self.packet.target)):
            return self.across(Socket(HOST, device, link, own.objects[0]), own)  # type: ignore[arg-type]
        if device not in self.terrain.networks and not (link and link.kind == "bridge"):
            return self.leave(device)
        self.walked.switch = device
        there = self.terrain.neighbour(device, self.packet.target)
        if there is None:
            network = self.terrain.network(device)
            return self.stop("nobody", "switch", f"nobody on {network} has {self.packet.target}: no answer to who-has")
        if self._translated_within_the_bridge(there):
            says = (
                "bridge-netfilter translates within the bridge, and its ports are isolated from each other (icc is off)"
            )
            return self.stop("switch", "switch", says, there.link)
        return self.deliver(there)

    def _translated_within_the_bridge(self, there: Socket) -> bool:
        """With bridge-netfilter (then our ports are hairpins) a frame whose new target is on the same bridge never
        reaches the host: it crosses from port to port, and isolated ports refuse that."""
        me, same = self.me, self.me is not None and self.me.link.master == there.link.master
        return bool(me and same and ("hairpin", "1") in me.link.options and _isolated(me) and _isolated(there))

    def answer_by_host(self) -> None:
        """The host has to send answers where the call came from, and not to refuse them."""
        after, told = self.packet, len(self.walked.hops)
        if not self.passage:
            return
        source, leaves = self.passage
        there = self.called or after
        self.packet = replace(there, source=there.target, target=source, port=0, arrives=leaves)
        road = self._kernel(HOST)
        if road is not None and self.terrain.is_hosts(source):
            if not road.leads:
                self._refuse(HOST, road)
        elif road is not None and self._way(HOST) is not None:
            del self.walked.hops[told:]
        if not self.walked.arrived:
            last = self.walked.hops.pop()
            self.walked.hops.append(
                replace(last, at="answer", says=f"the answer comes back to the host, but {last.says}")
            )
        self.packet = after

    # -- ends -------------------------------------------------------------------------------

    def deliver(self, there: Socket) -> None:
        title, packet = self.terrain.title(there.ns), self.packet
        self.packet = replace(packet, arrives=there.device, leaves="")
        if self._others("prerouting", ns=there.ns) or self._others("input", ns=there.ns):
            return
        self.packet = packet
        if not self.let_in(there):
            return
        self.arrive(there.ns, f"{title} gets it on {there.device} at {at(self.packet)}", there.link, there.address)

    def leave(self, device: str) -> None:
        self.arrive(WORLD, f"leaves by {device} for {at(self.packet)}")

    def answer(self, start: str) -> None:
        """The first packet arrived; without a way back nobody would know."""
        self.answer_by_host()
        place, source = self.walked.place, self.packet.source
        inside = place not in (HOST, WORLD, ELSEWHERE, start) and not self.terrain.holds(place, source)
        if inside and not self.answer_by_node(place) and self.terrain.way(place, source) is None:
            title = self.terrain.title(place)
            self.stop("answer", "answer", f"{title} has no route back to {source}: its answers go nowhere")
        if self.walked.arrived:
            self.answer_turned()


def _serves(protocol: str, address: str, port: int, packet: Packet) -> bool:
    same = (protocol, port) == (packet.protocol, packet.port) and (":" in address) == (packet.family == 6)
    return same and address in (packet.target, "0.0.0.0", "::")


def _isolated(socket: Socket) -> bool:
    return ("isolated", "1") in socket.link.options


def _road(who: str, way: Way, packet: Packet) -> str:
    how = f"by way of {way.gateway} on {way.device}" if way.gateway else f"on the link of {way.device}"
    return f"{who} sends {packet.target} {how} ({way.prefix}), and speaks as {packet.source}"


def _also(name: str, device: str) -> str:
    return f" ({name})" if name != device else ""
