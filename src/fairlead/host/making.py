"""Making: one call of ``Host.make``, from wishes to kernel objects, or nothing.

    namespaces                   a thread each
    what is there already?       one question per namespace
    devices, down                one batch per namespace
    nftables                     one transaction per namespace      <- the guards stand
    associations, policies       one batch
    sysctls, files                                                  <- forwarding, route_localnet
    addresses, up, routes ...    one batch per namespace, the host's first
    crossings                                                       <- overlays' frames need no bridge
    announce                     who is where now (``announcing``: nobody waits for it)

The order within a plan is kept within each step, and the steps are in the order
in which anything may need anything: guards before the setting that opens a door and
before the first packet, settings before a device is up, routes after their devices.

Rules
    1. Every deed pushes its undoing before the next begins. On failure all of them run,
       last first; what cannot be undone is a note on the error.
    2. A device of somebody else is never changed: the name is ``Conflict``.
    3. What can be changed on a standing device is changed; else it is replaced.
    4. A device born in this call takes its addresses and routes along when undone (``traffic``).

Why wait for the carrier?  The bridge forwards for a port once it has noticed its carrier, and drops frames until then;
asking for the port's state makes the kernel notice. The bridge is asked too: its own carrier came with its first port,
and until the kernel has noticed, what the host sends there is lost (a second, when the machine is busy).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from functools import partial
from typing import Any, TypeVar

import msgspec

from fairlead.core.wanted import (
    HOST,
    Address,
    Association,
    Element,
    Fence,
    File,
    Link,
    Namespace,
    Policy,
    Skeleton,
    Sysctl,
    Wanted,
    by_namespace,
)
from fairlead.errors import Conflict, Internal
from fairlead.host import beside, fences, files, ipsec, links, nft, routing
from fairlead.host.announcing import Announcer
from fairlead.host.doors import Doors
from fairlead.host.links import Around, Place, Seen
from fairlead.host.netlink import Refused
from fairlead.host.netns import Namespaces
from fairlead.host.refusals import TAKEN, as_error, no_room
from fairlead.host.removing import Leaving, Name, Remover
from fairlead.host.traffic import Rising, Traffic

W = TypeVar("W", bound=Wanted)
_TRIES = 5


class Standing(msgspec.Struct):
    """A device that will be there when the plan is made: its number, and what is known of its past."""

    index: int
    seen: Seen | None = None
    """None: born in this call"""


class Making:
    """State of one call."""

    def __init__(
        self,
        objects: Sequence[Wanted],
        doors: Doors,
        namespaces: Namespaces,
        remover: Remover,
        announcer: Announcer,
    ) -> None:
        self._objects = [item for item in objects if not isinstance(item, Element)]
        """only the firewall is about elements, of which there may be thousands"""
        self._by_kind: dict[type[Wanted], list[Any]] = defaultdict(list)
        for item in objects:
            self._by_kind[type(item)].append(item)
        self._doors = doors
        self._namespaces = namespaces
        self._remover = remover
        self._announcer = announcer
        self._undo: list[Callable[[], None]] = []
        self._fresh: set[str] = set()
        self._there: dict[Name, Standing] = {}
        self._rising: list[Rising] = []
        self._remade: list[Name] = []
        """standing devices that may have another MAC now"""

    def run(self) -> None:
        """Make it all, or raise with all undone."""
        try:
            self._make_namespaces()
            self._ask()
            self._make_links()
            self._make_firewall()
            self._make_fences()
            self._make_protection()
            self._make_settings()
            traffic = Traffic(self._doors, self._index, self._dies_when_undone, self._undo.append)
            traffic.make(self._objects, self._rising)
            self._undo.append(partial(self._doors.crossings.leave, self._doors, self._objects))
            self._doors.crossings.lay(self._doors, self._objects)
            self._announce()
        except Exception as error:
            self._unwind(error)
            raise

    def _unwind(self, error: Exception) -> None:
        for undo in reversed(self._undo):
            try:
                undo()
            except Exception as second:
                error.add_note(f"and could not be undone: {second}")

    def _of(self, kind: type[W]) -> list[W]:
        return self._by_kind.get(kind, [])

    # -- namespaces, and what is there ------------------------------------------------

    def _make_namespaces(self) -> None:
        for item in self._of(Namespace):
            if not self._namespaces.exists(item.name):
                try:
                    self._doors.create(item.name)
                except (OSError, Refused) as error:
                    raise Internal(f"cannot make {item}: {error}") from None
                self._fresh.add(item.name)
                self._undo.append(partial(self._destroy, item.name))

    def _destroy(self, name: str) -> None:
        self._doors.forget(name)
        self._namespaces.destroy(name)

    def _ask(self) -> None:
        """One question per namespace for every device that is mentioned; for the far end of a pair only where the near
        one stands: if not, the two are born together."""
        far = {(link.peer_ns, link.peer): (link.ns, link.name) for link in self._of(Link) if link.peer}
        mentioned = dict.fromkeys(name for item in self._objects for name in _mentioned(item))
        self._ask_for(name for name in mentioned if name not in far)
        self._ask_for(name for name, near in far.items() if near in self._there)

    def _ask_for(self, devices: Iterable[Name]) -> None:
        questions: dict[str, list[str]] = defaultdict(list)
        for ns, name in devices:
            if name == "lo":
                self._there[ns, name] = Standing(1)
            elif name and ns not in self._fresh:
                questions[ns].append(name)
        for ns, names in questions.items():
            for name, answer in zip(names, self._doors[ns].netlink.ask([*map(links.find, names)]), strict=True):
                if isinstance(answer, bytes):
                    device = links.seen(answer)
                    self._there[ns, name] = Standing(device.index, device)

    # -- devices ------------------------------------------------------------------------

    def _make_links(self) -> None:
        run: list[Link] = []
        for link in self._of(Link):
            if run and ((_origin(run[0]), run[0].ns) != (_origin(link), link.ns) or _needs(link, run)):
                self._create(run)
                run = []
            standing = self._there.get((link.ns, link.name))
            if standing and standing.seen:
                if self._suits(link, standing.seen):
                    continue
                self._delete_now(link, standing.index)
            run.append(link)
        if run:
            self._create(run)

    def _create(self, run: list[Link]) -> None:
        """Devices of one namespace, asked for from one namespace, none of which needs another of them."""
        for _ in range(_TRIES):
            refused = self._try_to_create(run)
            if not refused:
                return
            for link, refusal in refused:
                if refusal.errno not in TAKEN:
                    raise as_error(link, refusal)
                self._refuse_if_named(link)
                for ns in {link.ns, _origin(link)}:
                    self._doors[ns].recount()
                self._doors[link.peer_ns if link.peer else link.ns].recount()
            run = [link for link, _ in refused]
        raise no_room(run[0])

    def _try_to_create(self, run: list[Link]) -> list[tuple[Link, Refused]]:
        """One attempt; returns those that were refused. The others are born and dressed."""
        ns, origin = run[0].ns, _origin(run[0])
        with ExitStack() as open_files:
            places = [self._place(link, open_files) for link in run]
            requests = [links.create(link, place) for link, place in zip(run, places, strict=True)]
            if ns == origin:
                requests += [links.dress(link) for link in run]
            elif origin == HOST:
                requests.append(links.number(places[0].namespace))
            refused = self._doors[origin].netlink.do(requests)
        born = [at for at in range(len(run)) if at not in refused]
        for at in born:
            self._born(run[at], places[at])
        if ns == origin:
            undressed = {at: refused[at + len(run)] for at in born if at + len(run) in refused}
        else:
            answers = self._doors[ns].netlink.do([links.dress(run[at]) for at in born])
            undressed = {born[at]: refusal for at, refusal in answers.items()}
        for at, refusal in undressed.items():
            raise as_error(run[at], refusal)
        return [(run[at], refused[at]) for at in range(len(run)) if at in refused]

    def _place(self, link: Link, open_files: ExitStack) -> Place:
        origin = _origin(link)

        def file(ns: str) -> int:
            return -1 if ns == origin else open_files.enter_context(self._doors.file(ns))

        # Of a device that is born from the host, kernels up to 6.1 want a number that is free here as well.
        # (And one whose number is its parent's would be taken for one without a parent.)
        return Place(
            index=self._doors[origin].new_index(),
            namespace=file(link.ns),
            master=self._index(link, link.ns, link.master),
            parent=self._index(link, HOST, link.parent),
            peer_index=self._doors[link.peer_ns].new_index() if link.peer else 0,
            peer_namespace=file(link.peer_ns) if link.peer else -1,
        )

    def _born(self, link: Link, place: Place) -> None:
        self._there[link.ns, link.name] = Standing(place.index)
        if link.peer:
            self._there[link.peer_ns, link.peer] = Standing(place.peer_index)
        leaving = Leaving(link.ns, link.name, place.index, frozenset(_ends(link)))
        self._undo.append(lambda: self._remover.begin([leaving]))
        if link.up:
            self._rising.append((link, link.ns, place.index))
            if link.peer:
                self._rising.append((link, link.peer_ns, place.peer_index))

    def _suits(self, link: Link, seen: Seen) -> bool:
        """Whether the standing device is what is wanted, or was made so; False: it must be replaced."""
        if not (seen.ours or (link.ns != HOST and seen.kind == link.kind)):
            raise Conflict(f"a device named {link.name} exists already{_in(link.ns)} and is not ours: remove it")
        now = links.as_link(seen, link.ns, self._around(link, seen), link)
        if now != link:
            if not links.can_become(now, link):
                return False
            self._change(link, seen)
        peer = self._there.get((link.peer_ns, link.peer)) if link.peer else None
        for ns, end, device in ((link.ns, seen, seen.index), (link.peer_ns, peer and peer.seen, peer and peer.index)):
            if end and device and end.up != link.up:
                self._rising.append((link, ns, device))
        return True

    def _change(self, link: Link, seen: Seen) -> None:
        place = Place(index=seen.index, master=self._index(link, link.ns, link.master))
        refused = self._doors[link.ns].netlink.do([links.change(link, seen.index, place), links.dress(link)])
        for refusal in refused.values():
            raise as_error(link, refusal)
        if link.peer and (peer := self._there.get((link.peer_ns, link.peer))):
            for refusal in self._doors[link.peer_ns].netlink.do(links.change_peer(link, peer.index)).values():
                raise as_error(link, refusal)
            self._remade.append((link.peer_ns, link.peer))

    def _around(self, link: Link, seen: Seen) -> Around:
        """Names for the numbers of a standing device, as far as they are the wanted ones; "?" where not."""

        def name(ns: str, wanted: str, index: int) -> str:
            standing = self._there.get((ns, wanted))
            return wanted if standing and standing.index == index else "?" if index else ""

        peer = self._there.get((link.peer_ns, link.peer)) if link.peer else None
        end = peer.seen if peer else None
        paired = end is not None and end.index == seen.lower and end.lower == seen.index
        return Around(
            master=name(link.ns, link.master, seen.master),
            parent=name(HOST, link.parent, links.parent_of(seen)) if link.kind != "veth" else "",
            peer=link.peer if paired else "?" if seen.kind == "veth" else "",
            peer_ns=link.peer_ns,
            peer_mac=end.mac if end else "",
            peer_up=end.up == seen.up if end else True,
        )

    def _delete_now(self, link: Link, index: int) -> None:
        """The standing device cannot become what is wanted."""
        names = frozenset(_ends(link))
        self._remover.begin([Leaving(link.ns, link.name, index, names)])
        self._remover.wait_for(names)
        for name in names:
            self._there.pop(name, None)

    def _refuse_if_named(self, link: Link) -> None:
        """The kernel said "exists": was it the name? (If not, it was the number we chose.)"""
        for ns, name in _ends(link):
            if isinstance(self._doors[ns].netlink.ask([links.find(name)])[0], bytes):
                raise Conflict(f"a device named {name} exists already{_in(ns)}: remove it")

    def _index(self, item: Wanted, ns: str, name: str) -> int:
        if not name:
            return 0
        standing = self._there.get((ns, name))
        if standing is None:
            raise Internal(f"cannot make {item}: there is no device {name}{_in(ns)}")
        return standing.index

    # -- settings, files, firewall --------------------------------------------------------

    def _make_settings(self) -> None:
        for ns, items in by_namespace(self._of(Sysctl)).items():
            settings = self._doors[ns].settings
            with self._doors.visit(ns):
                for item in items:
                    settings.write(item)
        for file in self._of(File):
            self._undo.append(files.write(file))

    def _make_firewall(self) -> None:
        skeletons = {item.ns: item for item in self._of(Skeleton)}
        elements = by_namespace(self._of(Element))
        for ns in dict.fromkeys([*skeletons, *elements]):
            door = self._doors[ns]
            self._undo.append(nft.apply(door.nft, skeletons.get(ns), elements.get(ns, ()), fresh=ns in self._fresh))
        beside.make(self._doors, self._objects, self._undo.append)

    def _make_fences(self) -> None:
        if items := self._of(Fence):
            self._undo.append(fences.make(self._doors[HOST].nft, items))

    def _make_protection(self) -> None:
        """Associations before the policies that name them."""
        items: list[ipsec.Item] = [*self._of(Association), *self._of(Policy)]
        if items:
            self._undo.append(ipsec.make(self._doors[HOST], items))

    def _dies_when_undone(self, ns: str, name: str) -> bool:
        standing = self._there.get((ns, name))
        return standing is not None and standing.seen is None

    # -- who has come -------------------------------------------------------------------------

    def _announce(self) -> None:
        """Who came, or has another address or MAC, says so when the others can hear it."""
        news: dict[Name, bool] = dict.fromkeys(self._remade, True)
        around: dict[Name, tuple[str, str]] = {}
        for link, ns, index in self._rising:
            peer = self._there.get((link.peer_ns, link.peer))
            if link.up and link.master and peer and (ns, index) == (link.peer_ns, peer.index):
                self._doors[link.ns].wait_for_carrier(link.name, link.master)
            far = link.peer if ns == link.peer_ns else ""
            around[ns, far or link.name] = (link.master or link.parent, link.peer_mac if far else link.mac)
        news |= dict.fromkeys(around, False)
        for item in self._of(Address):
            if item.ns == HOST:
                continue
            where, mac = around.get((item.ns, item.link), ("", ""))
            moved = not mac or self._announcer.moves(where, item.address.partition("/")[0], mac)
            news[item.ns, item.link] = news.get((item.ns, item.link), False) or moved
        for (ns, name), moved in news.items():
            if ns != HOST:
                self._announcer.announce(ns, name, moved)


def _mentioned(item: Wanted) -> list[Name]:
    """Every device a wish names."""
    if isinstance(item, Link):
        return [(item.ns, item.name), (item.ns, item.master), (HOST, item.parent), (item.peer_ns, item.peer)]
    if isinstance(item, routing.Item):
        return [(item.ns, routing.link_of(item))]
    return []


def _ends(link: Link) -> list[Name]:
    """The device, and the other one of a pair."""
    return [(link.ns, link.name), (link.peer_ns, link.peer)] if link.peer else [(link.ns, link.name)]


def _origin(link: Link) -> str:
    """Where the request is made: a device born elsewhere keeps its parent or underlay here."""
    return HOST if link.kind in links.STAYS_BEHIND else link.ns


def _needs(link: Link, run: list[Link]) -> bool:
    names = {name for one in run for name in _ends(one)}
    return not names.isdisjoint({(link.ns, link.master), (HOST, link.parent)})


def _in(ns: str) -> str:
    return f" in namespace {ns}" if ns else ""
