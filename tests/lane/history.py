"""Is a history of concurrent reads and writes one that a single, correct store could have given?

Each operation has a start and an end on one clock. It is *linearizable* if every one can be given a moment between
its start and its end such that, one after the other, all answers are right. The search is Wing and Gong's, with
the memory of states that Lowe added; each key is searched by itself. A write whose answer was lost has no end: it may
have happened at any time after its start, or never.
"""

import math
from collections import defaultdict
from collections.abc import Iterable
from typing import NamedTuple

READ, WRITE = "read", "write"
OK, REFUSED, LOST = "ok", "refused", "lost"


class Operation(NamedTuple):
    """``value`` is what was read, or written (None: deleted) over ``old``. Every value is written once only."""

    host: str
    kind: str
    key: str
    start: float
    end: float
    value: str | None
    old: str | None = None
    outcome: str = OK

    def apply(self, state: str | None) -> tuple[bool, str | None]:
        """Whether the answer is right in this state, and the state after it."""
        if self.kind == READ:
            return state == self.value, state
        if self.outcome == REFUSED:
            return state != self.old, state
        return state == self.old, self.value


def unexplained(operations: Iterable[Operation]) -> list[str]:
    """The keys whose history no correct store could have given."""
    by_key: dict[str, list[Operation]] = defaultdict(list)
    for operation in operations:
        if operation.kind == READ and operation.outcome == LOST:
            continue
        by_key[operation.key].append(operation)
    return [key for key, found in sorted(by_key.items()) if not linearizable(found)]


def linearizable(operations: list[Operation]) -> bool:
    """Of one key, absent at the beginning."""
    pending = sorted(operations, key=lambda operation: operation.start)
    ends = [math.inf if operation.outcome == LOST else operation.end for operation in pending]
    must = sum(1 << index for index, operation in enumerate(pending) if operation.outcome != LOST)
    seen: set[tuple[int, str | None]] = set()
    stack: list[tuple[int, str | None]] = [(0, None)]
    while stack:
        done, state = stack.pop()
        if done & must == must:
            return True
        if (done, state) in seen:
            continue
        seen.add((done, state))
        # Next may be whatever began before the first of the others that wait has ended.
        limit = math.inf
        for index, operation in enumerate(pending):
            if operation.start > limit:
                break
            if done >> index & 1:
                continue
            limit = min(limit, ends[index])
            right, after = operation.apply(state)
            if right:
                stack.append((done | 1 << index, after))
    return False


class Hold(NamedTuple):
    """``host`` knew ``thing`` to be its own from ``start`` to ``end``."""

    host: str
    thing: str
    start: float
    end: float


def held_twice(holds: Iterable[Hold], collide: object = None) -> list[tuple[Hold, Hold]]:
    """Pairs of holds of different owners that overlap in time; ``collide(a, b)``: the things are the same."""
    same = collide if callable(collide) else (lambda a, b: a == b)
    ordered = sorted(holds, key=lambda hold: hold.start)
    return [
        (a, b)
        for index, a in enumerate(ordered)
        for b in ordered[index + 1 :]
        if b.start < a.end and a.host != b.host and same(a.thing, b.thing)
    ]
