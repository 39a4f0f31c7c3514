"""Streams: who attaches hears everything from then on; input, its end, detach keys; execs from create to exit code."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from runtimes import PaperExec, PaperRuntime

from fairlead.core.container import Config, Container, HostConfig, LogConfig, State
from fairlead.core.life import ExecSpec
from fairlead.engine.catalog import Catalog
from fairlead.engine.events import Events
from fairlead.engine.execs import REMEMBERED, ExecConfig, Execs
from fairlead.engine.logs import Logs
from fairlead.engine.stats import Stats
from fairlead.engine.streams import ROOM, Streams
from fairlead.engine.top import top
from fairlead.errors import Conflict, Internal, Invalid, NotFound
from fairlead.store.memory import MemoryStore

ALL = {"stdin": True, "stdout": True, "stderr": True}


class Desk:
    """The engine's parts around one container that a test plays."""

    def __init__(self, root: Path, tasks: asyncio.TaskGroup) -> None:
        self.runtime = PaperRuntime()
        self.catalog = Catalog(MemoryStore())
        self.told: list[tuple[str, dict[str, str]]] = []
        self.events = Events(lambda: 1)
        self.events.publish = lambda kind, action, id, attributes=None: self.told.append((action, attributes or {}))
        logs = Logs(root, self.runtime, lambda path: None, self._never, tasks)
        self.streams = Streams(self.catalog, self.runtime, logs, self.events, tasks)
        numbers = iter(range(10_000))
        self.execs = Execs(self.catalog, self.runtime, self.events, tasks, lambda: f"e{next(numbers)}")
        self.logs = logs

    async def _never(self, id: str) -> None:
        await asyncio.Event().wait()

    async def add(self, running: bool = True, log: str = "", **config) -> Container:
        box = Container(
            id="c" * 64, name="box", created="", path="sh", config=Config(image="bb", **config),
            host=HostConfig(log_config=LogConfig(log)), state=State(status="running" if running else "created"),
        )  # fmt: skip
        await self.catalog.put(box)
        if running:
            await self.runtime.create(box)
        return box

    @property
    def wire(self):
        return self.runtime.wires["c" * 64]


@pytest_asyncio.fixture
async def desk(tmp_path: Path) -> AsyncIterator[Desk]:
    async with asyncio.TaskGroup() as tasks:
        made = Desk(tmp_path, tasks)
        try:
            yield made
        finally:
            for task in asyncio.all_tasks() - {asyncio.current_task()}:
                task.cancel()


async def hear(attached) -> list[tuple[int, bytes]]:
    return [packet async for packet in attached]


async def test_who_waits_before_the_start_hears_the_first_byte(desk: Desk) -> None:
    box = await desk.add(running=False)
    early = await desk.streams.attach("box", **ALL)
    await desk.runtime.create(box)
    desk.wire.say(b"hi")
    desk.wire.say(b"oh", 2)
    desk.runtime.end(box.id)
    assert await hear(early) == [(1, b"hi"), (2, b"oh")]
    assert [action for action, _ in desk.told] == ["attach"]


async def test_who_waits_for_a_start_that_fails_is_let_go(desk: Desk) -> None:
    box = await desk.add(running=False)
    early = await desk.streams.attach("box", **ALL)
    await desk.runtime.delete(box.id)
    assert await hear(early) == []


async def test_one_wire_serves_all_and_each_only_what_it_asked(desk: Desk) -> None:
    box = await desk.add()
    everything = await desk.streams.attach("box", **ALL)
    errors = await desk.streams.attach("box", stderr=True)
    desk.wire.say(b"o")
    desk.wire.say(b"e", 2)
    desk.runtime.end(box.id)
    assert await hear(everything) == [(1, b"o"), (2, b"e")]
    assert await hear(errors) == [(2, b"e")]


async def test_clients_that_come_at_once_share_the_wire(desk: Desk) -> None:
    box = await desk.add()
    attach, wires = desk.runtime.attach, []

    async def counted(id: str) -> object:
        wires.append(await attach(id))
        return wires[-1]

    desk.runtime.attach = counted
    together = await asyncio.gather(*(desk.streams.attach("box", **ALL) for _ in range(3)))
    desk.wire.say(b"o")
    desk.runtime.end(box.id)
    assert [await hear(each) for each in together] == [[(1, b"o")]] * 3
    assert len(wires) == 1


async def test_input_of_a_container_made_for_one_client_ends_with_it(desk: Desk) -> None:
    await desk.add(open_stdin=True, stdin_once=True)
    attached = await desk.streams.attach("box", **ALL)
    await attached.feed(b"abc")
    await attached.end_input()
    assert desk.wire.input == b"abc" and desk.wire.input_ended
    desk.wire.say(b"still heard")
    desk.wire.end()
    assert await hear(attached) == [(1, b"still heard")]


