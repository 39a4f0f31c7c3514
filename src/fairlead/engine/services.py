"""Services: which sandbox of this host sends what to which tasks, and by which names they are found.

    own endpoints, other hosts' endpoints  --tell-->  +----------+  --want-->  Vip in each sandbox on the network
    sandboxes on networks  --enter, leave--------->   | Services |
                                                      +----------+  --names->  the service's name -> its address

    owner "<sandbox> <network> <address>"      a virtual address in that sandbox

Rules
    1. A change of one service is said about that service alone, to the sandboxes on that network.
    2. What has no serving task refuses. So does the address of a service that is gone, until somebody else has it: who
       remembers it is told at once, and does not wait for an answer that never comes.
    3. Connections to a task that stops are its own until it is gone; then the kernel forgets them, or closes those that
       it does not lead, so that a client hears at once.
    4. Who hears of many tasks at a time (``Later``) has the sandboxes told when all were heard: each of hundreds of
       tasks is news for every sandbox, and each time a sandbox is told of all of them.
    5. What the kernel refuses is noted all the same, as for overlays: ``healing`` tries again.

What it does not do: names of the tasks themselves (they go with their endpoints: ``core.serving.names``).
"""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from collections.abc import Iterable, Iterator

from msgspec.structs import replace

from fairlead.core import serving
from fairlead.core.model import Network, ServicePart
from fairlead.core.protocol import Protocol
from fairlead.core.serving import Backend
from fairlead.core.wanted import Plan, Vip
from fairlead.engine.kernel import Kernel
from fairlead.engine.resolverclient import EndpointNames
from fairlead.errors import FairleadError

log = logging.getLogger(__name__)

Wish = tuple[str, Plan, str]
"""owner, plan, title"""


class Later:
    """What sandboxes have still to be told of."""

    def __init__(self) -> None:
        self.addresses: dict[tuple[str, str], None] = {}
        """(network, virtual address)"""
        self.gone: list[tuple[str, Backend]] = []
        """network, a task of which there is no more"""

    def add(self, more: Later) -> None:
        self.addresses.update(more.addresses)
        self.gone += more.gone


class Names(Protocol):
    """The resolver (``engine.resolverclient``)."""

    async def set_names(self, *names: EndpointNames) -> None: ...

    async def unname(self, network: str, endpoint: str) -> None: ...

    def adopt(self, sandboxes: Iterable[object], names: Iterable[EndpointNames]) -> None: ...


class Listener(Protocol):
    """Somebody else who wants to know of every endpoint (``engine.mesh``, ``engine.webmesh``)."""

    def note(self, network_id: str, endpoint: str, part: ServicePart | None, ipv4: str, ipv6: str) -> None: ...

    async def heard(self, network_id: str, endpoint: str, part: ServicePart | None, ipv4: str, ipv6: str) -> None: ...


