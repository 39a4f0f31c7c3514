"""Kernel: what should exist against what does. The only caller of the host's hands.

    network RED    --want(plan)-->  +--------+  make what is new or changed
    sandbox 3f2a…  --want(plan)-->  | Kernel |  ------------------------------>  host
    (restored)     --adopt(plan)->  +--------+  remove what is wanted no longer
                                        |
                          repair: difference(all wanted, host.look())

One verb does it all: an owner says everything it wants *now*; we compare that
with what it wanted before and do only the difference. Attaching is wanting
more, detaching is wanting less, and ending is wanting nothing.

Rules
    1. One key, one owner: a second owner of the same kernel object is an error
       of ours, found before anything is touched.
    2. A refused plan changes nothing: what was made is removed again, what was
       changed is changed back, and the owner wants what it wanted before.
    3. ``adopt`` only notes wishes (after a restart); ``repair`` then makes what
       is missing, in one go.
    4. When the nft skeleton of a namespace had to be made again, its elements
       went with the old one and are made again too.
    5. Nothing here waits: a change is a millisecond or two in the kernel.
    6. A plan may be refused only because somebody deleted what it stands on (a bridge) a moment
       ago. So after a refusal everything is repaired, and if there was anything to repair, it is
       told (``when_repaired``) and the plan tried once more.
    7. What can be made only ``once`` is not repaired: its loss is told (``when_lost``).

What it leaves behind on failure: nothing, or a note on the error saying what.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from fairlead.core.rules import CLOSING
from fairlead.core.wanted import (
    HOST,
    Element,
    Fence,
    Key,
    Leg,
    Link,
    Namespace,
    Plan,
    Skeleton,
    Wanted,
    by_key,
    compared,
    difference,
    owned,
)
from fairlead.errors import FairleadError, Internal
from fairlead.host.base import Host


class Kernel:
    """All wanted objects of this machine, by owner and by key."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._plans: dict[str, Plan] = {}
        self._wanted: dict[Key, Wanted] = {}
        self._glances: dict[type[Wanted], dict[Key, Any]] = {Link: {}, Namespace: {}}
        """those of the wanted that a glance is for"""
        self._journals: list[set[Key]] = []
        """of each look under way: what was touched since it began"""
        self._inhabitant: Callable[[str], int] = lambda name: 0
        self._repaired: Callable[[Plan, Plan], None] = lambda made, removed: None
        self._lost: Callable[[Plan], None] = lambda objects: None

    def inhabited_by(self, call: Callable[[str], int]) -> None:
        """``call(name)``: a process that lives in the namespace of that name, 0 when none does. One whose mount was
        lost is then kept again, not made anew beside the process."""
        self._inhabitant = call

    def when_repaired(self, call: Callable[[Plan, Plan], None]) -> None:
        """``call(made, removed)`` after a repair that nobody asked for."""
        self._repaired = call

    def when_lost(self, call: Callable[[Plan], None]) -> None:
        """``call(objects)`` when some are not there that cannot be made again."""
        self._lost = call

    # -- wishes ---------------------------------------------------------------------

    def want(self, owner: str, plan: Iterable[Wanted], title: str = "") -> None:
        """From now on ``owner`` wants exactly ``plan``; raises what the host raises, changing nothing."""
        before = self._plans.get(owner, ())
        after = owned(plan, title or owner)
        old, new = by_key(before), by_key(after)
        self._refuse_shared(old, after, new)
        make, surplus = compared(new, old)
        self._touch(make)
        if make:
            self._make(owner, before, after, make)
        self._note(owner, after, new)
        if surplus:
            self._host.remove(surplus)

    def want_all(self, wishes: Iterable[tuple[str, Plan, str]]) -> None:
        """What several new owners want, made in one go or not at all: (owner, plan, title)."""
        plans = {owner: owned(plan, title or owner) for owner, plan, title in wishes}
        together = tuple(item for plan in plans.values() for item in plan)
        self._refuse_shared({}, together, by_key(together))
        self._touch(together)
        if together:
            self._make("", (), together, together)
        for owner, plan in plans.items():
            self._note(owner, plan)

    def foresee(self, plan: Plan) -> None:
        """This will be wanted shortly, by these very values: what it takes to make it is found out now."""
        self._host.foresee(plan)

    def drop(self, owner: str) -> None:
        """``owner`` wants nothing any more; what the kernel refuses to remove is raised, but wanted no longer."""
        plan = self._plans.get(owner, ())
        self._note(owner, ())
        if plan:
            self._host.remove(plan)

    def adopt(self, owner: str, plan: Iterable[Wanted], title: str = "") -> None:
        """Note what ``owner`` wants without touching the machine; ``repair`` makes what is missing."""
        after = owned(plan, title or owner)
        new = by_key(after)
        self._refuse_shared(by_key(self._plans.get(owner, ())), after, new)
        self._note(owner, after, new)

    def wanted(self, owner: str | None = None) -> Plan:
        """Everything wanted, or what one owner wants, in the order of making."""
        if owner is not None:
            return self._plans.get(owner, ())
        return tuple(self._wanted.values())

    def forget_answers(self, ns: str, addresses: Iterable[str]) -> None:
        """Connections of a sandbox to these addresses, which are gone, are known no more."""
        self._host.forget_answers([("", address, 0) for address in addresses], ns)

    def find(self, key: Key) -> Wanted | None:
        return self._wanted.get(key)

    # -- against what is --------------------------------------------------------------

    def drift(self) -> tuple[Plan, Plan]:
        """What is missing or different, and what of ours nobody wants."""
        wanted = self.wanted()
        return difference(wanted, self._host.look(wanted))

    def repair(self) -> tuple[Plan, Plan]:
        """Make the kernel agree with the wishes; returns what had to be made and what had to go."""
        return self._mend(*self.drift())

    def guard(self) -> Plan:
        """All rules at once when the host's table is gone, what closes before what opens; what had to be made."""
        skeleton = self._wanted.get(Skeleton(text="").key)
        if skeleton is None or self._host.rules_stand():
            return ()
        elements = [item for item in self._wanted.values() if isinstance(item, Element) and item.ns == HOST]
        steps = (
            (skeleton, *(item for item in elements if item.map in CLOSING)),
            tuple(item for item in self._wanted.values() if isinstance(item, Fence | Leg)),
            tuple(item for item in elements if item.map not in CLOSING),
        )
        for step in steps:
            self._host.make(step)
        return tuple(item for step in steps for item in step)

    async def devices_stand(self) -> bool:
        """A glance at the host's devices."""
        return await self._stand(Link, self._host.devices_amiss, lambda name: Link(name=name, kind="").key)

    async def namespaces_stand(self) -> bool:
        """A glance at the mounts that keep namespaces."""

        def glance(wanted: list[Namespace]) -> set[str]:
            return self._host.namespaces_lost([item.name for item in wanted])

        return await self._stand(Namespace, glance, lambda name: Namespace(name=name).key)

    async def _stand(
        self, kind: type[Wanted], glance: Callable[[list[Any]], set[str]], key: Callable[[str], Key]
    ) -> bool:
        """Whether a glance finds nothing amiss but what was touched meanwhile."""
        with self._journal() as touched:
            amiss = await asyncio.to_thread(glance, list(self._glances[kind].values()))
        return all(key(name) in touched for name in amiss)

    async def heal(self) -> tuple[Plan, Plan]:
        """``repair`` for a machine at work: looking takes a millisecond or two a sandbox, and is done in a thread."""
        return self._mend(*difference(*await self.seen()))

    async def seen(self) -> tuple[Plan, Plan]:
        """What is wanted, and what is there. Nothing is changed.

        Wishes go on changing meanwhile. What was touched while we looked is taken to be as it is wanted: whoever
        touched it would have been told otherwise."""
        with self._journal() as touched:
            actual = await asyncio.to_thread(self._host.look, self.wanted(), gently=True)
        ours = (self._wanted[key] for key in touched if key in self._wanted)
        return self.wanted(), (*(item for item in actual if item.key not in touched), *ours)

    @contextmanager
    def _journal(self) -> Iterator[set[Key]]:
        """The keys of everything that is made, changed or taken away before it is closed."""
        touched: set[Key] = set()
        self._journals.append(touched)
        try:
            yield touched
        finally:
            # By identity: two that hold the same are two.
            self._journals = [journal for journal in self._journals if journal is not touched]

    def _touch(self, objects: Iterable[Wanted]) -> None:
        keys = [item.key for item in objects] if self._journals else ()
        for journal in self._journals:
            journal.update(keys)

    def _mend(self, make: Plan, surplus: Plan) -> tuple[Plan, Plan]:
        self._touch((*make, *surplus))
        if surplus:
            self._host.remove(surplus)
        if lost := tuple(item for item in make if item.once):
            make = tuple(item for item in make if not item.once)
            self._lost(lost)
        for item in make:
            if isinstance(item, Namespace) and (pid := self._inhabitant(item.name)):
                self._host.keep_namespace(item.name, pid)
        if make:
            try:
                self._host.make(_with_elements(make, self.wanted()))
            except FairleadError:
                self._make_what_can_be(make, surplus)
        return make, surplus

    def _make_what_can_be(self, make: Plan, removed: Plan) -> None:
        """One owner's trouble is not the others': each owner's part by itself, tables before what is in them.

        What could be made is told; then the first refusal is raised.
        """
        parts: dict[str, list[Wanted]] = {}
        for item in make:
            parts.setdefault(item.owner, []).append(item)
        made: dict[Key, Wanted] = {}
        refusals: list[FairleadError] = []
        for part in sorted(parts.values(), key=lambda part: not any(isinstance(item, Skeleton) for item in part)):
            whole = _with_elements(tuple(item for item in part if item.key not in made), self.wanted())
            try:
                self._host.make(whole)
                made.update((item.key, item) for item in whole)
            except FairleadError as error:
                refusals.append(error)
        if refusals:
            self._repaired(tuple(made.values()), removed)
            raise refusals[0]

    # -- inside -----------------------------------------------------------------------

    def _wanted_with(self, owner: str, make: Plan, after: Plan) -> Plan:
        """What may have to be made again with a new skeleton: a sandbox's elements are its owner's own, the host's
        everybody's. (Only the host's table costs a look at all wishes, and it is made anew once in a machine's life.)
        """
        if not any(isinstance(item, Skeleton) and item.ns == HOST for item in make):
            return after
        mine = {item.key for item in self._plans.get(owner, ())}
        return (*(item for key, item in self._wanted.items() if key not in mine), *after)

    def _make(self, owner: str, before: Plan, after: Plan, make: Plan) -> None:
        """Make it all or nothing, the second time on repaired ground."""
        everything = _with_elements(make, self._wanted_with(owner, make, after))
        for attempt in (1, 2):
            try:
                return self._host.make(everything)
            except Exception as error:
                self._undo(before, make, error)
                if attempt == 2 or not self._was_broken():
                    raise

    def _was_broken(self) -> bool:
        """Whether something of what is wanted was missing or different, and now stands again."""
        try:
            made, removed = self.repair()
        except FairleadError:
            return False
        self._repaired(made, removed)
        return bool(made)

    def _note(self, owner: str, after: Plan, keys: Mapping[Key, Wanted] | None = None) -> None:
        """``keys``: of ``after``, where they are known."""
        before = self._plans.pop(owner, ())
        if self._journals:
            self._touch(item for plan in difference(after, before) for item in plan)
        for item in before:
            self._wanted.pop(item.key, None)
            self._glances.get(type(item), {}).pop(item.key, None)
        if after:
            self._plans[owner] = after
            self._wanted.update(by_key(after) if keys is None else keys)
        for item in after:
            if type(item) in self._glances:
                self._glances[type(item)][item.key] = item

    def _refuse_shared(self, mine: Mapping[Key, Wanted], plan: Plan, keys: Mapping[Key, Wanted]) -> None:
        """``keys``: of the plan; ``mine``: of what its owner wants by now."""
        others = {key for key in keys if key in self._wanted and key not in mine}
        if not others and len(keys) == len(plan):
            return
        seen: set[Key] = set()
        for item in plan:
            if item.key in seen or item.key in others:
                other = self._wanted.get(item.key, item)
                raise Internal(f"two owners want {item}: {item.owner} and {other.owner}")
            seen.add(item.key)

    def _undo(self, before: Plan, make: Plan, error: Exception) -> None:
        """The host took back what it made; give what it changed in place its old shape."""
        keys = {item.key for item in make}
        old = [item for item in before if item.key in keys]
        try:
            if old:
                self._host.make(old)
        except Exception as second:
            error.add_note(f"and could not be undone: {second}")


def _with_elements(make: Plan, wanted: Iterable[Wanted]) -> Plan:
    """``make`` plus every wanted element of the namespaces whose skeleton is about to be made."""
    fresh = {item.ns for item in make if isinstance(item, Skeleton)}
    if not fresh:
        return make
    there = {item.key for item in make}
    return make + tuple(
        item for item in wanted if isinstance(item, Element) and item.ns in fresh and item.key not in there
    )
