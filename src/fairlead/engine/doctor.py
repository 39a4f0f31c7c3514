"""Doctor: what should be against what is, looked at and told, never touched.

    Kernel.seen()     wanted objects, and what was there while exactly those were wanted   missing, different, stray
    records           endpoints, containers, bindings, against each other                  wrong
    relay, resolver   what they hold, against what they should                             wrong
    lease process     lent addresses that somebody prolongs, and endpoints that wait       missing, wrong
    files, processes  hosts files, the namespace each process really lives in              missing, wrong
    leftovers         folders, mounts, control groups, conmons without their container     stray
    other people      routes, policies and settings of theirs, asked of the kernel         foreign
    swarm             on a manager: what waits for somebody who is away                       missing
    events            what healing put right lately                                        repairs

The daemon repairs within a moment, so a healthy machine shows no finding even
right after somebody broke it; the repair is then listed with its time. A finding
is what stands *now*: nobody has put it right yet, or nobody can.

Rules
    1. Work under way is no illness. Kernel objects are compared with wishes that did not
       change while looking; what is about records counts only when it was seen twice
       (``BETWEEN`` apart) and nothing is under way with its container.
    2. Looking changes nothing: no repair, no event, no connection for later.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from fairlead.core.container import Container
from fairlead.core.findings import Finding
from fairlead.core.life import Belonging
from fairlead.core.mesh import STAND_IN
from fairlead.core.model import Endpoint
from fairlead.core.places import Peer
from fairlead.core.wanted import Wanted, difference
from fairlead.engine.attachments import Attachments, mode_of
from fairlead.engine.catalog import Catalog
from fairlead.engine.controller import Controller
from fairlead.engine.endpoints import Endpoints
from fairlead.engine.events import Event, Events
from fairlead.engine.hostfiles import HostFiles
from fairlead.engine.kernel import Kernel
from fairlead.engine.naming import Naming
from fairlead.engine.publisher import Publisher
from fairlead.errors import FairleadError

if TYPE_CHECKING:
    from fairlead.engine.explain import Obstacle

BETWEEN = 0.25
"""Seconds between two looks at records, when the first found something."""


class Report(msgspec.Struct, frozen=True):
    """Everything that was found, how much was looked at, and what was put right lately (events, oldest first)."""

    findings: tuple[Finding, ...]
    looked: int
    repairs: tuple[Event, ...]
    hosts: tuple[Peer, ...] = ()
    """of the cluster, as gossip sees them: no finding, for another machine's illness is not ours"""


class Witnesses(NamedTuple):
    """Whom the doctor asks for what the records do not hold."""

    held: Callable[[], Awaitable[set[str] | None]]
    """the relay: ids of its ports"""
    resolving: Callable[[], Awaitable[dict[str, Any]]]
    """the resolver: how many it serves"""
    lent: Callable[[], Awaitable[dict[str, dict[str, Any]]]] | None = None
    """the lease process: how every lease stands, by endpoint"""
    elsewhere: Callable[[], int] = lambda: 0
    """how many endpoints of other hosts are named here"""
    belongings: Callable[[], Sequence[Belonging]] = tuple
    """what on this machine bears a container's id"""
    obstacles: Callable[[], Awaitable[Sequence[Obstacle]]] | None = None
    """what other people have put in the way"""
    hosts: Callable[[], Sequence[Peer]] = tuple
    """of the cluster"""
    swarm: Callable[[], Sequence[Finding]] = tuple
    """what a manager knows of its swarm"""


