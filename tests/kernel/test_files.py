"""Files in and out of a container, hostile ones above all; both storage drivers."""

import contextlib
import os
import stat
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest
from storage import Disk, joined, names, once, tar

from fairlead.core.container import Config, Container, HostConfig, Mount, State
from fairlead.core.files import ADDED, DELETED, MODIFIED, Change
from fairlead.errors import FairleadError, Forbidden, Invalid, NotFound

pytestmark = pytest.mark.kernel

FILES = (
    ("etc", None), ("etc/passwd", b"me:x:7:8::/:/bin/sh\n"), ("d", None), ("d/a", b"a"),
    ("out", "../../../../../../tmp"),
    ("link", "/d/a"), ("dir", "/d"), ("loop", "loop"),
)  # fmt: skip


@pytest.fixture(params=["overlay2", "vfs"])
async def disk(tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[Disk]:
    made = await Disk(tmp_path / "data", request.param).open()
    yield made
    for id in made.layers.known():
        made.layers.remove(id)


@pytest.fixture
async def container(disk: Disk) -> Container:
    return disk.container(await disk.image("x", *FILES))


async def test_the_root_is_there_twice_and_gone_once(disk: Disk, container: Container) -> None:
    assert disk.filesystem.driver == disk.driver
    root = Path(await disk.filesystem.prepare(container))
    assert await disk.filesystem.prepare(container) == str(root)
    (root / "d/a").write_bytes(b"changed")
    await disk.filesystem.release(container)
    await disk.filesystem.release(container)
    root = Path(await disk.filesystem.prepare(container))
    assert (root / "d/a").read_bytes() == b"changed"
    await disk.filesystem.remove(container)
    assert not root.exists() and disk.layers.known() == []


async def test_changes(disk: Disk, container: Container) -> None:
    root = Path(await disk.filesystem.prepare(container))
    assert await disk.filesystem.changes(container) == []
    (root / "d/a").unlink()
    (root / "n").write_bytes(b"12345")
    os.chmod(root / "etc/passwd", 0o600)
    expected = [
        Change(MODIFIED, "/d"),
        Change(DELETED, "/d/a"),
        Change(MODIFIED, "/etc"),
        Change(MODIFIED, "/etc/passwd"),
    ]
    assert await disk.filesystem.changes(container) == [*expected, Change(ADDED, "/n")]
    image = disk.images.get("x")
    assert await disk.filesystem.sizes(container) == (25, 25 + image.size)


async def test_a_directory_that_replaced_a_link_hides_nothing_of_the_machine(disk: Disk, container: Container) -> None:
    root = Path(await disk.filesystem.prepare(container))
    (root / "out").unlink()
    (root / "out").mkdir()
    (root / "out/f").touch()
    assert await disk.filesystem.changes(container) == [Change(MODIFIED, "/out"), Change(ADDED, "/out/f")]


async def test_a_stopped_container_is_unmounted_after_a_look(disk: Disk, container: Container) -> None:
    assert names(await joined(disk.filesystem.get(container, "/d"))) == ["d", "d/a"]
    if disk.driver == "overlay2":
        assert not os.path.ismount(disk.layers.path(container.id))
    await disk.filesystem.prepare(container)
    assert names(await joined(disk.filesystem.get(container, "/d/a"))) == ["a"]
    assert os.path.exists(disk.layers.path(container.id) + "/d/a")


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/d", ["d", "d/a"]),
        ("d/", ["d", "d/a"]),
        ("/d/.", [".", "./a"]),
        ("/dir/a", ["a"]),
        ("/link", ["link"]),
        ("/x/../d/a", ["a"]),
    ],
)
async def test_archives_are_named_after_what_was_asked(
    disk: Disk, container: Container, path: str, expected: list[str]
) -> None:
    assert names(await joined(disk.filesystem.get(container, path))) == expected


async def test_info_tells_what_docker_tells(disk: Disk, container: Container) -> None:
    found = await disk.filesystem.info(container, "/d")
    assert (found.name, found.mode) == ("d", (1 << 31) | 0o755)
    found = await disk.filesystem.info(container, "/link")
    assert (found.name, found.mode >> 27 & 1, found.link_target) == ("link", 1, "/d/a")
    found = await disk.filesystem.info(container, "/dir/a")
    assert (found.name, found.size, found.mode) == ("a", 1, 0o644)
    assert (await disk.filesystem.info(container, "/")).name == "/"


@pytest.mark.parametrize("path", ["/gone", "/d/a/b", "/loop/x", "/out/" + "x" * 40])
async def test_what_is_not_there(disk: Disk, container: Container, path: str) -> None:
    asks = (lambda: disk.filesystem.info(container, path), lambda: joined(disk.filesystem.get(container, path)))
    for ask in asks:
        with pytest.raises(NotFound) as error:
            await ask()
        assert error.value.message == f"Could not find the file {path} in container {container.id}"


