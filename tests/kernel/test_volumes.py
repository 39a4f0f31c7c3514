"""Volumes on a real disk: made, filled, used, kept, removed."""

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest
from storage import Disk

from fairlead.core.container import Config, Container, HostConfig, State
from fairlead.errors import Conflict, Internal, Invalid, NotFound

pytestmark = pytest.mark.kernel

FILES = (("d", None), ("d/a", b"a"), ("d/link", "/etc/passwd"), ("way", "../../../../tmp"))


@pytest.fixture
async def disk(tmp_path: Path) -> AsyncIterator[Disk]:
    made = await Disk(tmp_path).open()
    yield made
    for volume in made.volumes.list():
        made.volumes._disk.umount(volume.name)
    for id in made.layers.known():
        made.layers.remove(id)


async def run(disk: Disk, host: HostConfig, config: Config = Config()) -> Container:
    """create and start, as far as mounts go"""
    image = await disk.image("x", *FILES)
    container = disk.container(image, host, config)
    container = msgspec.structs.replace(container, mounts=await disk.volumes.plan(container, image.config))
    disk.known[container.id] = container
    await disk.volumes.prepare(container, await disk.filesystem.prepare(container))
    return container


async def test_a_named_volume_is_filled_once_from_the_image(disk: Disk) -> None:
    container = await run(disk, HostConfig(binds=("v1:/d",)))
    (mount,) = container.mounts
    assert (mount.name, mount.driver, mount.source) == ("v1", "local", disk.volumes.path("v1"))
    assert sorted(os.listdir(mount.source)) == ["a", "link"] and os.readlink(mount.source + "/link") == "/etc/passwd"
    os.unlink(mount.source + "/a")
    await run(disk, HostConfig(binds=("v1:/d",)))
    assert os.listdir(mount.source) == ["link"]
    assert await disk.volumes.size("v1") == 11


async def test_of_those_who_start_at_once_one_fills_a_volume_and_one_mounts_it(disk: Disk) -> None:
    await disk.volumes.create("t1", options={"type": "tmpfs", "device": "tmpfs"})
    first = await run(disk, HostConfig())
    image = disk.images.get(first.image)
    several = []
    for _ in range(8):
        made = disk.container(image, HostConfig(binds=("v1:/d", "t1:/more")))
        made = msgspec.structs.replace(made, mounts=await disk.volumes.plan(made, image.config))
        several.append((made, await disk.filesystem.prepare(made)))
    await asyncio.gather(*(disk.volumes.prepare(made, rootfs) for made, rootfs in several))
    assert sorted(os.listdir(disk.volumes.path("v1"))) == ["a", "link"]
    mounted = Path("/proc/self/mountinfo").read_text()
    assert mounted.count(f" {disk.volumes.path('t1')} ") == 1


async def test_nocopy_and_places_that_lead_out_are_not_filled(disk: Disk) -> None:
    container = await run(disk, HostConfig(binds=("v1:/d:nocopy", "v2:/way", "v3:/gone")))
    assert [os.listdir(mount.source) for mount in container.mounts] == [[], [], []]


async def test_an_empty_volume_that_is_in_use_keeps_its_inode(disk: Disk) -> None:
    volume = await disk.volumes.create("v1")
    before = os.stat(disk.volumes.path(volume.name)).st_ino
    await run(disk, HostConfig(binds=("v1:/d",)))
    assert os.stat(disk.volumes.path("v1")).st_ino == before


async def test_an_interrupted_copy_is_finished_at_the_next_start(disk: Disk) -> None:
    await disk.volumes.create("v1")
    ready = Path(disk.volumes.path("v1")).parent / ".ready"
    ready.mkdir()
    (ready / "left").touch()
    await run(disk, HostConfig(binds=("v1:/d",)))
    assert os.listdir(disk.volumes.path("v1")) == ["left"] and not ready.exists()


async def test_anonymous_volumes_go_with_their_container_if_asked(disk: Disk) -> None:
    kept = await run(disk, HostConfig(), Config(volumes={"/d": {}}))
    gone = await run(disk, HostConfig(binds=("named:/n",)), Config(volumes={"/d": {}}))
    name = gone.mounts[0].name
    assert len(name) == 64 and gone.mounts[0].anonymous and disk.volumes.get(name).anonymous
    await disk.volumes.forget(kept, volumes=False)
    await disk.volumes.forget(gone, volumes=True)
    assert {volume.name for volume in disk.volumes.list()} == {kept.mounts[0].name, "named"}


async def test_a_used_volume_stays_in_dockers_words(disk: Disk) -> None:
    container = await run(disk, HostConfig(binds=("v1:/d",)))
    with pytest.raises(Conflict) as error:
        await disk.volumes.remove("v1", force=True)
    assert error.value.message == f"remove v1: volume is in use - [{container.id}]"
    disk.known.clear()
    await disk.volumes.remove("v1")
    with pytest.raises(NotFound, match="get v1: no such volume"):
        await disk.volumes.remove("v1")
    await disk.volumes.remove("v1", force=True)
    assert disk.volumes._disk.known() == []


