"""Wiring of what makes many engines one cluster: the store they share, and where they find each other."""

from __future__ import annotations

import logging
from contextlib import AsyncExitStack

from fairlead.core import advertise
from fairlead.engine.clusterstore import ClusterStore
from fairlead.host.base import Host
from fairlead.options import Advertised
from fairlead.settings import Settings

log = logging.getLogger(__name__)


def store(settings: Settings, undo: AsyncExitStack) -> ClusterStore | None:
    """The store that the engines share, whether it answers or not; None when there is no cluster."""
    address, options = settings.cluster_store, settings.cluster_store_opts
    if address is None:
        return None
    # Most engines have no cluster: they need not wait for these clients to load.
    from fairlead.store.opening import open_store, way_to_see

    opened = open_store(*address, options)
    undo.push_async_callback(opened.close)
    return ClusterStore(opened, str(address), way_to_see(address.kind, address.places, "kv.cacertfile" in options))


def advertised(settings: Settings, host: Host) -> Advertised | None:
    """Where the other engines find this one: an address, never an interface."""
    wish = settings.cluster_advertise
    if wish is None:
        return None
    address, warning = advertise.settle(wish.where, host.addresses())
    if warning:
        log.warning("%s", warning)
    return wish._replace(where=address)
