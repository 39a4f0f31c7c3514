"""Supervised children, ps, inotify and programs, on a real kernel."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path

import pytest

from fairlead.errors import FairleadError, Unavailable
from fairlead.host import child as module
from fairlead.host import ps
from fairlead.host.child import Child
from fairlead.host.inotify import Changes
from fairlead.host.programs import run, started_at


async def until(true) -> None:
    async with asyncio.timeout(10):
        while not true():
            await asyncio.sleep(0.005)


async def test_a_child_is_started_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FIRST_WAIT", 0.001)
    child = Child("one", [sys.executable, "-c", "print('up', flush=True); import time; time.sleep(100)"], tmp_path)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(child.run())
        await until(lambda: (tmp_path / "one.log").exists() and (tmp_path / "one.log").read_text() == "up\n")
        first = child.pid
        os.kill(first, signal.SIGKILL)
        await until(lambda: child.pid not in (0, first))
        assert child.starts == 2
        await until(lambda: (tmp_path / "one.log").read_text() == "up\nup\n")
        pid = child.pid
        await child.stop()
    assert started_at(pid) == 0
    assert not (tmp_path / "one.pid").exists()


async def test_one_that_we_restart_is_started_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FIRST_WAIT", 60.0)
    child = Child("one", ["sleep", "100"], tmp_path)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(child.run())
        for _ in range(3):
            await until(lambda: child.pid)
            first = child.pid
            await child.restart()
            await until(lambda first=first: child.pid not in (0, first))
        await child.stop()


async def test_one_that_outlives_us_is_adopted(tmp_path: Path) -> None:
    first = Child("one", ["sleep", "100"], tmp_path, outlives=True)
    task = asyncio.ensure_future(first.run())
    await until(lambda: first.pid)
    pid = first.pid
    task.cancel()
    await asyncio.wait([task])
    assert started_at(pid)
    second = Child("one", ["sleep", "100"], tmp_path, outlives=True)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(second.run())
        await until(lambda: second.pid)
        assert second.pid == pid and second.starts == 0
        await second.stop()
    await until(lambda: started_at(pid) == 0)


async def test_one_that_does_not_ends_with_us(tmp_path: Path) -> None:
    child = Child("one", ["sleep", "100"], tmp_path)
    task = asyncio.ensure_future(child.run())
    await until(lambda: child.pid)
    pid = child.pid
    task.cancel()
    await asyncio.wait([task])
    assert started_at(pid) == 0


async def test_a_later_process_of_the_same_number_is_not_adopted(tmp_path: Path) -> None:
    (tmp_path / "one.pid").write_text(f"{os.getpid()} {started_at(os.getpid()) + 1}\n")
    assert Child("one", ["true"], tmp_path)._adopted() == 0
    (tmp_path / "one.pid").write_text(f"{os.getpid()} {started_at(os.getpid())}\n")
    assert Child("one", ["true"], tmp_path)._adopted() == os.getpid()


async def test_ps() -> None:
    titles, rows = await ps.table([os.getpid()], "-ef")
    assert titles == ps.TITLES and len(rows) == 1 and rows[0][1] == str(os.getpid())
    assert "python" in rows[0][7] and len(rows[0]) == 8
    titles, rows = await ps.table([os.getpid()], "-o pid,comm")
    assert titles == ["PID", "COMMAND"] and rows[0][0] == str(os.getpid())
    with pytest.raises(FairleadError, match="find PID field"):
        await ps.table([os.getpid()], "-o comm")
    assert (await ps.table([], ""))[1] == []


async def test_changes_are_noticed(tmp_path: Path) -> None:
    with Changes(str(tmp_path)) as changes:
        waiting = asyncio.ensure_future(changes.next())
        await asyncio.sleep(0)
        assert not waiting.done()
        (tmp_path / "x").write_text("x")
        async with asyncio.timeout(5):
            await waiting


async def test_programs() -> None:
    done = await run([sys.executable, "-c", "import sys; print(1); sys.exit('two')"])
    assert (done.code, done.out, done.words) == (1, b"1\n", "two")
    with pytest.raises(Unavailable, match="not installed"):
        await run(["no-such-program"])
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await run(["sleep", "100"])


AS_PROCESS_1 = """
import asyncio, os, subprocess, sys
from fairlead.host import orphans, programs

async def main():
    task = asyncio.ensure_future(orphans.bury(0.01))
    subprocess.run(["sh", "-c", "sleep 0 & echo orphan $!"], check=True)
    ours = await programs.run(["sh", "-c", "exit 7"])
    while any(os.path.exists(f"/proc/{pid}") for pid in os.listdir("/proc") if pid.isdigit() and pid != "1"):
        await asyncio.sleep(0.01)
    task.cancel()
    print("buried; ours ended with", ours.code)

assert os.getpid() == 1
asyncio.run(asyncio.wait_for(main(), 20))
"""


async def test_process_1_buries_orphans() -> None:
    words = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc", sys.executable, "-c", AS_PROCESS_1]
    done = await run(words, env={"PYTHONPATH": os.pathsep.join(sys.path)})
    assert b"buried; ours ended with 7" in done.out, done.words
