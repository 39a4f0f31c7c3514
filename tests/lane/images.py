"""The images of the labs, made from one static busybox: no registry is needed.

``nginx`` serves a page on 80, ``redis`` says PONG on 6379, ``flask`` says hi on 5000, and the rest are a shell.
"""

import functools
import io
import shutil
import tarfile
from pathlib import Path

from lane.client import Docker
from lane.machine import run

PAGE = "<title>Welcome to nginx!</title>\n"
FOLDERS = [
    "bin",
    "sbin",
    "usr",
    "usr/bin",
    "usr/sbin",
    "etc",
    "proc",
    "sys",
    "dev",
    "tmp",
    "root",
    "home",
    "run",
    "www",
]
FOLDERS += ["var", "var/log", "var/run"]
FILES = {
    "etc/passwd": "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n",
    "etc/group": "root:x:0:\nnobody:x:65534:\n",
    "www/index.html": PAGE,
    "www/hi": "Hi from flask\n",
}
IMAGES: dict[str, tuple[str, ...]] = {
    "busybox": ('CMD ["sh"]',),
    "ubuntu": ('CMD ["sh"]',),
    "net-test": ('CMD ["sh"]',),
    "nginx": ('CMD ["httpd","-f","-p","80","-h","/www"]', "EXPOSE 80"),
    "flask": ('CMD ["httpd","-f","-p","5000","-h","/www"]', "EXPOSE 80"),
    "redis": ('CMD ["nc","-ll","-p","6379","-e","echo","PONG"]', "EXPOSE 6379"),
    "mysql": ('CMD ["nc","-ll","-p","3306","-e","echo","mysql"]', "EXPOSE 3306"),
    "postgres": ('CMD ["nc","-ll","-p","5432","-e","echo","postgres"]', "EXPOSE 5432"),
    "progrium/consul": ('CMD ["httpd","-f","-p","8500","-h","/www"]', "EXPOSE 8300 8301 8301/udp 8400 8500 53/udp"),
}


@functools.cache
def root_tar() -> bytes:
    """A root file system as an uncompressed tar."""
    busybox = shutil.which("busybox")
    if not busybox:
        raise FileNotFoundError("busybox: install Debian's package busybox-static")
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name in FOLDERS:
            folder = tarfile.TarInfo(name)
            folder.type, folder.mode = tarfile.DIRTYPE, 0o1777 if name == "tmp" else 0o755
            tar.addfile(folder)
        _file(tar, "bin/busybox", Path(busybox).read_bytes(), 0o755)
        for applet in run([busybox, "--list"]).lines:
            if applet != "busybox":
                link = tarfile.TarInfo(f"bin/{applet}")
                link.type, link.linkname = tarfile.SYMTYPE, "busybox"
                tar.addfile(link)
        for name, text in FILES.items():
            _file(tar, name, text.encode(), 0o644)
    return out.getvalue()


def _file(tar: tarfile.TarFile, name: str, content: bytes, mode: int) -> None:
    info = tarfile.TarInfo(name)
    info.size, info.mode = len(content), mode
    tar.addfile(info, io.BytesIO(content))


def import_images(
    docker: Docker, folder: Path, names: tuple[str, ...] = tuple(IMAGES), more: tuple[str, ...] = ()
) -> None:
    """Give an engine the images, as a user would: ``docker import``. ``more``: lines that each has besides."""
    archive = folder / "root.tar"
    archive.write_bytes(root_tar())
    path = "ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    for name in names:
        changes = [word for change in (*IMAGES[name], path, *more) for word in ("-c", change)]
        docker(["import", *changes, str(archive), f"{name}:latest"])
