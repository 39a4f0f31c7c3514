"""Logs: whole lines in order, from either end, while they are written, across rotation."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from runtimes import PaperRuntime

from fairlead.core.container import Container, HostConfig, LogConfig
from fairlead.engine import logs as module
from fairlead.engine.logs import Logs, LogWishes
from fairlead.errors import Unsupported


class Bell:
    """Changes of a directory, when the test says so."""

    def __init__(self) -> None:
        self.event = asyncio.Event()

    def ring(self) -> None:
        self.event.set()

    async def next(self) -> None:
        await self.event.wait()
        self.event.clear()

    def close(self) -> None: ...

    def __enter__(self) -> Bell:
        return self

    def __exit__(self, *error: object) -> None: ...


class Desk:
    def __init__(self, root: Path, tasks: asyncio.TaskGroup) -> None:
        self.bell = Bell()
        self.ended = asyncio.Event()
        self.runtime = PaperRuntime()
        self.logs = Logs(root, self.runtime, lambda path: self.bell, lambda id: self.ended.wait(), tasks)
        self.box = self.container()
        self.path = self.logs.path(self.box)
        self.path.parent.mkdir(parents=True)
        self.count = 0

    def container(self, type: str = "", **options: str) -> Container:
        config = {name.replace("_", "-"): value for name, value in options.items()}
        return Container(id="c" * 64, name="b", created="", host=HostConfig(log_config=LogConfig(type, config)))

    def write(self, *words: str, stream: str = "stdout", tag: str = "F", path: Path | None = None) -> None:
        with (path or self.path).open("a") as file:
            for word in words:
                self.count += 1
                file.write(f"2024-01-01T00:00:{self.count:02}.000000000+00:00 {stream} {tag} {word}\n")

    async def read(self, **wishes) -> str:
        return " ".join([line.text.decode().strip() async for line in self.logs.read(self.box, LogWishes(**wishes))])


@pytest_asyncio.fixture
async def desk(tmp_path: Path) -> AsyncIterator[Desk]:
    async with asyncio.TaskGroup() as tasks:
        yield Desk(tmp_path, tasks)
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()


async def test_whole_lines_by_stream_and_time(desk: Desk) -> None:
    desk.write("a")
    desk.write("b", stream="stderr")
    desk.write("c", tag="P")
    desk.write("d")
    assert await desk.read() == "a b cd"
    assert await desk.read(stderr=False) == "a cd"
    second = 1_704_067_200 * 10**9
    assert await desk.read(since=second + 2 * 10**9) == "b cd"
    assert await desk.read(until=second + 2 * 10**9) == "a b"


@pytest.mark.parametrize("block", [1, 50, 1 << 16])
async def test_the_last_lines(desk: Desk, monkeypatch: pytest.MonkeyPatch, block: int) -> None:
    monkeypatch.setattr(module, "BLOCK", block)
    desk.write("a", "b")
    desk.write("c1", tag="P")
    desk.write("c2", tag="P")
    desk.write("c3")
    assert [await desk.read(tail=n) for n in range(5)] == ["", "c1c2c3", "b c1c2c3", "a b c1c2c3", "a b c1c2c3"]


async def test_older_files_come_first(desk: Desk) -> None:
    desk.write("a", "b", path=desk.path.with_name(desk.path.name + ".2"))
    desk.write("c", path=desk.path.with_name(desk.path.name + ".1"))
    desk.write("d")
    assert await desk.read() == "a b c d"
    assert [await desk.read(tail=n) for n in (1, 2, 3, 9)] == ["d", "c d", "b c d", "a b c d"]


async def test_nothing_said_yet_is_nothing(desk: Desk) -> None:
    assert await desk.read() == ""
    assert await desk.read(tail=3) == ""


async def test_no_log_cannot_be_read(desk: Desk) -> None:
    with pytest.raises(Unsupported, match="does not support reading"):
        desk.logs.read(desk.container("none"), LogWishes())


async def test_following_goes_on_to_the_end(desk: Desk) -> None:
    desk.write("a", "b")
    lines = desk.logs.read(desk.box, LogWishes(follow=True, tail=1))
    assert (await anext(lines)).text == b"b\n"
    coming = asyncio.ensure_future(anext(lines))
    await asyncio.sleep(0)
    desk.write("c")
    desk.bell.ring()
    assert (await coming).text == b"c\n"
    desk.write("d", tag="P")
    desk.ended.set()
    assert [line.text async for line in lines] == [b"d"]


async def test_following_before_there_is_a_file(desk: Desk) -> None:
    lines = desk.logs.read(desk.box, LogWishes(follow=True))
    coming = asyncio.ensure_future(anext(lines))
    await asyncio.sleep(0)
    desk.write("a")
    desk.bell.ring()
    assert (await coming).text == b"a\n"
    await lines.aclose()


async def test_following_across_rotation_misses_nothing(desk: Desk) -> None:
    desk.write("a")
    lines = desk.logs.read(desk.box, LogWishes(follow=True))
    assert (await anext(lines)).text == b"a\n"
    desk.write("b")
    for word in ("c", "d"):
        module._shift(desk.path, 4)
        desk.write(word)
    desk.bell.ring()
    desk.ended.set()
    assert [line.text for line in [line async for line in lines]] == [b"b\n", b"c\n", b"d\n"]


async def test_files_are_kept_small(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CALM", 0)
    box = desk.container(max_size="60", max_file="2")
    desk.runtime.wires[box.id] = None
    desk.logs.keep_small(box)
    for word in ("a", "b", "c", "d", "e"):
        desk.write(word)
        desk.bell.ring()
        for _ in range(5):
            await asyncio.sleep(0)
    assert desk.runtime.reopened
    assert sorted(path.name[-2:] for path in desk.path.parent.iterdir()) in ([".1"], [".1", "og"])
    await desk.runtime.delete(box.id)


async def test_one_file_is_conmons_affair(desk: Desk) -> None:
    desk.logs.keep_small(desk.container(max_size="1k"))
    assert not desk.logs._rotating
