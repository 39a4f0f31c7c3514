"""Allocation for a swarm: virtual addresses and ports of services, addresses of tasks. One desk, the leader's.

    service --> one virtual address on each of its networks (unless ``dnsrr``), a number for every published port
    task ----->  one address on each network of its service, and on ingress when ports are published there
    loan ----->  one address of each family of its network
    node ----->  one address on ingress, from which what comes in there goes on to a task

    Field   the addresses of one subnet: taken ones, and where the last one was given

Rules
    1. Addresses are given in turn, not the lowest free one first: one that was just given back rests as long as
       there are others, so that nobody who still remembers it meets a stranger.
    2. What somebody holds stays his: ``hold`` takes what is recorded, before anything is given.
    3. Nothing is half given: where one network has no address left, none is taken on the others.
    4. Giving one does not look at all that are taken, as long as there is room ahead of the last one given.
"""

from __future__ import annotations

import ipaddress
from collections import defaultdict
from collections.abc import Iterable, Iterator

from msgspec.structs import replace

from fairlead.core.cluster import Attachment, Loan, Node, Service, Task
from fairlead.core.model import Subnet
from fairlead.core.service import EndpointSpec, NetworkAttachment, ServicePort, ServiceSpec, TaskSpec
from fairlead.core.swarmspec import SharedNetwork
from fairlead.errors import Conflict, NotFound, Unavailable

Holding = Service | Task | Node | Loan
FIRST_PORT, LAST_PORT = 30000, 32767
"""from which published ports are chosen, as Docker does"""
NODE_NETWORKS = ("host", "bridge")
"""each node's own: a service may name them, and they need nothing from here"""


class Field:
    """One subnet."""

    def __init__(self, subnet: Subnet, network: str) -> None:
        self.network = network
        self.whole = ipaddress.ip_network(subnet.subnet)
        part = ipaddress.ip_network(subnet.ip_range) if subnet.ip_range else self.whole
        self.first, self.last = int(part.network_address), int(part.broadcast_address)
        self.low, self.high = int(self.whole.network_address), int(self.whole.broadcast_address)
        nobody = [self.whole.network_address, self.whole.broadcast_address] if self.whole.num_addresses > 2 else []
        kept = [ipaddress.ip_address(one) for one in (subnet.gateway, *subnet.auxiliary.values()) if one]
        self.version = self.whole.version
        self.taken = {int(address) for address in (*nobody, *kept)}
        self.next = self.first
        self._full = False
        """it was looked through, and nothing was given back since"""

    def give(self) -> str:
        """The next free address, with prefix length; raises ``Unavailable``."""
        for number in () if self._full else (self.next, self.first):
            while number in self.taken:
                number += 1
            if number <= self.last:
                self.taken.add(number)
                self.next = number + 1
                return self._written(number)
        self._full = True
        family = f"IPv{self.version}"
        raise Unavailable(f"no available {family} addresses on this network's address pools: {self.network}")

    def take(self, address: str) -> str:
        """That one, with prefix length; ``Conflict`` when it is somebody's."""
        number = number_in(address)
        if number in self.taken:
            raise Conflict("Address already in use")
        self.taken.add(number)
        return self._written(number)

    def number(self, address: str) -> int | None:
        """Its number; None: it is not of this subnet."""
        if (":" in address) != (self.version == 6):
            return None
        number = number_in(address)
        return number if self.low <= number <= self.high else None

    def _written(self, number: int) -> str:
        if self.version == 6:
            return f"{ipaddress.IPv6Address(number)}/{self.whole.prefixlen}"
        return f"{'.'.join(map(str, number.to_bytes(4, 'big')))}/{self.whole.prefixlen}"

    def hold(self, number: int) -> None:
        self.taken.add(number)
        self.next = max(self.next, number + 1) if self.first <= number < self.last else self.next

    def release(self, number: int) -> None:
        self.taken.discard(number)
        self._full = False


