r"""Words of Docker's classic builder about a step: why it failed, and what its container shows when it ran nothing.

exit status 7                       The command '/bin/sh -c exit 7' returned a non-zero code: 7
copier: stat: "/x": no such file    COPY failed: file not found in build context or excluded by .dockerignore: …
VOLUME /data                        /bin/sh -c '#(nop) ' 'VOLUME [/data]'
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from fairlead.core import complaints, instructions
from fairlead.core.container import Config
from fairlead.core.narration import Narration
from fairlead.errors import FairleadError, Internal, Invalid

_MISSING = re.compile(r'copier: stat: "/?(.*)": no such file or directory')
_EXIT = re.compile(r"subprocess exited with status (\d+)|exit status (\d+)")
_KILLED = re.compile(r"subprocess exited on (\w+)")
_NOT_STARTED = re.compile(r"process failed to start with error: (?:exec: .*?|fork/exec .*?): (.*?)(?:process exited|$)")
_NOBODY = re.compile(r'(?:user: )?unknown (?:user|group) error looking up (user|group) "(.*?)"')
_BUILDKIT = (
    "the --{} option requires BuildKit. Refer to https://docs.docker.com/go/buildkit/ to learn how to build images"
    " with BuildKit enabled"
)
_SIGNALS = {"hangup": 129, "interrupt": 130, "aborted": 134, "killed": 137, "segmentation": 139, "terminated": 143}
"""As the builder calls them -> the code of a process that one of them ended."""


def failure(narration: Narration, told: Sequence[str]) -> FairleadError:
    """Why the step failed that the builder is at; ``told`` is what it said last.

    ``exit_code`` is that of its program; where it has none, and the step is one with ``RUN``, nothing was started."""
    last = next((line for line in reversed(told) if line.strip()), "the build failed")
    word = narration.step.partition(" ")[0].upper()
    if word == "RUN":
        if narration.refused:
            return Invalid(_BUILDKIT.format(narration.refused))
        if error := _unstarted(narration.command, told):
            return error
        if code := _code(told):
            error = Invalid(f"The command '{' '.join(narration.command)}' returned a non-zero code: {code}")
            error.exit_code = code  # type: ignore[attr-defined]
            return error
    if missing := _MISSING.search(last):
        return Invalid(
            f"{word} failed: file not found in build context or excluded by .dockerignore:"
            f" stat {missing[1]}: file does not exist"
        )
    return Invalid(re.sub(r"^[Ee]rror:? ?(building at STEP \".*?\": )?", "", last) or last)


def _unstarted(command: Sequence[str], told: Sequence[str]) -> FairleadError | None:
    """Its program was never there, or nobody to run it."""
    for line in told:
        if found := _NOT_STARTED.search(line):
            error = complaints.of_create(f"executable: {found[1]}", command[0])
            return Internal(error.message)
        if found := _NOBODY.search(line):
            file = {"user": "passwd", "group": "group"}[found[1]]
            return Internal(f"unable to find {found[1]} {found[2]}: no matching entries in {file} file")
    return None


def _code(told: Sequence[str]) -> int:
    for line in told:
        if found := _KILLED.search(line):
            return _SIGNALS.get(found[1], 128)
    codes = [int(found[1] or found[2]) for line in told if (found := _EXIT.search(line))]
    return codes[-1] if codes else 0


def nothing(word: str, rest: str, before: Config, shell: Sequence[str]) -> tuple[str, ...]:
    """The command of the container of a step that only changes what an image says of itself. ``before``: the image's
    configuration when the step began."""
    try:
        if word == "WORKDIR":
            return (*shell, f"#(nop) WORKDIR {instructions.apply(before, [f'WORKDIR {rest}']).working_dir}")
        return (*shell, "#(nop) ", f"{word} {_said(word, rest, before)}")
    except FairleadError:  # the builder is more lenient than we are
        return (*shell, "#(nop) ", f"{word} {rest}")


def _said(word: str, rest: str, before: Config) -> str:
    """As dockerd writes it: lists as Go prints them."""
    if word in ("ENV", "LABEL"):
        pairs = instructions.pairs(word, rest, instructions.environment(before))
        return " ".join(f"{name}={value}" for name, value in pairs)
    if word not in ("CMD", "ENTRYPOINT", "VOLUME", "SHELL", "USER", "STOPSIGNAL", "EXPOSE"):
        return rest
    if word == "SHELL":
        return f"[{' '.join(instructions.words(rest.strip('[]').replace(',', ' '), {}))}]"
    after = instructions.apply(Config(env=before.env, shell=before.shell), [f"{word} {rest}"])
    quoted = {"CMD": after.cmd, "ENTRYPOINT": after.entrypoint}
    if word in quoted:
        return f"[{' '.join(_quoted(each) for each in quoted[word] or ())}]"
    if word == "VOLUME":
        return f"[{' '.join(after.volumes or ())}]"
    return " ".join(instructions.words(rest, instructions.environment(before)))


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
