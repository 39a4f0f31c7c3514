"""Wanted objects: everything the kernel should hold for us, as values.

A driver never *does* anything. It answers *what should exist*, as a ``Plan``:
an ordered tuple of the frozen values below. Making, undoing, repairing, a dry
run, ``explain`` and most unit tests are then the same few lines on a tuple.

    driver ----> Plan ----> engine.kernel ----> host.make(plan)       attach
                                          ----> host.remove(plan)     detach, or undo of half a plan
                                          ----> difference(wanted, host.look())   repair

Rules
    1. The vocabulary is closed: what is not a class of this file cannot be made.
    2. Order is meaning: an object may need those before it, never those after.
       Removing goes through a plan backwards.
    3. ``key`` says *which* kernel object it is (kind and place); the other
       fields say *how* it should be. Two plans never hold the same key.
    4. ``owner`` and ``why`` explain the object to people. They do not take
       part in comparison: a bridge is right or wrong whoever wants it.
    5. ``ns`` is the name of a network namespace that a ``Namespace`` object
       makes, or ``HOST`` (the empty name) for the one the engine lives in.

What it does not do: touch anything. ``host.linux`` knows how each object is
made, removed and read back; ``host.fake`` keeps the same promises in a dict.
"""

from collections.abc import Callable, Iterable, Mapping
from operator import attrgetter
from typing import Any, ClassVar, TypeVar

import msgspec
from msgspec.structs import replace

HOST = ""
"""The network namespace the engine itself runs in."""

Key = tuple[str, ...]
N = TypeVar("N", bound=Any)


