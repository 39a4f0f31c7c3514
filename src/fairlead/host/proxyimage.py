"""The HTTP mesh's image: this machine's own haproxy, the libraries it needs, and its configuration. Nothing else.

    /usr/sbin/haproxy --ldd--> libraries --tar--> import

No registry is asked, nothing is downloaded: where Debian's package ``haproxy`` is, there is the image.
"""

from __future__ import annotations

import io
import re
import shutil
import tarfile
from collections.abc import Mapping
from pathlib import Path

from fairlead.errors import Unsupported
from fairlead.host.command import run

_LIBRARY = re.compile(r"(/\S+) \(0x[0-9a-f]+\)")
_PLACES = "/usr/sbin:/usr/bin:/usr/local/sbin:/usr/local/bin"


async def root(files: Mapping[str, str]) -> bytes:
    """A root file system as tar: ``/haproxy``, what it needs, and these small files. ``Unsupported`` without one."""
    binary = shutil.which("haproxy", path=_PLACES)
    if binary is None:
        raise Unsupported("the HTTP mesh needs haproxy: install Debian's package haproxy on every node")
    libraries = _LIBRARY.findall(await _loaded(binary))
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as archive:
        for folder in ("run", "tmp", "etc"):
            _folder(archive, folder)
        _copy(archive, binary, "haproxy")
        for library in sorted(set(libraries)):
            _copy(archive, library, library.lstrip("/"))
        for path, content in files.items():
            _write(archive, path.lstrip("/"), content.encode())
    return made.getvalue()


async def _loaded(binary: str) -> str:
    """What the loader would load."""
    done = await run(["ldd", binary])
    return done.out.decode()


def _folder(archive: tarfile.TarFile, name: str) -> None:
    entry = tarfile.TarInfo(name)
    entry.type, entry.mode = tarfile.DIRTYPE, 0o755
    archive.addfile(entry)


def _copy(archive: tarfile.TarFile, source: str, name: str) -> None:
    _write(archive, name, Path(source).read_bytes(), 0o755)


def _write(archive: tarfile.TarFile, name: str, content: bytes, mode: int = 0o644) -> None:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode = len(content), mode
    archive.addfile(entry, io.BytesIO(content))
