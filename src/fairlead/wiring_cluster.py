"""Wiring of what makes many engines one cluster: the store they share, and where they find each other."""

from __future__ import annotations

import logging
import secrets
import socket
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from fairlead.core import advertise
from fairlead.engine.events import Events
from fairlead.engine.kernel import Kernel
from fairlead.engine.peers import NoPeers, Peers
from fairlead.host.base import Host
from fairlead.options import Advertised
from fairlead.settings import Settings
from fairlead.store.base import Store

if TYPE_CHECKING:
    from fairlead.core.keying import Peer
    from fairlead.engine.clusterstore import ClusterStore
    from fairlead.engine.encryption import Encryption

log = logging.getLogger(__name__)


def store(settings: Settings, undo: AsyncExitStack) -> ClusterStore | None:
    """The store that the engines share, whether it answers or not; None when there is no cluster."""
    address, options = settings.cluster_store, settings.cluster_store_opts
    if address is None:
        return None
    # Most engines have no cluster: they need not wait for all this to load.
    from fairlead.engine.clusterstore import ClusterStore
    from fairlead.store.opening import open_store, way_to_see

    opened = open_store(address.kind, address.places, address.path, address.user, address.password, options)
    undo.push_async_callback(opened.close)
    return ClusterStore(opened, str(address), way_to_see(address.kind, address.places, "kv.cacertfile" in options))


def encryption(
    settings: Settings,
    shared: ClusterStore | None,
    advertised: Advertised | None,
    seed: Callable[[], bytes],
    store: Store,
    kernel: Kernel,
    host: Host,
) -> Encryption | None:
    """What encrypts between this host and the others, if there are any. ``seed``: who this one is."""
    if shared is None or advertised is None:
        return None
    from fairlead.core.keying import Peer

    return encrypting(settings, shared, Peer(seed().hex(), advertised.where), store, kernel, host)


def encrypting(settings: Settings, shared: Store, me: Peer, store: Store, kernel: Kernel, host: Host) -> Encryption:
    """What encrypts between this host, ``me``, and the others."""
    from fairlead.core.keying import Keying
    from fairlead.engine.drivers.overlay import SEALED_PORT
    from fairlead.engine.encryption import Encryption
    from fairlead.host.halves import X25519

    begun, lifetime = int(time.time()), float(settings.overlay_key_lifetime)
    keys = Keying(me, SEALED_PORT, X25519, secrets.randbelow, lifetime, begun)
    return Encryption(shared, store, kernel, host, me, SEALED_PORT, keys)


def mtu(host: Host, address: str) -> int:
    """Of the ways to others from an address of this host."""
    here = {text.partition("/")[0]: device for device, text in host.addresses()}
    device = here.get(address, "")
    return (host.path_mtu(device, 6 if ":" in address else 4) if device else host.link_mtu()) or 1500


def advertised(settings: Settings, host: Host) -> tuple[Advertised | None, str]:
    """Where the other engines find this one, an address, never an interface; and what is wrong with that, or ""."""
    wish, address, doubt = settings.cluster_advertise, "", ""
    if wish is not None:
        address, doubt = advertise.settle(wish.where, host.addresses())
    elif settings.cluster_store is not None:
        doubt = advertise.LACKING
    if doubt:
        log.warning("%s", doubt)
    return Advertised(address, wish.port) if wish else None, doubt


def peers(
    settings: Settings, store: ClusterStore | None, here: Advertised | None, events: Events, node: str, folder: Path
) -> Peers:
    """Gossip with the other hosts; nobody's where there is no store that several engines can have."""
    place, port = settings.cluster_store, settings.cluster_gossip_port
    if store is None or here is None or place is None or place.kind == "boltdb" or not port:
        return NoPeers()
    from fairlead.core.effects import Address
    from fairlead.swarm import discovery
    from fairlead.swarm import peers as gossip

    options = settings.cluster_store_opts
    ttl = float(options.get("discovery.ttl") or 3 * int(options.get("discovery.heartbeat", 0)) or discovery.TTL)
    return gossip.Peers(store, events, node, socket.gethostname(), Address(here.where, port), folder, ttl)
