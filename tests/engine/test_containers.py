"""Lives of containers on paper: what a start, an end and a removal leave, whoever is faster."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import msgspec
import pytest
from paper import Paper, PaperDisk
from runtimes import PaperRuntime

from fairlead.core import restart
from fairlead.core.container import Container, HostConfig, RestartPolicy, State
from fairlead.core.life import Ended
from fairlead.core.model import PortRequest
from fairlead.engine import farewell
from fairlead.engine.containers import Containers
from fairlead.errors import Conflict, FairleadError, NotModified, Unavailable

replace = msgspec.structs.replace


@dataclass
class World:
    """Containers at work, and everything below them."""

    paper: Paper
    runtime: PaperRuntime
    disk: PaperDisk
    containers: Containers

    async def container(self, name: str, **host: Any) -> Container:
        container = await self.paper.container(name, "net")
        host = {"network_mode": "net", **host}
        return await self.paper.catalog.put(replace(container, state=State(), host=HostConfig(**host)))

    def status(self, name: str) -> str:
        found = self.paper.catalog.find(name)
        return found.state.status if found else "gone"

    def nothing_left(self) -> bool:
        return not (self.disk.prepared or list(self.paper.endpoints.everything()) or self.paper.names.served)


@pytest.fixture
async def world(paper: Paper) -> AsyncIterator[World]:
    await paper.network("net")
    runtime, disk = PaperRuntime(), PaperDisk(paper)
    async with asyncio.TaskGroup() as tasks:
        parts: Any = (disk, paper.controller, paper.attachments, disk, disk, runtime, disk, paper.events)
        containers = Containers(paper.catalog, *parts, lambda: "2026-01-01T00:00:00Z", tasks)

        async def bury() -> None:
            async for end in runtime.exits():
                tasks.create_task(containers.ended(end))

        work = tasks.create_task(bury())
        yield World(paper, runtime, disk, containers)
        work.cancel()


async def test_a_life(world: World) -> None:
    web = await world.container("web")
    await world.containers.start("web")
    assert world.status("web") == "running" and world.paper.addresses(web) == {"net": "172.17.0.2"}
    end = world.containers.wait("web")
    world.runtime.end(web.id, 3)
    assert (await end).code == 3
    assert world.status("web") == "exited" and world.nothing_left()
    await world.containers.remove("web")
    assert world.status("web") == "gone" and world.disk.removed == ["web"]


async def test_an_end_before_the_start_is_recorded_is_not_lost(world: World) -> None:
    class Hasty(type(world.runtime)):  # type: ignore[misc]
        async def start(self, id: str) -> None:
            self.end(id, 7)
            for _ in range(5):
                await asyncio.sleep(0)

    world.runtime.__class__ = Hasty
    web = await world.container("web")
    end = world.containers.wait("web", "next-exit")
    await world.containers.start("web")
    assert (await asyncio.wait_for(end, 5)) == Ended(web.id, 7)
    assert world.status("web") == "exited" and world.nothing_left()


@pytest.mark.parametrize("removed", [False, True])
async def test_who_is_frozen_may_be_gone_as_soon_as_it_is_killed(world: World, removed: bool) -> None:
    class Deadly(type(world.runtime)):  # type: ignore[misc]
        async def kill(self, id: str, signal: int) -> None:
            self.end(id, 137)
            for _ in range(100):
                await asyncio.sleep(0)

    world.runtime.__class__ = Deadly
    web = await world.container("web")
    await world.paper.catalog.put(replace(web, host=replace(web.host, auto_remove=removed)))
    await world.containers.start("web")
    await world.containers.pause("web")
    await world.containers.kill("web")
    assert world.status("web") == ("gone" if removed else "exited") and world.nothing_left()


async def test_a_port_that_is_taken_ends_the_process_that_was_made_meanwhile(world: World) -> None:
    async def refuse(*ports: Any, **more: Any) -> dict[str, int]:
        await asyncio.sleep(0)
        raise Conflict("address already in use")

    world.paper.relay.open = refuse  # type: ignore[method-assign]
    web = await world.container("web")
    await world.paper.catalog.put(replace(web, ports=(PortRequest(80, "tcp", "", 8080, 8080),)))
    with pytest.raises(FairleadError, match="address already in use"):
        await world.containers.start("web")
    assert world.runtime.wires == {} and world.runtime.started == [] and world.nothing_left()
    assert world.status("web") == "created"


async def test_a_start_that_fails_leaves_nothing_but_the_reason(world: World) -> None:
    async def refuse(*anything: Any, **more: Any) -> int:
        raise FairleadError("no such program")

    world.runtime.create = refuse  # type: ignore[method-assign]
    await world.container("web")
    with pytest.raises(FairleadError, match="no such program"):
        await world.containers.start("web")
    assert world.nothing_left()
    state = world.containers.get("web").state
    assert (state.status, state.error, state.exit_code) == ("created", "no such program", 128)
    await world.container("brief", auto_remove=True)
    gone = world.containers.wait("brief", "removed")
    with pytest.raises(FairleadError):
        await world.containers.start("brief")
    assert (await asyncio.wait_for(gone, 5)).code == 128 and world.status("brief") == "gone"


async def test_what_removes_itself_tells_its_code_when_it_is_gone(world: World) -> None:
    web = await world.container("web", auto_remove=True)
    await world.containers.start("web")
    gone = world.containers.wait("web", "removed")
    world.runtime.end(web.id, 5)
    assert (await asyncio.wait_for(gone, 5)).code == 5
    assert world.status("web") == "gone" and world.nothing_left()


async def test_the_restart_policy_and_the_user_who_stops_it(world: World) -> None:
    web = await world.container("web", restart_policy=RestartPolicy("always"))
    await world.containers.start("web")
    world.runtime.end(web.id)
    events = world.paper.events.stream(since=0, wants=lambda event: event.action == "start")
    for _ in range(2):
        await asyncio.wait_for(anext(events), 5)
    assert world.status("web") == "running"
    await world.containers.stop("web", 0)
    assert world.status("web") == "exited"
    with pytest.raises(NotModified):
        await world.containers.stop("web")


async def test_what_is_away_is_waited_for(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The cluster's store, say, after a power cut of everything; a refusal for any other reason ends it."""
    web = await world.container("web", restart_policy=RestartPolicy("always"))
    await world.containers.start("web")
    answers: list[FairleadError | None] = [Unavailable("the store is away"), Unavailable("still"), None, Conflict("no")]
    attach = world.paper.endpoints.attach

    async def refuse(*words: Any, **more: Any) -> Any:
        if problem := answers.pop(0):
            raise problem
        return await attach(*words, **more)

    monkeypatch.setattr(world.paper.endpoints, "attach", refuse)
    monkeypatch.setattr("fairlead.core.restart.AWAY", 0.01)
    events = world.paper.events.stream(since=0, wants=lambda event: event.action == "start")
    await anext(events)
    world.runtime.end(web.id)
    await asyncio.wait_for(anext(events), 5)
    assert world.status("web") == "running" and len(answers) == 1
    world.runtime.end(web.id)
    async with asyncio.timeout(5):
        while world.status("web") != "exited":
            await asyncio.sleep(0)
    assert not answers


async def test_removing_what_runs_needs_force(world: World) -> None:
    await world.container("web")
    await world.containers.start("web")
    with pytest.raises(Conflict, match="stop the container before removing or force remove"):
        await world.containers.remove("web")
    await world.containers.remove("web", force=True)
    assert world.status("web") == "gone" and world.nothing_left()


async def test_an_engine_that_leaves_stops_its_containers_and_the_next_one_starts_them(world: World) -> None:
    for name, policy in (("a", "always"), ("u", "unless-stopped"), ("f", "on-failure"), ("n", "no")):
        await world.container(name, restart_policy=RestartPolicy(policy))
        await world.containers.start(name)
    await world.container("stopped", restart_policy=RestartPolicy("unless-stopped"))
    await world.containers.start("stopped")
    await world.containers.stop("stopped")
    await world.container("r", auto_remove=True)
    await world.containers.start("r")
    await farewell.stop_all(world.containers)
    assert world.nothing_left() and world.status("r") == "gone"
    assert {world.status(name) for name in ("a", "u", "f", "n", "stopped")} == {"exited"}
    found = {container.name for container in world.containers.list() if restart.at_start(container)}
    assert found == {"a", "u", "f"}
