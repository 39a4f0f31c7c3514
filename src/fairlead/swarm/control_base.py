"""What every part of control does alike: find a thing by what people call it, and write what was decided."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import NamedTuple, TypeVar

from fairlead.core import cluster
from fairlead.core.refusals import unknown
from fairlead.core.swarmspec import Cluster
from fairlead.engine.swarm import NO_MANAGER
from fairlead.errors import Conflict, FairleadError, Invalid, NotFound, Unavailable
from fairlead.swarm.state import State, Thing

T = TypeVar("T")

TRIES, PAUSE = 20, 0.05
"""how often a decision is made anew when others keep being faster, and seconds between"""
NO_LEADER = (
    "The swarm does not have a leader. It's possible that too few managers are online. Make sure more than half of the"
    " managers are online."
)


def cluster_of(state: State) -> Cluster:
    """The one object of its kind; ``Unavailable`` before a leader wrote it."""
    for one in state.cluster.values():
        return one
    raise Unavailable(f"rpc error: code = Unknown desc = {NO_LEADER}")


class Change(NamedTuple):
    """What to write. ``read``: what must not have changed meanwhile."""

    put: tuple[Thing, ...] = ()
    delete: tuple[Thing, ...] = ()
    read: tuple[Thing, ...] = ()


class Part:
    """See ``control.Control``. ``manages``: whether this node is one that may be asked."""

    def __init__(
        self,
        state: State,
        clock: Callable[[], int],
        draw: Callable[[int], int],
        local: Callable[[str], bool],
        pause: Callable[[float], Awaitable[None]],
        manages: Callable[[], bool],
    ) -> None:
        self.state, self.clock, self.draw, self.local, self.pause = state, clock, draw, local, pause
        self._manages = manages

    def new_id(self) -> str:
        return cluster.new_id(self.draw)

    async def current(self) -> None:
        """Returns when what is read here shows every change that had returned before, on whichever manager."""
        with self._led():
            await self.state.current()

    async def write(self, decide: Callable[[], Change]) -> None:
        """Writes what ``decide`` says; it is asked again when somebody else was faster."""
        await self.current()
        for left in reversed(range(TRIES)):
            change = decide()
            try:
                with self._led():
                    await self.state.commit(change.put, change.delete, read=change.read)
                return
            except Conflict:
                if not left:
                    raise
            await self.pause(PAUSE)

    @contextmanager
    def _led(self) -> Iterator[None]:
        """A manager that was demoted stays one until it has its other certificate: it says at once what it will be."""
        if not self._manages():
            raise Unavailable(NO_MANAGER)
        try:
            yield
        except Unavailable as error:
            why = f"rpc error: code = Unknown desc = {NO_LEADER}" if self._manages() else NO_MANAGER
            raise Unavailable(why) from error


def by_id(shelf: Mapping[str, T]) -> list[T]:
    """In the order in which Docker lists."""
    return [shelf[id] for id in sorted(shelf)]


def find(shelf: Mapping[str, T], ref: str, word: str, name: Callable[[T], str]) -> T:
    """By id, by name, or by the beginning of an id; raises ``NotFound``, or ``Invalid`` when several are meant."""
    if ref in shelf:
        return shelf[ref]
    found = [thing for thing in shelf.values() if name(thing) == ref]
    found = found or [thing for id, thing in shelf.items() if id.startswith(ref)]
    if len(found) > 1:
        raise Invalid(f"{word} {ref} is ambiguous ({len(found)} matches found)")
    if not found or not ref:
        raise NotFound(f"{word} {ref} not found")
    return found[0]


def check_version(seen: int, now: int) -> None:
    if seen != now:
        raise out_of_sequence()


def out_of_sequence() -> FairleadError:
    return unknown("update out of sequence")


def names(things: Iterable[str]) -> str:
    return ", ".join(sorted(things))
