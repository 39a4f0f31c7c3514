"""Processes on a real kernel: create, start, streams, signals, exits, limits; with crun and conmon as installed."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from fairlead.core.container import Mount, Ulimit
from fairlead.core.life import ExecSpec
from fairlead.errors import Conflict, FairleadError
from kernel.processes import Bench, bench, container, make_rootfs

pytestmark = [pytest.mark.kernel, pytest.mark.skipif(os.geteuid() != 0, reason="needs root")]


@pytest.fixture(scope="module")
def rootfs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_rootfs(tmp_path_factory.mktemp("image") / "rootfs")


@pytest_asyncio.fixture
async def box(rootfs: Path) -> AsyncIterator[Bench]:
    async with bench(rootfs) as made:
        yield made


async def test_a_command_runs_and_its_exit_code_is_told(box: Bench) -> None:
    one = container("sh", "-c", "echo out; echo err >&2; exit 7")
    end = await box.run(one)
    assert (end.id, end.code, end.oom) == (one.id, 7, False)
    assert sorted(box.log(one).split()) == ["err", "out"]
    assert box.oci.pid(one.id) == 0


async def test_nothing_is_left_after_delete(box: Bench) -> None:
    one = container("true")
    await box.run(one)
    await box.oci.delete(one.id)
    left = [path for path in (box.top / "run").rglob("*") if one.id in str(path)]
    assert not left
    assert not list(Path("/sys/fs/cgroup").glob(f"*{box.parent}/{one.id}"))


async def test_a_start_that_fails_for_want_of_open_files_leaves_no_control_group(box: Bench) -> None:
    one = container("true", ulimits=(Ulimit("nofile", 10, 10),))
    with pytest.raises(FairleadError):
        await box.create(one)
    assert not list(Path("/sys/fs/cgroup").glob(f"*{box.parent}/{one.id}"))
    assert not list(Path("/sys/fs/cgroup").glob(f"{box.parent.lstrip('/')}/{one.id}"))


async def test_nothing_runs_before_start(box: Bench) -> None:
    one = container("sh", "-c", "echo hi")
    await box.create(one)
    assert box.log(one) == ""
    await box.oci.start(one.id)
    assert (await box.end()).code == 0
    assert box.log(one) == "hi\n"


async def test_who_attaches_when_it_is_created_misses_nothing(box: Bench) -> None:
    one = container("sh", "-c", "echo hi; echo no >&2")
    heard: list[tuple[int, bytes]] = []

    async def listen(id: str) -> None:
        wire = await box.oci.attach(id)

        async def read() -> None:
            while (packet := await wire.read()) is not None:
                heard.append(packet)
            wire.close()

        box.tasks.create_task(read())

    box.oci.when_created(listen)
    await box.run(one)
    assert sorted(heard) == [(1, b"hi\n"), (2, b"no\n")]


async def test_input_arrives_and_its_end_too(box: Bench) -> None:
    one = container("sh", "-c", "cat; echo done", config={"open_stdin": True, "stdin_once": True})
    await box.create(one)
    wire = await box.oci.attach(one.id)
    await box.oci.start(one.id)
    await wire.write(b"x" * 100_000 + b"\n")
    wire.end_input()
    heard = b""
    while (packet := await wire.read()) is not None:
        heard += packet[1]
    assert heard == b"x" * 100_000 + b"\ndone\n"
    assert (await box.end()).code == 0
    wire.close()


async def test_input_that_is_kept_open_outlives_a_client(box: Bench) -> None:
    one = container("sh", "-c", "read a; read b; echo $a $b", config={"open_stdin": True})
    await box.create(one)
    await box.oci.start(one.id)
    for word in (b"one\n", b"two\n"):
        wire = await box.oci.attach(one.id)
        await wire.write(word)
        wire.end_input()
        wire.close()
    assert (await box.end()).code == 0
    assert box.log(one) == "one two\n"


async def test_a_terminal_has_a_size_and_one_stream(box: Bench) -> None:
    # The size and the input come to conmon by two roads: who is heard first is not said.
    waits = 'read x; until [ "$(stty size)" = "33 77" ]; do :; done; echo it has; echo e >&2'
    one = container("sh", "-c", waits, config={"tty": True, "open_stdin": True})
    await box.create(one)
    wire = await box.oci.attach(one.id)
    await box.oci.start(one.id)
    await box.oci.resize(one.id, 33, 77)
    await wire.write(b"\n")
    heard = b""
    while (packet := await wire.read()) is not None:
        assert packet[0] == 1
        heard += packet[1]
    assert b"it has\r\ne\r\n" in heard
    wire.close()


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (("nosuch",), 127, 'exec: "nosuch": executable file not found in $PATH'),
        (("/no/such",), 127, "no such file or directory"),
        (("/etc/plain",), 126, "permission denied"),
        (("/etc",), 126, ""),
    ],
)
async def test_what_cannot_run_is_refused_in_dockers_words(box: Bench, words: tuple[str], code: int, says: str) -> None:
    one = container(*words)
    with pytest.raises(FairleadError) as caught:
        await box.create(one)
    assert says in str(caught.value)
    assert caught.value.exit_code == code
    assert caught.value.status == 400
    assert not [path for path in (box.top / "run").rglob("*") if one.id in str(path)]


async def test_signals_reach_process_1_only_while_it_is_there(box: Bench) -> None:
    one = container("sh", "-c", "trap 'exit 3' TERM; echo ready; while :; do sleep 0.01; done")
    await box.create(one)
    wire = await box.oci.attach(one.id)
    await box.oci.start(one.id)
    await wire.read()
    await box.oci.kill(one.id, signal.SIGTERM)
    assert (await box.end()).code == 3
    with pytest.raises(Conflict, match="is not running"):
        await box.oci.kill(one.id, signal.SIGTERM)
    wire.close()


async def test_killed_is_137(box: Bench) -> None:
    one = container("sleep", "1000")
    await box.create(one)
    await box.oci.start(one.id)
    await box.oci.kill(one.id, signal.SIGKILL)
    assert (await box.end()).code == 137


async def test_a_paused_container_stands_still(box: Bench) -> None:
    one = container("sleep", "1000")
    await box.create(one)
    await box.oci.start(one.id)
    await box.oci.pause(one.id)
    await box.oci.kill(one.id, signal.SIGKILL)
    await box.oci.resume(one.id)
    assert (await box.end()).code == 137
    await box.oci.resume(one.id)  # over: nothing goes on, and nothing is wrong


async def test_a_returning_engine_finds_who_runs_and_who_ended(box: Bench) -> None:
    stays, ends = container("sleep", "1000"), container("sh", "-c", "read x; exit 5", config={"open_stdin": True})
    for one in (stays, ends):
        await box.create(one)
        await box.oci.start(one.id)
    pid = box.oci.pid(stays.id)
    box.oci.leave()
    wire = await box.another_attach(ends.id)
    await wire.write(b"\n")
    while await wire.read() is not None:
        pass
    wire.close()
    await box.until(lambda: (box.top / "run/exits" / ends.id).exists())
    box.oci = box.another()
    found = await box.oci.recover()
    assert found.running == {stays.id: pid}
    assert found.end_of(ends.id).code == 5
    await box.oci.kill(stays.id, signal.SIGKILL)
    assert (await box.end()).code == 137


async def test_the_end_is_told_though_the_keeper_was_killed(box: Bench) -> None:
    one = container("sleep", "1000")
    await box.create(one)
    await box.oci.start(one.id)
    os.kill(box.oci.keeper(one.id), signal.SIGKILL)
    await box.oci.kill(one.id, signal.SIGKILL)
    assert (await box.end()).code == 255


async def test_memory_beyond_the_limit_is_an_oom_kill(box: Bench) -> None:
    one = container("sh", "-c", "head -c 60000000 /dev/zero | tail", memory=16 << 20, memory_swap=16 << 20)
    end = await box.run(one)
    assert end.oom


async def test_who_and_where(box: Bench) -> None:
    assert await box.output("id", config={"user": "ann"}) == "uid=1000(ann) gid=1000(ann) groups=50(staff),1000(ann)"
    assert await box.output("pwd", config={"working_dir": "/made/here"}) == "/made/here"
    assert await box.output("hostname", config={"hostname": "red"}) == "red"
    env = (await box.output("env", config={"env": ("A=1",), "user": "ann"})).split("\n")
    assert {"A=1", "HOME=/home/ann", "HOSTNAME=box"} < set(env)


async def test_rights_and_filters(box: Bench) -> None:
    status = await box.output("grep", "-E", "CapEff|Seccomp:|NoNewPrivs", "/proc/self/status")
    assert status.split() == ["CapEff:", "00000000a80425fb", "NoNewPrivs:", "0", "Seccomp:", "2"]
    status = await box.output("grep", "-E", "CapEff|Seccomp:", "/proc/self/status", privileged=True)
    assert "Seccomp:\t0" in status and "00000000a80425fb" not in status
    mounting = "mount -t tmpfs x /tmp 2>&1; echo $?"
    assert "denied" in await box.output("sh", "-c", mounting, cap_add=("SYS_CHROOT",))
    assert await box.output("sh", "-c", mounting, cap_add=("SYS_ADMIN",)) == "0"
    assert "Read-only file system" in await box.output("sh", "-c", "touch /x 2>&1", readonly_rootfs=True)


async def test_mounts_and_limits(box: Bench, tmp_path: Path) -> None:
    (tmp_path / "word").write_text("here\n")
    bind = Mount("bind", "/data", source=str(tmp_path), rw=False)
    said = await box.output("sh", "-c", "cat /data/word; touch /data/x 2>&1", mounts=[bind])
    assert said.split("\n")[0] == "here" and "Read-only" in said
    said = await box.output(
        "sh", "-c", "ulimit -n; cat /proc/sys/net/ipv4/ip_unprivileged_port_start; df -k /dev/shm | tail -1 || true",
        ulimits=(Ulimit("nofile", 99, 88),), shm_size=1 << 20,
    )  # fmt: skip
    assert said.split("\n")[:2] == ["88", "0"]


async def test_an_init_reaps_for_us(box: Bench) -> None:
    assert "docker-init" in await box.output("sh", "-c", "cat /proc/1/cmdline", init=True)


async def test_exec(box: Bench) -> None:
    one = container("sleep", "1000", config={"env": ("A=1",)})
    await box.create(one)
    await box.oci.start(one.id)
    spec = ExecSpec(("sh", "-c", "echo $A $B; cat; exit 4"), env=("B=2",), stdin=True)
    made = await box.oci.exec(one, "e1", spec, attached=True)
    await made.begin()
    assert made.wire is not None
    await made.wire.write(b"typed\n")
    made.wire.end_input()
    heard = b""
    while (packet := await made.wire.read()) is not None:
        heard += packet[1]
    assert heard == b"1 2\ntyped\n"
    assert await made.wait() == 4
    assert not list((box.top / "run/execs").iterdir())
    with pytest.raises(FairleadError, match="executable file not found in") as caught:
        await (await box.oci.exec(one, "e2", ExecSpec(("nosuch",)), attached=True)).begin()
    assert caught.value.exit_code == 127
    quiet = await box.oci.exec(one, "e3", ExecSpec(("sh", "-c", "exit 6")), attached=False)
    await quiet.begin()
    assert await quiet.wait() == 6
    terminal = await box.oci.exec(
        one,
        "e4",
        ExecSpec(("sh", "-c", 'until [ "$(stty size 2>&-)" ]; do :; done; stty size'), tty=True, size=(20, 60)),
        attached=True,
    )
    await terminal.begin()
    shown = b""
    while (packet := await terminal.wire.read()) is not None:  # a terminal may hand over a line in two parts
        shown += packet[1]
    assert shown == b"20 60\r\n"
    assert await terminal.wait() == 0


async def test_usage_and_processes(box: Bench) -> None:
    one = container("sleep", "1000", memory=64 << 20)
    await box.create(one)
    await box.oci.start(one.id)
    use = box.oci.usage(one.id)
    assert use.pids == 1 and use.memory_limit == 64 << 20 and use.cpu > 0
    assert box.oci.processes(one.id) == [box.oci.pid(one.id)]


async def test_many_at_once(box: Bench) -> None:
    boxes = [container("sh", "-c", f"exit {n}") for n in range(8)]
    await asyncio.gather(*(box.create(one) for one in boxes))
    for one in boxes:
        await box.oci.start(one.id)
    ends = {}
    for _ in boxes:
        end = await box.end()
        ends[end.id] = end.code
    assert ends == {one.id: n for n, one in enumerate(boxes)}


async def test_shared_memory_is_shared_with_who_joins(box: Bench) -> None:
    waits = {"open_stdin": True}
    donor = container("sh", "-c", "echo hi >/dev/shm/x; read x", config=waits, ipc_mode="shareable", shm_size=1 << 20)
    await box.create(donor)
    await box.oci.start(donor.id)
    look = "until cat /dev/shm/x 2>/dev/null; do :; done; grep ' /dev/shm ' /proc/mounts; echo there >/dev/shm/y"
    guest = container("sh", "-c", look, ipc_mode=f"container:{donor.id}")
    await box.create(guest, joined={"ipc": box.oci.pid(donor.id)})
    await box.oci.start(guest.id)
    assert (await box.end()).code == 0
    said, mount = box.log(guest).splitlines()
    assert said == "hi" and "nosuid,nodev,noexec" in mount and "size=1024k" in mount
    place = box.top / "run/containers" / donor.id / "shm"
    assert (place / "y").read_text() == "there\n"
    await box.oci.delete(donor.id, force=True)
    assert str(place) not in Path("/proc/self/mountinfo").read_text()


@pytest.mark.parametrize(("mode", "hosts"), [("host", True), ("private", False)])
async def test_the_hosts_shared_memory_is_only_for_who_joins_who_has_it(box: Bench, mode: str, hosts: bool) -> None:
    donor = container("sleep", "9", ipc_mode=mode)
    await box.create(donor)
    await box.oci.start(donor.id)
    guest = container("grep", " /dev/shm ", "/proc/mounts", ipc_mode=f"container:{donor.id}")
    await box.create(guest, joined={"ipc": box.oci.pid(donor.id)})
    await box.oci.start(guest.id)
    await box.end()
    assert box.log(guest).startswith("shm ") is not hosts


async def test_the_hosts_shared_memory_comes_with_its_queues(box: Bench) -> None:
    """Which need not be mounted on the host."""
    assert await box.output("grep", "-c", " /dev/mqueue mqueue", "/proc/mounts", ipc_mode="host") == "1"


async def test_who_is_nobody_in_the_container_is_said_before(box: Bench) -> None:
    one = container("sleep", "9")
    await box.create(one)
    box.oci.check_user(one, "0:0")
    for user, words in (("nosuch", "unable to find user nosuch"), ("0:-1", "uids and gids must be in range")):
        with pytest.raises(FairleadError, match=words):
            box.oci.check_user(one, user)
