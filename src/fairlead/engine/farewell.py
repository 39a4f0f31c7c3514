"""Farewell: an engine without live restore stops its containers before it ends, as dockerd does.

    TERM --> every container is asked to stop, all at once --> killed after its own stop timeout --> --rm ones go

Nobody stopped them but us, so they are not marked as stopped by a user: what their restart policies bring back, the
next engine brings back (``core.restart.at_start``). What waits to be restarted just now waits for the next engine, too.
One that cannot be stopped is logged, and runs on.
"""

from __future__ import annotations

import asyncio
import logging

from fairlead.core.container import Container
from fairlead.engine.containers import Containers
from fairlead.errors import FairleadError

log = logging.getLogger(__name__)


async def stop_all(containers: Containers) -> None:
    """Return when none runs; how long it takes is in the containers' stop timeouts."""
    containers.leaving = True
    running = [container for container in containers.list() if container.state.running]
    await asyncio.gather(*(_stop(containers, container) for container in running))


async def _stop(containers: Containers, container: Container) -> None:
    gone = containers.wait(container.id, "removed")
    try:
        await containers.stop(container.id)
        if container.host.auto_remove:
            await gone
    except FairleadError as error:
        log.error("cannot stop container %s: %s", container.name, error)
    finally:
        gone.cancel()
