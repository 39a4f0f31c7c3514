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

What differs: the builder's containers cannot be asked for by name. The number in "Running in" is of the story only. It
is told with a step's first sign of life, as before that the step may come from the cache.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping

import msgspec

from fairlead.core.dockerfile import SCRATCH, Line, Recipe

_STEP = re.compile(r"(?:\[(\d+)/\d+\] )?STEP (\d+)/(\d+): (.*)")
_MADE = re.compile(r"--> (Using cache )?([0-9a-f]{11,64})$")
_UNUSED = re.compile(r"\[Warning\] one or more build args were not consumed: \[(.*)\]")
_RESULT = re.compile(r"[0-9a-f]{64}")
_UNSET = re.compile(r'time=".*" level=warning msg="missing .* build argument\. Try adding ')
_COMMIT = re.compile(r"(?:\[\d+/\d+\] )?COMMIT")
_NOISE = (
    "Getting image source signatures", "Copying blob ", "Copying config ", "Writing manifest to", "Storing signat",
    "subprocess exited with status ", "Error: building at STEP ", "error building at STEP ", "error running container",
)  # fmt: skip
_MESSAGE = re.compile(r"\x1b\[91m.*?\x1b\[0m|(Step \d+/\d+ : [^\n]*)(\n)|.*?(?:\r\n|\r|\n)|.+", re.DOTALL)
_SHELL = "/bin/sh -c"
_WITHOUT_CONTAINER = ("FROM", "COPY", "ADD")


class Narration:
    """One build. ``images``: what each base is (``sha256:…``); ``whole``: the full id for the 11 digits of one;
    ``number``: twelve digits for a container."""

    def __init__(
        self,
        recipe: Recipe,
        images: Mapping[str, str],
        whole: Callable[[str], str],
        number: Callable[[], str],
    ) -> None:
        self._recipe = recipe
        self._images = images
        self._whole = whole
        self._number = number
        self._step: Line | None = None
        self._stage = 0
        self._latest: dict[int, str] = {}
        """stage -> the image of its latest step, 64 digits"""
        self.made: dict[str, str] = {}
        """the image of each step so far -> the one before it; "" if there is none"""
        self._container = ""
        self.step = ""
        """the step the builder is at, as it says it"""
        self.result = ""
        """the builder's id of what it made, its last word"""
        self._shell = _SHELL

    @property
    def command(self) -> str:
        """What a step with ``RUN`` runs."""
        rest = self.step.partition(" ")[2].strip()
        return _words(rest) if rest.startswith("[") else f"{self._shell} {rest}"

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
        return self._running() if self._step is not None and self._step.word == "RUN" else ""

    # -- inside -------------------------------------------------------------------------------

    def _begins(self, stage: int, number: int, count: int, said: str) -> str:
        self._stage, self._container, self.step = stage, "", said
        self._step = line = self._line(stage, number, count, said)
        self._shell = _SHELL if line.word == "FROM" else _words(line.rest) if line.word == "SHELL" else self._shell
        if line.word != "FROM":
            return f"Step {self._before(stage) + number}/{self._recipe.steps} : {line.text}\n"
        self._step = None
        told = "" if stage == 0 else f"Step {self._before(stage) + 1}/{self._recipe.steps} : {line.text}\n"
        self._latest[stage] = self._base(stage)
        return f"{told} ---> {self._latest[stage][:12]}\n"

    def _ends(self, printed: str, id: str, *, cached: bool) -> str:
        running = "" if cached else self._running()
        self._step = None
        id = id if len(id) == 64 else self._whole(id)
        parent, self._latest[self._stage] = self._latest.get(self._stage, ""), id
        if id != parent:
            self.made.setdefault(id, parent)
        if cached:
            return f" ---> Using cache\n ---> {id[:12]}\n"
        removed = f" ---> Removed intermediate container {self._container}\n" if self._container else ""
        return f"{running}{printed}{removed} ---> {id[:12]}\n"

    def _running(self) -> str:
        """Told once for each step that has a container."""
        if self._step is None or self._container or self._step.word in _WITHOUT_CONTAINER:
            return ""
        self._container = self._number()
        return f" ---> Running in {self._container}\n"

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


def _words(listed: str) -> str:
    try:
        return " ".join(msgspec.json.decode(listed, type=list[str]))
    except (msgspec.DecodeError, UnicodeEncodeError):
        return listed
