"""Images on a real disk, with the real tools."""

import asyncio
import bz2
import gzip
import io
import json
import lzma
import os
import tarfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from storage import Disk, joined, names, once, tar

from fairlead.core.files import ADDED, DELETED, MODIFIED, Change
from fairlead.engine.images import Gone
from fairlead.errors import Conflict, Invalid, NotFound

pytestmark = pytest.mark.kernel

FILES = (
    ("etc", None),
    ("etc/passwd", b"root:x:0:0::/:/bin/sh\n"),
    ("bin", None),
    ("bin/sh", b"#!"),
    ("d", None),
    ("d/a", b"a"),
)


@pytest.fixture
async def disk(tmp_path: Path) -> AsyncIterator[Disk]:
    made = await Disk(tmp_path).open()
    yield made
    for id in made.layers.known():
        made.layers.remove(id)


async def test_a_tar_becomes_an_image(disk: Disk) -> None:
    image = await disk.image("a/b:c", *FILES, changes=('CMD ["sh"]', "ENV A=b"))
    assert image.tags == ("a/b:c",)
    assert (image.config.cmd, image.config.env) == (("sh",), ("A=b",))
    assert disk.images.get("a/b:c") is disk.images.get(image.id) is disk.images.get(image.short)
    config = disk.layout.read(image.id)
    assert json.loads(config)["rootfs"]["diff_ids"] == [image.layers[0].diff_id]
    rootfs = Path(await disk.layout.unpack(image))
    assert (rootfs / "etc/passwd").read_bytes() == FILES[1][1]
    assert (rootfs / "etc/hosts").exists() and (rootfs / "proc").is_dir()


@pytest.mark.parametrize("pack", [gzip.compress, lzma.compress, bz2.compress], ids=["gzip", "xz", "bzip2"])
async def test_any_usual_compression(disk: Disk, pack: object) -> None:
    plain = await disk.image("plain", *FILES)
    lines = [line async for line in disk.transfers.import_(once(pack(tar(*FILES))), "packed")]
    assert disk.images.get(lines[-1]["status"]).layers[0].diff_id == plain.layers[0].diff_id


@pytest.mark.parametrize("data", [b"this is no tar" * 100, b"\x1f\x8bnot gzip at all" * 9, b"\xfd7zXZ\x00" + b"x" * 99])
async def test_what_is_no_tar_is_refused_and_leaves_nothing(disk: Disk, data: bytes) -> None:
    with pytest.raises(Invalid):
        [line async for line in disk.transfers.import_(once(data), "bad")]
    assert disk.images.list() == []
    disk.layout.sweep([])
    assert list(disk.layout.blobs.iterdir()) == []


async def test_names_move_and_images_go_with_their_last_name(disk: Disk) -> None:
    first = await disk.image("x", *FILES)
    second = await disk.image("x", ("f", b"1"))
    assert disk.images.get("x").id == second.id
    assert disk.images.get(first.id).tags == ()
    await disk.images.tag("x", "y", "1")
    assert await disk.images.remove("x") == [Gone(untagged="x:latest")]
    gone = await disk.images.remove("y:1")
    assert gone[0].untagged == "y:1" and gone[1].deleted == second.id and gone[2].deleted == second.layers[0].diff_id
    assert not disk.layout.rootfs(second.id).exists() and not disk.layout.path(second.layers[0].digest).exists()
    assert disk.layout.path(first.layers[0].digest).exists()
    with pytest.raises(NotFound, match="No such image: y:1"):
        disk.images.get("y:1")


async def test_an_image_in_use_is_kept_in_dockers_words(disk: Disk) -> None:
    image = await disk.image("x", *FILES)
    container = disk.container(image)
    with pytest.raises(Conflict) as error:
        await disk.images.remove("x")
    assert error.value.message == (
        f'conflict: unable to remove repository reference "x" (must force) - container {container.short}'
        f" is using its referenced image {image.short}"
    )
    with pytest.raises(Conflict) as error:
        await disk.images.remove(image.short)
    assert error.value.message == (
        f"conflict: unable to delete {image.short} (must be forced) -"
        f" image is being used by stopped container {container.short}"
    )
    await disk.images.remove(image.id, force=True)
    assert disk.images.list() == []
    root = await disk.filesystem.prepare(container)
    assert (Path(root) / "d/a").read_bytes() == b"a"
    await disk.filesystem.release(container)
    await disk.filesystem.remove(container)
    assert not disk.layout.rootfs(image.id).exists()


