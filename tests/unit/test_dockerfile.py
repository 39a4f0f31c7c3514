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