class Services:
    """All services of all networks that are known here."""

    def __init__(self, kernel: Kernel, names: Names) -> None:
        self.listeners: list[Listener] = []
        self._kernel = kernel
        self._names = names
        self._backends: dict[str, tuple[str, Backend]] = {}
        """endpoint -> its network, the task it is"""
        self._behind: dict[str, dict[str, dict[str, Backend]]] = defaultdict(dict)
        """network -> virtual address -> endpoint -> task; nobody: it refuses"""
        self._called: dict[tuple[str, str], dict[str, Backend]] = defaultdict(dict)
        """(network, service) -> endpoint -> task"""
        self._here: dict[str, Network] = {}
        self._sandboxes: dict[str, dict[str, str]] = defaultdict(dict)
        """network -> sandbox -> its namespace"""
        self._due, self._following = Later(), asyncio.Lock()
        self._named: dict[tuple[str, str], EndpointNames] = {}
        """(network, service) -> what the resolver was told"""

    @property
    def named(self) -> int:
        """How many names of services the resolver serves."""
        return len(self._named)

    def known(self) -> Iterator[tuple[str, str, Backend]]:
        """Every task there is, here or elsewhere: its network, its endpoint."""
        return ((network, endpoint, backend) for endpoint, (network, backend) in self._backends.items())

    def told(self) -> list[EndpointNames]:
        """What the resolver serves of services' addresses."""
        return list(self._named.values())

    def tasks(self, network_id: str, address: str) -> list[Backend]:
        """Who is behind a virtual address, serving or not."""
        return list(self._behind.get(network_id, {}).get(address, {}).values())

    # -- who serves -----------------------------------------------------------------------------

    async def tell(
        self,
        network_id: str,
        endpoint: str,
        part: ServicePart | None,
        ipv4: str = "",
        ipv6: str = "",
        *,
        moves: bool = False,
        later: Later | None = None,
    ) -> None:
        """An endpoint (with addresses without prefix length) is a task of a service, or is not; without addresses it is
        gone (``moves``: for a moment). On return names here follow, and so do sandboxes, unless that is to be
        ``later``, by ``follow``."""
        for listener in self.listeners:
            await listener.heard(network_id, endpoint, part, ipv4, ipv6)
        _, known = self._backends.get(endpoint, ("", None))
        changed, services = self._note(network_id, endpoint, Backend(part, ipv4, ipv6) if part else None)
        network = self._here.get(network_id)
        if network is None:
            for address in [address for address in changed if not self._behind[network_id][address]]:
                del self._behind[network_id][address]
            return
        for address in (ipv4, ipv6):
            self._vacate(network_id, address)
        news = Later() if later is None else later
        news.addresses.update(dict.fromkeys((network_id, address) for address in changed))
        if part is None and known is not None and changed and not moves:
            news.gone.append((network_id, known))
        if later is None:
            await self._follow_together(news)
        for service in services:
            await self._name(network, service)

    async def _follow_together(self, news: Later) -> None:
        """Tasks of this host that come or go at the same time are told of together, too."""
        self._due.add(news)
        await asyncio.sleep(0)
        async with self._following:
            due, self._due = self._due, Later()
            try:
                await self.follow(due)
            except BaseException:  # ours may end here, others wait
                self._due.add(due)
                raise

    async def follow(self, news: Later) -> None:
        """Sandboxes here lead to who serves now."""
        for network_id, address in news.addresses:
            network = self._here.get(network_id)
            if network is not None and address in self._behind[network_id]:
                self._lead(network, address)
                await asyncio.sleep(0)  # it takes a while where there are hundreds
        for network_id, gone in news.gone:
            await asyncio.to_thread(self._let_go, gone, list(self._sandboxes.get(network_id, {}).values()))

    def _let_go(self, gone: Backend, namespaces: list[str]) -> None:
        """A task is gone: whoever goes on sending to it is led to another, or told by a reset."""
        for namespace in namespaces:
            try:
                self._kernel.forget_answers(namespace, filter(None, (gone.ipv4, gone.ipv6)))
            except FairleadError as problem:
                log.warning("connections to a task that is gone: %s", problem.message)

    def note(self, network_id: str, endpoint: str, part: ServicePart | None, ipv4: str, ipv6: str) -> None:
        """The same after a restart: nobody is told."""
        for listener in self.listeners:
            listener.note(network_id, endpoint, part, ipv4, ipv6)
        self._note(network_id, endpoint, Backend(part, ipv4, ipv6) if part else None)

    def _note(self, network_id: str, endpoint: str, now: Backend | None) -> tuple[set[str], set[str]]:
        """Which addresses and which services it is a change for."""
        _, before = self._backends.get(endpoint, ("", None))
        if before == now:
            return set(), set()
        for backend in filter(None, (before,)):
            for address in serving.virtual(backend.part):
                self._behind[network_id][address].pop(endpoint, None)
            self._called[network_id, backend.part.service].pop(endpoint, None)
            if not self._called[network_id, backend.part.service]:
                del self._called[network_id, backend.part.service]
        self._backends.pop(endpoint, None)
        if now is not None:
            self._backends[endpoint] = network_id, now
            for address in serving.virtual(now.part):
                self._behind[network_id].setdefault(address, {})[endpoint] = now
            self._called[network_id, now.part.service][endpoint] = now
        both = [backend.part for backend in (before, now) if backend]
        return {address for part in both for address in serving.virtual(part)}, {part.service for part in both}

    def _vacate(self, network_id: str, address: str) -> None:
        """Somebody has what was the address of a service that is gone."""
        if self._behind[network_id].get(address) == {}:
            del self._behind[network_id][address]
            for sandbox in self._sandboxes[network_id]:
                self._kernel.drop(_owner(sandbox, network_id, address))

    # -- this host --------------------------------------------------------------------------------

    async def enter(self, network: Network, sandbox: str, namespace: str) -> None:
        """A sandbox is on a network. Ingress is no network to call services on."""
        if network.ingress or sandbox in self._sandboxes[network.id]:
            return
        first, self._here[network.id] = network.id not in self._here, network
        self._sandboxes[network.id][sandbox] = namespace
        wishes = [self._wish(network, address, sandbox, namespace) for address in self._addresses(network)]
        try:
            self._kernel.want_all(wishes)
        except FairleadError as problem:
            self._adopt(wishes, problem)
        if first:
            for id, service in list(self._called):
                if id == network.id:
                    await self._name(network, service)

    def adopt(self, network: Network, sandbox: str, namespace: str) -> None:
        """After a restart it is there; ``Kernel.repair`` makes what is missing."""
        if network.ingress:
            return
        self._here[network.id] = network
        self._sandboxes[network.id][sandbox] = namespace
        for address in self._addresses(network):
            self._kernel.adopt(*self._wish(network, address, sandbox, namespace))
        for id, service in list(self._called):
            if id == network.id and (names := self._entry(network, service)):
                self._named[id, service] = names
                self._names.adopt((), [names])

    def leave(self, network_id: str, sandbox: str) -> list[tuple[str, str]]:
        """It is not there any more. Returns the names that nobody asks for now (``unname``)."""
        if self._sandboxes[network_id].pop(sandbox, None) is None:
            return []
        network = self._here[network_id]
        for address in self._addresses(network):
            self._kernel.drop(_owner(sandbox, network_id, address))
        if self._sandboxes[network_id]:
            return []
        del self._sandboxes[network_id], self._here[network_id]
        behind = self._behind[network_id]
        for address in [address for address, tasks in behind.items() if not tasks]:
            del behind[address]
        return [key for key in self._named if key[0] == network_id]

    async def unname(self, keys: Iterable[tuple[str, str]]) -> None:
        for key in keys:
            if key[0] not in self._here:  # else somebody came meanwhile, and needs the names that are left
                await self._unname(*key)

    def _addresses(self, network: Network) -> list[str]:
        return [address for address in self._behind.get(network.id, {}) if serving.within(network, address)]

    # -- the kernel, the resolver -------------------------------------------------------------------

    def _lead(self, network: Network, address: str) -> None:
        """One virtual address, in every sandbox."""
        if not serving.within(network, address):
            return
        vip, title = self._vip(network, address)
        for sandbox, namespace in self._sandboxes[network.id].items():
            wish: Wish = _owner(sandbox, network.id, address), (replace(vip, ns=namespace),), title
            try:
                self._kernel.want(*wish)
            except FairleadError as problem:
                self._adopt([wish], problem)

    def _adopt(self, wishes: list[Wish], problem: FairleadError) -> None:
        log.warning("%s: %s; it will be tried again", wishes[0][2], problem.message)
        for wish in wishes:
            self._kernel.adopt(*wish)

    def _wish(self, network: Network, address: str, sandbox: str, namespace: str) -> Wish:
        vip, title = self._vip(network, address)
        return _owner(sandbox, network.id, address), (replace(vip, ns=namespace),), title

    def _vip(self, network: Network, address: str) -> tuple[Vip, str]:
        """As it is in any sandbox, and its title."""
        tasks = self._behind[network.id][address].values()
        name = next((task.part.name for task in tasks), "that is gone")
        return serving.vip("", network, address, tasks), f"service {name} on network {network.name}"

    def _entry(self, network: Network, service: str) -> EndpointNames | None:
        """The names that resolve to the service's addresses."""
        tasks = sorted(self._called.get((network.id, service), {}).values(), key=lambda task: task.part.task)
        parts = [task.part for task in tasks if serving.virtual(task.part)]
        if not parts:
            return None
        last = parts[-1]
        names = dict.fromkeys(name for part in parts for name in (part.name, *part.names))
        four, six = (address if serving.within(network, address) else "" for address in (last.vip, last.vip6))
        return EndpointNames(
            network=network.id,
            name=network.name,
            endpoint=f"service {service}",
            names=tuple(names),
            ipv4=four,
            ipv6=six,
            container=last.name,
        )

    async def _name(self, network: Network, service: str) -> None:
        names = self._entry(network, service)
        if names is None:
            if (network.id, service) in self._named:
                await self._unname(network.id, service)
        elif names != self._named.get((network.id, service)):
            self._named[network.id, service] = names
            try:
                await self._names.set_names(names)
            except FairleadError as problem:
                log.warning("service %s on network %s: %s", names.container, network.name, problem.message)

    async def _unname(self, network_id: str, service: str) -> None:
        """Whoever came first tells it: the last task and the last sandbox may go at the same time."""
        if self._named.pop((network_id, service), None) is None:
            return
        try:
            await self._names.unname(network_id, f"service {service}")
        except FairleadError as problem:
            log.warning("a service that is gone: %s", problem.message)


def _owner(sandbox: str, network_id: str, address: str) -> str:
    return f"{sandbox} {network_id} {address}"
