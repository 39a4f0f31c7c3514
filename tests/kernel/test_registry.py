"""Pull and push against a registry of our own; ids, digests, passwords, and what is said when it goes wrong."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from storage import Disk, tar
from tiny_registry import TinyRegistry

from fairlead.core.imagespec import Credentials
from fairlead.errors import FairleadError, Forbidden, NotFound

pytestmark = pytest.mark.kernel

ME = Credentials(username="me", password="secret")


@pytest.fixture
async def disk(tmp_path: Path) -> Disk:
    return await Disk(tmp_path / "a").open()


@pytest.fixture
async def registry() -> AsyncIterator[TinyRegistry]:
    async with TinyRegistry().open() as made:
        yield made


@pytest.fixture
async def locked() -> AsyncIterator[TinyRegistry]:
    async with TinyRegistry("secret").open() as made:
        yield made


async def pushed(disk: Disk, registry: TinyRegistry, who: Credentials = Credentials()) -> str:
    await disk.image(f"{registry.address}/x/y:1", ("f", b"1"), changes=("HEALTHCHECK CMD true",))
    lines = [line async for line in disk.transfers.push(f"{registry.address}/x/y", "1", who)]
    assert lines[0] == {"status": f"The push refers to repository [{registry.address}/x/y]"}
    return str(lines[-1]["aux"]["Digest"])


async def test_what_is_pushed_is_pulled_with_the_same_id(disk: Disk, registry: TinyRegistry, tmp_path: Path) -> None:
    digest = await pushed(disk, registry)
    image = disk.images.get(f"{registry.address}/x/y:1")
    assert image.digests == (f"{registry.address}/x/y@{digest}",)
    other = await Disk(tmp_path / "b").open()
    lines = [line async for line in other.transfers.pull(f"{registry.address}/x/y", "1")]
    assert lines[0] == {"status": f"Pulling from {registry.address}/x/y", "id": "1"}
    assert lines[-2:] == [
        {"status": f"Digest: {digest}"},
        {"status": f"Status: Downloaded newer image for {registry.address}/x/y:1"},
    ]
    both = f"{registry.address}/x/y:1@{digest}"  # as services name images
    assert [line async for line in other.transfers.pull(both)][-1]["status"].startswith("Status: Image is up to date")
    assert other.images.get(both).id == image.id
    found = other.images.get(f"{registry.address}/x/y@{digest}")
    assert (found.id, found.config, found.digests) == (image.id, image.config, image.digests)
    assert (Path(await other.layout.unpack(found)) / "f").read_bytes() == b"1"
    again = [line async for line in other.transfers.pull(f"{registry.address}/x/y", "1")]
    assert again[-1] == {"status": f"Status: Image is up to date for {registry.address}/x/y:1"}


async def test_all_tags(disk: Disk, registry: TinyRegistry, tmp_path: Path) -> None:
    await pushed(disk, registry)
    await disk.images.tag(f"{registry.address}/x/y:1", f"{registry.address}/x/y:2")
    [line async for line in disk.transfers.push(f"{registry.address}/x/y")]
    other = await Disk(tmp_path / "b").open()
    [line async for line in other.transfers.pull(f"{registry.address}/x/y", all_tags=True)]
    (image,) = other.images.list()
    assert image.tags == (f"{registry.address}/x/y:1", f"{registry.address}/x/y:2")


async def test_what_is_not_there_in_dockers_words(disk: Disk, registry: TinyRegistry) -> None:
    with pytest.raises(NotFound) as error:
        [line async for line in disk.transfers.pull(f"{registry.address}/x/y", "9")]
    words = f"manifest for {registry.address}/x/y:9 not found: manifest unknown: manifest unknown"
    assert error.value.message == words


async def test_a_password_is_needed_and_stays_out_of_sight(disk: Disk, locked: TinyRegistry) -> None:
    with pytest.raises(FairleadError):
        await pushed(disk, locked)
    await pushed(disk, locked, ME)
    with pytest.raises(NotFound) as error:
        [line async for line in disk.transfers.pull(f"{locked.address}/x/y", "1")]
    assert error.value.message == (
        f"pull access denied for {locked.address}/x/y, repository does not exist or may require 'docker login':"
        " denied: requested access to the resource is denied"
    )
    assert "secret" not in repr(ME)
    assert not list((disk.folder / "images").rglob("auth.json"))


async def test_login(disk: Disk, locked: TinyRegistry) -> None:
    await disk.transfers.login(Credentials(username="me", password="secret", server=locked.address))
    with pytest.raises(Forbidden, match="unauthorized: incorrect username or password"):
        await disk.transfers.login(Credentials(username="me", password="wrong", server=f"http://{locked.address}/v2/"))


async def test_distribution_tells_what_the_registry_has(disk: Disk, registry: TinyRegistry) -> None:
    digest = await pushed(disk, registry)
    found = await disk.transfers.distribution(f"{registry.address}/x/y:1")
    assert found["Descriptor"]["digest"] == digest and found["Platforms"] == [{"architecture": "amd64", "os": "linux"}]


async def test_a_layer_that_lies_is_refused(disk: Disk, registry: TinyRegistry, tmp_path: Path) -> None:
    await pushed(disk, registry)
    for digest in [key for key in registry.blobs if key.startswith("sha256:")]:
        registry.blobs[digest] = registry.blobs[digest][:-1] + b"!"
    other = await Disk(tmp_path / "b").open()
    with pytest.raises(FairleadError):
        [line async for line in other.transfers.pull(f"{registry.address}/x/y", "1")]
    assert other.images.list() == []


async def test_import_from_a_url(disk: Disk, registry: TinyRegistry) -> None:
    registry.manifests["files", "x.tar"] = ("application/x-tar", tar(("f", b"1")))
    stream = disk.transfers.fetched(f"{registry.address}/v2/files/manifests/x.tar")
    lines = [line async for line in disk.transfers.import_(stream, "got")]
    assert disk.images.get("got").id == lines[-1]["status"]
    with pytest.raises(FairleadError, match=r"failed to GET http://.*/gone with status 404 Not Found"):
        [
            line
            async for line in disk.transfers.import_(disk.transfers.fetched(f"{registry.address}/v2/a/manifests/gone"))
        ]
    with pytest.raises(FairleadError, match=r'Get "http://127.0.0.1:1/x": '):
        [line async for line in disk.transfers.import_(disk.transfers.fetched("http://127.0.0.1:1/x"))]