class Doctor:
    """Looks at one machine."""

    def __init__(
        self,
        kernel: Kernel,
        catalog: Catalog,
        controller: Controller,
        endpoints: Endpoints,
        attachments: Attachments,
        publisher: Publisher,
        naming: Naming,
        files: HostFiles,
        events: Events,
        busy: Callable[[str], bool],
        witnesses: Witnesses,
        between: float = BETWEEN,
    ) -> None:
        """``busy(container id)``: something is under way with it."""
        self._kernel, self._catalog, self._controller = kernel, catalog, controller
        self._endpoints, self._attachments, self._publisher = endpoints, attachments, publisher
        self._naming, self._files, self._events = naming, files, events
        self._busy, self._ask, self._between = busy, witnesses, between

    async def examine(self) -> Report:
        """Look at everything once, and at what seems wrong in the records twice."""
        wanted, actual = await self._kernel.seen()
        findings = list(_kernel_findings(wanted, actual))
        suspects = await self._records()
        if suspects:
            await asyncio.sleep(self._between)
            again = set(await self._records())
            findings += [finding for finding in suspects if finding in again]
        if self._ask.obstacles is not None and not any(self._busy(container.id) for container in self._catalog):
            findings += [
                Finding("foreign", each.between, each.owner or "somebody else", each.remedy, each.found)
                for each in await self._ask.obstacles()
            ]
        findings += self._ask.swarm()
        repairs = self._events.past(lambda event: (event.kind, event.action) == ("fairlead", "repair"))
        return Report(tuple(findings), len(wanted), tuple(repairs), tuple(self._ask.hosts()))

    async def _records(self) -> list[Finding]:
        """What is wrong about records, processes and files right now; things under way left out."""
        found = [
            *self._addresses(),
            *self._ports(),
            *self._orphans(),
            *self._leftovers(await asyncio.to_thread(self._ask.belongings)),
            *(finding for container in self._settled() for finding in self._container(container)),
        ]
        if not any(self._busy(container.id) for container in self._catalog):
            found += [*await self._relay(), *await self._resolver(), *await self._leases()]
        return list(dict.fromkeys(found))

    def _settled(self) -> list[Container]:
        return [c for c in self._catalog if c.state.running and not self._busy(c.id)]

    # -- leases ---------------------------------------------------------------------------

    def _addresses(self) -> Iterator[Finding]:
        """No address twice on one network, gateways included."""
        for network in self._controller.networks():
            holders = {pool.gateway: "its gateway" for pool in network.ipam.config if pool.gateway}
            for endpoint in self._controller.endpoints(network.id):
                for address in filter(None, (endpoint.address4, endpoint.address6)):
                    if address in holders:
                        why = f"{holders[address]} and container {endpoint.name} both hold it"
                        yield Finding("wrong", f"address {address}", f"network {network.name}", why)
                    holders[address] = f"container {endpoint.name}"

    def _ports(self) -> Iterator[Finding]:
        """No host port twice."""
        holders: dict[tuple[str, str, int], str] = {}
        for endpoint in self._endpoints.everything():
            for binding in endpoint.published:
                key = (binding.protocol, binding.host_ip, binding.host_port)
                if binding.host_port and key in holders:
                    why = f"containers {holders[key]} and {endpoint.name} both publish it"
                    place = f"port {binding.host_ip}:{binding.host_port}/{binding.protocol}"
                    yield Finding("wrong", place, f"container {endpoint.name}", why)
                holders[key] = endpoint.name

    def _orphans(self) -> Iterator[Finding]:
        """Every endpoint has its network and a container that runs."""
        networks = {network.id for network in self._controller.networks()}
        for endpoint in self._endpoints.everything():
            title, container = _title(endpoint), self._catalog.find(endpoint.container)
            if self._busy(endpoint.container) or endpoint.container == STAND_IN:
                continue
            if endpoint.network not in networks:
                yield Finding("wrong", title, f"container {endpoint.name}", "its network does not exist")
            if container is None or not container.state.running:
                yield Finding("wrong", title, f"container {endpoint.name}", "its container does not run: a lost lease")

    def _leftovers(self, belongings: Sequence[Belonging]) -> Iterator[Finding]:
        """Folders, mounts, control groups and processes have a container; some of them one that runs."""
        for left in belongings:
            container = self._catalog.find(left.id)
            if self._busy(left.id) or (container is not None and (container.state.running or not left.running)):
                continue
            why = "its container is gone" if container is None else f"container {container.name} does not run"
            yield Finding("stray", f"{left.kind} {left.place}", "nobody", why)

    # -- one container ----------------------------------------------------------------------

    def _container(self, container: Container) -> Iterator[Finding]:
        """A running container has its stack, its endpoints in it, its files, and a process in that stack."""
        owner, stack = f"container {container.name}", self._attachments.stack(container)
        if mode_of(container) == "container":
            return
        if stack is None:
            yield Finding("missing", f"stack of {container.name}", owner, "it runs and has no network stack")
            return
        inside = {endpoint.id for endpoint in stack.endpoints}
        recorded = {e.id: e for e in self._endpoints.everything() if e.container == container.id}
        for id in inside - recorded.keys():
            yield Finding("missing", f"record of endpoint {id[:12]}", owner, "it is attached, but nobody remembers it")
        for id in recorded.keys() - inside:
            yield Finding("wrong", _title(recorded[id]), owner, "it is remembered, but not attached")
        for name, path in self._files.paths(container.id).items():
            if not path.exists():
                yield Finding("missing", f"file {name}", owner, f"it is mounted at /etc/{name}", str(path))
        yield from _process(container, stack.sandbox.path, owner)

    # -- relay, resolver, lease process -----------------------------------------------------------------

    async def _relay(self) -> list[Finding]:
        """Every published port is held or carried, and no other."""
        ports = {p.id: p for e in self._endpoints.everything() for p in self._publisher.relayed(e)}
        if not ports:
            return []
        try:
            held = await self._ask.held()
        except FairleadError as error:
            return [Finding("wrong", "relay", "the engine", "published ports are not held", error.message)]
        if held is None:
            return []
        missing = [
            Finding("missing", f"hold of {ports[id]}", id, "any program could take it") for id in ports.keys() - held
        ]
        return missing + [
            Finding("stray", f"hold of {id}", "nobody", "no endpoint publishes it") for id in held - ports.keys()
        ]

    async def _resolver(self) -> list[Finding]:
        """The resolver serves as many sandboxes and names as there are."""
        told = [self._naming.told(s) for c in self._catalog if (s := self._attachments.stack(c)) is not None]
        wanted = {
            "sandboxes": sum(bool(names) for _, names in told),
            "endpoints": sum(len(names) for _, names in told) + self._ask.elsewhere(),
        }
        if not wanted["endpoints"]:
            return []
        try:
            there = await self._ask.resolving()
        except FairleadError as error:
            return [Finding("wrong", "resolver", "the engine", "names are not answered", error.message)]
        return [
            Finding("wrong", f"resolver: {word}", "the engine", f"it should serve {count}", f"{there.get(word)}")
            for word, count in wanted.items()
            if there.get(word) != count
        ]

    async def _leases(self) -> list[Finding]:
        """Every endpoint whose address is lent has one, and somebody sees to it that it stays so."""
        lenders = {n.id: n for n in self._controller.networks() if n.ipam.driver != "default" and not n.config_only}
        endpoints = [e for e in self._endpoints.everything() if e.network in lenders]
        if self._ask.lent is None or not endpoints:
            return []
        try:
            stands = await self._ask.lent()
        except FairleadError as error:
            return [Finding("wrong", "lease process", "the engine", "lent addresses are not prolonged", error.message)]
        found = []
        for endpoint in endpoints:
            what = f"lease of {endpoint.name} on {lenders[endpoint.network].name}"
            owner, one = f"container {endpoint.name}", stands.get(endpoint.id)
            if one is None:
                found.append(Finding("missing", what, owner, "nobody prolongs it", endpoint.ipv4))
            elif not endpoint.ipv4:
                why = "it has no address: no DHCP server on the LAN lends it one"
                found.append(Finding("missing", what, owner, why, one["trouble"] or one["phase"]))
        return found