async def test_two_repositories_need_force(disk: Disk) -> None:
    image = await disk.image("x", *FILES)
    await disk.images.tag("x", "y")
    with pytest.raises(Conflict, match=r"\(must be forced\) - image is referenced in multiple repositories"):
        await disk.images.remove(image.id)
    gone = await disk.images.remove(image.id, force=True)
    assert [one.untagged for one in gone[:2]] == ["x:latest", "y:latest"]


async def test_a_returning_engine_finds_its_images_and_clears_away_halves(disk: Disk, tmp_path: Path) -> None:
    image = await disk.image("x", *FILES)
    (disk.layout.blobs / ("0" * 64)).write_bytes(b"half a layer")
    (tmp_path / "images/work/op99/rootfs").mkdir(parents=True)
    (tmp_path / "images/rootfs" / ("1" * 64)).mkdir()
    again = await Disk(tmp_path, store=disk.store).open()
    assert again.images.get("x") == disk.images.get("x")
    assert not (disk.layout.blobs / ("0" * 64)).exists()
    assert not (tmp_path / "images/work/op99").exists()
    assert os.listdir(tmp_path / "images/rootfs") == [image.id.partition(":")[2]]


async def test_commit_makes_a_layer_of_what_was_written(disk: Disk) -> None:
    image = await disk.image("x", *FILES, changes=('CMD ["sh"]',))
    container = disk.container(image)
    root = Path(await disk.filesystem.prepare(container))
    (root / "new").mkdir()
    (root / "new/file").write_bytes(b"new")
    os.link(root / "new/file", root / "new/twin")
    (root / "d/a").unlink()
    (root / "d").rmdir()
    (root / "d").mkdir()
    (root / "d/b").write_bytes(b"b")
    (root / "etc/passwd").write_bytes(b"changed")
    (root / "bin/sh").unlink()
    changes = await disk.filesystem.changes(container)
    assert changes == [
        Change(MODIFIED, "/bin"), Change(DELETED, "/bin/sh"), Change(MODIFIED, "/d"), Change(DELETED, "/d/a"),
        Change(ADDED, "/d/b"), Change(MODIFIED, "/etc"), Change(MODIFIED, "/etc/passwd"), Change(ADDED, "/new"),
        Change(ADDED, "/new/file"), Change(ADDED, "/new/twin"),
    ]  # fmt: skip
    made = await disk.transfers.commit(container, "y", "1", "why", "me", ["ENV A=b"])
    assert (made.parent, made.comment, made.author, made.config.env) == (image.id, "why", "me", ("A=b",))
    assert [step.comment for step in disk.images.history("y:1")] == ["why", "Imported from -"]
    rootfs = Path(await disk.layout.unpack(made))
    assert not (rootfs / "d/a").exists() and not (rootfs / "bin/sh").exists()
    assert (rootfs / "d/b").read_bytes() == b"b" and (rootfs / "etc/passwd").read_bytes() == b"changed"
    assert (rootfs / "new/file").stat().st_ino == (rootfs / "new/twin").stat().st_ino
    with pytest.raises(Conflict, match="image has dependent child images"):
        await disk.images.remove(image.id)


async def test_commit_of_what_wrote_nothing_makes_no_layer(disk: Disk) -> None:
    image = await disk.image("x", *FILES)
    container = disk.container(image)
    await disk.filesystem.prepare(container)
    made = await disk.transfers.commit(container, "y", changes=["ENV A=b"])
    assert made.layers == image.layers and made.id != image.id
    assert [step.size for step in disk.images.history("y")] == [0, image.size]