async def test_the_end_of_input_before_the_start_is_kept(desk: Desk) -> None:
    box = await desk.add(running=False, open_stdin=True, stdin_once=True)
    attached = await desk.streams.attach("box", **ALL)
    await attached.end_input()
    await desk.runtime.create(box)
    await asyncio.sleep(0)
    assert desk.wire.input_ended


async def test_other_containers_keep_their_input_and_the_client_leaves(desk: Desk) -> None:
    await desk.add(open_stdin=True)
    attached = await desk.streams.attach("box", **ALL)
    await attached.end_input()
    assert not desk.wire.input_ended
    assert await hear(attached) == []


async def test_leaving_without_having_had_input_does_not_end_it(desk: Desk) -> None:
    await desk.add(open_stdin=True, stdin_once=True)
    listener = await desk.streams.attach("box", stdout=True, stderr=True)
    listener.close()
    assert not desk.wire.closed and not desk.wire.input_ended


async def test_the_last_to_leave_closes_the_wire(desk: Desk) -> None:
    await desk.add()
    one, other = [await desk.streams.attach("box", **ALL) for _ in range(2)]
    one.close()
    assert not desk.wire.closed
    other.close()
    assert desk.wire.closed


async def test_a_container_without_input_gets_none(desk: Desk) -> None:
    await desk.add()
    attached = await desk.streams.attach("box", **ALL)
    await attached.feed(b"abc")
    await attached.end_input()
    assert desk.wire.input == b"" and not desk.wire.input_ended


async def test_detach_keys_leave_a_terminal(desk: Desk) -> None:
    await desk.add(tty=True, open_stdin=True)
    attached = await desk.streams.attach("box", **ALL, detach_keys="ctrl-a,b")
    await attached.feed(b"x\x01")
    await attached.feed(b"by")
    assert desk.wire.input == b"x" and attached.detached
    assert await hear(attached) == []
    assert [action for action, _ in desk.told] == ["attach", "detach"]


async def test_detach_keys_are_input_without_a_terminal(desk: Desk) -> None:
    await desk.add(open_stdin=True)
    attached = await desk.streams.attach("box", **ALL)
    await attached.feed(b"\x10\x11")
    assert desk.wire.input == b"\x10\x11" and not attached.detached


