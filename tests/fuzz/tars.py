"""Archives unpacked into a container (``docker cp``, builds, loads): hostile headers, links out, devices, half a file.

    us ---archive---> a child in a mount namespace of its own, its root a small tmpfs ---> "", or its traceback

The child unpacks as the engine does, standing in its root. Only root can do that; for others there is nothing to try.
"""

from __future__ import annotations

import atexit
import faulthandler
import io
import os
import shutil
import signal
import struct
import subprocess
import sys
import tarfile
import tempfile
import traceback

from fairlead.errors import FairleadError
from fairlead.host import archive
from fuzz.mutate import Dice
from fuzz.targets import target

NAMES = (
    "a",
    "a/b",
    "a/b/c",
    "../out",
    "/abs",
    "a/../../out",
    "./.",
    "",
    "x" * 120,
    "x" * 300,
    "é",
    "a\0b",
    "dev/null",
    "a/",
)
KINDS = (
    tarfile.REGTYPE,
    tarfile.DIRTYPE,
    tarfile.SYMTYPE,
    tarfile.LNKTYPE,
    tarfile.FIFOTYPE,
    tarfile.CHRTYPE,
    tarfile.GNUTYPE_SPARSE,
    b"9",
)
FIELDS = {
    "mode": (100, 8),
    "uid": (108, 8),
    "size": (124, 12),
    "mtime": (136, 12),
    "kind": (156, 1),
    "link": (157, 100),
}
"""of a header: where, how long"""


def member(dice: Dice) -> bytes:
    info = tarfile.TarInfo(dice.choice(NAMES))
    info.type, info.linkname = dice.choice(KINDS), dice.choice(NAMES)
    info.uid, info.mtime = dice.choice((0, 1000, 2**31, 2**40)), dice.choice((0, 1.5, -1, 2**33, 2**62))
    data = dice.randbytes(dice.randrange(40)) if info.type == tarfile.REGTYPE else b""
    info.size = len(data)
    if dice.random() < 0.2:
        info.pax_headers = {
            dice.choice(("path", "size", "uid", "mtime", "SCHILY.xattr.security.capability")): dice.junk()
        }
    try:
        head = info.tobuf(dice.choice((tarfile.PAX_FORMAT, tarfile.GNU_FORMAT)), "utf-8", "surrogateescape")
    except ValueError:
        head = tarfile.TarInfo("a").tobuf()
    if dice.random() < 0.3:
        head = resealed(dice, bytearray(head))
    return head + data + bytes(-len(data) % 512)


def resealed(dice: Dice, head: bytearray) -> bytes:
    """The last header with a field spoilt and a checksum that fits it."""
    at = len(head) - 512
    start, size = dice.choice(list(FIELDS.values()))
    head[at + start : at + start + size] = dice.choice((b"7" * size, b"\x80" + b"\xff" * size, dice.randbytes(size)))[
        :size
    ]
    head[at + 148 : at + 156] = b" " * 8
    head[at + 148 : at + 156] = b"%06o\0 " % (sum(head[at : at + 512]) & 0o777777)
    return bytes(head)


def archives(dice: Dice) -> bytes:
    data = b"".join(member(dice) for _ in range(dice.randrange(1, 5))) + bytes(1024)
    return dice.mangled(data, data) if dice.random() < 0.3 else data


class Child:
    """Who unpacks. Started at the first archive; it ends with us."""

    def __init__(self) -> None:
        self.folder = tempfile.mkdtemp(prefix="fuzz-tar-")
        words = [
            "setpriv",
            "--pdeathsig",
            "KILL",
            "unshare",
            "--mount",
            "--",
            sys.executable,
            "-m",
            "fuzz.tars",
            self.folder,
        ]
        here = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
        self.process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=here)
        atexit.register(self.close)

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)

    def unpack(self, data: bytes) -> str:
        """What went wrong."""
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.write(struct.pack("=I", len(data)) + data)
        self.process.stdin.flush()
        size = self.process.stdout.read(4)
        assert len(size) == 4, "the child ended"
        return self.process.stdout.read(struct.unpack("=I", size)[0]).decode()


_child: list[Child] = []


@target("archives", 3, archives)
def unpacked(data: bytes) -> None:
    """Refused in our words or unpacked; nothing outside of the root."""
    if os.geteuid():
        return
    if not _child:
        _child.append(Child())
    wrong = _child[0].unpack(data)
    if wrong:
        _child.pop().close()
        raise AssertionError(wrong)


def main(folder: str) -> None:
    """The child: its root is ``folder/root``, next to it lies what it must not touch."""
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", folder], check=True)
    os.mkdir(f"{folder}/root")
    top = os.open(folder, os.O_RDONLY)
    os.chroot(f"{folder}/root")
    faulthandler.register(signal.SIGUSR1, all_threads=True)
    count = 0
    while size := sys.stdin.buffer.read(4):
        data = sys.stdin.buffer.read(struct.unpack("=I", size)[0])
        os.chdir("/")
        wrong = ""
        try:
            archive._unpack(io.BytesIO(data), count % 2 == 1, (5, 5) if count % 3 == 0 else None)
        except (FairleadError, OSError, tarfile.TarError):
            pass  # these ``archive.inside`` turns into answers
        except Exception:
            wrong = traceback.format_exc(limit=-4)
        if (found := os.listdir(top)) != ["root"]:
            wrong = f"outside of the root: {found}"
        count += 1
        if count % 20 == 0:
            wipe()
        told = wrong.encode(errors="replace")
        sys.stdout.buffer.write(struct.pack("=I", len(told)) + told)
        sys.stdout.buffer.flush()


def wipe() -> None:
    for name in os.listdir("/"):
        path = f"/{name}"
        if os.path.isdir(path) and not os.path.islink(path):
            shutil.rmtree(path, ignore_errors=True)
        else:
            os.unlink(path)


if __name__ == "__main__":
    main(sys.argv[1])
