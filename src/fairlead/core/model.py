"""The things Fairlead talks about, as frozen values named the way users name them.

    Network ---< Endpoint >--- Sandbox ---- Container
                    |
               PortBinding

A *network* is a shared segment with its address pools. A *sandbox* is one
container's network stack. An *endpoint* joins the two: it holds the addresses,
the names and the published ports. *Settings* are what somebody asked for, and
stay with the container while it is stopped; an *endpoint* is what came of it,
and exists only while the container runs.

Rules
    1. Values are parsed at the door (``api``) and trusted from here on:
       addresses are canonical text (``str(ipaddress…)``), MACs lower case.
    2. Everything is stored as msgspec JSON of these structs; a field may be
       added with a default, never renamed.
    3. Types stand here as types, not as text (no ``annotations`` of the future), also in
       ``core.container``: three hundred texts to look up are a fortieth of an engine's start.
"""

from collections.abc import Iterator

import msgspec


class Subnet(msgspec.Struct, frozen=True, omit_defaults=True):
    """One address pool of a network: CIDRs and addresses as canonical text, "" for not given."""

    subnet: str = ""
    ip_range: str = ""
    gateway: str = ""
    auxiliary: dict[str, str] = {}
    chosen: bool = False
    """by us, not by the user"""
    gateway_chosen: bool = False
    """the gateway of a subnet that the user gave without one"""


class Ipam(msgspec.Struct, frozen=True, omit_defaults=True):
    """How a network gets its addresses. ``given`` tells a user's subnet from one we chose."""

    driver: str = "default"
    options: dict[str, str] | None = None
    config: tuple[Subnet, ...] = ()
    given: bool = False


class NetworkRequest(msgspec.Struct, frozen=True, omit_defaults=True):
    """A network as asked for, before defaults and address pools."""

    name: str
    driver: str = "bridge"
    scope: str = ""
    internal: bool = False
    attachable: bool = False
    ingress: bool = False
    config_only: bool = False
    config_from: str = ""
    ipv4: bool | None = None
    ipv6: bool | None = None
    ipam: Ipam = Ipam()
    options: dict[str, str] = {}
    labels: dict[str, str] = {}


class Network(msgspec.Struct, frozen=True, omit_defaults=True):
    """A network as it stands. ``created`` is RFC 3339 text with nanoseconds."""

    id: str
    name: str
    created: str
    driver: str = "bridge"
    scope: str = "local"
    internal: bool = False
    attachable: bool = False
    ingress: bool = False
    config_only: bool = False
    config_from: str = ""
    ipv4: bool = True
    ipv6: bool = False
    ipam: Ipam = Ipam()
    options: dict[str, str] = {}
    labels: dict[str, str] = {}
    predefined: bool = False
    """One of ``bridge``, ``host``, ``none``: made by the engine, never removed."""
    made: str = ""
    """device on the host that was made for it to hang on (``core.parents``)"""

    @property
    def short(self) -> str:
        return self.id[:12]

    @property
    def shared(self) -> bool:
        """On several hosts as one: of a cluster's store (``global``) or of a swarm. Of a swarm's networks of other
        drivers each node has its own."""
        return self.scope == "global" or (self.scope == "swarm" and self.driver == "overlay")


