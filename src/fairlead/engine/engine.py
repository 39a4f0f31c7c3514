"""Engine: everything the faces may ask of one machine, in one value. Built by ``wiring``, and only there."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from fairlead.engine.builds import Builds
    from fairlead.engine.containers import Containers
    from fairlead.engine.controller import Controller
    from fairlead.engine.doctor import Doctor
    from fairlead.engine.events import Events
    from fairlead.engine.execs import Execs
    from fairlead.engine.explain import Explainer
    from fairlead.engine.filesystem import Filesystem
    from fairlead.engine.images import Images
    from fairlead.engine.kernel import Kernel
    from fairlead.engine.logs import Logs
    from fairlead.engine.peers import Peers
    from fairlead.engine.rehearsal import Rehearsal
    from fairlead.engine.stats import Stats
    from fairlead.engine.streams import Streams
    from fairlead.engine.swarm import Swarm
    from fairlead.engine.system import System
    from fairlead.engine.transfers import Transfers
    from fairlead.engine.volumes import Volumes


class Engine(msgspec.Struct, frozen=True, kw_only=True):
    """The parts, by what they are about."""

    networks: Controller
    containers: Containers
    streams: Streams
    logs: Logs
    stats: Stats
    execs: Execs
    images: Images
    transfers: Transfers
    builds: Builds
    volumes: Volumes
    filesystem: Filesystem
    events: Events
    system: System
    kernel: Kernel
    doctor: Doctor
    explainer: Explainer
    rehearsal: Rehearsal
    peers: Peers
    swarm: Swarm
