"""FakeHost: the promises of ``host.base`` kept in dictionaries, for tests.

    host = FakeHost()
    host.fail_on(Link(name="veth1", kind="veth").key)     the next make of it is refused
    host.lose(plan)                                       as if somebody had deleted it
    host.put(item)                                        as if somebody else had made it
    host.log                                              what was asked, in order

It keeps what a kernel would enforce and engines rely on: a device needs its master
and its namespace, what is on a device goes with it, elements go with their table, a
stranger's device is ``Conflict``, a refused plan leaves nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from fairlead.core.terrain import Road
from fairlead.core.wanted import (
    HOST,
    Address,
    Association,
    Element,
    Fence,
    Forwarding,
    Key,
    Link,
    Namespace,
    Neighbour,
    Plan,
    Route,
    Shaper,
    Skeleton,
    Sysctl,
    Wanted,
)
from fairlead.errors import Conflict, FairleadError, Internal

_ON_DEVICES = (Address, Route, Neighbour, Forwarding, Shaper)


class FakeHost:
    """A machine that exists on paper."""

    def __init__(self, exec_root: str = "/run/fairlead") -> None:
        self.declared: list[str] = []
        self.things: dict[Key, Wanted] = {}
        """what is there, ours and other people's, by key"""
        self.foreign: set[Key] = set()
        self.log: list[tuple[str, Wanted]] = []
        """("make" or "remove", object) of everything done"""
        self.kept: list[tuple[str, int]] = []
        self.forgotten: list[tuple[str, str, int]] = []
        self.default_mtu = 1500
        self.no_encryption: FairleadError | None = None
        self.keys: dict[Key, bytes] = {}
        """of associations"""
        self.roads: dict[tuple[str, str], Road] = {}
        """what the kernel would say, by namespace and target"""
        self.led: set[tuple[str, str]] = set()
        """(namespace, virtual address): processes are connected to its targets at once"""
        self.listings: dict[str, str] = {}
        """what nft would list, by namespace"""
        self.legacy: tuple[str, ...] = ()
        self._root = exec_root
        self._fail: dict[Key, FairleadError] = {}

    # -- what tests may arrange -----------------------------------------------------------

    def fail_on(self, key: Key, error: FairleadError | None = None) -> None:
        """Refuse this object, each time, until ``relent``."""
        self._fail[key] = error or Internal(f"cannot make {' '.join(key)}: refused by the test")

    def relent(self) -> None:
        self._fail.clear()

    def put(self, item: Wanted) -> None:
        """Somebody else's."""
        self.things[item.key] = item
        self.foreign.add(item.key)

    def lose(self, objects: Iterable[Wanted]) -> None:
        """Somebody deleted these, and all that goes with them."""
        for item in objects:
            self._take_away(item.key)

    # -- Host -----------------------------------------------------------------------------

    def make(self, objects: Sequence[Wanted]) -> None:
        before, foreign = dict(self.things), set(self.foreign)
        done = len(self.log)
        try:
            for item in objects:
                self._make(item)
        except FairleadError:
            self.things, self.foreign = before, foreign
            del self.log[done:]
            raise

    def remove(self, objects: Sequence[Wanted]) -> None:
        errors: list[Exception] = []
        for item in reversed(objects):
            if isinstance(item, Sysctl) or item.key in self.foreign or item.key not in self.things:
                continue
            if item.key in self._fail:
                errors.append(self._fail[item.key])
                continue
            self.log.append(("remove", item))
            self._take_away(item.key)
        if errors:
            raise ExceptionGroup("not everything could be removed", errors)

    def look(self, objects: Iterable[Wanted] = (), gently: bool = False) -> Plan:
        asked = {item.key for item in objects}
        return tuple(
            item
            for key, item in self.things.items()
            if key in asked or (key not in self.foreign and not isinstance(item, Sysctl) and key[0] != "file")
        )

    def devices_amiss(self, wanted: Iterable[Link]) -> set[str]:
        ours = {key: item for key, item in self.things.items() if isinstance(item, Link) and key not in self.foreign}
        there = {item for item in ours.values() if item.ns == HOST}
        return {link.name for link in there ^ {link for link in wanted if link.ns == HOST}}

    def rules_stand(self) -> bool:
        return Skeleton(text="").key in self.things

    def namespaces_lost(self, names: Iterable[str]) -> set[str]:
        return {name for name in names if Namespace(name=name).key not in self.things}

    def keep_namespace(self, name: str, pid: int) -> None:
        self.kept.append((name, pid))
        item = Namespace(name=name)
        self.things[item.key] = item

    def settle(self) -> None:
        """Removals are complete when ``remove`` returns."""

    def declare(self, text: str) -> None:
        self.declared.append(text)

    def namespace_path(self, name: str) -> str:
        return f"{self._root}/netns/{name}"

    def routes(self) -> list[tuple[str, str]]:
        return [
            (item.destination, item.link) for item in self.things.values() if isinstance(item, Route) and not item.ns
        ]

    def road(self, ns: str, target: str, source: str = "", arrives: str = "") -> Road | None:
        return self.roads.get((ns, target))

    def leads_at_connect(self, ns: str, address: str) -> bool:
        return (ns, address) in self.led

    def rulesets(self, ns: str) -> tuple[str, tuple[str, ...]]:
        return self.listings.get(ns, ""), self.legacy

    def addresses(self, link: str = "") -> list[tuple[str, str]]:
        found = [item for item in self.things.values() if isinstance(item, Address) and item.ns == HOST]
        return [(item.link, item.address) for item in found if item.link == link or not link]

    def sysctl(self, path: str) -> str:
        found = self.things.get(Sysctl(path=path, value="").key)
        return found.value if isinstance(found, Sysctl) else ""

    def link_mtu(self, link: str = "") -> int:
        world = next((way for prefix, way in self.routes() if prefix in ("0.0.0.0/0", "::/0")), "")
        device = self._device(HOST, link or world)
        return (device.mtu or self.default_mtu) if device else 0 if link else self.default_mtu

    def path_mtu(self, link: str, family: int) -> int:
        return self.link_mtu(link)

    def link_exists(self, link: str) -> bool:
        return self._device(HOST, link) is not None

    def is_ours(self, link: str) -> bool:
        device = self._device(HOST, link)
        return device is not None and device.key not in self.foreign

    def check_encryption(self, address: str) -> None:
        if self.no_encryption:
            raise self.no_encryption

    def foresee(self, objects: Iterable[Wanted]) -> None:
        """Nothing takes long on paper."""

    def forget_flows(self, bindings: Sequence[tuple[str, str, int]]) -> None:
        self.forgotten += bindings

    def forget_answers(self, targets: Sequence[tuple[str, str, int]], ns: str = HOST) -> None:
        self.forgotten += targets

    # -- inside -----------------------------------------------------------------------------

    def _make(self, item: Wanted) -> None:
        if item.key in self._fail:
            raise self._fail[item.key]
        there = self.things.get(item.key)
        if there == item and item.key not in self.foreign:
            return
        if item.key in self.foreign and not isinstance(item, Sysctl):
            raise Conflict(f"{item.key[0]} {item.key[-1]} exists already and is not ours")
        self._check_needs(item)
        if isinstance(item, Association):
            self.keys[item.key] = item.secret.take()
            if not self.keys[item.key]:
                raise Internal(f"cannot make {item}: its key was spent")
        if there is not None and isinstance(item, Skeleton):
            self._take_away(item.key)
        self.log.append(("make", item))
        self.foreign.discard(item.key)
        self.things[item.key] = item

    def _check_needs(self, item: Wanted) -> None:
        for ns in {getattr(item, "ns", HOST), getattr(item, "peer_ns", HOST)} - {HOST}:
            if Namespace(name=ns).key not in self.things:
                raise Internal(f"cannot make {item}: there is no network namespace {ns}")
        needs = [(item.ns, item.master), (HOST, item.parent)] if isinstance(item, Link) else []
        if isinstance(item, Fence):
            needs = [(HOST, item.link)]
        if isinstance(item, _ON_DEVICES):
            needs = [(item.ns, item.link)]
        for ns, name in needs:
            if name and name != "lo" and self._device(ns, name) is None:
                raise Internal(f"cannot make {item}: there is no device {name}{f' in namespace {ns}' if ns else ''}")
        if isinstance(item, Element) and Skeleton(ns=item.ns, text="").key not in self.things:
            raise Internal(f"cannot make {item}: there is no table")

    def _device(self, ns: str, name: str) -> Link | None:
        """A device by either end's name."""
        for item in self.things.values():
            if isinstance(item, Link) and name and (ns, name) in ((item.ns, item.name), (item.peer_ns, item.peer)):
                return item
        return None

    def _take_away(self, key: Key) -> None:
        """An object, and what cannot be without it."""
        item = self.things.pop(key, None)
        self.foreign.discard(key)
        if item is None:
            return
        for other in list(self.things.values()):
            if self._goes_with(other, item):
                self._take_away(other.key)

    def _goes_with(self, other: Wanted, gone: Wanted) -> bool:
        ns = getattr(other, "ns", None)
        if isinstance(gone, Namespace):
            return gone.name in (ns, getattr(other, "peer_ns", None))
        if isinstance(gone, Link) and isinstance(other, _ON_DEVICES):
            return (ns, other.link) in ((gone.ns, gone.name), (gone.peer_ns, gone.peer))
        return isinstance(gone, Skeleton) and isinstance(other, Element) and ns == gone.ns