def _kernel_findings(wanted: tuple[Wanted, ...], actual: tuple[Wanted, ...]) -> Iterator[Finding]:
    there = {item.key: item for item in actual}
    make, surplus = difference(wanted, actual)
    for item in make:
        what = "different" if item.key in there else "missing"
        yield Finding(what, _line(item), item.owner, item.why, _line(there[item.key]) if item.key in there else "")
    for item in surplus:
        yield Finding("stray", _line(item), "nobody", "ours, but nobody wants it")


def _line(item: Wanted) -> str:
    """The object on one line; of a table or a file, which have many, the key."""
    text = str(item)
    return text if "\n" not in text else " ".join(item.key)


def _title(endpoint: Endpoint) -> str:
    return f"endpoint {endpoint.id[:12]} ({endpoint.ipv4 or endpoint.ipv6})"


def _process(container: Container, path: str, owner: str) -> Iterator[Finding]:
    """The first process lives, and in the namespace that its mount keeps."""
    pid = container.state.pid
    if not pid:
        return
    try:
        real = os.stat(f"/proc/{pid}/ns/net")
    except OSError:
        yield Finding("missing", f"process {pid}", owner, "it is known to run")
        return
    try:
        kept = os.stat(path if mode_of(container) == "own" else "/proc/self/ns/net")
    except OSError:
        return  # a finding of its own: the Namespace object is missing
    if (real.st_dev, real.st_ino) != (kept.st_dev, kept.st_ino):
        why = "its process lives in another network namespace than the one that is wired up: restart it"
        yield Finding("different", f"namespace of {container.name}", owner, why, str(Path(f"/proc/{pid}/ns/net")))
