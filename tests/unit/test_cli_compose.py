"""Compose files: what the recorded sessions (test_cli_overheard) do not show."""

from pathlib import Path
from typing import Any

import pytest

from fairlead.cli import composeread, composeyaml
from fairlead.cli.composefill import fill
from fairlead.cli.composeshape import check
from fairlead.cli.composespec import Stack
from fairlead.errors import Invalid


def document(tmp_path: Path, text: str, **variables: str) -> dict[str, Any]:
    (tmp_path / "c.yml").write_text(text)
    return composeread.read(composeread.Files([str(tmp_path / "c.yml")]), variables)


@pytest.mark.parametrize(
    ("text", "means"),
    [
        ("22:22", "22:22"),
        ("yes", "yes"),
        ("on", "on"),
        ("2026-01-02", "2026-01-02"),
        ("0400", 256),
        ("0x10", 16),
        ("1_000", 1000),
        ("true", True),
        ("~", None),
        (".5", 0.5),
        ("1.2.3", "1.2.3"),
        ("'8'", "8"),
    ],
)
def test_words_of_yaml(text: str, means: object) -> None:
    assert composeyaml.load(f"a: {text}") == {"a": means}


@pytest.mark.parametrize("text", ["80", "yes", "", "0.5", "null", "a: b", "- a", "2026-01-01", "two\nlines\n", "0123"])
def test_a_text_is_still_a_text_when_it_is_read_again(text: str) -> None:
    assert composeyaml.load(composeyaml.dump({"a": text})) == {"a": text}


def test_a_key_is_said_once() -> None:
    with pytest.raises(Invalid, match='line 3: mapping key "a" already defined at line 1'):
        composeyaml.load("a: 1\nb: 2\na: 3\n")


def test_yaml_makes_no_objects() -> None:
    with pytest.raises(Invalid, match="yaml: "):
        composeyaml.load("a: !!python/object/apply:os.system [true]")


@pytest.mark.parametrize(
    ("text", "filled"),
    [
        ("$A", "1"),
        ("${A}b", "1b"),
        ("$$A", "$A"),
        ("${NONE}", ""),
        ("${EMPTY:-x}", "x"),
        ("${EMPTY-x}", ""),
        ("${NONE-$A}", "1"),
        ("${A:?why}", "1"),
    ],
)
def test_variables(text: str, filled: str) -> None:
    wanted = {"services": {"w": {"image": filled}}}
    assert fill({"services": {"w": {"image": text}}}, {"A": "1", "EMPTY": ""}) == wanted


def test_a_variable_becomes_what_belongs_there() -> None:
    given = {
        "services": {"w": {"deploy": {"replicas": "${N}"}, "read_only": "$YES", "image": "$N", "ports": ["$N:80"]}}
    }
    filled = fill(given, {"N": "3", "YES": "yes"})["services"]["w"]
    assert filled == {"deploy": {"replicas": 3}, "read_only": True, "image": "3", "ports": ["3:80"]}
    with pytest.raises(Invalid, match=r"services\.w\.deploy\.replicas"):
        fill({"services": {"w": {"deploy": {"replicas": "${N}"}}}}, {"N": "many"})


def test_sections_of_ones_own_are_left_alone() -> None:
    assert fill({"x-mine": "$A"}, {"A": "1"}) == {"x-mine": "$A"}


@pytest.mark.parametrize(
    ("service", "says"),
    [
        ({"deploy": {"replicas": "two"}}, "services.w.deploy.replicas must be a integer"),
        ({"healthcheck": 5}, "services.w.healthcheck must be a mapping"),
        ({"command": 5}, "services.w.command must be a"),
        ({"volumes": [{"source": "x"}]}, "services.w.volumes.0 type is required"),
        ({"cap_add": ["A", "A"]}, "services.w.cap_add array items must be unique"),
        ({"ulimits": {"nofile": {"soft": 1}}}, "services.w.ulimits.nofile hard is required"),
        ({"networks": {"a": {"nosuch": 1}}}, "services.w.networks.a Additional property nosuch is not allowed"),
    ],
)
def test_the_deepest_thing_that_is_wrong_is_told(service: dict[str, Any], says: str) -> None:
    with pytest.raises(Invalid) as told:
        check({"services": {"w": {"image": "i", **service}}})
    assert told.value.message.startswith(says)


def test_files_laid_over_each_other() -> None:
    one = {"ports": [{"target": 80, "published": 1}, {"target": 81, "published": 2}], "dns": ["a"], "command": ["x"]}
    other = {"ports": [{"target": 90, "published": 2}], "dns": ["b", "a"], "command": ["y"], "labels": {"k": "v"}}
    assert composeread._over(one, other) == {
        "ports": [{"target": 80, "published": 1}, {"target": 90, "published": 2}],
        "dns": ["a", "b"],
        "command": ["y"],
        "labels": {"k": "v"},
    }


def test_the_environment_is_ours_where_the_file_leaves_it_open(tmp_path: Path) -> None:
    (tmp_path / "e").write_text("A=file\nB=file\nC\n")
    text = "services: {w: {image: i, env_file: e, environment: {B: service, D: , E: null, F: ''}}}"
    found = document(tmp_path, text, C="ours", D="ours", F="ours")["services"]["w"]["environment"]
    assert found == {"A": "file", "B": "service", "C": "ours", "D": "ours", "E": None, "F": "ours"}


@pytest.mark.parametrize(
    ("text", "means"),
    [
        ("/a", {"type": "volume", "target": "/a"}),
        (
            "v:/a:nocopy,ro",
            {"type": "volume", "source": "v", "target": "/a", "volume": {"nocopy": True}, "read_only": True},
        ),
        ("./x:/a:rshared", {"type": "bind", "source": "./x", "target": "/a", "bind": {"propagation": "rshared"}}),
        ("~/x:/a", {"type": "bind", "source": "~/x", "target": "/a"}),
    ],
)
def test_short_mounts(text: str, means: dict[str, Any]) -> None:
    assert composeread.mount(text) == means


def test_a_network_that_nobody_uses_is_not_made(tmp_path: Path) -> None:
    text = "services: {w: {image: i, networks: [a]}}\nnetworks: {a: {}, b: {}, c: {external: true}}"
    made, outside = Stack("s", document(tmp_path, text)).networks()
    assert (list(made), outside) == (["s_a"], [])
