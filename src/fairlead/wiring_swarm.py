"""Wiring of swarm mode: this machine's node, made when it is in a swarm or is to be in one.

What swarms need is imported in here, not at the start: most engines are in none.
"""

from __future__ import annotations

import datetime
import secrets
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from fairlead.engine.swarm import LateSwarm

if TYPE_CHECKING:
    from fairlead.core.cluster import Description
    from fairlead.core.session import Assign
    from fairlead.engine.controller import Controller
    from fairlead.engine.engine import Engine
    from fairlead.host.linux import LinuxHost
    from fairlead.store.base import Store
    from fairlead.swarm.agent import Agent
    from fairlead.swarm.manager import Tools
    from fairlead.swarm.members import Place
    from fairlead.swarm.membership import Membership
    from fairlead.swarm.node import SwarmNode


class Clock(Protocol):
    def nanoseconds(self) -> int: ...

    def text(self) -> str: ...


class Build(Protocol):
    """What of ``wiring.Build`` a node needs."""

    data: Path
    exec: Path
    clock: Clock
    host: LinuxHost
    controller: Controller
    engine: Engine
    store: Store


def swarm(build: Build) -> LateSwarm:
    return LateSwarm(lambda: _node(build), (build.data / "swarm" / "node.json").exists)


def _node(build: Build) -> SwarmNode:
    from fairlead.swarm.node import SwarmNode

    return SwarmNode(
        build.data / "swarm",
        build.exec / "swarm",
        _tools(build),
        build.host.addresses,
        lambda member: _agent(build, member),
        build.clock.text,
    )


def _tools(build: Build) -> Tools:
    from fairlead.host import moved
    from fairlead.host.child import Child
    from fairlead.store.etcd import EtcdStore
    from fairlead.store.http import Servers
    from fairlead.swarm.manager import Tools

    def etcd(argv: Callable[[], Sequence[str]], place: Place) -> Child:
        run = str(place.run)

        def command() -> list[str]:
            return [*moved.command("", run, "hosts"), "env", "-C", run, *argv()]

        return Child("etcd", command, build.exec / "swarm", outlives=True)

    def opened(socket: Path) -> tuple[Servers, EtcdStore]:
        servers = Servers(["etcd"], socket=socket)
        return servers, EtcdStore(servers)

    def local(ref: str) -> bool:
        return any(ref in (network.id, network.name) for network in build.controller.networks())

    return Tools(
        etcd=etcd,
        open=opened,
        clock=build.clock.nanoseconds,
        now=lambda: datetime.datetime.now(datetime.UTC),
        draw=secrets.randbelow,
        local=local,
    )


def _agent(build: Build, member: Membership) -> Agent:
    from fairlead.host.taskfiles import TaskFiles
    from fairlead.swarm.agent import Agent
    from fairlead.swarm.servicelogs import VERB
    from fairlead.swarm.worker import Worker

    files = TaskFiles(build.exec / "swarm" / "files")

    def describe() -> Description:
        return _describe(build)

    worker = Worker(member.node, build.engine, Bare(), files, build.store, describe, build.clock.nanoseconds)
    agent = Agent(member, worker, describe, lambda: secrets.randbelow(1 << 20) / (1 << 20))
    agent.verbs[VERB] = worker.logs
    return agent


class Bare:
    """No networks but the ones that every machine has."""

    async def assign(self, assign: Assign) -> None:
        pass

    async def ready(self, networks: Iterable[str]) -> None:
        pass

    async def serve(self, container: str) -> None:
        pass

    async def withdraw(self, container: str) -> None:
        pass


def _describe(build: Build) -> Description:
    """What this node says of itself."""
    from fairlead.core.cluster import Description, Plugin
    from fairlead.core.service import Platform, Resources

    info = build.engine.system.info()
    plugins = [
        *(Plugin("Log", name) for name in info.logs),
        *(Plugin("Network", name) for name in info.networks),
        Plugin("Volume", "local"),
    ]
    return Description(
        hostname=info.name,
        platform=Platform(info.machine, "linux"),
        resources=Resources(cpus=info.cpus * 1_000_000_000, memory_bytes=info.memory),
        engine_version=info.docker,
        engine_labels=dict(label.partition("=")[::2] for label in info.labels),
        plugins=tuple(sorted(plugins)),
    )
