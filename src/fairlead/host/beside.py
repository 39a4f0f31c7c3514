"""Beside our one table: what services need of a namespace's firewall, each kind in a table of its own.

    Vip -> vips    Inlet -> inlets    Leg, MeshPort -> mesh

They come and go with swarms and their services; where there are none, no packet meets any of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from fairlead.core.wanted import HOST, Inlet, Leg, MeshPort, Vip, Wanted
from fairlead.host import inlets, mesh, vips
from fairlead.host.doors import Doors

Item = Vip | Inlet | Leg | MeshPort


def place(item: Item) -> str:
    """The namespace it is in."""
    return item.ns if isinstance(item, Vip | Inlet) else HOST


def make(doors: Doors, objects: Iterable[Wanted], done: Callable[[Callable[[], None]], None]) -> None:
    """One transaction for each kind and namespace; ``done`` is told how to undo each, as soon as it is done."""
    for ns, items in by_place(objects).items():
        door = doors[ns]
        nft = door.nft
        if found := [item for item in items if isinstance(item, Vip)]:
            done(vips.make(door, found))
        for inlet in items:
            if isinstance(inlet, Inlet):
                done(inlets.make(nft, inlet))
        legs, ports = _mesh(items)
        if legs or ports:
            done(mesh.make(nft, legs, ports))


def remove(doors: Doors, objects: Iterable[Wanted], stands: Callable[[str], bool]) -> Iterator[Callable[[], None]]:
    """What is to be done for it, in namespaces that stay."""
    for ns, items in by_place(objects).items():
        if not stands(ns):
            continue
        door = doors[ns]
        nft = door.nft
        if found := [item for item in items if isinstance(item, Vip)]:
            yield lambda door=door, found=found: vips.remove(door, found)  # type: ignore[misc]
        if any(isinstance(item, Inlet) for item in items):
            yield lambda nft=nft: inlets.remove(nft)  # type: ignore[misc]
        legs, ports = _mesh(items)
        if legs or ports:
            yield lambda nft=nft, legs=legs, ports=ports: mesh.remove(nft, legs, ports)  # type: ignore[misc]


def look(doors: Doors, ns: str, asked: list[Item]) -> Iterator[Item]:
    """Those that are there, where these are wanted."""
    door = doors[ns]
    nft = door.nft
    if found := [item for item in asked if isinstance(item, Vip)]:
        yield from vips.look(door, ns, found)
    if wishes := [item for item in asked if isinstance(item, Inlet)]:
        yield from inlets.look(nft, ns, wishes)
    legs, ports = _mesh(asked)
    if legs or ports:
        yield from mesh.look(nft, ports)


def by_place(objects: Iterable[Wanted]) -> dict[str, list[Item]]:
    """Namespace -> those of it."""
    found: dict[str, list[Item]] = {}
    for item in objects:
        if isinstance(item, Item):
            found.setdefault(place(item), []).append(item)
    return found


def _mesh(items: Iterable[Item]) -> tuple[list[Leg], list[MeshPort]]:
    items = tuple(items)
    return [item for item in items if isinstance(item, Leg)], [item for item in items if isinstance(item, MeshPort)]
