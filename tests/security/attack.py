"""What an attacker has: frames made by hand, ears on a wire, and a seat in a container's network.

Seat(engine, "web")       like any ``Place``: connect, listen, throw frames, from within a container's namespace
listen(place, port)       a UDP socket there; ``heard(sock)`` is what came in, once
frame(...), throw(...)    a UDP datagram in an Ethernet frame of one's own making, out of a device
Ears(place, device)       every frame that goes by there, while the block lasts
"""

import select
import socket
import struct
from pathlib import Path
from types import TracebackType

from lane.engines import Engine
from lane.machine import Place

EVERY_FRAME = 3


class Seat(Place):
    """The network of one container, with nothing of its file system."""

    def __init__(self, engine: Engine, container: str) -> None:
        self.pid = engine.machine.pid
        self.address = engine.docker.field(container, "range .NetworkSettings.Networks}}{{.IPAddress}}{{end")
        self.network = f"/proc/{engine.machine.pid}/root{engine.docker.field(container, '.NetworkSettings.SandboxKey')}"


def mac_of(place: Place, device: str) -> bytes:
    line = place.must(f"ip -o link show dev {device}").out
    return bytes.fromhex(line.split("link/ether ")[1].split()[0].replace(":", ""))


def listen(place: Place, port: int, address: str = "0.0.0.0", kind: int = socket.SOCK_DGRAM) -> socket.socket:
    def opened() -> socket.socket:
        sock = socket.socket(socket.AF_INET, kind)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((address, port))
        if kind == socket.SOCK_STREAM:
            sock.listen(16)
        return sock

    return place.within(opened)


def heard(sock: socket.socket, patience: float = 0.5) -> tuple[bytes, str]:
    """(what, from whom) of the next datagram; nothing when none comes."""
    if not select.select([sock], [], [], patience)[0]:
        return b"", ""
    data, peer = sock.recvfrom(4096)
    return data, peer[0]


def say(place: Place, address: str, port: int, words: bytes) -> None:
    """One datagram, the usual way."""

    def send() -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.sendto(words, (address, port))

    place.within(send)


def frame(from_mac: bytes, to_mac: bytes, source: str, target: str, port: int, words: bytes) -> bytes:
    datagram = struct.pack("!HHHH", 4242, port, 8 + len(words), 0) + words
    head = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(datagram), 0, 0, 64, 17, 0)
    head += socket.inet_aton(source) + socket.inet_aton(target)
    total = sum(struct.unpack("!10H", head))
    total = (total & 0xFFFF) + (total >> 16)
    head = head[:10] + struct.pack("!H", ~total & 0xFFFF) + head[12:]
    return to_mac + from_mac + b"\x08\x00" + head + datagram


def throw(place: Place, device: str, data: bytes) -> None:
    def send() -> None:
        with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as sock:
            sock.bind((device, 0))
            sock.send(data)

    place.within(send)


class Ears:
    """All frames on a device, in and out, from the start of the block."""

    def __init__(self, place: Place, device: str) -> None:
        self._place, self._device = place, device

    def __enter__(self) -> "Ears":
        def opened() -> socket.socket:
            sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(EVERY_FRAME))
            sock.bind((self._device, EVERY_FRAME))
            return sock

        self._sock = self._place.within(opened)
        self._sock.setblocking(False)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._sock.close()

    def heard(self, words: bytes) -> bool:
        """Whether these bytes went by since the last call."""
        found = False
        while True:
            try:
                found |= words in self._sock.recv(65536)
            except BlockingIOError:
                return found


def spy(files: Path) -> str:
    """Everything written below a folder, for a search."""
    return "".join(path.read_text(errors="replace") for path in files.rglob("*") if path.is_file())
