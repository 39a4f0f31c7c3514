"""What control groups can keep, by the files that the kernel shows, and what is let go where they cannot."""

from pathlib import Path

import pytest

from fairlead.core.container import HostConfig
from fairlead.engine.abilities import look, supported


def tree(root: Path, *names: str, **files: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    for name, text in files.items():
        (root / name.replace("_", ".")).write_text(text)
    return root


def test_version_2(tmp_path: Path) -> None:
    able = look(tree(tmp_path, cgroup_controllers="cpuset cpu io memory pids\n"))
    assert (able.version, able.memory, able.swap, able.cpu, able.cpuset, able.pids) == (2, True, True, True, True, True)
    assert not (able.swappiness or able.oom_kill_disable or able.weights)
    assert not look(tree(tmp_path, cgroup_controllers="cpu\n")).memory


@pytest.mark.parametrize("name", ["io.cost.qos", "box/io.bfq.weight", "box/io.weight"])
def test_weights_in_version_2(tmp_path: Path, name: str) -> None:
    assert look(tree(tmp_path, name, cgroup_controllers="io\n")).weights


def test_version_1_beside_an_empty_2(tmp_path: Path) -> None:
    old = ("memory/tasks", "memory/memory.memsw.limit_in_bytes", "cpu/tasks", "blkio/blkio.weight")
    able = look(tree(tmp_path, *old, "unified/cgroup.controllers"))
    assert (able.version, able.memory, able.swap, able.cpu, able.cpuset, able.weights) == (
        1,
        True,
        True,
        True,
        False,
        True,
    )
    assert able.swappiness and able.oom_kill_disable and not able.pids


def test_wishes_that_cannot_come_true_are_let_go_with_a_warning(tmp_path: Path) -> None:
    wishes = HostConfig(memory=1 << 26, memory_swappiness=7, oom_kill_disable=True, blkio_weight=300)
    host, warnings = supported(wishes, look(tree(tmp_path / "2", "x", cgroup_controllers="memory io cpu\n")))
    assert host == HostConfig(memory=1 << 26)
    assert warnings == [
        "Your kernel does not support memory swappiness capabilities or the cgroup is not mounted."
        " Memory swappiness discarded.",
        "Your kernel does not support OomKillDisable. OomKillDisable discarded.",
        "Your kernel does not support Block I/O weight or the cgroup is not mounted. Weight discarded.",
    ]
    host, warnings = supported(wishes, look(tree(tmp_path / "1", "memory/tasks", "blkio/blkio.weight")))
    assert host == HostConfig(
        memory=1 << 26, memory_swap=-1, memory_swappiness=7, oom_kill_disable=True, blkio_weight=300
    )
    assert warnings == [
        "Your kernel does not support swap limit capabilities or the cgroup is not mounted."
        " Memory limited without swap.",
    ]


def test_nothing_asked_nothing_said(tmp_path: Path) -> None:
    for wishes in (
        HostConfig(),
        HostConfig(oom_kill_disable=False, memory_swappiness=-1, memory=1 << 26, memory_swap=-1),
    ):
        assert supported(wishes, look(tmp_path))[1] == []
