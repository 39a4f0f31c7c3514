"""Secrets and configs: small files for tasks. See ``control``.

Once made, only their labels change: who wants other contents makes another one, and gives that to the services.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TypeVar

from msgspec.structs import replace

from fairlead.core import webmesh
from fairlead.core.refusals import exists, invalid, unknown
from fairlead.core.service import ContainerSpec
from fairlead.core.swarmspec import ConfigFile, FileSpec, Secret
from fairlead.swarm.control_base import Change, Part, by_id, check_version, find, names

_NAME = re.compile(r"[a-zA-Z0-9](?:[a-zA-Z0-9_.-]{0,62}[a-zA-Z0-9])?")
LARGEST = {"secret": 500 << 10, "config": 1000 << 10}
"""bytes; one less is the most that a file may have"""
F = TypeVar("F", Secret, ConfigFile)


class FileControl(Part):
    def secrets(self) -> list[Secret]:
        return by_id(self.state.secrets)

    def secret(self, ref: str) -> Secret:
        return find(self.state.secrets, ref, "secret", lambda secret: secret.spec.name)

    async def create_secret(self, spec: FileSpec) -> str:
        if spec.driver is not None and spec.driver.name:
            raise unknown(f'plugin "{spec.driver.name}" not found')
        return await self._create(Secret, "secret", self.state.secrets, spec)

    async def update_secret(self, ref: str, version: int, spec: FileSpec) -> None:
        await self._update(lambda: self.secret(ref), version, spec)

    async def remove_secret(self, ref: str) -> None:
        await self._remove("secret", lambda: self.secret(ref))

    def configs(self) -> list[ConfigFile]:
        return by_id(self.state.configs)

    def config(self, ref: str) -> ConfigFile:
        return find(self.state.configs, ref, "config", lambda config: config.spec.name)

    async def create_config(self, spec: FileSpec) -> str:
        return await self._create(ConfigFile, "config", self.state.configs, replace(spec, driver=None))

    async def update_config(self, ref: str, version: int, spec: FileSpec) -> None:
        await self._update(lambda: self.config(ref), version, spec)

    async def remove_config(self, ref: str) -> None:
        await self._remove("config", lambda: self.config(ref))

    # -- alike ---------------------------------------------------------------------------------------

    async def _create(self, make: type[F], word: str, shelf: dict[str, F], spec: FileSpec) -> str:
        check(word, spec)
        id = self.new_id()

        def decide() -> Change:
            if any(other.spec.name == spec.name for other in shelf.values()):
                raise exists(f"{word} {spec.name} already exists")
            now = self.clock()
            return Change((make(id, spec, now, now),))

        await self.write(decide)
        return id

    async def _update(self, found: Callable[[], F], version: int, spec: FileSpec) -> None:
        def decide() -> Change:
            before = found()
            check_version(version, before.version)
            if spec.name != before.spec.name or (spec.data and spec.data != before.spec.data):
                raise invalid("only updates to Labels are allowed")
            return Change((replace(before, spec=replace(before.spec, labels=spec.labels), updated=self.clock()),))

        await self.write(decide)

    async def _remove(self, word: str, found: Callable[[], F]) -> None:
        def decide() -> Change:
            gone = found()
            users = [
                service.spec.name
                for service in self.state.services.values()
                if gone.id in referenced(service.spec.task_template.container_spec)
                or (word == "secret" and gone.spec.name in webmesh.secrets(service.spec.labels or {}))
            ]
            if users:
                services = "services" if len(users) > 1 else "service"
                raise invalid(f"{word} '{gone.spec.name}' is in use by the following {services}: {names(users)}")
            return Change(delete=(gone,))

        await self.write(decide)


def check(word: str, spec: FileSpec) -> None:
    if not spec.name:
        raise invalid("name must be provided")
    if not _NAME.fullmatch(spec.name):
        raise invalid(
            "invalid name, only 64 [a-zA-Z0-9-_.] characters allowed, and the start and end character must be"
            " [a-zA-Z0-9]"
        )
    if not 0 < len(spec.data) < LARGEST[word]:
        raise invalid(f"{word} data must be larger than 0 and less than {LARGEST[word]} bytes")


def referenced(container: ContainerSpec | None) -> set[str]:
    """Ids of the secrets and configs that a container gets."""
    if container is None:
        return set()
    secrets = {one.secret_id for one in container.secrets or ()}
    return secrets | {one.config_id for one in container.configs or ()}
