"""Top: the processes of a container, as ``ps`` would list them."""

from __future__ import annotations

from fairlead.engine.catalog import Catalog
from fairlead.engine.events import Events, facts
from fairlead.engine.runtime import Runtime
from fairlead.errors import Conflict

DEFAULT = "-ef"


async def top(
    catalog: Catalog, runtime: Runtime, events: Events, ref: str, arguments: str = ""
) -> tuple[list[str], list[list[str]]]:
    """Titles and rows of a running container's processes; ``Conflict`` when it does not run."""
    container = catalog.get(ref)
    if not container.state.running:
        raise Conflict(f"container {container.id} is not running")
    if container.state.status == "restarting":
        raise Conflict(f"container {container.id} is restarting, wait until the container is running")
    table = await runtime.top(container.id, arguments or DEFAULT)
    events.publish("container", "top", container.id, facts(container))
    return table
