"""Mounts: every way to ask for one, and dockerd's words when it makes no sense."""

import pytest

from fairlead.core import mounts
from fairlead.core.container import Config, HostConfig, Mount
from fairlead.errors import Internal, Invalid, NotFound


def nobody(ref: str) -> tuple[Mount, ...]:
    raise NotFound(f"No such container: {ref}")


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ("/a:/b", Mount("bind", "/b", source="/a", propagation="rprivate")),
        ("/a/:/b/../c/:ro", Mount("bind", "/c", source="/a", rw=False, mode="ro", propagation="rprivate")),
        ("/a:/b:rw,rshared,z", Mount("bind", "/b", source="/a", mode="rw,rshared,z", propagation="rshared")),
        ("v:/b", Mount("volume", "/b", name="v", driver="local", mode="z")),
        ("v:/b:nocopy,ro", Mount("volume", "/b", name="v", driver="local", mode="nocopy,ro", rw=False, no_copy=True)),
        ("/b", Mount("volume", "/b", driver="local", anonymous=True)),
    ],
)
def test_binds(spec: str, expected: Mount) -> None:
    assert mounts.bind(spec).mount == expected


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("", "invalid volume specification: ''"),
        (":/b", "invalid volume specification: ':/b'"),
        ("/b:ro", "invalid volume specification: '/b:ro'"),
        ("/a:/b:ro:x", "invalid volume specification: '/a:/b:ro:x'"),
        ("/a:/b:bogus", "invalid mode: bogus"),
        ("/a:/b:ro,rw", "invalid mode: ro,rw"),
        (
            "v:/b:rshared",
            "invalid volume specification: 'v:/b:rshared': invalid mount config for type \"volume\":"
            " field BindOptions must not be specified",
        ),
        (
            "/a:/",
            "invalid volume specification: '/a:/': invalid mount config for type \"bind\":"
            " invalid specification: destination can't be '/'",
        ),
        (
            "/a:b",
            "invalid volume specification: '/a:b': invalid mount config for type \"bind\":"
            " invalid mount path: 'b' mount path must be absolute",
        ),
    ],
)
def test_binds_that_make_no_sense(spec: str, words: str) -> None:
    with pytest.raises(Internal) as error:
        mounts.bind(spec)
    assert error.value.message == words


@pytest.mark.parametrize(
    ("document", "words"),
    [
        ({"Type": "x", "Target": "/b"}, 'invalid mount config for type "x": mount type unknown'),
        ({"Type": "bind", "Source": "/a"}, 'invalid mount config for type "bind": field Target must not be empty'),
        ({"Type": "bind", "Target": "/b"}, 'invalid mount config for type "bind": field Source must not be empty'),
        (
            {"Type": "bind", "Source": "/gone", "Target": "/b"},
            'invalid mount config for type "bind": bind source path does not exist: /gone',
        ),
        (
            {"Type": "bind", "Source": "a", "Target": "/b"},
            "invalid mount config for type \"bind\": invalid mount path: 'a' mount path must be absolute",
        ),
        (
            {"Type": "bind", "Source": "/a", "Target": "/b", "VolumeOptions": {"NoCopy": True}},
            'VolumeOptions must not be specified on mount type "bind"',
        ),
        (
            {"Type": "volume", "Target": "/b", "ReadOnly": True},
            'invalid mount config for type "volume": must not set ReadOnly mode when using anonymous volumes',
        ),
        (
            {"Type": "tmpfs", "Source": "x", "Target": "/b"},
            'invalid mount config for type "tmpfs": field Source must not be specified',
        ),
        (
            {"Type": "volume", "Source": "v", "Target": "/b", "VolumeOptions": {"Subpath": "../x"}},
            'invalid mount config for type "volume": subpath must be a relative path within the volume',
        ),
    ],
)
def test_mounts_that_make_no_sense(document: dict, words: str) -> None:
    with pytest.raises(Invalid) as error:
        mounts.mount(document, exists=lambda path: path != "/gone")
    assert error.value.message == words


def test_a_volume_with_all_its_wishes() -> None:
    wish = mounts.mount(
        {
            "Type": "volume", "Source": "v", "Target": "/b",
            "VolumeOptions": {
                "NoCopy": True, "Labels": {"a": "b"}, "DriverConfig": {"Name": "local", "Options": {"type": "tmpfs"}},
            },
        }
    )  # fmt: skip
    assert wish.mount == Mount("volume", "/b", name="v", driver="local", mode="z", no_copy=True)
    assert (wish.labels, wish.driver_opts) == ({"a": "b"}, {"type": "tmpfs"})


def test_tmpfs_words_undo_the_defaults() -> None:
    host = HostConfig(tmpfs={"/a": "", "/b": "exec,size=1m", "/c": "ro"})
    found = {wish.mount.destination: wish.mount for wish in mounts.parse(Config(), host, nobody)}
    assert found["/a"].options == ("noexec", "nosuid", "nodev")
    assert found["/b"].options == ("nosuid", "nodev", "exec", "size=1m")
    assert not found["/c"].rw
    (bad,) = mounts.parse(Config(), HostConfig(tmpfs={"/a": "bogus"}), nobody)
    with pytest.raises(Invalid, match="invalid tmpfs option"):
        mounts.check_tmpfs(bad.mount)
    for mount in found.values():
        mounts.check_tmpfs(mount)


def test_the_more_explicit_wins_and_a_place_is_taken_once() -> None:
    other = (Mount("bind", "/x", source="/o"), Mount("volume", "/y", name="o", rw=False), Mount("tmpfs", "/t"))
    config = Config(volumes={"/x": {}, "/z": {}})
    host = HostConfig(volumes_from=("c:ro",), binds=("/a:/y",))
    found = {wish.mount.destination: wish.mount for wish in mounts.parse(config, host, lambda ref: other)}
    assert found["/x"].source == "/o" and not found["/x"].rw
    assert found["/y"].source == "/a"
    assert found["/z"].anonymous and "/t" not in found
    with pytest.raises(Invalid, match="Duplicate mount point: /y"):
        mounts.parse(config, HostConfig(binds=("/a:/y", "/b:/y")), nobody)
    with pytest.raises(Invalid, match="No such container: gone"):
        mounts.parse(config, HostConfig(volumes_from=("gone",)), nobody)


def test_outer_mounts_come_first() -> None:
    host = HostConfig(binds=("/a:/x/y/z", "/a:/x", "/a:/x/y"))
    assert [wish.mount.destination for wish in mounts.parse(Config(), host, nobody)] == ["/x", "/x/y", "/x/y/z"]