class ServicePart(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """An endpoint as one of the tasks of a swarm service.

    ``serving``: requests may be sent to it (it runs, is healthy, and is not about to stop). ``names`` besides the
    service's own resolve as that does: to ``vip`` (and ``vip6``; without prefix length), or, where there is none, to
    all tasks.
    """

    service: str
    """id"""
    name: str
    task: str
    vip: str = ""
    names: tuple[str, ...] = ()
    serving: bool = False
    weight: int = 1
    ports: tuple[str, ...] = ()
    """published on ingress: ``published:target/protocol``"""
    policy: str = ""
    """how one of them is chosen: ``core.serving.POLICIES``"""
    vip6: str = ""
    routes: tuple[str, ...] = ()
    """host names and paths that lead to it by the HTTP mesh: ``8080=red.example.com/`` (``core.webmesh``)"""


class EndpointSettings(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a container asked of one network (``--ip``, ``--alias``, ``--link`` …)."""

    ipv4: str = ""
    ipv6: str = ""
    link_local: tuple[str, ...] = ()
    mac: str = ""
    aliases: tuple[str, ...] = ()
    links: tuple[str, ...] = ()
    """``name-or-id:alias`` pairs, valid on this network only."""
    driver_opts: dict[str, str] = {}
    gw_priority: int = 0
    empty: tuple[str, ...] = ()
    """what was given as an empty list or object (Docker's names), for the echo"""
    part: ServicePart | None = None
    """of a swarm's task: set by us, never by whoever asks the API"""


class PortRequest(msgspec.Struct, frozen=True, omit_defaults=True, order=True, gc=False):
    """``-p`` as asked: container port, and where on the host (0..0: choose one; first..last: choose within)."""

    port: int
    protocol: str = "tcp"
    host_ip: str = ""
    host_first: int = 0
    host_last: int = 0
    span: int = 1
    """so many in a row, each with the next port of the host (``host_first`` is the only one for the first)"""

    def each(self) -> "Iterator[PortRequest]":
        """The row, one by one."""
        if self.span == 1:
            yield self
            return
        for on in range(self.span):
            yield PortRequest(self.port + on, self.protocol, self.host_ip, self.host_first + on, self.host_last + on)


class PortBinding(msgspec.Struct, frozen=True, omit_defaults=True, order=True, gc=False):
    """One published port as it is in force, or a row of them. ``host_ip`` is a concrete address, ``0.0.0.0`` or ``::``.

    A thousand ports in a row are one value: chosen, told, compared and remembered as one.
    """

    port: int
    protocol: str
    host_ip: str
    host_port: int
    span: int = 1
    """how many in a row; ports of the host and of the container go on together (the host's 0 stays 0)"""

    def each(self) -> "Iterator[PortBinding]":
        """The row, one by one."""
        if self.span == 1:
            yield self
            return
        step = 1 if self.host_port else 0
        for on in range(self.span):
            yield PortBinding(self.port + on, self.protocol, self.host_ip, self.host_port + on * step)

    def places(self) -> Iterator[tuple[str, str, int]]:
        """(protocol, address, port) of this host that it takes."""
        protocol, host_ip, first = self.protocol, self.host_ip, self.host_port
        return ((protocol, host_ip, port) for port in (range(first, first + self.span) if first else ()))


class Lease(msgspec.Struct, frozen=True, omit_defaults=True):
    """An address that somebody else lent us (the LAN's DHCP server), and what he said besides."""

    address: str
    """with prefix length"""
    server: str = ""
    seconds: int = 0
    """how long it is ours, 0: for ever"""
    renew: int = 0
    """seconds after which the server is asked for more (T1)"""
    rebind: int = 0
    """seconds after which any server is asked (T2)"""
    since: float = 0.0
    """when it was asked for, in seconds since this machine's boot"""
    gateway: str = ""
    dns: tuple[str, ...] = ()
    search: tuple[str, ...] = ()
    mtu: int = 0
    routes: tuple[tuple[str, str], ...] = ()
    """(prefix, gateway), "" for on-link; never a default route"""


class Endpoint(msgspec.Struct, frozen=True, omit_defaults=True):
    """One container on one network, alive."""

    id: str
    network: str
    """id of the network"""
    container: str
    """id of the container"""
    sandbox: str
    """id of the sandbox"""
    name: str
    """name of the container, without the slash"""
    interface: str = ""
    """name inside the sandbox: ``eth0``"""
    device: str = ""
    """name of the host's end of the veth pair"""
    ipv4: str = ""
    """with prefix length: ``172.18.0.2/16``"""
    ipv6: str = ""
    gateway4: str = ""
    gateway6: str = ""
    mac: str = ""
    names: tuple[str, ...] = ()
    """what resolves to it on this network: name, aliases, short id"""
    ports: tuple[str, ...] = ()
    """what it offers: exposed and published ports, as ``80/tcp``"""
    settings: EndpointSettings = EndpointSettings()
    bindings: tuple[PortBinding, ...] = ()
    """in force, those in a row as one; empty unless this endpoint is the sandbox's gateway for that family"""
    lease: Lease | None = None
    """where ``ipv4`` and ``gateway4`` come from, when they are not ours to choose"""
    way_out: bool = False
    """nobody asked for it: the sandbox's networks have no way to the world of their own (``engine.wayout``)"""

    @property
    def published(self) -> tuple[PortBinding, ...]:
        """``bindings``, one by one."""
        return tuple(one for row in self.bindings for one in row.each())

    @property
    def namespace(self) -> str:
        """Name of the ``Namespace`` object of its sandbox."""
        return self.sandbox[:12]

    @property
    def address4(self) -> str:
        return self.ipv4.partition("/")[0]

    @property
    def address6(self) -> str:
        return self.ipv6.partition("/")[0]


class Remote(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """An endpoint on another host, as that host tells the cluster: all that others need to reach and name it.

    There may be ten thousand, which refer to nothing that refers to them: the garbage collector need not look.
    """

    id: str
    network: str
    """id of the network"""
    node: str
    """its host's identity in the cluster"""
    host: str
    """its host's name, for people"""
    vtep: str
    """address at which its host receives the network's frames"""
    name: str
    """of its container"""
    mac: str
    ipv4: str = ""
    """with prefix length"""
    ipv6: str = ""
    names: tuple[str, ...] = ()
    ports: tuple[str, ...] = ()
    part: ServicePart | None = None
    away: bool = False
    """its host is not heard of; only of tasks, whose service keeps its name meanwhile"""


class Sandbox(msgspec.Struct, frozen=True, omit_defaults=True):
    """One container's network stack. ``mode``: ``own`` (a namespace of its own), ``host`` or ``container``."""

    id: str
    container: str
    mode: str = "own"
    namespace: str = ""
    """the ``Namespace`` object's name; "" in host mode"""
    path: str = ""
    """what Docker shows as SandboxKey"""
