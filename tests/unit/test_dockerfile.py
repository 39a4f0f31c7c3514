"""Which images a Dockerfile starts from."""

import pytest

from fairlead.core import dockerfile
from fairlead.errors import Invalid


@pytest.mark.parametrize(
    ("text", "arguments", "expected"),
    [
        ("FROM busybox", {}, ("busybox",)),
        ("# x\nfrom  a AS one\nFROM one\nFROM b:1 as two\nCOPY --from=two x y", {}, ("a", "b:1")),
        ("FROM scratch\nCOPY --from=redis:7 a b\nCOPY --from=0 a b", {}, ("redis:7",)),
        ("ARG V=1\nARG W=${V}2\nFROM a:$W\nARG V=9\nFROM b:${V:-x}", {}, ("a:12", "b:1")),
        ("ARG V=1\nFROM a:$V", {"V": "2", "N": None}, ("a:2",)),
        (
            "FROM --platform=linux/amd64 a \\\n  AS one\nRUN --mount=type=bind,from=c,target=/x y --from=d",
            {},
            ("a", "c"),
        ),
        ("# escape=`\nFROM a `\n AS b\nFROM b", {}, ("a",)),
        ("FROM a\nFROM a", {}, ("a",)),
    ],
)
def test_bases(text: str, arguments: dict[str, str | None], expected: tuple[str, ...]) -> None:
    assert dockerfile.bases(text, arguments) == expected


@pytest.mark.parametrize("text", ["", "RUN x", "# FROM a"])
def test_without_a_stage_there_is_nothing_to_build(text: str) -> None:
    with pytest.raises(Invalid, match="no build stage in current context"):
        dockerfile.bases(text, {})


@pytest.mark.parametrize(
    ("text", "target", "words"),
    [
        (" \n", "", "the Dockerfile (D) cannot be empty"),
        ("FROM a\n\n# c\nRUN x \\\n  y\nBOGUS z", "", "dockerfile parse error on line 6: unknown instruction: BOGUS"),
        ("FROM a AS one\nFROM b", "two", 'target stage "two" could not be found'),
    ],
)
def test_what_is_no_dockerfile(text: str, target: str, words: str) -> None:
    with pytest.raises(Invalid) as refused:
        dockerfile.check(text, "D", target)
    assert refused.value.message == words


@pytest.mark.parametrize("target", ["", "one", "ONE", "1"])
def test_what_is_one(target: str) -> None:
    dockerfile.check("from a as one\nFROM b\nRUN cat <<X\nhi there\nX", "D", target)


def texts(text: str, target: str = "", **labels: str) -> list[str]:
    made = dockerfile.recipe(text, {}, target, labels)
    return [line.text for line in (*made.leading, *(line for stage in made.stages for line in stage.lines))]


def test_a_recipe_has_every_step_as_written() -> None:
    text = "# c\nARG V=1\nfrom a \\\n# in between\n\n  as one\nRUN cat <<X && \\\n  true\nFROM no\nX\nRUN x"
    assert texts(text) == ["ARG V=1", "from a   as one", "RUN cat <<X &&   true", "RUN x"]


def test_a_recipe_ends_with_its_target_and_the_labels() -> None:
    text = "FROM a AS one\nRUN x\nFROM b AS two\nRUN y\n"
    made = dockerfile.recipe(text, {}, "ONE", {"z": "1", "k": 'two "words" of $HOME\\'})
    assert texts(text, "0", k="v w") == ["FROM a AS one", "RUN x", "LABEL k=v w"]
    assert made.text.splitlines() == [
        *("FROM a AS one", "RUN x", 'LABEL "k"="two \\"words\\" of \\$HOME\\\\"', 'LABEL "z"="1"'),
    ]
    assert made.steps == 4 and dockerfile.bases(made.text, {}) == ("a",)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("FROM a AS one\nFROM One", ["a", 0]),
        ("FROM a\nFROM a", ["a", "a"]),
        ("ARG V=b\nFROM --platform=linux/amd64 ${V}:1\nFROM scratch", ["b:1", "scratch"]),
    ],
)
def test_what_each_stage_starts_from(text: str, found: list[str | int]) -> None:
    assert [stage.base for stage in dockerfile.recipe(text, {}, "", {}).stages] == found