class Desk:
    """What is taken in the whole swarm."""

    def __init__(self) -> None:
        self.networks: dict[str, SharedNetwork] = {}
        self.fields: dict[str, list[Field]] = {}
        self._families: dict[str, list[list[Field]]] = {}
        """the same, each family's for themselves"""
        self.ports: dict[tuple[str, int], str] = {}
        """(protocol, published port on ingress) -> service"""
        self._published: dict[str, set[tuple[str, int]]] = defaultdict(set)
        """the same by service"""
        self._ingress = ""
        self.unseen: set[str] = set()
        """networks that are not there, on which somebody may hold an address"""
        self.next_port = FIRST_PORT

    # -- what is so already --------------------------------------------------------------------------

    def open(self, network: SharedNetwork) -> None:
        """A network to give addresses on."""
        if network.id not in self.fields:
            fields = [Field(pool, network.spec.name) for pool in network.spec.ipam.config if pool.subnet]
            families = [[field for field in fields if field.version == version] for version in (4, 6)]
            self.fields[network.id] = fields
            self._families[network.id] = [family for family in families if family]
        self.networks[network.id] = network
        self.unseen.discard(network.id)
        self._find_ingress()

    def close(self, network_id: str) -> None:
        self.unseen.add(network_id)
        self.networks.pop(network_id, None)
        self.fields.pop(network_id, None)
        self._families.pop(network_id, None)
        self._find_ingress()

    def _find_ingress(self) -> None:
        self._ingress = next((network.id for network in self.networks.values() if network.spec.ingress), "")

    def hold(self, thing: Holding) -> None:
        """What is recorded of it."""
        for field, number in self._addresses(thing):
            field.hold(number)
        if isinstance(thing, Service):
            for port in thing.ports:
                if port.publish_mode == "ingress" and port.published_port:
                    self.ports[port.protocol, port.published_port] = thing.id
                    self._published[thing.id].add((port.protocol, port.published_port))

    def release(self, thing: Holding) -> None:
        for field, number in self._addresses(thing):
            field.release(number)
        if isinstance(thing, Service):
            self._close_ports(thing.id)

    def _close_ports(self, service: str) -> None:
        for key in self._published.pop(service, ()):
            if self.ports.get(key) == service:
                del self.ports[key]

    def _addresses(self, thing: Holding) -> Iterator[tuple[Field, int]]:
        for held in _held(thing):
            fields = self.fields.get(held.network)
            if fields is None:
                self.unseen.add(held.network)
                continue
            for address in held.addresses:
                for field in fields:
                    if (number := field.number(address)) is not None:
                        yield field, number

    # -- giving --------------------------------------------------------------------------------------

    def service(self, service: Service) -> Service:
        """With its ports, and with a virtual address on each of its networks; unchanged when it has them.

        Raises ``Conflict`` (a port is another's), ``NotFound`` (a network), ``Unavailable`` (no address, no port left).
        """
        ports = self._ports(service)
        wanted = (
            self._networks(service.spec) if (service.spec.endpoint_spec or EndpointSpec()).mode in ("", "vip") else {}
        )
        held = {address.network: address for address in service.addresses}
        kept = tuple(held[id] for id in wanted if id in held)
        given = self.give([Attachment(network=id) for id in wanted if id not in held])
        for id in held.keys() - wanted.keys():
            self.release(replace(service, addresses=(held[id],), ports=()))
        self._close_ports(service.id)
        made = replace(service, ports=ports, addresses=(*kept, *given))
        self.hold(made)
        return made if (made.ports, made.addresses) != (service.ports, service.addresses) else service

    def wishes(self, service: ServiceSpec, template: TaskSpec) -> list[Attachment]:
        """Where each such task of the service is to have an address (for ``give``); raises ``NotFound``."""
        wanted = self._networks(replace(service, task_template=template))
        return [
            Attachment(network=id, aliases=one.aliases or (), driver_opts=one.driver_opts) for id, one in wanted.items()
        ]

    def node(self, node: Node) -> Node:
        """With an address on ingress, as long as there is one; unchanged when it has it. Raises ``Unavailable``."""
        ingress = self._ingress
        kept = tuple(one for one in node.attachments if one.network == ingress)
        given = kept or (self.give([Attachment(network=ingress)]) if ingress else ())
        return node if given == node.attachments else replace(node, attachments=given)

    def loan(self, loan: Loan) -> Loan:
        """With its addresses, or saying why not; raises ``NotFound`` (the network), ``Unavailable``, ``Conflict``."""
        fields = self.fields.get(loan.network)
        if fields is None:
            raise NotFound(f"network {loan.network} not found")
        if not loan.wish:
            return replace(loan, addresses=self.give([Attachment(network=loan.network)])[0].addresses)
        field = next((field for field in fields if field.number(loan.wish) is not None), None)
        if field is None:
            raise Conflict(f"invalid address {loan.wish}: it does not belong to any of this network's subnets")
        address = field.take(loan.wish)
        given = self.give([Attachment(network=loan.network)], but=field.version)[0].addresses
        return replace(loan, addresses=(address, *given))

    def give(self, asked: Iterable[Attachment], but: int = 0) -> tuple[Attachment, ...]:
        """With their addresses; raises ``Unavailable``, and then nothing is taken. ``but``: not of this family."""
        given: list[tuple[Field, str]] = []
        made = []
        try:
            for one in asked:
                addresses = []
                for fields in self._families[one.network]:
                    if fields[0].version != but:
                        field, address = self._from(fields)
                        given.append((field, address))
                        addresses.append(address)
                made.append(replace(one, addresses=tuple(addresses)))
        except Unavailable:
            for field, address in given:
                field.release(number_in(address))
            raise
        return tuple(made)

    @staticmethod
    def _from(fields: list[Field]) -> tuple[Field, str]:
        """From the first of several subnets of one family that has room."""
        for field in fields[:-1]:
            try:
                return field, field.give()
            except Unavailable:
                continue
        return fields[-1], fields[-1].give()

    def _networks(self, spec: ServiceSpec) -> dict[str, NetworkAttachment]:
        """Id -> attachment, of the networks that its tasks are on; ingress first, where ports are published there."""
        found = {}
        if any(port.publish_mode == "ingress" for port in spec.ports):
            if not self._ingress:
                raise NotFound("service needs ingress network, but no ingress network is present")
            found[self._ingress] = NetworkAttachment(target=self._ingress)
        for one in spec.attachments:
            if one.target not in NODE_NETWORKS:
                found[self._id(one.target)] = one
        return found

    def _id(self, target: str) -> str:
        if target in self.networks:
            return target
        for network in self.networks.values():
            if network.spec.name == target:
                return network.id
        raise NotFound(f"network {target} not found")

    def _ports(self, service: Service) -> tuple[ServicePort, ...]:
        """As asked, with numbers for those that left it to us; those that it had stay."""
        asked = service.spec.ports
        before = {(port.protocol, port.target_port, port.name): port.published_port for port in service.ports}
        mine = {(port.protocol, port.published_port) for port in asked if port.published_port}
        made = []
        for port in asked:
            if port.publish_mode != "ingress":
                made.append(port)
                continue
            number = port.published_port or before.get((port.protocol, port.target_port, port.name), 0)
            holder = self.ports.get((port.protocol, number))
            if number and holder not in (None, service.id):
                raise Conflict(f"port '{number}' is already in use by service '{holder}' as an ingress port")
            number = number or self._port(port.protocol, mine)
            mine.add((port.protocol, number))
            made.append(replace(port, published_port=number))
        return tuple(made)

    def _port(self, protocol: str, mine: set[tuple[str, int]]) -> int:
        span = LAST_PORT - FIRST_PORT + 1
        for step in range(span):
            number = FIRST_PORT + (self.next_port - FIRST_PORT + step) % span
            if (protocol, number) not in self.ports and (protocol, number) not in mine:
                self.next_port = number + 1
                return number
        raise Unavailable(f"no {protocol} port is left between {FIRST_PORT} and {LAST_PORT}")


def number_in(address: str) -> int:
    """Of an address with or without prefix length. There are two for every task, so it is read by hand."""
    text = address.partition("/")[0]
    if ":" in text:
        return int(ipaddress.IPv6Address(text))
    first, second, third, fourth = text.split(".")
    return int(first) << 24 | int(second) << 16 | int(third) << 8 | int(fourth)


def _held(thing: Holding) -> tuple[Attachment, ...]:
    if isinstance(thing, Node):
        return thing.attachments
    return thing.addresses if isinstance(thing, Service) else thing.networks


def on_network(spec: ServiceSpec, network: SharedNetwork) -> bool:
    """Whether the tasks of such a service are on it."""
    if network.spec.ingress:
        return any(port.publish_mode == "ingress" for port in spec.ports)
    return any(one.target in (network.id, network.spec.name) for one in spec.attachments)
