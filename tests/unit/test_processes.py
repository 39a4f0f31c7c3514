"""Small rules around processes: signals, restarts, health, detach keys, log lines, complaints."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairlead.core import complaints, health, loglines, restart, signals
from fairlead.core.container import (
    Config,
    Container,
    Health,
    Healthcheck,
    HealthProbe,
    HostConfig,
    RestartPolicy,
    State,
)
from fairlead.core.detach import DEFAULT, Detector, parse
from fairlead.core.usage import NetworkUse, interfaces
from fairlead.errors import Invalid


@pytest.mark.parametrize(
    ("text", "number"), [("9", 9), ("KILL", 9), ("sigterm", 15), ("SIGRTMIN+3", 37), ("RTMAX-1", 63), ("SIGIOT", 6)]
)
def test_signals(text: str, number: int) -> None:
    assert signals.number(text) == number


@pytest.mark.parametrize("text", ["", "0", "65", "NOPE", "RTMIN+99", "SIGRTMIN+", "-9", "٣"])
def test_no_signals(text: str) -> None:
    with pytest.raises(Invalid, match="invalid signal"):
        signals.number(text)


def test_signals_that_stop() -> None:
    assert signals.ends(15, "") and signals.ends(9, "") and signals.ends(3, "SIGQUIT") and not signals.ends(1, "")


def container(policy: str = "", most: int = 0, **state) -> Container:
    host = HostConfig(restart_policy=RestartPolicy(policy, most))
    return Container(id="c", name="c", created="", config=Config(), host=host, state=State(**state))


@pytest.mark.parametrize(
    ("policy", "code", "state", "again"),
    [
        (("no",), 1, {}, False),
        (("always",), 0, {}, True),
        (("unless-stopped",), 1, {}, True),
        (("always",), 0, {"stopped_by_user": True}, False),
        (("on-failure",), 0, {}, False),
        (("on-failure",), 1, {"restart_count": 99}, True),
        (("on-failure", 2), 1, {"restart_count": 1}, True),
        (("on-failure", 2), 1, {"restart_count": 2}, False),
    ],
)
def test_restart_policies(policy: tuple, code: int, state: dict, again: bool) -> None:
    assert restart.decide(container(*policy, **state), code).again is again


def test_waits_double_and_a_good_run_forgives() -> None:
    def after(count: int, seconds: int) -> float:
        ran = {"started_at": "2024-02-28T23:59:00Z", "finished_at": f"2024-02-28T23:59:{seconds:02}.5Z"}
        return restart.delay(container(restart_count=count, **ran))

    assert [after(count, 1) for count in (1, 2, 3, 11, 99)] == [0.1, 0.2, 0.4, 60.0, 60.0]
    assert after(99, 10) == 0.1
    assert restart.duration(container(started_at="2024-02-28T00:00:00Z", finished_at="2024-03-01T00:00:01Z")) == 172801


@given(st.integers(0, 4_000_000_000 * 10**9))
def test_times_there_and_back(time: int) -> None:
    assert restart.nanoseconds(loglines.timestamp(time)) == time


def test_times_with_an_offset() -> None:
    assert restart.nanoseconds("1970-01-01T02:00:00.000000001+02:00") == 1
    assert restart.nanoseconds("1969-12-31T22:30:00-01:30") == 0


PROBE = {code: HealthProbe("", "", code, "") for code in (0, 1)}


def test_health() -> None:
    check = Healthcheck(test=("CMD", "x"), start_period=10 * health.SECOND, retries=2)
    new = Health()
    assert health.step(check, new, PROBE[0], 1).status == "healthy"
    assert health.step(check, new, PROBE[1], 9 * health.SECOND).failing_streak == 0
    once = health.step(check, new, PROBE[1], 11 * health.SECOND)
    assert (once.status, once.failing_streak) == ("starting", 1)
    twice = health.step(check, once, PROBE[1], 12 * health.SECOND)
    assert twice.status == "unhealthy"
    assert health.step(check, twice, PROBE[0], 13 * health.SECOND).failing_streak == 0
    for _ in range(9):
        twice = health.step(check, twice, PROBE[1], 99)
    assert len(twice.log) == 5
    assert health.wait(check, new, 0) == 5 * health.SECOND
    assert health.wait(check, twice, 0) == 30 * health.SECOND


def test_health_commands() -> None:
    assert health.command(Healthcheck(test=("CMD-SHELL", "a b")), None) == ("/bin/sh", "-c", "a b")
    assert health.command(Healthcheck(test=("CMD", "a", "b")), None) == ("a", "b")
    for none in (None, Healthcheck(), Healthcheck(test=("NONE",))):
        assert health.command(none, None) is None


def test_detach_keys() -> None:
    assert parse("") == DEFAULT == parse("ctrl-p,ctrl-q")
    assert parse("ctrl-@,a,CTRL-[,ctrl-_") == bytes((0, 97, 27, 31))
    for bad in ("ctrl-", "ab", "ctrl-1", "a,,b"):
        with pytest.raises(Invalid, match="Invalid detach keys"):
            parse(bad)


@given(st.lists(st.binary(max_size=6)), st.sampled_from([b"\x10\x11", b"a", b"aab", b"abab"]))
def test_detaching_changes_no_other_byte(pieces: list[bytes], keys: bytes) -> None:
    detector, out, typed = Detector(keys), b"", False
    for piece in pieces:
        got, typed = detector.feed(piece)
        out += got
        if typed:
            break
    whole = b"".join(pieces)
    if typed:
        assert out == whole[: whole.find(keys)]
    else:
        assert out + detector.rest() == whole and keys not in whole


@given(st.lists(st.sampled_from([b"a", b"b", b"ab", b"aa"])))
def test_detaching_finds_overlapping_beginnings(pieces: list[bytes]) -> None:
    detector = Detector(b"aab")
    found = any(detector.feed(piece)[1] for piece in pieces)
    assert found == (b"aab" in b"".join(pieces))


RECORDS = (
    b"2024-05-06T07:08:09.000000001+00:00 stdout P he\n"
    b"2024-05-06T07:08:09.000000002+00:00 stderr F oh\n"
    b"garbage\n"
    b"2024-05-06T07:08:09.000000003+00:00 stdout F llo\n"
    b"2024-05-06T07:08:09.000000004+00:00 stdout P last"
)


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_log_lines_are_put_together(size: int) -> None:
    assembler = loglines.Assembler()
    pieces = [RECORDS[at : at + size] for at in range(0, len(RECORDS), size)]
    lines = [line for piece in pieces for line in assembler.feed(piece)]
    assert [(line.stream, line.time % 10, line.text) for line in lines] == [(2, 2, b"oh\n"), (1, 1, b"hello\n")]
    assert list(assembler.finish()) == []


def test_a_line_without_end_is_told_at_the_end() -> None:
    assembler = loglines.Assembler()
    assert list(assembler.feed(RECORDS + b"\n"))[-1].text == b"hello\n"
    assert [line.text for line in assembler.finish()] == [b"last"]


def test_a_very_long_line_comes_in_pieces() -> None:
    assembler = loglines.Assembler()
    record = b"2024-05-06T07:08:09Z stdout P " + b"x" * 9000 + b"\n"
    assert [len(line.text) for line in assembler.feed(record * 5)] == [18000, 18000]


@pytest.mark.parametrize(
    ("words", "program", "says", "code"),
    [
        ("executable file `x` not found in $PATH: No such file or directory", "x", 'exec: "x": executable file', 127),
        ("executable file `/x/y` not found: No such file or directory", "/x/y", "no such file or directory", 127),
        ("2024-01-01T00:00:00.1Z: open executable: Permission denied", "/x", 'exec: "/x": permission denied', 126),
        ("open executable: Operation not permitted", "/etc", "permission denied", 126),
        ("mount `/a` to `/b`: No such file or directory", "/x", 'error mounting "/a" to rootfs at "/b": mount', 127),
        ("mount `/a` to `/b`: Invalid argument", "/x", "dst=/b, flags=MS_BIND|MS_REC: invalid argument", 128),
        (
            "mount `/a` to `b`: Not a directory",
            "/x",
            "not a directory: Are you trying to mount a directory onto a file",
            127,
        ),
        ("sethostname: Invalid argument", "/x", "error during container init: sethostname: invalid argument", 128),
        (
            "the sysctl `kernel.shmmax` requires a new IPC namespace",
            "/x",
            'runc create failed: sysctl "kernel.shmmax" is not allowed in the hosts ipc namespace',
            128,
        ),
        (
            "the sysctl `net.core.somaxconn` requires a new network namespace",
            "/x",
            'runc create failed: sysctl "net.core.somaxconn" not allowed in host network namespace',
            128,
        ),
        ("", "/x", "no reason given", 128),
        ("open executable: Permission denied", "", 'exec: "": executable file not found in $PATH', 127),
        (
            "chdir `/a`: No such file or directory",
            "x",
            'chdir to cwd ("/a") set in config.json failed: no such file',
            127,
        ),
    ],
)
def test_complaints(words: str, program: str, says: str, code: int) -> None:
    error = complaints.of_create(words, program)
    assert says in error.message and error.exit_code == code
    assert error.message.startswith("failed to create task for container: ")
    assert error.status == (500 if code == 128 else 400)


def test_interfaces() -> None:
    text = "a\nb\n    lo: 1 2 0 0 0 0 0 0 3 4 0 0 0 0 0 0\n  eth0: 5 6 1 2 0 0 0 0 7 8 3 4 0 0 0 0\n"
    assert interfaces(text) == {"eth0": NetworkUse(5, 6, 1, 2, 7, 8, 3, 4)}


def test_a_program_that_is_a_directory() -> None:
    for make in (complaints.of_create, complaints.of_exec):
        error = make("open executable: Permission denied", "/tmp", folder=True)
        assert error.message.endswith('exec: "/tmp": is a directory: permission denied') and error.exit_code == 126