async def test_prune_takes_anonymous_ones_unless_all_are_meant(disk: Disk) -> None:
    anonymous = await disk.volumes.create()
    Path(disk.volumes.path(anonymous.name), "f").write_bytes(b"12345")
    await disk.volumes.create("named", labels={"keep": ""})
    await run(disk, HostConfig(binds=("used:/d",)))
    assert await disk.volumes.prune(lambda volume: True) == ([anonymous.name], 5)
    assert await disk.volumes.prune(lambda volume: "keep" not in (volume.labels or {}), all_volumes=True) == ([], 0)
    assert await disk.volumes.prune(lambda volume: True, all_volumes=True) == (["named"], 0)


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("a", {}, "create a: volume name is too short, names should be at least two alphanumeric characters"),
        ("a/b", {}, 'create a/b: "a/b" includes invalid characters for a local volume name, only "[a-zA-Z0-9]'),
        ("ab", {"x": "y"}, 'create ab: invalid option: "x"'),
        ("ab", {"type": "tmpfs"}, 'create ab: missing required option: "device"'),
    ],
)
async def test_volumes_that_make_no_sense(disk: Disk, name: str, options: dict[str, str], words: str) -> None:
    with pytest.raises(Invalid) as error:
        await disk.volumes.create(name, options=options)
    assert error.value.message.startswith(words)
    assert disk.volumes._disk.known() == []


async def test_another_driver_is_not_there(disk: Disk) -> None:
    with pytest.raises(NotFound, match='plugin "nfs" not found'):
        await disk.volumes.create("ab", "nfs")


async def test_a_volume_with_a_device_is_mounted_while_somebody_runs(disk: Disk) -> None:
    await disk.volumes.create("t1", options={"type": "tmpfs", "device": "tmpfs", "o": "size=1m,uid=1000"})
    container = await run(disk, HostConfig(binds=("t1:/d",)))
    assert os.path.ismount(container.mounts[0].source) and os.listdir(container.mounts[0].source) == ["a", "link"]
    other = await run(disk, HostConfig(binds=("t1:/d",)))
    disk.known[other.id] = msgspec.structs.replace(other, state=State(status="running"))
    await disk.volumes.release(container)
    assert os.path.ismount(container.mounts[0].source)
    disk.known[other.id] = other
    await disk.volumes.release(other)
    assert not os.path.ismount(container.mounts[0].source)


async def test_a_device_that_cannot_be_mounted_fails_the_start(disk: Disk) -> None:
    await disk.volumes.create("bad", options={"type": "none", "device": "/no/such/place", "o": "bind"})
    with pytest.raises(Internal, match="failed to mount local volume: mount /no/such/place:"):
        await run(disk, HostConfig(binds=("bad:/d",)))


async def test_missing_sources_of_binds(disk: Disk, tmp_path: Path) -> None:
    await run(disk, HostConfig(binds=(f"{tmp_path}/made/now:/d",)))
    assert (tmp_path / "made/now").is_dir()
    wish = {"Type": "bind", "Source": f"{tmp_path}/gone", "Target": "/d"}
    with pytest.raises(Invalid, match="bind source path does not exist: "):
        await run(disk, HostConfig(mounts=(wish,)))


async def test_a_subpath_stays_inside_its_volume(disk: Disk) -> None:
    await disk.volumes.create("v1")
    top = Path(disk.volumes.path("v1"))
    (top / "sub").mkdir()
    (top / "evil").symlink_to("/etc")
    wish = {"Type": "volume", "Source": "v1", "Target": "/d", "VolumeOptions": {"Subpath": "sub"}}
    assert (await run(disk, HostConfig(mounts=(wish,)))).mounts[0].source == str(top / "sub")
    wish["VolumeOptions"] = {"Subpath": "evil"}
    with pytest.raises(NotFound, match=r"cannot access path .*evil: no such file"):
        await run(disk, HostConfig(mounts=(wish,)))


async def test_a_refused_container_leaves_no_anonymous_volume(disk: Disk) -> None:
    wishes = ({"Type": "volume", "Target": "/a"}, {"Type": "volume", "Source": "v", "Target": "/b"})
    with pytest.raises(Invalid, match="volume name is too short"):
        await run(disk, HostConfig(mounts=wishes))
    assert disk.volumes.list() == []


async def test_a_returning_engine_finds_its_volumes(disk: Disk, tmp_path: Path) -> None:
    volume = await disk.volumes.create("v1", labels={"a": "b"})
    again = await Disk(tmp_path, store=disk.store).open()
    assert again.volumes.get("v1") == volume
