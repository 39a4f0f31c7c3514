"""Image documents: read what others wrote, write what others can read."""

import json

import pytest

from fairlead.core import imagespec
from fairlead.core.container import Config, Healthcheck
from fairlead.core.imagespec import Blob, History, ImageRecord
from fairlead.errors import Invalid

CONFIG = Config(
    user="u",
    env=("A=b",),
    cmd=("sh",),
    exposed_ports={"80/tcp": {}},
    healthcheck=Healthcheck(test=("NONE",), interval=5),
)
LAYER = Blob("sha256:" + "1" * 64, 10, "gzip", "sha256:" + "2" * 64, 20)


def test_what_we_write_we_read() -> None:
    image = ImageRecord(
        "", CONFIG, layers=(LAYER,), created="2024-01-01T00:00:00Z", architecture="amd64", author="me",
        history=(History("2024-01-01T00:00:00Z", "x"), History(comment="c", empty=True)),
    )  # fmt: skip
    read, diff_ids = imagespec.read_config(imagespec.write_config(image))
    assert diff_ids == (LAYER.diff_id,)
    assert (read.config, read.history, read.created, read.author) == (CONFIG, image.history, image.created, "me")


def test_the_capital_letters_are_the_formats() -> None:
    document = json.loads(imagespec.write_config(ImageRecord("", CONFIG)))
    assert document["config"]["ExposedPorts"] == {"80/tcp": {}}
    assert document["config"]["Healthcheck"] == {"Test": ["NONE"], "Interval": 5}


def test_a_manifest_can_be_read_back_in_both_dialects() -> None:
    image = ImageRecord("sha256:" + "3" * 64, layers=(LAYER,), config_size=7)
    for docker in (False, True):
        blob = imagespec.write_manifest(image, docker=docker)
        assert imagespec.read_manifest(blob) == (image.id, [(LAYER.digest, 10, "gzip")])


@pytest.mark.parametrize(
    "blob",
    [b"", b"[]", b'{"config": 1}', b'{"config": {"Env": 1}}', b'{"rootfs": {"diff_ids": 1}}', b'{"history": [1]}'],
)
def test_what_is_no_configuration_is_refused(blob: bytes) -> None:
    with pytest.raises(Invalid, match="invalid image configuration"):
        imagespec.read_config(blob)


@pytest.mark.parametrize("blob", [b"", b"{}", b'{"config": {}, "layers": []}', b"[]"])
def test_what_is_no_manifest_is_refused(blob: bytes) -> None:
    with pytest.raises(Invalid, match="invalid image manifest"):
        imagespec.read_manifest(blob)


def test_history_gives_each_layer_to_the_step_that_made_it() -> None:
    image = ImageRecord(
        "sha256:x", layers=(LAYER, LAYER), tags=("a:b",),
        history=(History(created_by="one"), History(created_by="two", empty=True), History(created_by="three")),
    )  # fmt: skip
    steps = imagespec.history(image)
    assert [(step.id, step.created_by, step.size, step.tags) for step in steps] == [
        ("sha256:x", "three", 20, ("a:b",)), ("<missing>", "two", 0, ()), ("<missing>", "one", 20, ()),
    ]  # fmt: skip