async def test_save_and_load_keep_the_id_and_all_names(disk: Disk, tmp_path: Path) -> None:
    first = await disk.image("x", *FILES, changes=("HEALTHCHECK CMD true",))
    await disk.images.tag("x", "localhost:5000/z", "2")
    second = await disk.image("y", ("f", b"1"))
    data = await joined(disk.transfers.save(["x", "localhost:5000/z:2", "y"]))
    assert {"manifest.json", "index.json", "oci-layout", "repositories"} <= set(names(data))
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        index, repositories = (json.load(archive.extractfile(f)) for f in ("index.json", "repositories"))  # type: ignore[arg-type]
    assert [list(entry["annotations"].values()) for entry in index["manifests"]] == [
        *(["docker.io/library/x:latest", "latest"], ["localhost:5000/z:2", "2"]),
        ["docker.io/library/y:latest", "latest"],
    ]
    assert {name: list(tags) for name, tags in repositories.items()} == {
        **{"localhost:5000/z": ["2"], "x": ["latest"], "y": ["latest"]}
    }
    other = await Disk(tmp_path / "other").open()
    lines = [line["stream"] async for line in other.transfers.load(once(data))]
    assert lines == ["Loaded image: x:latest\n", "Loaded image: localhost:5000/z:2\n", "Loaded image: y:latest\n"]
    assert {image.id for image in other.images.list()} == {first.id, second.id}
    assert other.images.get("x").config.healthcheck is not None


async def test_what_is_no_archive_is_refused(disk: Disk) -> None:
    for data, says in (
        (b"nonsense", "unexpected EOF"),
        (b"nonsense" * 100, "archive/tar: invalid tar header"),
        (tar(("x", b"y")), "invalid archive"),
        (tar(("manifest.json", b"{")), "invalid archive"),
        (tar(("manifest.json", b"{" * 3000))[:1500], "unexpected EOF"),
    ):
        with pytest.raises(Invalid, match=says):
            [line async for line in disk.transfers.load(once(data))]


async def test_prune_takes_what_nobody_uses(disk: Disk) -> None:
    dangling = await disk.image("", ("f", b"1"))
    named = await disk.image("x", ("f", b"2"))
    used = await disk.image("", ("f", b"3"))
    disk.container(used)
    gone, freed = await disk.images.prune(lambda image: True)
    assert gone[0].deleted == dangling.id and freed == dangling.size
    assert {image.id for image in disk.images.list()} == {named.id, used.id}
    await disk.images.prune(lambda image: True, dangling_only=False)
    assert [image.id for image in disk.images.list()] == [used.id]


async def test_an_unreachable_registry_is_said_so(disk: Disk) -> None:
    with pytest.raises(
        Exception, match=r'Get "http://127.0.0.1:1/v2/": dial tcp 127.0.0.1:1: connect: connection refused'
    ):
        [line async for line in disk.transfers.pull("127.0.0.1:1/x")]


async def test_many_at_once_share_one_unpacking(disk: Disk) -> None:
    image = await disk.image("x", *FILES)
    disk.layout.drop_rootfs(image.id)
    found = await asyncio.gather(*(disk.layout.unpack(image) for _ in range(8)))
    assert len(set(found)) == 1


async def test_a_layer_that_is_not_what_the_configuration_says_is_refused(disk: Disk, tmp_path: Path) -> None:
    (tmp_path / "layer").write_bytes(gzip.compress(tar(*FILES)))
    with pytest.raises(Invalid, match="does not hold what the image's configuration says"):
        await disk.layout.take_layer(tmp_path / "layer", "sha256:" + "0" * 64)
    assert list(disk.layout.blobs.iterdir()) == []


async def test_what_a_transfer_has_brought_is_not_swept_before_it_is_remembered(disk: Disk) -> None:
    with disk.layout.workspace() as folder:
        layer = await disk.layout.receive(once(tar(*FILES)), folder)
        blob = disk.layout.put(b"{}")
        disk.layout.sweep([])
        assert disk.layout.path(layer.digest).exists() and disk.layout.path(blob.digest).exists()
    disk.layout.sweep([])
    assert not disk.layout.path(layer.digest).exists() and not disk.layout.path(blob.digest).exists()


async def test_what_happens_is_told(disk: Disk) -> None:
    image = await disk.image("x", *FILES)
    await disk.images.tag("x", "y")
    await disk.images.remove("y")
    await disk.images.remove("x")
    told = [event async for event in disk.events.stream(since=0, until=0)] or list(disk.events._last)
    found = [(event.kind, event.action, event.attributes["name"]) for event in told]
    assert found == [
        ("image", "tag", "x:latest"), ("image", "import", image.id), ("image", "tag", "y:latest"),
        ("image", "untag", image.id), ("image", "untag", image.id), ("image", "delete", image.id),
    ]  # fmt: skip
