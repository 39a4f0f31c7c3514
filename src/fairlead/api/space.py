"""/system/df: what takes space, by kind. Adds up what the engine's parts say."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fairlead.api import wire_containers, wire_images, wire_volumes
from fairlead.api.places import Places

if TYPE_CHECKING:
    from fairlead.engine.engine import Engine


class Space:
    """Looks things up for printing."""

    def __init__(self, engine: Engine, places: Places) -> None:
        self._engine = engine
        self._places = places

    async def shown(self, kinds: set[str], version: tuple[int, int]) -> dict[str, Any]:
        """``kinds`` out of container, image, volume, build-cache; the others are null."""
        return {
            "LayersSize": self._engine.images.layers_size() if "image" in kinds else 0,
            "Images": self._images(version) if "image" in kinds else None,
            "Containers": await self._containers(version) if "container" in kinds else None,
            "Volumes": await self._volumes() if "volume" in kinds else None,
            "BuildCache": [] if "build-cache" in kinds else None,
        }

    def _images(self, version: tuple[int, int]) -> list[dict[str, Any]]:
        images, hidden = self._engine.images, self._engine.images.built_on()
        return [
            {
                **wire_images.summary(image, version, images.shared_size(image)),
                "RepoDigests": list(image.digests) or None,
                "Containers": len(images.users(image.id)),
            }
            for image in images.list()
            if image.tags or image.digests or image.id not in hidden
        ]

    async def _containers(self, version: tuple[int, int]) -> list[dict[str, Any]]:
        return [
            {
                **wire_containers.summary(container, self._places.of(container), version),
                **{name: size for name, size in (await self._places.sizes(container)).items() if size},
            }
            for container in self._engine.containers.list()
        ]

    async def _volumes(self) -> list[dict[str, Any]]:
        volumes = self._engine.volumes
        return [
            {
                **wire_volumes.volume(volume, volumes.path(volume.name)),
                "UsageData": {
                    "Size": await volumes.size(volume.name),
                    "RefCount": len(volumes.users(volume.name)),
                },
            }
            for volume in volumes.list()
        ]
