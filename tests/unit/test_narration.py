"""A build's story in Docker's words: buildah's lines on the left of each test, dockerd's on the right."""

import itertools

import pytest

from fairlead.core import dockerfile
from fairlead.core.narration import Narration, messages

BASE = "b" * 64


def story(
    text: str, *said: str, target: str = "", labels: dict[str, str] | None = None, remove: bool = True,
    force: bool = False,
) -> tuple[str, Narration]:  # fmt: skip
    """What is told when the builder says this; a line that begins with "!" it says on stderr."""
    numbers = iter(("1" * 64, "2" * 64, "3" * 64))
    clock = itertools.count()
    recipe = dockerfile.recipe(text, {}, target, labels or {})
    teller = Narration(
        recipe,
        {"a": f"sha256:{BASE}"},
        lambda short: short + "f" * 53,
        lambda: next(numbers),
        lambda: f"at {next(clock)}",
        remove,
        force,
    )
    told = "".join(teller.opening())
    for line in said:
        told += teller.hear_error(line[1:]) if line.startswith("!") else teller.hear(line)
    return told, teller


def test_every_step_is_told_as_dockerd_tells_it() -> None:
    told, teller = story(
        "ARG V=1\nFROM a AS one\nENV A=1 \\\n    B=2\nCOPY f /\nrun echo hi\n",
        "STEP 1/4: FROM a AS one\n",
        "STEP 2/4: ENV A=1     B=2\n",
        "--> 8d97ac4331c\n",
        "STEP 3/4: COPY f /\n",
        "--> 1d97ac4331c\n",
        "STEP 4/4: run echo hi\n",
        "!careful\n",
        "hi\n",
        "COMMIT\n",
        "--> 2d97ac4331c\n",
        f"{'2' * 64}\n",
    )
    assert told.splitlines(True) == [
        "Step 1/5 : ARG V=1\n",
        "Step 2/5 : FROM a AS one\n",
        " ---> bbbbbbbbbbbb\n",
        "Step 3/5 : ENV A=1     B=2\n",
        " ---> Running in 111111111111\n",
        " ---> Removed intermediate container 111111111111\n",
        " ---> 8d97ac4331cf\n",
        "Step 4/5 : COPY f /\n",
        " ---> 1d97ac4331cf\n",
        "Step 5/5 : run echo hi\n",
        " ---> Running in 222222222222\n",
        "\x1b[91mcareful\n",
        "\x1b[0mhi\n",
        " ---> Removed intermediate container 222222222222\n",
        " ---> 2d97ac4331cf\n",
    ]
    assert teller.result == "2" * 64


def test_a_step_out_of_the_cache_is_told_once() -> None:
    told, _ = story(
        "FROM a\nENV A=1\nRUN x\n",
        "STEP 1/3: FROM a\n",
        "STEP 2/3: ENV A=1\n",
        f"--> Using cache {'7' * 64}\n",
        "--> 77777777777\n",
        "STEP 3/3: RUN x\n",
        f"--> Using cache {'8' * 64}\n",
        "COMMIT\n",
        "--> 88888888888\n",
    )
    assert told.splitlines()[2:] == [
        "Step 2/3 : ENV A=1",
        " ---> Using cache",
        " ---> 777777777777",
        "Step 3/3 : RUN x",
        " ---> Using cache",
        " ---> 888888888888",
    ]


def test_steps_are_counted_over_all_stages() -> None:
    told, _ = story(
        "FROM a AS one\nENV A=1\nFROM one\nFROM scratch\nCOPY --from=one /x /\n",
        "[1/3] STEP 1/2: FROM a AS one\n",
        "[1/3] STEP 2/2: ENV A=1\n",
        "--> 8d97ac4331c\n",
        "[2/3] STEP 1/1: FROM one\n",
        "[3/3] STEP 1/2: FROM scratch\n",
        "[3/3] STEP 2/2: COPY --from=one /x /\n",
        "[3/3] COMMIT\n",
        "--> 1d97ac4331c\n",
    )
    assert [line for line in told.splitlines() if "container" not in line and "Running" not in line] == [
        "Step 1/5 : FROM a AS one",
        " ---> bbbbbbbbbbbb",
        "Step 2/5 : ENV A=1",
        " ---> 8d97ac4331cf",
        "Step 3/5 : FROM one",
        " ---> 8d97ac4331cf",
        "Step 4/5 : FROM scratch",
        " ---> ",
        "Step 5/5 : COPY --from=one /x /",
        " ---> 1d97ac4331cf",
    ]


def test_what_programs_print_passes_through() -> None:
    digest = "4b" * 32
    told, _ = story(
        "FROM a\nRUN x\n",
        "STEP 1/2: FROM a\n",
        "STEP 2/2: RUN x\n",
        f"{digest}\n",
        "10%\r",
        "no line feed--> 8d97ac4331c\n",
    )
    assert told.splitlines(True)[3:] == [
        " ---> Running in 111111111111\n",
        f"{digest}\n",
        "10%\r",
        "no line feed ---> Removed intermediate container 111111111111\n",
        " ---> 8d97ac4331cf\n",
    ]


