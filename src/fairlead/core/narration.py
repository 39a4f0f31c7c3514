r"""A build's story: what the builder says of each step, told in the words of Docker's classic builder.

    STEP 2/3: ENV A=b                   Step 3/7 : ENV A=b
                                         ---> Running in 5d1f0ab6d2c7
    --> 8d97ac4331c                      ---> Removed intermediate container 5d1f0ab6d2c7
                                         ---> 8d97ac4331ce
    [2/2] STEP 1/2: FROM one            Step 4/7 : FROM one
                                         ---> 8d97ac4331ce
    --> Using cache a9ec3a445e3f…        ---> Using cache
                                         ---> a9ec3a445e3f

Promise: line by line what dockerd prints for the same Dockerfile, whatever the ids. Lines of programs that ``RUN``
starts pass through, what they write to stderr in red.

Rules
    1. Steps are counted over all stages, and told as written: both come from the
       Dockerfile (``core.dockerfile``), not from the builder.
    2. What a program prints is never taken for a word of the builder, unless it imitates one to the letter.

    3. The container of a step stays when it is not removed (``--rm=false``), and that of a step that failed unless
       removal is forced: then it is one of ``kept``.

What differs: the number in "Running in" is told with a step's first sign of life, as before that the step may come
from the cache. What ``docker ps`` lists of it comes when the build ends.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

import msgspec

from fairlead.core.dockerfile import SCRATCH, Line, Recipe, without_flags
from fairlead.core.instructions import SHELL

_STEP = re.compile(r"(?:\[(\d+)/\d+\] )?STEP (\d+)/(\d+): (.*)")
_MADE = re.compile(r"--> (Using cache )?([0-9a-f]{11,64})$")
_UNUSED = re.compile(r"\[Warning\] one or more build args were not consumed: \[(.*)\]")
_RESULT = re.compile(r"[0-9a-f]{64}")
_UNSET = re.compile(r'time=".*" level=warning msg="missing .* build argument\. Try adding ')
_COMMIT = re.compile(r"(?:\[\d+/\d+\] )?COMMIT")
_NOISE = (
    "Getting image source signatures", "Copying blob ", "Copying config ", "Writing manifest to", "Storing signat",
    "subprocess exited ", "Error: building at STEP ", "error building at STEP ", "error running container",
    "process failed to start with error: ",
)  # fmt: skip
_MESSAGE = re.compile(r"\x1b\[91m.*?\x1b\[0m|(Step \d+/\d+ : [^\n]*)(\n)|.*?(?:\r\n|\r|\n)|.+", re.DOTALL)
_WITHOUT_CONTAINER = ("FROM", "COPY", "ADD")
_BUILDKIT = ("network", "security")
"""Options of ``RUN`` that the builder has not either."""


class Told(NamedTuple):
    """A container of the story."""

    id: str
    line: Line
    command: tuple[str, ...]
    """what a step with ``RUN`` runs"""
    image: str
    """what it began with, 64 digits; "": nothing"""
    result: str
    """the image it became; "": none, the step failed"""
    stage: int
    shell: tuple[str, ...]
    begun: str
    ended: str


class Narration:
    """One build. ``images``: what each base is (``sha256:…``); ``whole``: the full id for the 11 digits of one;
    ``number``: 64 digits for a container; ``remove`` and ``force``: whether a step's goes with the step, and also
    when it failed."""

    def __init__(
        self,
        recipe: Recipe,
        images: Mapping[str, str],
        whole: Callable[[str], str],
        number: Callable[[], str],
        now: Callable[[], str],
        remove: bool = True,
        force: bool = False,
    ) -> None:
        self._recipe = recipe
        self._images = images
        self._whole = whole
        self._number = number
        self._now = now
        self._remove = remove
        self._force = force
        self.kept: list[Told] = []
        """containers that stay, in the order of their steps"""
        self._step: Line | None = None
        self._stage = 0
        self._latest: dict[int, str] = {}
        """stage -> the image of its latest step, 64 digits"""
        self.made: dict[str, str] = {}
        """the image of each step so far -> the one before it; "" if there is none"""
        self._container = self._begun = ""
        self.step = ""
        """the step the builder is at, as it says it"""
        self.result = ""
        """the builder's id of what it made, its last word"""
        self._shell: tuple[str, ...] = SHELL

    @property
    def command(self) -> tuple[str, ...]:
        """What a step with ``RUN`` runs."""
        rest = without_flags(self.step.partition(" ")[2].strip())[1]
        return (_words(rest) if rest.startswith("[") else None) or (*self._shell, rest)

    @property
    def refused(self) -> str:
        """The option of a step with ``RUN`` that only BuildKit has; "": none."""
        word, _, rest = self.step.partition(" ")
        flags = without_flags(rest.strip())[0] if word.upper() == "RUN" else {}
        return next((name for name in _BUILDKIT if name in flags), "")

    def opening(self) -> Iterator[str]:
        """What stands before the first image is looked for."""
        first = self._recipe.stages[0].lines[:1]
        for count, line in enumerate((*self._recipe.leading, *first), 1):
            yield f"Step {count}/{self._recipe.steps} : {line.text}\n"

    def hear(self, line: str) -> str:
        """What to tell for a line of the builder's stdout; "": nothing."""
        plain = line.rstrip("\r\n")
        if step := _STEP.fullmatch(plain):
            return self._begins(int(step[1] or 1) - 1, int(step[2]), int(step[3]), step[4])
        if made := _MADE.search(plain):
            if self._step is not None and (not made.start() or self._step.word == "RUN"):
                return self._ends(plain[: made.start()], made[2], cached=bool(made[1]))
            if not made.start():
                return ""
        if unused := _UNUSED.fullmatch(plain):
            return f"[Warning] One or more build-args [{unused[1]}] were not consumed\n"
        if self._step is None and _RESULT.fullmatch(plain):
            self.result = plain
            return ""
        return "" if self._is_noise(plain) else self._running() + line

    def hear_error(self, line: str) -> str:
        """The same for its stderr, where its own complaints and those of the steps' programs come."""
        if self._is_noise(line.rstrip("\r\n")):
            return ""
        return f"{self._running()}\x1b[91m{line}\x1b[0m"

    def broken(self) -> str:
        """The step failed: what is still to be told of it."""
        running = self._running() if self._runs and not self.refused else ""
        left = self._leaves("", self._force) if self._step is not None and self._container else ""
        self._step = None
        return running + left

    # -- inside -------------------------------------------------------------------------------

    @property
    def _runs(self) -> bool:
        return self._step is not None and self._step.word == "RUN"

    def _begins(self, stage: int, number: int, count: int, said: str) -> str:
        self._stage, self._container, self.step, self._begun = stage, "", said, self._now()
        self._step = line = self._line(stage, number, count, said)
        if line.word in ("FROM", "SHELL"):
            self._shell = (_words(line.rest) if line.word == "SHELL" else None) or SHELL
        if line.word != "FROM":
            return f"Step {self._before(stage) + number}/{self._recipe.steps} : {line.text}\n"
        self._step = None
        told = "" if stage == 0 else f"Step {self._before(stage) + 1}/{self._recipe.steps} : {line.text}\n"
        self._latest[stage] = self._base(stage)
        return f"{told} ---> {self._latest[stage][:12]}\n"

    def _ends(self, printed: str, id: str, *, cached: bool) -> str:
        running = "" if cached else self._running()
        id = id if len(id) == 64 else self._whole(id)
        left = self._leaves(id, self._remove) if self._container and not cached else ""
        self._step = None
        parent, self._latest[self._stage] = self._latest.get(self._stage, ""), id
        if id != parent:
            self.made.setdefault(id, parent)
        if cached:
            return f" ---> Using cache\n ---> {id[:12]}\n"
        return f"{running}{printed}{left} ---> {id[:12]}\n"

    def _leaves(self, result: str, removed: bool) -> str:
        """The container of the step is done, whatever became of it."""
        if removed or self._step is None:
            return f" ---> Removed intermediate container {self._container[:12]}\n"
        before = self._latest.get(self._stage, "")
        told = (self._step, self.command, before, result, self._stage, self._shell, self._begun, self._now())
        self.kept.append(Told(self._container, *told))
        return ""

    def _running(self) -> str:
        """Told once for each step that has a container."""
        if self._step is None or self._container or self._step.word in _WITHOUT_CONTAINER:
            return ""
        self._container = self._number()
        return f" ---> Running in {self._container[:12]}\n"

    def _line(self, stage: int, number: int, count: int, said: str) -> Line:
        """The step as written; as the builder says it if it counts otherwise (triggers of the base come first)."""
        lines = self._recipe.stages[stage].lines if stage < len(self._recipe.stages) else ()
        if count == len(lines) and number <= count:
            return lines[number - 1]
        return Line(0, 0, said.partition(" ")[0].upper(), "", said)

    def _before(self, stage: int) -> int:
        """Steps before a stage."""
        return len(self._recipe.leading) + sum(len(each.lines) for each in self._recipe.stages[:stage])

    def _base(self, stage: int) -> str:
        base = self._recipe.stages[stage].base if stage < len(self._recipe.stages) else ""
        if isinstance(base, int):
            return self._latest.get(base, "")
        return "" if base == SCRATCH else self._images.get(base, "").removeprefix("sha256:")

    def _is_noise(self, plain: str) -> bool:
        """Bookkeeping of the builder's."""
        return plain.startswith(_NOISE) or bool(_COMMIT.fullmatch(plain) or _UNSET.match(plain))


def messages(text: str) -> Iterator[str]:
    """What is told in one go as the messages in which dockerd sends it: a line each, a step's without its end."""
    for found in _MESSAGE.finditer(text):
        yield from (found[1], found[2]) if found[1] else (found[0],)


def _words(listed: str) -> tuple[str, ...] | None:
    try:
        return msgspec.json.decode(listed, type=tuple[str, ...])
    except (msgspec.DecodeError, UnicodeEncodeError):
        return None