class Wanted(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """One kernel object that should exist."""

    owner: str = ""
    """Who wants it: ``endpoint 3f2a… of network RED``."""
    why: str = ""
    """One sentence for people."""

    named_by: ClassVar[tuple[str, ...]] = ()
    """The fields that make up the key."""
    once: ClassVar[bool] = False
    """It can be made only once: whoever wants it must want another one when it is lost."""

    @property
    def key(self) -> Key:
        return _shape(type(self)).key(self)

    def __eq__(self, other: object) -> bool:
        if type(self) is not type(other):
            return NotImplemented
        how = _shape(type(self)).how
        return bool(how(self) == how(other))

    def __ne__(self, other: object) -> bool:
        return not self == other  # the struct's own would compare everything

    def __hash__(self) -> int:
        return hash((type(self), _shape(type(self)).how(self)))

    def __str__(self) -> str:
        """One line: kind, then every field that is not at its default."""
        words = [type(self).__name__.lower()]
        for name, default in _shape(type(self)).defaults.items():
            value = getattr(self, name)
            if value != default:
                words.append(f"{name}={_plain(value)}")
        return " ".join(words)


ASIDE = ("owner", "why", "secret")
"""Fields that take no part in comparison."""


class _Shape(msgspec.Struct, frozen=True):
    """How a kind is read; found once, since keys are asked for, and objects compared, thousands at a time."""

    key: Callable[[Any], Key]
    how: Callable[[Any], Any]
    """What is compared."""
    defaults: dict[str, Any]
    """of the fields that are compared"""


_SHAPES: dict[type[Wanted], _Shape] = {}


def _shape(kind: type[Wanted]) -> _Shape:
    return _SHAPES.get(kind) or _SHAPES.setdefault(kind, _shape_of(kind))


def _shape_of(kind: type[Wanted]) -> _Shape:
    word, get, fields = kind.__name__.lower(), attrgetter(*kind.named_by), kind.__struct_fields__
    values = (*(msgspec.NODEFAULT,) * (len(fields) - len(kind.__struct_defaults__)), *kind.__struct_defaults__)
    defaults = {name: value for name, value in zip(fields, values, strict=True) if name not in ASIDE}
    return _Shape(
        (lambda item: (word, str(get(item)))) if len(kind.named_by) == 1 else lambda item: (word, *map(str, get(item))),
        attrgetter(*defaults),
        defaults,
    )


def _plain(value: Any) -> str:
    if isinstance(value, tuple):
        return "(" + ",".join(_plain(item) for item in value) + ")"
    return str(value)


class Namespace(Wanted, frozen=True, kw_only=True):
    """A network namespace, kept by a bind mount below the exec root. ``lo`` is up in it."""

    named_by: ClassVar[tuple[str, ...]] = ("name",)
    name: str


class Link(Wanted, frozen=True, kw_only=True):
    """A network device.

    ``kind`` is the kernel's (``bridge veth vxlan macvlan ipvlan vlan dummy``).
    A veth pair is *one* object: this end is ``name`` in ``ns``, the other is
    ``peer`` in ``peer_ns``, with ``peer_mac``. Both are made in place, with
    mtu, and ``up`` brings both up (after the addresses and sysctls of the same
    plan: see ``host.linux``). ``options`` are kind- and port-specific, as
    sorted pairs: ``("isolated", "1")``, ``("hairpin", "1")``, ``("id", "4097")``.
    ``group`` is a number that several devices share, so that rules can know them by it; 0: left open.
    """

    named_by: ClassVar[tuple[str, ...]] = ("ns", "name")
    name: str
    kind: str
    ns: str = HOST
    master: str = ""
    peer: str = ""
    peer_ns: str = HOST
    peer_mac: str = ""
    parent: str = ""
    mtu: int = 0
    mac: str = ""
    up: bool = True
    group: int = 0
    options: tuple[tuple[str, str], ...] = ()


class Address(Wanted, frozen=True, kw_only=True):
    """An address with its prefix length on a device: ``10.0.0.2/24``. IPv6 without duplicate detection (``nodad``)."""

    named_by: ClassVar[tuple[str, ...]] = ("ns", "link", "address")
    link: str
    address: str
    ns: str = HOST
    routed: bool = True
    """The route to its subnet, which the kernel makes along with it, stands. Looked at on the host only."""


class Route(Wanted, frozen=True, kw_only=True):
    """A route. ``destination`` is a prefix (``0.0.0.0/0`` for the default); no ``gateway`` means on-link."""

    named_by: ClassVar[tuple[str, ...]] = ("ns", "destination", "table", "metric")
    destination: str
    link: str = ""
    gateway: str = ""
    ns: str = HOST
    table: int = 254
    metric: int = 0
    source: str = ""


class Rule(Wanted, frozen=True, kw_only=True):
    """A routing policy rule (ip-rule(8)): packets that match go to ``table``."""

    named_by: ClassVar[tuple[str, ...]] = ("ns", "family", "priority")
    family: int
    priority: int
    table: int
    ns: str = HOST
    source: str = ""
    mark: int = 0


class Neighbour(Wanted, frozen=True, kw_only=True):
    """A permanent neighbour entry: ``address`` is at ``mac``."""

    named_by: ClassVar[tuple[str, ...]] = ("ns", "link", "address")
    link: str
    address: str
    mac: str
    ns: str = HOST


class Forwarding(Wanted, frozen=True, kw_only=True):
    """A forwarding-database entry: frames for ``mac`` leave ``link`` (a vxlan device) to the VTEP ``via``."""

    named_by: ClassVar[tuple[str, ...]] = ("ns", "link", "mac", "via")
    link: str
    mac: str
    via: str
    ns: str = HOST


class Shaper(Wanted, frozen=True, kw_only=True):
    """How fast a device may send, in bits a second (a multiple of 8): what waits too long is dropped."""

    named_by: ClassVar[tuple[str, ...]] = ("ns", "link")
    link: str
    rate: int
    ns: str = HOST


class Sysctl(Wanted, frozen=True, kw_only=True):
    """A kernel setting, by its path below /proc/sys with slashes: ``net/ipv4/conf/eth0/accept_ra``.

    Removing it does nothing: it goes with its device or namespace, and for the
    host (``net/ipv4/ip_forward``) nobody knows who else relies on it by then.
    """

    named_by: ClassVar[tuple[str, ...]] = ("ns", "path")
    path: str
    value: str
    ns: str = HOST


class Skeleton(Wanted, frozen=True, kw_only=True):
    """Our whole nftables table of one namespace, as nft text without elements; made in one transaction.

    ``text`` is the body of ``table inet fairlead { … }``. Making it again over
    an equal one changes nothing; over a different one replaces the table.
    """

    named_by: ClassVar[tuple[str, ...]] = ("ns",)
    text: str
    ns: str = HOST


class Element(Wanted, frozen=True, kw_only=True, gc=False):
    """One element of a set (``value`` empty) or map of our table, in nft's own notation.

    ``map="published4"``, ``item="10.0.0.9 . tcp . 8080"``, ``value="172.18.0.2 . 80"``.
    """

    named_by: ClassVar[tuple[str, ...]] = ("ns", "map", "item")
    map: str
    item: str
    value: str = ""
    ns: str = HOST

    @property
    def key(self) -> Key:
        """The same in a third of the time: no other kind is wanted by the thousand."""
        return "element", self.ns, self.map, self.item


class Secret:
    """A key on its way to the kernel: it is taken once, and shown never."""

    __slots__ = ("_key",)

    def __init__(self, key: bytes = b"") -> None:
        self._key = key

    def take(self) -> bytes:
        """The key, and it is forgotten; nothing when it was taken before."""
        key, self._key = self._key, b""
        return key

    def __repr__(self) -> str:
        return "Secret()"


class Association(Wanted, frozen=True, kw_only=True):
    """A security association (ip-xfrm(8) state): ESP in transport mode, AES-GCM with 128 bits, extended numbers.

    It carries UDP from ``source`` to port ``port`` of ``target``, both addresses of hosts. Its sequence numbers begin
    at zero, so a second one with the same key would break the cipher: ``secret`` (16 bytes of key, 4 of salt) is
    spent when it is made.
    """

    named_by: ClassVar[tuple[str, ...]] = ("target", "spi")
    once: ClassVar[bool] = True
    source: str
    target: str
    spi: int
    port: int
    secret: Secret = msgspec.field(default_factory=Secret)


class Policy(Wanted, frozen=True, kw_only=True):
    """What must be encrypted (ip-xfrm(8) policy): UDP from ``source`` to port ``port`` of ``target``, both prefixes.

    ``way`` is ``in`` or ``out``. ``need``: ``nothing`` helps, it is dropped; ``any`` association of ours between the
    two; or the number (SPI) of one.
    """

    named_by: ClassVar[tuple[str, ...]] = ("way", "source", "target", "port")
    way: str
    source: str
    target: str
    port: int
    need: str


class Fence(Wanted, frozen=True, kw_only=True):
    """What may come out of a container by the host's end of its cable: frames from ``mac``, and ARP, IP and neighbour
    discovery in the name of ``addresses`` (of both families). Needs its device; see ``host.fences``."""

    named_by: ClassVar[tuple[str, ...]] = ("link",)
    link: str
    mac: str
    addresses: tuple[str, ...] = ()


class Vip(Wanted, frozen=True, kw_only=True):
    """A virtual address, for what processes of namespace ``ns`` send: each connection goes to one of ``targets``.

    A target is (address, weight); ``policy`` says who decides: chance, turns (``round-robin``), or the sender's address
    (``source``). Without targets connections are refused at once. Changing it leaves connections that are under way
    with the target they have. See ``host.vips``.
    """

    named_by: ClassVar[tuple[str, ...]] = ("ns", "address")
    address: str
    ns: str
    targets: tuple[tuple[str, int], ...] = ()
    policy: str = ""


class Leg(Wanted, frozen=True, kw_only=True):
    """The host's own device in the swarm's ingress network: only answers come in by it. See ``host.mesh``."""

    named_by: ClassVar[tuple[str, ...]] = ("link",)
    link: str


class MeshPort(Wanted, frozen=True, kw_only=True):
    """A port that a swarm publishes: what comes to it at this host goes on to one of ``targets``, senders unchanged.

    A target is (address, port, weight), of either family; ``policy`` as a ``Vip``'s. A family without one refuses at
    once. ``address``: of this host; "" for all of them. Changing it leaves connections that are under way with the
    target they have. ``around``: targets for who calls from ``bridge``, a device of this host.
    """

    named_by: ClassVar[tuple[str, ...]] = ("protocol", "address", "port")
    protocol: str
    port: int
    address: str = ""
    targets: tuple[tuple[str, int, int], ...] = ()
    policy: str = ""
    bridge: str = ""
    around: tuple[tuple[str, int, int], ...] = ()


class Inlet(Wanted, frozen=True, kw_only=True):
    """What reaches a sandbox by ingress, at its device ``link``: ``ports`` (``tcp . 80``) and nothing else, and each
    connection is answered by the way it came in. See ``host.inlets``.

    ``own``: its addresses there, with prefix length. ``answers``: at most one a family, from which its programs answer
    where they leave that to the kernel; where there is none, from ``own``.
    """

    named_by: ClassVar[tuple[str, ...]] = ("ns",)
    ns: str
    link: str
    own: tuple[str, ...]
    answers: tuple[str, ...] = ()
    ports: tuple[str, ...] = ()


class File(Wanted, frozen=True, kw_only=True):
    """A small text file of ours (hosts, resolv.conf). Replaced in place, so bind mounts of it keep seeing it."""

    named_by: ClassVar[tuple[str, ...]] = ("path",)
    path: str
    content: str
    mode: int = 0o644


Plan = tuple[Wanted, ...]


def owned(plan: Iterable[Wanted], owner: str) -> Plan:
    """The same plan, every object that has no owner yet signed by ``owner``."""
    return tuple(item if item.owner else replace(item, owner=owner) for item in plan)


def difference(wanted: Iterable[Wanted], actual: Iterable[Wanted]) -> tuple[Plan, Plan]:
    """What to make (missing or different, in the order wanted) and what to remove (there, but nobody wants it)."""
    return compared(by_key(wanted), by_key(actual))


def by_namespace(items: Iterable[N]) -> dict[str, list[N]]:
    """Objects that are in a namespace, in their order."""
    found: dict[str, list[N]] = {}
    for item in items:
        found.setdefault(item.ns, []).append(item)
    return found


def by_key(plan: Iterable[Wanted]) -> dict[Key, Wanted]:
    return {item.key: item for item in plan}


def compared(asked: Mapping[Key, Wanted], there: Mapping[Key, Wanted]) -> tuple[Plan, Plan]:
    """``difference``, where keys are known: making them is most of it."""
    make = tuple(item for key, item in asked.items() if key not in there or there[key] != item)
    return make, tuple(item for key, item in there.items() if key not in asked)