def test_a_step_that_fails_was_running() -> None:
    told, teller = story(
        'FROM a\nSHELL ["sh", "-ec"]\nRUN false\n',
        "STEP 1/3: FROM a\n",
        'STEP 2/3: SHELL ["sh", "-ec"]\n',
        "--> 8d97ac4331c\n",
        "STEP 3/3: RUN false\n",
        '!error building at STEP "RUN false": exit status 1\n',
    )
    assert told.endswith("Step 3/3 : RUN false\n")
    assert teller.broken() == " ---> Running in 222222222222\n" and teller.broken() == ""
    assert teller.command == ("sh", "-ec", "false")
    assert [(told.id, told.image[:11], told.result) for told in teller.kept] == [("2" * 64, "8d97ac4331c", "")]


def test_a_step_that_fails_leaves_nothing_when_that_is_asked_for() -> None:
    _, teller = story("FROM a\nRUN false\n", "STEP 1/2: FROM a\n", "STEP 2/2: RUN false\n", "out\n", force=True)
    assert teller.broken() == " ---> Removed intermediate container 111111111111\n" and teller.kept == []


def test_containers_that_are_not_removed_are_kept() -> None:
    text = 'FROM a\nENV A=1\nCOPY f /\nSHELL ["sh", "-ec"]\nRUN --mount=type=cache,target=/x echo hi\n'
    said = ["ENV A=1", "COPY f /", 'SHELL ["sh", "-ec"]', "RUN --mount=type=cache,target=/x echo hi"]
    lines = ["STEP 1/5: FROM a\n"]
    for number, step in enumerate(said, 2):
        lines += [f"STEP {number}/5: {step}\n", f"--> {number}d97ac4331c\n"]
    told, teller = story(text, *lines, remove=False)
    assert "Removed" not in told
    one, two, three = teller.kept
    assert (one.image, one.result[:2], one.line.text) == (BASE, "2d", "ENV A=1")
    assert (two.image[:2], two.result[:2], two.shell) == ("3d", "4d", ("sh", "-ec"))
    assert (three.command, three.result[:2]) == (("sh", "-ec", "echo hi"), "5d")
    assert int(three.begun[3:]) < int(three.ended[3:])


def test_what_only_buildkit_has_never_ran() -> None:
    _, teller = story("FROM a\nRUN --network=none x\n", "STEP 1/2: FROM a\n", "STEP 2/2: RUN --network=none x\n")
    assert teller.broken() == "" and teller.refused == "network" and teller.kept == []


def test_a_copy_that_fails_has_no_container() -> None:
    _, teller = story("FROM a\nCOPY x /\n", "STEP 1/2: FROM a\n", "STEP 2/2: COPY x /\n")
    assert teller.broken() == ""


@pytest.mark.parametrize(
    ("step", "command"), [('RUN ["a", "b c"]', ("a", "b c")), ("RUN a  b", ("/bin/sh", "-c", "a  b"))]
)
def test_what_a_step_runs(step: str, command: tuple[str, ...]) -> None:
    _, teller = story(f"FROM a\n{step}\n", "STEP 1/2: FROM a\n", f"STEP 2/2: {step}\n")
    assert teller.command == command


def test_triggers_of_the_base_are_told_as_the_builder_says_them() -> None:
    told, _ = story("FROM a\nENV A=1\n", "STEP 1/3: FROM a\n", "STEP 2/3: RUN trigger\n", "--> 8d97ac4331c\n")
    assert "Step 2/2 : RUN trigger\n" in told


def test_messages_are_those_in_which_dockerd_sends_it() -> None:
    red = "\x1b[91mcare\nful\n\x1b[0m"
    told = f"Step 1/2 : RUN x\n ---> Running in 111111111111\n{red}10%\rhi\r\nno end"
    assert list(messages(told)) == [
        *("Step 1/2 : RUN x", "\n", " ---> Running in 111111111111\n", red, "10%\r", "hi\r\n", "no end"),
    ]


def test_what_was_made_and_on_what() -> None:
    _, teller = story(
        "FROM a AS one\nENV A=1\nARG X\nFROM scratch\nCOPY x /\nFROM one\nRUN x\n",
        "[1/3] STEP 1/2: FROM a AS one\n",
        "[1/3] STEP 2/2: ENV A=1\n",
        "--> 1d97ac4331c\n",
        "[1/3] STEP 3/3: ARG X\n",
        "--> 1d97ac4331c\n",
        "[2/3] STEP 1/2: FROM scratch\n",
        "[2/3] STEP 2/2: COPY x /\n",
        "--> 2d97ac4331c\n",
        "[3/3] STEP 1/2: FROM 1d97ac4331c\n",
        "[3/3] STEP 2/2: RUN x\n",
        "[3/3] COMMIT\n",
        "--> 3d97ac4331c\n",
    )
    one, two, three = (f"{digit}d97ac4331c{'f' * 53}" for digit in "123")
    assert teller.made == {one: BASE, two: "", three: one}


def test_an_argument_without_a_value_is_no_complaint() -> None:
    warning = (
        r'time="2026-11-22T06:23:40Z" level=warning msg="missing \"X\" build argument. Try adding \"--build-arg X"'
    )
    assert story("FROM a\nARG X\n", f"!{warning}\n")[0] == "Step 1/2 : FROM a\n"