async def test_a_slow_reader_holds_the_process_back_until_it_leaves(desk: Desk) -> None:
    await desk.add()
    slow = await desk.streams.attach("box", **ALL)
    fast = await desk.streams.attach("box", **ALL)
    piece = b"x" * (ROOM // 4)
    for _ in range(8):
        desk.wire.say(piece)
    for _ in range(20):
        await asyncio.sleep(0)
    assert desk.wire.output.qsize() == 3, "four pieces wait for each, the fifth is on its way"
    slow.close()
    desk.wire.end()
    assert len(await hear(fast)) == 8


async def test_what_cannot_be_attached_to(desk: Desk) -> None:
    box = await desk.add()
    with pytest.raises(NotFound):
        await desk.streams.attach("nobody")
    with pytest.raises(Invalid):
        await desk.streams.attach("box", detach_keys="nonsense")
    for status, says in (("paused", "is paused, unpause"), ("restarting", "is restarting, wait")):
        await desk.catalog.put(Container(id=box.id, name="box", created="", state=State(status=status)))
        with pytest.raises(Conflict, match=says):
            await desk.streams.attach("box")


async def test_what_was_said_before_comes_first(desk: Desk, tmp_path: Path) -> None:
    box = await desk.add()
    path = desk.logs.path(box)
    path.parent.mkdir()
    path.write_bytes(b"2024-05-06T07:08:09Z stdout F old\n")
    only = await desk.streams.attach("box", stdout=True, logs=True, stream=False)
    assert await hear(only) == [(1, b"old\n")]
    attached = await desk.streams.attach("box", stdout=True, logs=True)
    assert await anext(attached) == (1, b"old\n")
    desk.wire.say(b"new")
    assert await anext(attached) == (1, b"new")


class Client:
    """Somebody at the other end of a hijacked connection."""

    def __init__(self, *typed: bytes) -> None:
        self.typed = [*typed, b""]
        self.got = b""

    async def read(self) -> bytes:
        return self.typed.pop(0) if self.typed else await asyncio.Event().wait() or b""

    async def write(self, data: bytes) -> None:
        self.got += data


async def test_a_conversation(desk: Desk) -> None:
    box = await desk.add(open_stdin=True, stdin_once=True)
    attached = await desk.streams.attach("box", **ALL)
    client = Client(b"in", b"put")
    desk.wire.say(b"out")
    desk.runtime.end(box.id)
    await desk.streams.converse(attached, client, lambda which, data: b"%d:%b" % (which, data))
    assert client.got == b"1:out"


# -- execs ------------------------------------------------------------------------------------


ASKED = ExecConfig(cmd=("true",), attach_stdout=True, attach_stderr=True, attach_stdin=True)


async def test_an_exec_runs_and_is_told(desk: Desk) -> None:
    await desk.add()
    id = await desk.execs.create("box", ASKED)
    streams = await desk.execs.start(id)
    made = desk.runtime.execs[0]
    await streams.feed(b"in")
    await streams.end_input()
    assert made.wire.input == b"in" and made.wire.input_ended
    made.wire.say(b"out")
    assert desk.execs.of("c" * 64) == [id] and desk.execs.get(id).pid == 42
    made.exit(3)
    assert await hear(streams) == [(1, b"out")]
    await asyncio.sleep(0)
    record = desk.execs.get(id)
    assert (record.running, record.exit_code) == (False, 3) and desk.execs.of("c" * 64) == []
    assert [action for action, _ in desk.told] == ["exec_create: true ", "exec_start: true ", "exec_die"]
    assert desk.told[-1][1] == {"image": "bb", "name": "box", "execID": id, "exitCode": "3"}
    with pytest.raises(Conflict, match="has already run"):
        await desk.execs.start(id)


async def test_a_detached_exec_has_no_streams(desk: Desk) -> None:
    await desk.add()
    id = await desk.execs.create("box", ASKED)
    assert await desk.execs.start(id, detach=True) is None
    with pytest.raises(Conflict, match="already running"):
        await desk.execs.start(id)
    assert desk.runtime.execs[0].wire is None


async def test_a_program_that_cannot_run_says_so_in_its_output(desk: Desk) -> None:
    def refuse(made: PaperExec) -> None:
        made.refusal = Internal("no such thing")
        made.refusal.exit_code = 127

    await desk.add()
    desk.runtime.play = refuse
    id = await desk.execs.create("box", ASKED)
    assert await hear(await desk.execs.start(id)) == [(1, b"no such thing\r\n")]
    assert desk.execs.get(id).exit_code == 127
    assert [action for action, _ in desk.told] == ["exec_create: true ", "exec_start: true "]
    other = await desk.execs.create("box", ASKED)
    with pytest.raises(Internal):
        await desk.execs.start(other, detach=True)


async def test_detach_keys_leave_an_exec(desk: Desk) -> None:
    await desk.add()
    id = await desk.execs.create("box", ExecConfig(cmd=("sh",), tty=True, attach_stdin=True, attach_stdout=True))
    streams = await desk.execs.start(id)
    await streams.feed(b"\x10\x11")
    assert await hear(streams) == [] and desk.execs.get(id).running
    assert desk.told[-1][0] == "exec_detach"
    await desk.execs.resize(id, 4, 5)
    assert desk.runtime.execs[0].sizes == [(4, 5)]


async def test_execs_that_are_refused(desk: Desk) -> None:
    box = await desk.add()
    with pytest.raises(Invalid, match="No exec command specified"):
        await desk.execs.create("box", ExecConfig())
    with pytest.raises(NotFound, match="No such exec instance: x"):
        desk.execs.get("x")
    for status, says in (("exited", "is not running"), ("paused", "is paused, unpause the container before exec")):
        await desk.catalog.put(Container(id=box.id, name="box", created="", state=State(status=status)))
        with pytest.raises(Conflict, match=says):
            await desk.execs.create("box", ASKED)


async def test_old_records_go(desk: Desk) -> None:
    await desk.add()
    desk.runtime.play = lambda made: made.exit(0)
    ids = []
    for _ in range(REMEMBERED + 2):
        ids.append(await desk.execs.create("box", ASKED))
        await desk.execs.start(ids[-1], detach=True)
        await asyncio.sleep(0)
    with pytest.raises(NotFound):
        desk.execs.get(ids[0])
    assert desk.execs.get(ids[-1])


async def test_a_probe_is_heard_out_and_ended_when_it_takes_too_long(desk: Desk) -> None:
    box = await desk.add()

    def play(made: PaperExec) -> None:
        made.wire.say(b"123456789")
        made.exit(2)

    desk.runtime.play = play
    assert await desk.execs.run(box, ExecSpec(("x",)), 5) == (2, b"12345")
    desk.runtime.play = lambda made: None
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0):
            await desk.execs.run(box, ExecSpec(("x",)), 5)
    assert desk.runtime.execs[-1].killed and desk.runtime.execs[-1].forgotten


# -- stats, top -----------------------------------------------------------------------------------


async def test_stats_and_top(desk: Desk) -> None:
    box = await desk.add()
    stats = Stats(desk.catalog, desk.runtime, lambda: 7)
    sample = await stats.read("box", one_shot=True)
    assert (sample.now.time, sample.now.usage.cpu, sample.before.time) == (7, 5, 0)
    assert await top(desk.catalog, desk.runtime, desk.events, "box") == (["PID", "CMD"], [["1", "-ef"]])
    desk.runtime.wires.clear()
    assert (await stats.read("box")).now.time == 0
    await desk.catalog.put(Container(id=box.id, name="box", created=""))
    with pytest.raises(Conflict, match="is not running"):
        await top(desk.catalog, desk.runtime, desk.events, "box")