async def test_no_link_leads_out_when_reading(disk: Disk, container: Container, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(b"secret")
    with pytest.raises(NotFound):
        await disk.filesystem.info(container, f"/out/../..{secret}")
    with pytest.raises(NotFound):
        await joined(disk.filesystem.get(container, f"/out/{secret.relative_to('/tmp')}"))


async def test_no_link_leads_out_when_writing(disk: Disk, container: Container, tmp_path: Path) -> None:
    bait = tmp_path / "bait"
    bait.mkdir()
    root = Path(await disk.filesystem.prepare(container))
    (root / "trap").symlink_to(bait)
    await disk.filesystem.release(container)
    evil = tar(("trap/x", b"1"), ("../../up", b"2"), ("/abs", b"3"), ("in", str(bait)), ("in/y", b"4"))
    with contextlib.suppress(FairleadError):
        await disk.filesystem.put(container, "/", once(evil))
    assert os.listdir(bait) == []
    assert not (tmp_path / "up").exists() and not Path("/abs").exists()


async def test_put_keeps_owners_modes_and_kinds(disk: Disk, container: Container) -> None:
    data = tar(("n", None), ("n/f", b"1"), ("n/l", "/nowhere"), uid=1234)
    await disk.filesystem.put(container, "/d", once(data))
    root = Path(await disk.filesystem.prepare(container))
    info = (root / "d/n/f").lstat()
    assert (info.st_uid, info.st_gid, stat.S_IMODE(info.st_mode), int(info.st_mtime)) == (
        1234,
        1234,
        0o644,
        1_700_000_000,
    )
    assert os.readlink(root / "d/n/l") == "/nowhere"
    container = msgspec.structs.replace(container, config=Config(user="me"))
    await disk.filesystem.put(container, "/d", once(tar(("n", None), ("n/f", b"22"))), copy_ids=True)
    info = (root / "d/n/f").lstat()
    assert (info.st_uid, info.st_gid, info.st_size) == (7, 8, 2)


async def test_put_where_it_cannot_be(disk: Disk, container: Container) -> None:
    with pytest.raises(NotFound, match="Could not find the file /gone in container"):
        await disk.filesystem.put(container, "/gone", once(tar(("f", b""))))
    with pytest.raises(Invalid, match="extraction point is not a directory"):
        await disk.filesystem.put(container, "/d/a", once(tar(("f", b"")) * 100))
    with pytest.raises(Invalid, match='cannot overwrite directory "d" with non-directory "d"'):
        await disk.filesystem.put(container, "/", once(tar(("d", b""))), no_overwrite=True)
    with pytest.raises(Invalid, match="invalid tar header"):
        await disk.filesystem.put(container, "/", once(b"nonsense" * 999))


async def test_a_read_only_root_is_not_written(disk: Disk) -> None:
    container = disk.container(await disk.image("y", *FILES), HostConfig(readonly_rootfs=True))
    with pytest.raises(Forbidden, match="container rootfs is marked read-only"):
        await disk.filesystem.put(container, "/d", once(tar(("f", b""))))


async def test_a_stopped_container_shows_its_mounts(disk: Disk, container: Container, tmp_path: Path) -> None:
    (tmp_path / "bind").mkdir()
    (tmp_path / "bind/inside").write_bytes(b"1")
    before = Path("/proc/self/mountinfo").read_text()
    mount = Mount("bind", "/d", source=str(tmp_path / "bind"))
    held = disk.container(disk.images.get("x"))
    held = Container(**{name: getattr(held, name) for name in held.__struct_fields__} | {"mounts": (mount,)})
    assert names(await joined(disk.filesystem.get(held, "/d"))) == ["d", "d/inside"]
    await disk.filesystem.put(held, "/d", once(tar(("put", b"2"))))
    assert (tmp_path / "bind/put").read_bytes() == b"2"
    assert Path("/proc/self/mountinfo").read_text() == before


async def test_a_running_container_is_seen_as_its_process_sees_it(disk: Disk, container: Container) -> None:
    root = await disk.filesystem.prepare(container)
    words = ["unshare", "--mount", "--propagation", "private", "sleep", "60"]
    with subprocess.Popen(words) as process:
        try:
            while os.readlink(f"/proc/{process.pid}/ns/mnt") == os.readlink("/proc/self/ns/mnt"):
                pass
            (Path(root) / "seen").write_bytes(b"1")
            running = Container(
                container.id, "c", "2026", container.image, state=State(status="running", pid=process.pid)
            )
            assert (await disk.filesystem.info(running, root + "/seen")).name == "seen"
        finally:
            process.kill()


async def test_export_is_the_root_alone(disk: Disk, container: Container) -> None:
    found = names(await joined(disk.filesystem.export(container)))
    assert {"etc/passwd", "d/a", "link", ".dockerenv"} <= set(found)


async def test_a_reader_that_leaves_ends_the_archive(disk: Disk) -> None:
    container = disk.container(await disk.image("big", ("big", os.urandom(4 << 20))))
    stream = disk.filesystem.get(container, "/big")
    await anext(stream)
    await stream.aclose()
    assert not disk.filesystem._held[container.id]


async def test_layers_of_containers_that_are_gone_are_removed_at_the_start(disk: Disk, container: Container) -> None:
    await disk.filesystem.prepare(container)
    disk.known.clear()
    await disk.filesystem.restore()
    assert disk.layers.known() == []


async def test_a_data_root_on_overlayfs_falls_back_to_copies(tmp_path: Path) -> None:
    outer = await Disk(tmp_path).open()
    base = outer.container(await outer.image("x", *FILES))
    root = await outer.filesystem.prepare(base)
    try:
        inner = await Disk(Path(root) / "data").open()
        assert inner.filesystem.driver in ("vfs", "overlay2")
        held = inner.container(await inner.image("x", *FILES))
        assert (Path(await inner.filesystem.prepare(held)) / "d/a").read_bytes() == b"a"
        await inner.filesystem.remove(held)
    finally:
        await outer.filesystem.remove(base)


async def test_what_is_copied_is_told(disk: Disk, container: Container) -> None:
    await joined(disk.filesystem.get(container, "/etc"))
    await disk.filesystem.put(container, "/etc", once(tar(("n", b"1"))))
    await joined(disk.filesystem.export(container))
    told = [event.action for event in disk.events._last if event.kind == "container" and event.id == container.id]
    assert told == ["archive-path", "extract-to-dir", "export"]
