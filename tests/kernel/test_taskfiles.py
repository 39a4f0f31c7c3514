"""Files of tasks on a real kernel: as they are asked for, in memory only, gone with their task."""

import errno
import os
import stat
from pathlib import Path

import pytest

from fairlead.errors import Internal
from fairlead.host.taskfiles import TaskFiles

pytestmark = pytest.mark.kernel


def kind_of(path: Path) -> str:
    """Of the file system that it is on."""
    mounts = [line.split() for line in Path("/proc/self/mounts").read_text().splitlines()]
    return max((words for words in mounts if str(path).startswith(words[1])), key=lambda words: len(words[1]))[2]


def test_files_are_as_asked_in_memory_and_gone_with_their_task(tmp_path: Path) -> None:
    root = tmp_path / "files"
    files = TaskFiles(root)
    try:
        paths = [Path(path) for path in files.write("t1", [(b"hush", 5, 6, 0o400), (b"", 0, 0, 0o444)])]
        one = paths[0].stat()
        assert (paths[0].read_bytes(), one.st_uid, one.st_gid, stat.S_IMODE(one.st_mode)) == (b"hush", 5, 6, 0o400)
        assert kind_of(paths[0]) == "tmpfs" and stat.S_IMODE(root.stat().st_mode) == 0o700
        again = TaskFiles(root)
        again.write("t2", [(b"x", 0, 0, 0o444)])
        assert paths[0].exists(), "a second engine finds what is there"
        assert again.write("t1", [(b"new", 0, 0, 0o444)]) == [str(paths[0])]
        assert paths[0].read_bytes() == b"new" and not paths[1].exists()
        again.remove("t1")
        assert os.listdir(root) == ["t2"]
    finally:
        files.close()
    assert not root.exists()


def test_what_cannot_be_written_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int, mode: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    files = TaskFiles(tmp_path / "files")
    monkeypatch.setattr(os, "fchmod", full)
    try:
        with pytest.raises(Internal, match="the files of task t1 cannot be written: No space left on device"):
            files.write("t1", [(b"x", 0, 0, 0o444)])
        assert os.listdir(tmp_path / "files") == []
    finally:
        files.close()
