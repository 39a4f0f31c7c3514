"""Catalog: every container of this machine, by id, by name, and by what people call it.

A reference is a full id, a name (with or without the slash), or an unambiguous
start of an id, in that order, as in Docker. Names are unique; ids are for ever.
"""

from __future__ import annotations

from collections.abc import Iterator

from fairlead.core.container import Container
from fairlead.engine.records import Records
from fairlead.errors import Conflict, Invalid, NotFound
from fairlead.store.base import Store


class Catalog:
    """The containers' records with an index of their names."""

    def __init__(self, store: Store) -> None:
        self._records = Records(store, "containers", Container)
        self._names: dict[str, str] = {}
        self._linking: dict[str, None] = {}
        """ids of those with legacy links"""

    async def load(self) -> None:
        await self._records.load()
        for container in self._records:
            self._note(container)

    async def put(self, container: Container) -> Container:
        old = self._records.get(container.id)
        self.check_name(container.name, container.id)
        await self._records.put(container)
        if old is not None and old.name != container.name:
            self._names.pop(old.name, None)
        self._note(container)
        return container

    async def drop(self, container: Container) -> None:
        await self._records.drop(container.id)
        self._names.pop(container.name, None)
        self._linking.pop(container.id, None)

    def _note(self, container: Container) -> None:
        self._names[container.name] = container.id
        if container.host.links:
            self._linking[container.id] = None

    def linking(self) -> list[Container]:
        """Those with legacy links to others."""
        return [self._records[id] for id in self._linking]

    def check_name(self, name: str, id: str = "") -> None:
        """``Conflict`` when another container than ``id`` has the name."""
        holder = self._names.get(name)
        if holder is not None and holder != id:
            raise Conflict(
                f'Conflict. The container name "/{name}" is already in use by container "{holder}".'
                " You have to remove (or rename) that container to be able to reuse that name."
            )

    def get(self, ref: str) -> Container:
        """The container meant; ``NotFound`` or, when a short id fits several, ``Invalid``."""
        found = self.find(ref)
        if found is None:
            raise NotFound(f"No such container: {ref}")
        return found

    def find(self, ref: str) -> Container | None:
        exact = self._records.get(ref) or self._records.get(self._names.get(ref.removeprefix("/"), ""))
        if exact is not None:
            return exact
        found = self._records.starting_with(ref)
        if len(found) > 1:
            raise Invalid(f"multiple IDs found with provided prefix: {ref}")
        return found[0] if found else None

    def __contains__(self, id: str) -> bool:
        return id in self._records

    def __getitem__(self, id: str) -> Container:
        return self._records[id]

    def __iter__(self) -> Iterator[Container]:
        return iter(self._records)

    def newest_first(self) -> list[Container]:
        return sorted(self._records, key=lambda container: container.created, reverse=True)
