"""Here-documents of Dockerfiles, for a builder that knows none."""

import json

import msgspec
import pytest

from fairlead.core import dockerfile
from fairlead.core.container import Config
from fairlead.core.heredocs import CONTEXT, filled, without
from fairlead.errors import Invalid

BASE = Config(env=("HOME=/root", "WHO=base"))
BASH = msgspec.json.decode(b'{"shell": ["/bin/bash", "-ec"]}', type=Config)


def built(text: str, **arguments: str) -> tuple[list[str], dict[str, str]]:
    """What the builder reads, and the files, by their names."""
    recipe = dockerfile.recipe(text, arguments, "", {})
    said, files = without(recipe, arguments, {"a": BASE, "b": BASH})
    lines = [" ".join(word.split("/", 1)[-1] if "/" in word and len(word) > 64 else word for word in line.split(" "))
             for line in said.splitlines()]  # fmt: skip
    return lines, {path.partition("/")[2]: content.decode() for path, content in files.items()}


def run(text: str) -> list[str]:
    """The words of the only RUN."""
    (line,) = [line for line in built(text)[0] if line.startswith("RUN ")]
    return json.loads(line.removeprefix("RUN "))


def test_a_dockerfile_without_any_stays_as_it_is() -> None:
    text = 'FROM a\n# a comment\nRUN echo "no <<EOF here" \\\n  && true\n'
    assert without(dockerfile.recipe(text, {}, "", {}), {}, {}) == (text, {})


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("FROM a\nRUN <<EOF\necho $WHO\n\n  # no comment\nEOF", ["/bin/sh", "-c", "echo $WHO\n\n  # no comment\n"]),
        ("FROM b\nRUN <<-'X'\n\tif true\n\tX", ["/bin/bash", "-ec", "if true\n"]),
        ('FROM a\nSHELL ["/x", "-y"]\nRUN <<EOF\n1\nEOF', ["/x", "-y", "1\n"]),
        ("FROM a\nRUN cat <<A - <<-B >f\n1\nA\n\t2\n\tB\n", ["/bin/sh", "-c", "cat <<A - <<-B >f\n1\nA\n\t2\nB\n"]),
        (
            'FROM a\nRUN echo $(( 1 << 2 )) && cat << "X" <<Y\nx\nX\nY',
            ["/bin/sh", "-c", 'echo $(( 1 << 2 )) && cat << "X" <<Y\nx\nX\nY\n'],
        ),
        ("FROM a\nRUN << EOF\nx\nEOF\n", ["/bin/sh", "-c", "x\n"]),
        ("FROM a\nRUN <<EOF\nFROM b\nEOF\n", ["/bin/sh", "-c", "FROM b\n"]),
        (
            "FROM a\nRUN <<X\n#!/usr/bin/env python3\nprint('$')\nX\n",
            ["/bin/sh", "-c", "exec /usr/bin/env python3 /dev/fd/3 3<<'X'\n#!/usr/bin/env python3\nprint('$')\nX\n"],
        ),
    ],
)
def test_run(text: str, words: list[str]) -> None:
    assert run(text) == words


def test_flags_and_the_lines_around_stay() -> None:
    lines, _ = built("# c\nFROM a\nRUN --network=none \\\n  <<E\n1\nE\n# d\nUSER x\n")
    assert lines == ["# c", "FROM a", 'RUN --network=none ["/bin/sh","-c","1\\n"]', "# d", "USER x"]


def test_copies_are_files_of_their_own_context() -> None:
    text = 'FROM a\nCOPY --chown=1:2 <<one.txt <<"two" /there/\n$WHO\none.txt\n$WHO\ntwo\nADD <<-E /x\n\ty\nE\n'
    lines, files = built(text)
    assert lines[1:] == [f"COPY --from={CONTEXT} --chown=1:2 one.txt two /there/", f"COPY --from={CONTEXT} E /x"]
    assert files == {"one.txt": "base\n", "two": "$WHO\n", "E": "y\n"}


def test_what_is_long_is_said_in_pieces() -> None:
    script = "# aa bb\n" * 20000
    text, _ = without(dockerfile.recipe(f"FROM a\nRUN <<E\n{script}E\n", {}, "", {}), {}, {"a": BASE})
    assert max(map(len, text.splitlines())) < 1 << 16
    assert not [line for line in text.splitlines() if line.startswith(("#", " "))]
    assert json.loads(text.partition("RUN ")[2].replace("\\\n", ""))[2] == script


def test_another_content_is_another_path() -> None:
    first, second = (built_paths(f"FROM a\nCOPY <<E /x\n{text}\nE\n") for text in "12")
    assert first != second


def built_paths(text: str) -> list[str]:
    return list(without(dockerfile.recipe(text, {}, "", {}), {}, {})[1])


@pytest.mark.parametrize(
    ("before", "value"),
    [
        ("FROM a", "base"),
        ("FROM a\nARG WHO=arg", "base"),
        ("FROM scratch\nARG WHO=arg", "arg"),
        ("FROM scratch\nARG X=1 WHO=given\nENV WHO=env$X", "env1"),
        ("FROM scratch\nARG GIVEN=default\nENV WHO=$GIVEN", "yes"),
        ("ARG LEAD=lead\nFROM scratch\nENV WHO=$LEAD", ""),
        ("ARG LEAD=lead\nFROM scratch\nARG LEAD\nENV WHO ${LEAD} x", "lead x"),
        ("FROM scratch AS one\nENV WHO=one\nARG Y=2\nFROM one", "one"),
        ("FROM scratch AS one\nARG WHO=one\nFROM one", ""),
    ],
)
def test_variables_are_those_of_the_step(before: str, value: str) -> None:
    _, files = built(f"{before}\nCOPY <<E /x\n$WHO\nE\nENV WHO=late\n", GIVEN="yes")
    assert files == {"E": f"{value}\n"}


def test_what_fills_a_document() -> None:
    text = "\"$A\" '$A' \\$A \\\\ ${A}b ${B:-c}$B $ 5$\n"
    assert filled(text, {"A": "x"}) == "\"x\" 'x' $A \\ xb c $ 5$\n"


@pytest.mark.parametrize("line", ["COPY a <<E /x/", "COPY --from=b <<E /x", "ADD <<E"])
def test_a_step_copies_documents_or_files(line: str) -> None:
    with pytest.raises(Invalid, match=r"dockerfile parse error on line 2: (COPY|ADD) takes here-documents and other"):
        built(f"FROM a\n{line}\n1\nE\n")


def test_a_variable_without_a_name_is_refused() -> None:
    with pytest.raises(Invalid, match="ENV requires at least one argument"):
        built("FROM a\nENV\nCOPY <<E /x\n1\nE\n")


def test_a_document_has_an_end() -> None:
    with pytest.raises(Invalid, match="dockerfile parse error on line 2: unterminated heredoc"):
        dockerfile.check("FROM a\nRUN <<E\nx\n", "D", "")
