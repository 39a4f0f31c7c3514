"""Control: the objects of the swarm, read and changed by people. ``engine.swarm.Control`` on a manager.

    ask --> decide, from what is in memory --> commit, if nothing of it changed since --> answer
               ^                                  |
               '------ somebody was faster: look again

Rules
    1. Every manager writes for itself; there is nobody to forward to, and no leader is needed.
    2. What is refused changes nothing, and is refused in Docker's words.
    3. What a decision was made from (secrets, networks, other things named) must still be so when it is written.
    4. Who says which version he saw is refused when it is no longer the last.

What it does not do: place tasks, give addresses and port numbers (the leader: ``core.orchestrator``), talk to nodes.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

from fairlead.core.cluster import Task
from fairlead.engine.logs import LogWishes
from fairlead.engine.swarm import ServiceLine
from fairlead.errors import Unavailable
from fairlead.swarm.control_base import by_id, find
from fairlead.swarm.control_files import FileControl
from fairlead.swarm.control_networks import NetworkControl
from fairlead.swarm.control_nodes import NodeControl
from fairlead.swarm.control_services import ServiceControl
from fairlead.swarm.state import State

Fetch = Callable[[Callable[[Task], bool], LogWishes], AsyncIterator[ServiceLine]]


class Control(NodeControl, ServiceControl, FileControl, NetworkControl):
    """All of ``engine.swarm.Control``.

    ``clock``: nanoseconds since 1970; ``draw(n)``: a number below n, from good dice; ``local``: whether this engine
    alone has a network of that name or id.
    """

    def __init__(
        self,
        state: State,
        clock: Callable[[], int],
        draw: Callable[[int], int],
        local: Callable[[str], bool] = lambda ref: False,
        pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
        manages: Callable[[], bool] = lambda: True,
    ) -> None:
        super().__init__(state, clock, draw, local, pause, manages)
        self.fetch: Fetch | None = None
        """from the nodes (``servicelogs``), once they can be reached"""

    def tasks(self) -> list[Task]:
        return by_id(self.state.tasks)

    def task(self, ref: str) -> Task:
        return find(self.state.tasks, ref, "task", lambda task: "")

    def logs(self, belongs: Callable[[Task], bool], wishes: LogWishes) -> AsyncIterator[ServiceLine]:
        if self.fetch is None:
            raise Unavailable("no node can be asked yet")
        return self.fetch(belongs, wishes)
