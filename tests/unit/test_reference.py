"""References: what people type, and the words when it is not one."""

import pytest

from fairlead.core import reference
from fairlead.errors import Invalid


@pytest.mark.parametrize(
    ("typed", "normal", "familiar"),
    [
        ("busybox", "docker.io/library/busybox", "busybox"),
        ("busybox:1.36", "docker.io/library/busybox:1.36", "busybox:1.36"),
        ("docker.io/busybox", "docker.io/library/busybox", "busybox"),
        ("index.docker.io/a/b:c", "docker.io/a/b:c", "a/b:c"),
        ("progrium/consul", "docker.io/progrium/consul", "progrium/consul"),
        ("localhost/x", "localhost/x", "localhost/x"),
        ("localhost:5000/x:y", "localhost:5000/x:y", "localhost:5000/x:y"),
        ("[::1]:5000/x", "[::1]:5000/x", "[::1]:5000/x"),
        ("quay.io/a/b__c/d-e", "quay.io/a/b__c/d-e", "quay.io/a/b__c/d-e"),
        ("a@sha256:" + "0" * 64, "docker.io/library/a@sha256:" + "0" * 64, "a@sha256:" + "0" * 64),
        ("a:b@sha256:" + "0" * 64, "docker.io/library/a:b@sha256:" + "0" * 64, "a:b@sha256:" + "0" * 64),
        ("docker.io/library/a/b", "docker.io/library/a/b", "library/a/b"),
    ],
)
def test_what_is_typed_is_normal_and_familiar(typed: str, normal: str, familiar: str) -> None:
    found = reference.parse(typed)
    assert (found.normal, found.familiar) == (normal, familiar)
    assert reference.parse(found.familiar) == found


@pytest.mark.parametrize(
    ("typed", "words"),
    [
        ("", "invalid reference format"),
        ("a b", "invalid reference format"),
        ("a:", "invalid reference format"),
        ("a:b:c", "invalid reference format"),
        ("-a", "invalid reference format"),
        ("a@sha256:12", "invalid reference format"),
        ("Busybox", "invalid reference format: repository name (library/Busybox) must be lowercase"),
        ("a/B", "invalid reference format: repository name (a/B) must be lowercase"),
        ("f" * 64, f"invalid repository name ({'f' * 64}), cannot specify 64-byte hexadecimal strings"),
        ("x" * 250, "repository name must not be more than 255 characters"),
    ],
)
def test_what_cannot_be_a_reference_is_refused_in_dockers_words(typed: str, words: str) -> None:
    with pytest.raises(Invalid) as error:
        reference.parse(typed)
    assert error.value.message == words


def test_latest_is_meant_where_nothing_is_said() -> None:
    assert reference.parse("a").tagged().familiar == "a:latest"
    assert reference.parse("a:b").tagged().familiar == "a:b"
    assert reference.parse("a@sha256:" + "1" * 64).tagged().tag == ""


def test_ids() -> None:
    assert reference.image_id("a" * 64) == "sha256:" + "a" * 64 == reference.image_id("sha256:" + "a" * 64)
    assert reference.image_id("abc") == ""
    assert (reference.id_prefix("abc"), reference.id_prefix("sha256:abc"), reference.id_prefix("xyz")) == (
        "abc",
        "abc",
        "",
    )


@pytest.mark.parametrize(
    ("pattern", "name", "fits"),
    [
        ("busybox", "busybox:latest", True),
        ("busybox:latest", "busybox:latest", True),
        ("busybox:1", "busybox:latest", False),
        ("busy*", "busybox:latest", True),
        ("*/consul", "progrium/consul:latest", True),
        ("*", "progrium/consul:latest", False),
        ("b[a-z]sybox:*", "busybox:1", True),
        ("localhost:5000/x", "localhost:5000/x:y", True),
    ],
)
def test_reference_filters(pattern: str, name: str, fits: bool) -> None:
    assert reference.matches(pattern, name) is fits
