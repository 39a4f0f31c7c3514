"""Why a step failed, and what the container of a step shows that ran nothing: dockerd's words."""

import pytest

from fairlead.core import buildwords, dockerfile
from fairlead.core.container import Config
from fairlead.core.narration import Narration
from fairlead.errors import FairleadError

RUNTIME = (
    "failed to create task for container: failed to create shim task: OCI runtime create failed: runc create failed:"
    " unable to start container process: error during container init: "
)


def failed(step: str, *told: str) -> FairleadError:
    recipe = dockerfile.recipe(f"FROM a\n{step}\n", {}, "", {})
    teller = Narration(recipe, {"a": f"sha256:{'b' * 64}"}, str, lambda: "1" * 64, str)
    for line in ("STEP 1/2: FROM a\n", f"STEP 2/2: {step}\n"):
        teller.hear(line)
    return buildwords.failure(teller, told)


@pytest.mark.parametrize(
    ("step", "told", "says", "code"),
    [
        ("RUN exit 7", "exit status 7", "The command '/bin/sh -c exit 7' returned a non-zero code: 7", 7),
        ("RUN x", "subprocess exited on killed", "The command '/bin/sh -c x' returned a non-zero code: 137", 137),
        (
            'RUN ["nosuch"]',
            'process failed to start with error: exec: "nosuch": executable file not found in $PATHprocess exited'
            " with error: exec: not startedsubprocess exited with status 1",
            f'{RUNTIME}exec: "nosuch": executable file not found in $PATH',
            None,
        ),
        (
            "RUN x",
            "process failed to start with error: fork/exec /bin/sh: no such file or directoryprocess exited",
            f'{RUNTIME}exec: "/bin/sh": stat /bin/sh: no such file or directory',
            None,
        ),
        (
            "RUN x",
            'determining run uid: user: unknown user error looking up user "who"',
            "unable to find user who: no matching entries in passwd file",
            None,
        ),
        (
            "RUN --network=none x",
            "RUN only supports the --mount flag",
            "the --network option requires BuildKit. Refer to https://docs.docker.com/go/buildkit/ to learn how to"
            " build images with BuildKit enabled",
            None,
        ),
        (
            "COPY x /",
            'Error: building at STEP "COPY x /": copier: stat: "/x": no such file or directory',
            "COPY failed: file not found in build context or excluded by .dockerignore: stat x: file does not exist",
            None,
        ),
        ("ENV A=b", 'Error: building at STEP "ENV A=b": whatever', "whatever", None),
    ],
)
def test_failures(step: str, told: str, says: str, code: int | None) -> None:
    error = failed(step, "before", told)
    assert error.message == says and getattr(error, "exit_code", None) == code


@pytest.mark.parametrize(
    ("step", "shows"),
    [
        ("ENV A=$B C='d e'", ("#(nop) ", "ENV A=bee C=d e")),
        ("WORKDIR sub", ("#(nop) WORKDIR /top/sub",)),
        ('CMD ["sh", "-c", "x"]', ("#(nop) ", 'CMD ["sh" "-c" "x"]')),
        ('ENTRYPOINT say "x"', ("#(nop) ", 'ENTRYPOINT ["/bin/sh" "-c" "say \\"x\\""]')),
        ("VOLUME /data", ("#(nop) ", "VOLUME [/data]")),
        ('SHELL ["/bin/ash","-ec"]', ("#(nop) ", "SHELL [/bin/ash -ec]")),
        ('LABEL a=b c="d e"', ("#(nop) ", "LABEL a=b c=d e")),
        ("EXPOSE 80 90/udp", ("#(nop) ", "EXPOSE 80 90/udp")),
        ("ONBUILD RUN x", ("#(nop) ", "ONBUILD RUN x")),
        ("LABEL a", ("#(nop) ", "LABEL a")),
    ],
)
def test_steps_that_run_nothing(step: str, shows: tuple[str, ...]) -> None:
    word, _, rest = step.partition(" ")
    before = Config(env=("B=bee",), working_dir="/top")
    assert buildwords.nothing(word, rest, before, ("/bin/sh", "-c")) == ("/bin/sh", "-c", *shows)


def test_arguments_of_a_step() -> None:
    text = "ARG V=1\nFROM a\nARG V\nARG W=w$V\nARG X\nRUN x\nARG LATER=1\n"
    recipe = dockerfile.recipe(text, {"X": "given"}, "", {})
    run = next(line for line in recipe.stages[0].lines if line.word == "RUN")
    assert dockerfile.arguments(recipe, 0, run, {"X": "given"}) == ("V=1", "W=w1", "X=given")
