"""Where a container's things are: what ``inspect`` and ``ps`` show besides its record.

Joins the record with its endpoints, the networks' names and ids, its files
below the data root. Reading only; only ``sizes`` waits.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from fairlead.api.wire_containers import Place
from fairlead.core import links
from fairlead.core.container import NEVER, Container
from fairlead.settings import Settings

if TYPE_CHECKING:
    from fairlead.engine.engine import Engine


class Places:
    """Looks things up in the engine for printing."""

    def __init__(self, engine: Engine, settings: Settings) -> None:
        self._engine = engine
        self._settings = settings

    def network_ids(self) -> dict[str, str]:
        """Name or id -> id, of every network there is."""
        known = self._engine.networks.networks()
        return {network.name: network.id for network in known} | {network.id: network.id for network in known}

    def of(self, container: Container) -> Place:
        ids = self.network_ids()
        known = self._engine.networks.networks()
        return Place(
            endpoints=self._engine.containers.endpoints(container.id),
            network_ids={asked: self._id(asked, ids) for asked in container.networks},
            network_names={network.id: network.name for network in known},
            publishing={network.id for network in known if network.driver == "bridge" and not network.internal},
            links=self._legacy_links(container),
            sandbox_key=self._sandbox_key(container),
            files=self._files(container) if container.state.started_at != NEVER else {},
            graph=self._engine.filesystem.graph(container),
            driver=self._engine.filesystem.driver,
            exec_ids=[],
        )

    def _id(self, asked: str, ids: dict[str, str]) -> str:
        if asked in ids:
            return ids[asked]
        return next((id for id in ids.values() if len(asked) >= 12 and id.startswith(asked)), "")

    def _sandbox_key(self, container: Container) -> str:
        sandbox = self._engine.containers.sandbox(container.id)
        return sandbox.path if sandbox else ""

    def _folder(self, container: Container) -> str:
        return os.path.join(self._settings.data_root, "containers", container.id)

    def _files(self, container: Container) -> dict[str, str]:
        folder = self._folder(container)
        return {
            "ResolvConfPath": os.path.join(folder, "resolv.conf"),
            "HostnamePath": os.path.join(folder, "hostname"),
            "HostsPath": os.path.join(folder, "hosts"),
            "LogPath": os.path.join(folder, f"{container.id}-json.log"),
        }

    async def sizes(self, container: Container) -> dict[str, int]:
        """``SizeRw`` and ``SizeRootFs`` in bytes."""
        written, whole = await self._engine.filesystem.sizes(container)
        return {"SizeRw": written, "SizeRootFs": whole}

    def _legacy_links(self, container: Container) -> list[str]:
        """``/target:/own/alias``: the target by its present name, however it was asked for."""
        names = {other.short: other.name for other in self._engine.containers.list()}
        shown = []
        for link in container.host.links or () if container.host.network_mode in ("bridge", "default") else ():
            target, alias = links.parse(link)
            shown.append(f"/{names.get(target[:12], target)}:/{container.name}/{alias}")
        return shown

    def links(self, container: Container) -> list[str]:
        """Further names a container has through legacy links: ``/other/alias``."""
        names = []
        for other in self._engine.containers.list():
            for link in other.host.links or ():
                target, _, alias = link.partition(":")
                if target in (container.name, container.id, container.short):
                    names.append(f"/{other.name}/{(alias or target).rpartition('/')[2]}")
        return names
