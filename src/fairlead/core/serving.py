"""Serving: what the tasks of a service, as its network's endpoints tell of them, make of names and addresses.

    endpoints with a ServicePart  --vip-->    Vip in each sandbox on the network: virtual address -> serving tasks
                                  --names-->  tasks.web, and web itself where it has no virtual address

Rules
    1. A task is found by others while it serves; by its container's own name always.
    2. A virtual address and its targets are the network's to give; anything else a row says is not heard.
    3. Tasks of one service may disagree about its address or names (it was changed, and they are exchanged one by
       one): each address leads to those who know it.
"""

from collections.abc import Iterable
from math import prod

import msgspec
from msgspec.structs import replace

from fairlead.core import addresses
from fairlead.core.model import Network, ServicePart
from fairlead.core.patterns import pattern
from fairlead.core.wanted import Vip
from fairlead.errors import Invalid

LABEL = "fairlead.policy"
"""of a service: how one of its tasks is chosen"""
WEIGHT = "fairlead.weight"
"""of a node: how much of each service's work its tasks get; of a container: how much of it, against the others'"""
POLICIES = ("", "round-robin", "source")
"""by chance, in turn, by the client's address"""
CHANCE = "random"
"""the first of them, as people write it"""
HEAVIEST = 100
_WEIGHT = pattern(r"[1-9][0-9]{0,2}")
_HOST, _PATH, _SECRET = "[a-z0-9.-]{1,253}", "[A-Za-z0-9._~/%+-]{0,200}", "[A-Za-z0-9_.-]{1,64}"
ROUTE = pattern(
    rf"(?P<port>[0-9]{{1,5}})=(?P<place>{_HOST}/{_PATH}|https://{_HOST}/{_PATH}|sni://{_HOST}/|(?:http|sni)://)"
    rf"(?P<sticky>;sticky)?(?:;tls=(?P<tls>{_SECRET}(?:,{_SECRET})?))?(?:;to=(?P<to>https?://{_HOST}(?::[0-9]{{1,5}})?/{_PATH}))?"
)
"""what leads to a task by the HTTP mesh, as its row has it (``core.webmesh``)"""


class Backend(msgspec.Struct, frozen=True):
    """One task on one network. Addresses without prefix length."""

    part: ServicePart
    ipv4: str = ""
    ipv6: str = ""


def names(part: ServicePart | None) -> tuple[str, ...]:
    """What resolves to a task besides its container's own names."""
    if part is None or not part.serving:
        return ()
    called = (part.name, *part.names)
    own = () if virtual(part) else called
    return (*own, *(f"tasks.{name}" for name in called))


def relabelled(before: ServicePart, after: ServicePart) -> ServicePart:
    """A task that runs, with what labels say now. Where it listens is its own matter: what leads to other ports of it
    comes with the task that takes its place."""
    at = {_port(text): text.rpartition("@")[0] for text in after.ports}
    ports = tuple(
        f"{at[_port(text)]}@{text.rpartition('@')[2]}".lstrip("@") if _port(text) in at else text
        for text in before.ports
    )
    was, now = ({match["port"] for match in map(ROUTE.fullmatch, one.routes) if match} for one in (before, after))
    routes = after.routes if was <= now or now <= was else before.routes
    return replace(before, weight=after.weight, policy=after.policy, ports=ports, routes=routes)


def _port(text: str) -> str:
    """Of ``eth1@8080:80/tcp;v2``: ``8080:80/tcp``."""
    return text.rpartition("@")[2].partition(";")[0]


def virtual(part: ServicePart) -> tuple[str, ...]:
    """Its service's addresses, as far as it has any."""
    return tuple(filter(None, (part.vip, part.vip6)))


def policy(backends: Iterable[Backend]) -> str:
    """How one of them is chosen: as the first says that says anything."""
    tasks = sorted(backends, key=lambda backend: backend.part.task)
    return next((backend.part.policy for backend in tasks if backend.part.policy), "")


def asked(label: str) -> str:
    """The policy that a label asks for; ``Invalid`` for one that there is not."""
    if label in (CHANCE, *POLICIES):
        return "" if label == CHANCE else label
    why = "; who has the fewest connections nobody can tell" if "least" in label else ""
    raise Invalid(f"label {LABEL}={label}: expected {', '.join((CHANCE, *filter(None, POLICIES)))}{why}")


def weight(*labels: str) -> int:
    """Of a task: the product of what its node's and its container's labels say, as far as that is a number from 1."""
    numbers = (int(label) for label in labels if _WEIGHT.fullmatch(label))
    return min(prod(numbers), HEAVIEST)


def vip(ns: str, network: Network, address: str, backends: Iterable[Backend]) -> Vip:
    """What a virtual address is in one sandbox, given the tasks that know it."""
    targets: dict[str, int] = {}
    backends = sorted(backends, key=lambda backend: backend.part.task)
    for backend in backends:
        part, real = backend.part, backend.ipv6 if ":" in address else backend.ipv4
        if part.serving and real and within(network, real):
            targets[real] = min(max(part.weight, 1), HEAVIEST)
    why = "a service's own address, led to one of its tasks"
    return Vip(ns=ns, address=address, targets=tuple(targets.items()), policy=policy(backends), why=why)


def within(network: Network, address: str) -> bool:
    return any(addresses.contains(pool.subnet, address) for pool in network.ipam.config)
