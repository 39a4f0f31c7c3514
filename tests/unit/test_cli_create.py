"""From what is typed to what is sent: the create body of run and create, ports, mounts, switches."""

from typing import Any

import pytest

from fairlead.cli import create, running
from fairlead.cli.command import Usage, environment, nanoseconds
from fairlead.cli.ports import parse
from fairlead.errors import Invalid


def body(*words: str) -> dict[str, Any]:
    """What ``run WORDS`` would send."""
    (image, *command), flags = running.run.parse(words)
    return create.body(flags, image, tuple(command), detach=flags["detach"])


def test_a_plain_run() -> None:
    sent = body("busybox", "sh", "-c", "echo --rm")
    assert (sent["Image"], sent["Cmd"]) == ("busybox", ["sh", "-c", "echo --rm"])
    assert sent["HostConfig"]["NetworkMode"] == "default"
    assert sent["HostConfig"]["AutoRemove"] is False
    assert sent["AttachStdout"] and not sent["AttachStdin"]


def test_short_switches_in_one_word() -> None:
    sent = body("-itdp", "80:80", "--rm", "busybox")
    assert sent["Tty"] and sent["OpenStdin"] and not sent["AttachStdin"]
    assert sent["HostConfig"]["PortBindings"] == {"80/tcp": [{"HostIp": "", "HostPort": "80"}]}


@pytest.mark.parametrize(("word", "wanted"), [("--rm", True), ("--rm=true", True), ("--rm=false", False)])
def test_switches_take_values(word: str, wanted: bool) -> None:
    assert body(word, "busybox", "--rm=false")["HostConfig"]["AutoRemove"] is wanted
    assert body(word, "busybox", "--rm=false")["Cmd"] == ["--rm=false"]


def test_a_value_that_looks_like_a_switch() -> None:
    assert body("--name", "--rm=x", "busybox")["HostConfig"]["AutoRemove"] is False


def test_networks() -> None:
    sent = body(
        "--net", "RED", "--ip", "10.0.0.9", "--network-alias", "db", "--network", "name=BLUE,alias=x,ip6=fd00::9", "b"
    )
    assert sent["HostConfig"]["NetworkMode"] == "RED"
    sent = body(
        "--network",
        "RED",
        "--ip",
        "10.0.0.9",
        "--network-alias",
        "db",
        "--link",
        "c",
        "--mac-address",
        "02:00:00:00:00:01",
        "b",
    )
    assert sent["NetworkingConfig"]["EndpointsConfig"] == {
        "RED": {
            "IPAMConfig": {"IPv4Address": "10.0.0.9"},
            "Aliases": ["db"],
            "Links": ["c:c"],
            "MacAddress": "02:00:00:00:00:01",
        }
    }


def test_resources_and_health() -> None:
    sent = body(
        "-m",
        "64m",
        "--cpus",
        "1.5",
        "--ulimit",
        "nofile=1:2",
        "--health-cmd",
        "true",
        "--health-interval",
        "1m30s",
        "b",
    )
    host = sent["HostConfig"]
    assert (host["Memory"], host["NanoCpus"]) == (64 << 20, 1_500_000_000)
    assert host["Ulimits"] == [{"Name": "nofile", "Soft": 1, "Hard": 2}]
    assert sent["Healthcheck"]["Test"] == ["CMD-SHELL", "true"]
    assert sent["Healthcheck"]["Interval"] == 90 * 10**9


def test_mounts_and_volumes() -> None:
    sent = body(
        "-v", "/a:/b:ro", "-v", "/anonymous", "--mount", "type=tmpfs,dst=/t,tmpfs-size=1m", "--tmpfs", "/x:size=1", "b"
    )
    assert sent["HostConfig"]["Binds"] == ["/a:/b:ro"]
    assert sent["Volumes"] == {"/anonymous": {}}
    assert sent["HostConfig"]["Mounts"] == [{"Type": "tmpfs", "Target": "/t", "TmpfsOptions": {"SizeBytes": 1 << 20}}]
    assert sent["HostConfig"]["Tmpfs"] == {"/x": "size=1"}


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (
            ["-p", "5000-6000:2000-2100"],
            "invalid ranges specified for container and host Ports: 2000-2100 and 5000-6000",
        ),
        (["-p", "x:80"], "invalid hostPort: x"),
        (["-p", "80:x"], "invalid containerPort: x"),
        (["-p", "80/foo"], "invalid proto: foo"),
        (["-p", "1.2.3:80:80"], "invalid IP address: 1.2.3"),
        (["-p", "80:"], "no port specified: 80:<empty>"),
        (["--mount", "a"], 'invalid argument "a" for "--mount" flag: invalid field \'a\' must be a key=value pair'),
        (["--mount", "type=x"], 'invalid argument "type=x" for "--mount" flag: target is required'),
        (["--network", "name=a,foo=b"], 'invalid argument "name=a,foo=b" for "--network" flag: invalid field key foo'),
        (["--cpus", "x"], 'invalid argument "x" for "--cpus" flag: failed to parse x as a rational number'),
        (["--health-interval", "x"], 'invalid argument "x" for "--health-interval" flag: time: invalid duration "x"'),
        (["--ulimit", "x"], 'invalid argument "x" for "--ulimit" flag: invalid ulimit argument: x'),
    ],
)
def test_complaints(words: list[str], complaint: str) -> None:
    with pytest.raises((Invalid, Usage)) as caught:
        body(*words, "busybox")
    assert caught.value.message == complaint


@pytest.mark.parametrize(
    ("text", "bindings"),
    [
        ("80", {"80/tcp": [("", "")]}),
        ("8080:80/UDP", {"80/udp": [("", "8080")]}),
        ("127.0.0.1:8080:80", {"80/tcp": [("127.0.0.1", "8080")]}),
        ("127.0.0.1::80", {"80/tcp": [("127.0.0.1", "")]}),
        ("[::1]:8080:80", {"80/tcp": [("::1", "8080")]}),
        ("::1:8080:80", {"80/tcp": [("::1", "8080")]}),
        ("8000-8002:80", {"80/tcp": [("", "8000-8002")]}),
        ("8000-8001:80-81", {"80/tcp": [("", "8000")], "81/tcp": [("", "8001")]}),
    ],
)
def test_ports(text: str, bindings: dict[str, list[tuple[str, str]]]) -> None:
    found, exposed = parse([text])
    assert {port: [(one["HostIp"], one["HostPort"]) for one in all] for port, all in found.items()} == bindings
    assert exposed == {port: {} for port in bindings}


def test_expose() -> None:
    assert parse([], ["53/udp", "80-81"])[1] == {"53/udp": {}, "80/tcp": {}, "81/tcp": {}}


def test_environment_passes_ours_on(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    monkeypatch.setenv("OURS", "1")
    monkeypatch.delenv("NOT_THERE", raising=False)
    file = tmp_path / "env"
    file.write_text("# remark\nA=b\n\n")
    assert environment([str(file)], ["OURS", "NOT_THERE", "C="]) == ["A=b", "OURS=1", "C="]


def test_durations() -> None:
    assert [nanoseconds(text) for text in ("", "0", "250ms", "1h")] == [0, 0, 250 * 10**6, 3600 * 10**9]
