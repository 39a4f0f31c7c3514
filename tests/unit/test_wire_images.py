"""Images and volumes in Docker's spelling, by API version."""

import base64
import json

import msgspec
import pytest

from fairlead.api import wire_images, wire_volumes
from fairlead.core.container import Config
from fairlead.core.imagespec import Credentials, ImageRecord
from fairlead.engine.images import Gone
from fairlead.engine.volumes import Volume
from fairlead.errors import Invalid

IMAGE = ImageRecord("sha256:1", Config(cmd=("sh",)), size=5, created="2026-01-01T00:00:00Z")


def test_a_nameless_image_by_version() -> None:
    assert wire_images.summary(IMAGE, (1, 51))["RepoTags"] == []
    old = wire_images.summary(IMAGE, (1, 42))
    assert (old["RepoTags"], old["RepoDigests"], old["VirtualSize"]) == (["<none>:<none>"], ["<none>@<none>"], 5)
    named = wire_images.summary(msgspec.structs.replace(IMAGE, tags=("a:b",)), (1, 42))
    assert (named["RepoTags"], named["RepoDigests"]) == (["a:b"], None)
    assert "VirtualSize" not in wire_images.summary(IMAGE, (1, 44))
    assert wire_images.summary(IMAGE, (1, 51))["Created"] == 1767225600


def test_inspect_by_version() -> None:
    new = wire_images.inspect(IMAGE, (1, 51), "overlay2", {"UpperDir": "/x"})
    assert list(new["Config"]) == ["Cmd", "Entrypoint", "Env", "Labels", "OnBuild", "User", "Volumes", "WorkingDir"]
    assert new["Config"]["Cmd"] == ("sh",) and "Container" not in new and "VirtualSize" not in new
    old = wire_images.inspect(IMAGE, (1, 43), "overlay2", {})
    assert old["Config"]["Hostname"] == "" and "Container" not in old and old["VirtualSize"] == 5
    assert new["Metadata"] == {"LastTagTime": "0001-01-01T00:00:00Z"} and old["GraphDriver"]["Data"] is None


def test_what_went() -> None:
    assert wire_images.gone([Gone(untagged="a"), Gone(deleted="b")]) == [{"Untagged": "a"}, {"Deleted": "b"}]
    assert wire_images.pruned([], 0) == {"ImagesDeleted": None, "SpaceReclaimed": 0}


@pytest.mark.parametrize("encode", [base64.b64encode, base64.urlsafe_b64encode])
def test_credentials(encode: object) -> None:
    given = {"username": "ü?>", "password": "p", "serveraddress": "s", "identitytoken": "t"}
    header = encode(json.dumps(given).encode()).decode()
    for form in (header, header.rstrip("=")):
        assert wire_images.credentials(form) == Credentials("ü?>", "p", "t", "s")
    assert wire_images.credentials("") == wire_images.credentials("e30=") == Credentials()


@pytest.mark.parametrize(
    "header", ["!", "e3", base64.b64encode(b"nonsense").decode(), base64.b64encode(b"[1]").decode()]
)
def test_credentials_that_are_none(header: str) -> None:
    with pytest.raises(Invalid):
        wire_images.credentials(header)


def test_a_build() -> None:
    query = {
        "buildargs": '{"A":"b","N":null}',
        "labels": '{"l":"m"}',
        "nocache": "1",
        "q": "0",
        "memory": "7",
        "pull": "true",
    }
    asked = wire_images.build_request(query, ["a", ""], ["x:1,y:2"])
    assert (asked.arguments, asked.labels, asked.tags) == ({"A": "b", "N": None}, {"l": "m"}, ("a",))
    assert (asked.no_cache, asked.quiet, asked.pull, asked.memory, asked.extra_hosts) == (
        True,
        False,
        True,
        7,
        ("x:1", "y:2"),
    )
    with pytest.raises(Invalid, match="error reading buildargs"):
        wire_images.build_request({"buildargs": "{"}, [], [])


def test_volumes() -> None:
    asked = wire_volumes.create({"name": "v", "DriverOpts": None, "Labels": {"a": "b"}})
    assert asked == ("v", "", {"a": "b"}, {})
    shown = wire_volumes.volume(Volume("v", "2026-01-01T00:00:00.123Z"), "/p")
    assert shown == {
        "CreatedAt": "2026-01-01T00:00:00Z", "Driver": "local", "Labels": None, "Mountpoint": "/p", "Name": "v",
        "Options": None, "Scope": "local",
    }  # fmt: skip
