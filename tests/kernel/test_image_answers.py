"""What a real dockerd 28.5.2 answered to requests about images, volumes and builds, and what we answer."""

import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import pytest
from storage import Disk

from fairlead.api import build, images, server, volumes
from fairlead.api.routes import Table
from fairlead.core.container import NEVER, Mount, State
from fairlead.engine.builds import Builds
from fairlead.host.build import Buildah

pytestmark = pytest.mark.kernel

ROWS = [line.split("\t") for line in (Path(__file__).parent.parent / "data/image_answers.tsv").read_text().splitlines()]


class Parts:
    """As much of an engine as images, volumes and builds are about."""

    def __init__(self, disk: Disk) -> None:
        self.images, self.transfers, self.volumes, self.filesystem = (
            disk.images, disk.transfers, disk.volumes, disk.filesystem,
        )  # fmt: skip
        builder = Buildah(
            str(disk.folder / "build"), disk.layout, disk.registry, lambda: disk.layers.driver, lambda: NEVER
        )
        self.builds = Builds(disk.images, disk.transfers, builder)
        self.containers = self

        self._find = disk.find

    def get(self, ref: str) -> Any:
        return self._find(ref)


@pytest.fixture
async def disk(tmp_path: Path) -> Disk:
    return await Disk(tmp_path).open()


@pytest.fixture
async def ask(disk: Disk, tmp_path: Path) -> AsyncIterator[Any]:
    image = await disk.image("busybox", ("f", b"1"), changes=('CMD ["sh"]',))
    await disk.volumes.create("vv")
    container = disk.container(image)
    mount = Mount("volume", "/data", name="vv", source=disk.volumes.path("vv"))
    disk.known[container.id] = msgspec.structs.replace(container, mounts=(mount,), state=State(status="running"))
    parts: Any = Parts(disk)
    app = server.App(Table([*images.routes(parts), *volumes.routes(parts), *build.routes(parts)]))
    listening = server.serve(app, [server.Listener(f"unix://{tmp_path / 's'}")])
    session = aiohttp.ClientSession(connector=aiohttp.UnixConnector(str(tmp_path / "s")))
    async with listening, session:

        async def one(method: str, path: str, body: str) -> tuple[str, str]:
            headers = {"Content-Type": "application/json"} if body else {}
            url = aiohttp.client.URL("http://d" + path, encoded=True)
            async with session.request(method, url, data=body or None, headers=headers) as answer:
                return str(answer.status), await answer.text()

        yield one


@pytest.mark.parametrize(("request_", "status", "text"), ROWS, ids=[row[0][:60] for row in ROWS])
async def test_we_answer_as_docker_does(ask: Any, request_: str, status: str, text: str) -> None:
    method, path, *body = request_.split(" ", 2)
    got_status, got = await ask(method, path, "".join(body))
    shown = re.sub(r"\b[0-9a-f]{12}\b", "SID", re.sub(r"[0-9a-f]{64}", "ID", got.strip())).replace("\r\n", "\\n")
    assert (got_status, shown) == (status, text)


async def test_images_that_others_are_built_on_are_listed_when_asked_for(ask: Any, disk: Disk) -> None:
    base = disk.images.get("busybox")
    middle = await disk.images.add(msgspec.structs.replace(base, id=f"sha256:{'a' * 64}", parent=base.id, tags=()))
    top = await disk.images.add(msgspec.structs.replace(base, id=f"sha256:{'b' * 64}", parent=middle.id, tags=()))

    async def listed(query: str) -> set[str]:
        _, text = await ask("GET", f"/images/json{query}", "")
        return {image["Id"] for image in msgspec.json.decode(text)}

    assert await listed("") == {base.id, top.id}
    assert await listed("?all=1") == {base.id, middle.id, top.id}
    only = "?filters=%7B%22dangling%22:%5B%22true%22%5D%7D"
    assert await listed(only) == {top.id}
    assert await listed(f"{only}&all=1") == {top.id}
