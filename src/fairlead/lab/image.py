"""Image: what labs, the tour and the demo run, made of this machine's own busybox; no registry is asked.

    /bin/busybox -> a tar with all its names, and a page to serve -> busybox:latest on every host

A machine without busybox has labs all the same, without an image.
"""

from __future__ import annotations

import io
import shutil
import subprocess
import tarfile
from collections.abc import Iterable
from pathlib import Path
from urllib.parse import quote

from fairlead.errors import Internal, Unavailable
from fairlead.lab.machine import Machine

PAGE = "Hello from RED.\n"
NAME = "busybox:latest"
SHELL = quote('CMD ["sh"]')
"""As in the image of that name: the labs say ``docker run -itd busybox``, and no command."""


def make(path: Path) -> None:
    """A root filesystem as tar: busybox under all its names, and a page to serve."""
    binary = shutil.which("busybox")
    if binary is None:
        raise Unavailable("busybox is missing (package busybox-static; scripts/setup installs it)")
    names = subprocess.run([binary, "--list"], capture_output=True, text=True, check=True).stdout.split()
    with tarfile.open(path, "w") as tar:
        for folder in ("bin", "dev", "etc", "proc", "sys", "tmp", "www"):
            entry = tarfile.TarInfo(folder)
            entry.type, entry.mode = tarfile.DIRTYPE, 0o1777 if folder == "tmp" else 0o755
            tar.addfile(entry)
        tar.add(Path(binary).resolve(), "bin/busybox")
        for name in names:
            if name != "busybox":
                link = tarfile.TarInfo(f"bin/{name}")
                link.type, link.linkname = tarfile.SYMTYPE, "busybox"
                tar.addfile(link)
        for name, text in (
            ("www/index.html", PAGE),
            ("etc/passwd", "root:x:0:0:root:/:/bin/sh\n"),
            ("etc/group", "root:x:0:\n"),
        ):
            entry = tarfile.TarInfo(name)
            entry.size = len(text)
            tar.addfile(entry, io.BytesIO(text.encode()))


def give(hosts: Iterable[Machine], folder: Path) -> None:
    """Every host's engine, which answers, gets the image; ``folder`` is where to put the tar."""
    path = folder / "busybox.tar"
    make(path)
    for host in hosts:
        called = f"repo={NAME.replace(':', '&tag=')}&changes={SHELL}"
        answer = host.ask(f"/images/create?fromSrc=-&{called}", path.read_bytes())
        if b'"status":"sha256:' not in answer.replace(b" ", b""):
            raise Internal(f"{host.name} does not take the image: {answer.decode()}")
