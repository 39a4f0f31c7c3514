"""Networks of a swarm: what is asked becomes a network that is the same on every node.

    request --settle--> subnets cut from the cluster's pools, gateway, identifier on the wire

Rules
    1. The first subnet that overlaps no other network of the swarm, the lowest identifier that none has: 4096 for
       ingress, from 4097 for all others.
    2. What the user chose is refused where it overlaps another, naming it. (Docker takes it and never brings it up.)
    3. The gateway is an address like any other as far as the swarm is concerned: set aside, and shown.
    4. Networks of drivers that are of one node (``--scope swarm`` with bridge, macvlan, ipvlan) have no addresses here:
       each node has its own, from the configuration network that they name.

What it does not do: know which networks there are (``swarm.control_networks``), bring one to a node.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

from msgspec.structs import replace

from fairlead.core import addresses, ownoptions, servicecheck
from fairlead.core.addresses import AddressPool, PoolPlan
from fairlead.core.model import Ipam, Network, NetworkRequest
from fairlead.core.refusals import invalid
from fairlead.core.remotes import MTU, VNI, identifier
from fairlead.core.swarmspec import Cluster
from fairlead.errors import Invalid

INGRESS_VNI = 4096
LEAST_MTU = 68
OF_NODES = ("bridge", "macvlan", "ipvlan", "host", "null")
"""Drivers whose networks are each node's own."""


def ingress_request() -> NetworkRequest:
    """The network that a new swarm begins with."""
    return NetworkRequest(name="ingress", driver="overlay", ingress=True, ipv6=True)


def settle(request: NetworkRequest, others: Iterable[Network], cluster: Cluster, id: str, created: str) -> Network:
    """The network as every node will have it; raises ``Invalid``, ``Forbidden``, ``Unavailable``."""
    check(request)
    others = tuple(others)
    network = Network(
        id=id,
        name=request.name,
        created=created,
        driver=request.driver,
        scope="swarm",
        internal=request.internal,
        attachable=request.attachable,
        ingress=request.ingress,
        config_from=request.config_from,
        ipv6=bool(request.ipv6),
        ipam=replace(request.ipam, driver=request.ipam.driver or "default", options=request.ipam.options or None),
        options=request.options,
        labels=request.labels,
    )
    if network.driver in OF_NODES:
        return replace(network, ipam=Ipam(driver=""))
    ipam = addresses.settle_pools(network, others, (), _pools(cluster))
    shown = tuple(replace(pool, gateway_chosen=False) for pool in ipam.config)
    taken = {other.options.get(VNI, ""): other.name for other in others}
    first = INGRESS_VNI if request.ingress else INGRESS_VNI + 1
    options = {**request.options, VNI: identifier(request.options.get(VNI), taken, first)}
    return replace(network, ipam=replace(ipam, config=shown), options=options)


def check(request: NetworkRequest) -> None:
    """What the request alone tells."""
    if not request.name.strip():
        raise Invalid("invalid name: name is empty")
    servicecheck.name(request.name)
    if request.ipv4 is False:
        raise Invalid("IPv4 cannot be disabled in a Swarm scoped network")
    if request.ingress and request.attachable:
        raise invalid("ingress network cannot be attachable")
    if request.ipam.driver not in ("", "default"):
        raise invalid(f"error during lookup of plugin {request.ipam.driver}")
    mtu = request.options.get(MTU, "")
    if mtu and not (mtu.isascii() and mtu.isdigit() and LEAST_MTU <= int(mtu) < 1 << 16):
        raise Invalid(f"overlay network {request.name}: {MTU}={mtu} is no MTU")
    for complaint in ownoptions.of_network(request.driver, request.options):
        raise invalid(complaint)


def _pools(cluster: Cluster) -> PoolPlan:
    """The cluster's, and for IPv6 a prefix of its own."""
    pools = tuple(AddressPool(base, cluster.subnet_size) for base in cluster.address_pools)
    return PoolPlan(pools=pools, ula=addresses.ula_prefix(hashlib.sha256(cluster.id.encode()).digest()))
