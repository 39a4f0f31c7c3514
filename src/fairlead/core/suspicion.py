"""Lifeguard: how much we trust what we think we see.

    LocalHealth    0 is well. Each sign that the fault is ours (probes without any answer, nacks
                   that did not come, having to say that we live) raises it, each answered
                   probe lowers it. All our patience is multiplied by 1 + score.
    Suspicion      a suspect has long to answer while one accuser stands alone, and less with
                   every other that comes to the same opinion by itself.

                       longest - (longest - shortest) * log(others + 1) / log(wanted + 1)

Source: Dadgar, Phillips, Currey, "Lifeguard: Local Health Awareness for More Accurate Failure
Detection" (arXiv 1707.00788), sections IV.A and IV.B. IV.C, the buddy system, is in ``core.probing``.
"""

from __future__ import annotations

import math


class LocalHealth:
    """How slow we believe ourselves to be, 0 to ``worst``."""

    def __init__(self, worst: int) -> None:
        self.score = 0
        self._worst = worst

    def better(self) -> None:
        self.score = max(0, self.score - 1)

    def worse(self, by: int = 1) -> None:
        self.score = min(self._worst, self.score + by)

    def stretched(self, seconds: float) -> float:
        """A time limit for somebody else, given our own state."""
        return seconds * (self.score + 1)


class Suspicion:
    """One suspect: since when, by whom, until when."""

    def __init__(self, since: float, accuser: str, shortest: float, longest: float, wanted: int) -> None:
        """``wanted``: so many others must agree until the time is ``shortest``; 0 when there are too few nodes."""
        self.since = since
        self._accusers = {accuser}
        self._shortest = shortest
        self._longest = longest
        self._wanted = wanted

    def confirm(self, accuser: str) -> bool:
        """Somebody else says so too. Whether that was news worth telling."""
        if accuser in self._accusers or len(self._accusers) > self._wanted:
            return False
        self._accusers.add(accuser)
        return True

    def ends(self) -> float:
        """When the suspect is given up."""
        if self._wanted < 1:
            return self.since + self._shortest
        share = math.log(len(self._accusers)) / math.log(self._wanted + 1)
        return self.since + max(self._shortest, self._longest - (self._longest - self._shortest) * share)
