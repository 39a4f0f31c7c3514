"""Places: the ends of a question for ``engine.explain``: who is meant, where that is, which names it knows.

    web, 172.18.0.3, host, world  -->  Place: title, stack, container
                                  -->  Asker: how its names are answered; Ends: words for advice

What it does not do: walk, or ask the kernel.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from fairlead.core import hostsfile, serving
from fairlead.core.asking import OUTSIDE, Asker, Ends, is_address
from fairlead.core.container import Container
from fairlead.core.model import Endpoint, Network
from fairlead.core.names import Names
from fairlead.core.steps import ELSEWHERE, NOWHERE, WORLD
from fairlead.core.terrain import Terrain, is_loopback
from fairlead.core.wanted import HOST
from fairlead.engine.attachments import Attachments, mode_of
from fairlead.engine.catalog import Catalog
from fairlead.engine.controller import Controller
from fairlead.engine.explainservices import Directory
from fairlead.engine.hostfiles import HostFiles
from fairlead.engine.naming import Naming
from fairlead.engine.sandboxes import Stack
from fairlead.errors import Conflict, NotFound

FAR = ("world", "outside")
"""names of what is beyond this machine"""


class Place(NamedTuple):
    """One end: what it is called, the stack it lives in, and the container it is (None: the host or the world)."""

    title: str
    ns: str
    container: Container | None = None
    address: str = ""
    """fixed by the question"""


class Places:
    """The places of one machine."""

    def __init__(
        self,
        catalog: Catalog,
        controller: Controller,
        attachments: Attachments,
        naming: Naming,
        files: HostFiles,
        services: Directory,
    ) -> None:
        self._catalog, self._controller, self._attachments = catalog, controller, attachments
        self._naming, self._files, self._services = naming, files, services

    def _running(self) -> Iterable[tuple[Container, Stack]]:
        for container in self._catalog:
            stack = self._attachments.stack(container)
            if stack is not None and stack.sandbox.mode == "own":
                yield container, stack

    def _title(self, place: str) -> str:
        names = {stack.sandbox.namespace: f"container {container.name}" for container, stack in self._running()}
        fixed = {HOST: "the host", WORLD: "the world", ELSEWHERE: "another host", NOWHERE: "nobody"}
        return fixed.get(place) or names.get(place, place)

    # -- who is who -----------------------------------------------------------------------

    def _place(self, text: str, land: Terrain) -> Place:
        """One end of the question; ``NotFound`` when it is nobody's name."""
        if text == "host":
            return Place("the host", HOST)
        if text in FAR:
            return Place("the world", WORLD)
        if is_address(text):
            return self._at_address(text, land)
        return self._of_container(self._catalog.get(text))

    def _end(self, text: str, land: Terrain) -> Place | None:
        """The called end; None for a name that is no container's."""
        try:
            return self._place(text, land)
        except NotFound:
            return None

    def _at_address(self, address: str, land: Terrain) -> Place:
        for container, stack in self._running():
            if land.holds(stack.sandbox.namespace, address):
                return Place(f"container {container.name}", stack.sandbox.namespace, container, address)
        if land.is_hosts(address):
            return Place("the host", HOST, None, address)
        return Place("the world", WORLD, None, address)

    def _of_container(self, container: Container) -> Place:
        if not container.state.running:
            raise Conflict(f"container {container.name} is not running: it has no network stack")
        mode = mode_of(container)
        if mode == "host":
            return Place(f"container {container.name} (the host's own stack)", HOST, container)
        if mode == "container":
            other = self._of_container(self._catalog.get(container.host.network_mode.partition(":")[2]))
            return Place(f"container {container.name} (in the stack of {other.title})", other.ns, other.container)
        stack = self._attachments.stack(container)
        if stack is None:
            raise Conflict(f"container {container.name} has no network stack yet")
        return Place(f"container {container.name}", stack.sandbox.namespace, container)

    def _stack(self, place: Place | None) -> Stack | None:
        return self._attachments.stack(place.container) if place and place.container else None

    # -- addresses and names ---

    def _address(self, start: Place, end: Place | None, family: int, land: Terrain) -> str:
        """At which address the caller would best call this end."""
        if end is None:
            return ""
        if end.address:
            return end.address
        if end.ns == WORLD:
            return OUTSIDE[family]
        if end.ns == HOST:
            return self._of_host(start, family, land)
        near = {network.id for network, _ in self._attached(start)}
        mine = self._attached(end)
        ranked = sorted(mine, key=lambda pair: pair[0].id not in near)
        found = [a for _, e in ranked if (a := e.address4 if family == 4 else e.address6)]
        return next(iter(found), "")

    def _of_host(self, start: Place, family: int, land: Terrain) -> str:
        if start.ns == HOST:
            return "127.0.0.1" if family == 4 else "::1"
        outer = land.own_address(land.uplink(family), family)
        gateway = self._gateway(start, family)
        return outer or gateway or next(iter(land.addresses(HOST, family)), "")

    def _gateway(self, place: Place, family: int = 4) -> str:
        return next((g for _, e in self._attached(place) if (g := e.gateway4 if family == 4 else e.gateway6)), "")

    def _attached(self, place: Place | None) -> list[tuple[Network, Endpoint]]:
        stack = self._stack(place)
        return stack.attached if stack else []

    def _asker(self, place: Place, stack: Stack) -> Asker:
        """How names are answered in this stack, from the same values the resolver was told."""
        told, _ = self._naming.told(stack)
        container = place.container
        conf = hostsfile.parse_resolv_conf(_text(self._files.paths(container.id)["resolv.conf"]) if container else "")
        names = Names()
        for _, other in self._running():
            for entry in self._naming.told(other)[1]:
                names.put(entry.network, entry.name, entry.endpoint, entry.names, entry.ipv4, entry.ipv6)
        for network, _ in stack.attached:
            for far in self._controller.elsewhere(network.id):
                four, six = far.ipv4.partition("/")[0], far.ipv6.partition("/")[0]
                names.put(network.id, network.name, far.id, (*far.names, *serving.names(far.part)), four, six)
        for entry in self._services.names():
            names.put(entry.network, entry.name, entry.endpoint, entry.names, entry.ipv4, entry.ipv6)
        names.sandbox(told.id, told.networks, told.links)
        return Asker(
            title=place.title,
            hosts=_hosts_lines(self._files.paths(container.id)["hosts"]) if container else (),
            sandbox=told.id,
            names=names if told.networks else None,
            networks=tuple(network.name for network, endpoint in stack.attached if endpoint.names),
            upstreams=tuple(address for address, _ in told.upstreams),
            forwards=told.forward,
            search=tuple(conf.search),
            ndots=next((int(o[6:]) for o in conf.options if o.startswith("ndots:") and o[6:].isdigit()), 1),
        )

    # -- for advice ---

    def _ends(self, start: Place, end: Place | None) -> Ends:
        published: dict[int, tuple[str, ...]] = {}
        local = set()
        for _, stack in self._running():
            local |= {b.host_port for e in stack.endpoints for b in e.published if _is_local(b.host_ip)}
        for _, endpoint in self._attached(end):
            for binding in endpoint.published:
                if binding.host_port and ":" not in binding.host_ip:
                    place = f"{binding.host_ip}:{binding.host_port}"
                    published[binding.port] = (*published.get(binding.port, ()), place)
        return Ends(
            source=start.container.name if start.container and start.ns != HOST else "",
            target=end.container.name if end and end.container and end.ns != HOST else "",
            source_networks=tuple(network.name for network, _ in self._attached(start)),
            target_networks=tuple(network.name for network, _ in self._attached(end)),
            internal=frozenset(network.name for network in self._controller.networks() if network.internal),
            published=published,
            local_only=frozenset(local),
            gateway=self._gateway(start),
        )


def _is_local(address: str) -> bool:
    return is_address(address) and is_loopback(address)


def _text(path: Path) -> str:
    """What is in a file; a file that is not there is empty."""
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""


def _hosts_lines(path: Path) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """(address, names) of each line of a hosts file."""
    lines = [line.partition("#")[0].split() for line in _text(path).splitlines()]
    return tuple((words[0], tuple(words[1:])) for words in lines if len(words) > 1 and is_address(words[0]))
