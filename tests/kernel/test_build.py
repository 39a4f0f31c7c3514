"""Builds with the real builder, from a busybox of our own."""

import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from storage import Disk, once, tar

from fairlead.core.imagespec import BuildRequest, Credentials
from fairlead.engine.builds import Builds
from fairlead.errors import FairleadError, Invalid, NotFound
from fairlead.host.build import Buildah

pytestmark = [pytest.mark.kernel, pytest.mark.slow]


@pytest.fixture
async def disk(tmp_path: Path) -> AsyncIterator[Disk]:
    made = await Disk(tmp_path).open()
    busybox = Path(shutil.which("busybox") or "busybox: install busybox-static").read_bytes()
    await made.image("base", ("bin", None), ("bin/busybox", busybox), ("bin/sh", "busybox"), ("bin/cat", "busybox"))
    yield made
    assert str(tmp_path) not in Path("/proc/self/mountinfo").read_text()


@pytest.fixture
def builds(disk: Disk) -> Builds:
    builder = Buildah(str(disk.folder / "build"), disk.layout, disk.registry, lambda: disk.layers.driver)
    return Builds(disk.images, disk.transfers, builder)


async def build(builds: Builds, request: BuildRequest, *files: tuple[str, bytes]) -> list[str]:
    lines = builds.build(request, once(tar(*files)), lambda domain: Credentials())
    return [line.get("stream") or str(line) async for line in lines]


async def test_stages_arguments_and_names(disk: Disk, builds: Builds) -> None:
    text = (
        b"ARG FROM=nowhere\nFROM $FROM AS one\nCOPY f /from-context\n"
        b"FROM scratch\nARG WHO=nobody\nCOPY --from=one /from-context /f\n"
        b'ENV A=$WHO\nHEALTHCHECK CMD ["x"]\nCMD ["/f"]\n'
    )
    request = BuildRequest(
        dockerfile="sub/My", tags=("t1", "t2:x"), arguments={"FROM": "base", "WHO": "me"}, labels={"a": "b"}
    )
    told = await build(builds, request, ("sub/My", text), ("f", b"content"))
    image = disk.images.get("t2:x")
    assert told[-3:] == [
        f"Successfully built {image.short}\n",
        "Successfully tagged t1:latest\n",
        "Successfully tagged t2:x\n",
    ]
    assert image.tags == ("t1:latest", "t2:x") and image.labels["a"] == "b"
    assert "A=me" in (image.config.env or ()) and image.config.cmd == ("/f",)
    assert image.config.healthcheck is not None and image.config.healthcheck.test == ("CMD", "x")
    assert (Path(await disk.layout.unpack(image)) / "f").read_bytes() == b"content"
    assert any("Step 1/" in line for line in told)


async def test_the_second_build_is_the_first(builds: Builds, disk: Disk) -> None:
    file = ("Dockerfile", b"FROM base\nENV A=b\n")
    await build(builds, BuildRequest(tags=("a",)), file)
    assert (await build(builds, BuildRequest(tags=("b",), quiet=True), file)) == [disk.images.get("a").id + "\n"]
    assert disk.images.get("a").id == disk.images.get("b").id
    assert await builds.prune() > 0


async def test_a_failed_step_is_told_in_dockers_words(builds: Builds, disk: Disk) -> None:
    before = disk.images.list()
    with pytest.raises(FairleadError) as error:
        await build(builds, BuildRequest(), ("Dockerfile", b"FROM base\nRUN exit 7\n"))
    assert error.value.message == "The command '/bin/sh -c exit 7' returned a non-zero code: 7"
    with pytest.raises(FairleadError, match="nosuch"):
        await build(builds, BuildRequest(), ("Dockerfile", b"FROM base\nCOPY nosuch /\n"))
    assert disk.images.list() == before


async def test_what_cannot_be_built(builds: Builds) -> None:
    with pytest.raises(FairleadError, match="Cannot locate specified Dockerfile: Dockerfile"):
        await build(builds, BuildRequest(), ("other", b""))
    with pytest.raises(Invalid, match="Error processing tar file"):
        [line async for line in builds.build(BuildRequest(), once(b"nonsense" * 99), lambda domain: Credentials())]
    with pytest.raises(NotFound, match="network x not found"):
        await build(builds, BuildRequest(network="x"), ("Dockerfile", b"FROM base\n"))


async def test_an_archive_without_its_trailer(builds: Builds, disk: Disk) -> None:
    """So Docker's client ends one whose Dockerfile comes from elsewhere: after the last byte of the last file."""
    text = b"FROM base\nENV A=b\n"
    cut = tar(("Dockerfile", text))[: 512 + len(text)]
    assert [line async for line in builds.build(BuildRequest(tags=("a",)), once(cut), lambda domain: Credentials())]
    assert "A=b" in (disk.images.get("a").config.env or ())


async def test_a_build_without_a_network(builds: Builds) -> None:
    look = b"FROM base\nRUN while read -r line; do echo device $line; done </proc/net/dev\n"
    told = await build(builds, BuildRequest(network="none"), ("Dockerfile", look))
    devices = [line.split()[1] for line in "".join(told).splitlines() if line.startswith("device ") and ":" in line]
    assert devices == ["lo:"]


async def test_a_dockerfile_outside_its_context_is_not_read(builds: Builds, tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(b"FROM base\n")
    for name in ("../../../../secret", str(tmp_path / "secret")):
        with pytest.raises(FairleadError, match=r"Cannot locate|forbidden path outside the build context"):
            await build(builds, BuildRequest(dockerfile=name), ("f", b""))
