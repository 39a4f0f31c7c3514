"""A real DHCP server (busybox udhcpd) at a place of the LAN, with leases as short as a test wants them."""

import signal
import socket
import struct
import subprocess
import tempfile
from pathlib import Path

from lane.machine import FOLLOW, Lan, eventually


class Dhcpd:
    """Serves ``first`` to ``last`` of the LAN (or of ``net``, on another ``link`` there).

    ``options`` are lines of udhcpd.conf behind ``option``."""

    def __init__(
        self, lan: Lan, first: int, last: int, *options: str, lease: int = 600, net: str = "", link: str = "lan0"
    ) -> None:
        self.lan, self.net, self.link = lan, net or lan.net, link
        self.folder = Path(tempfile.mkdtemp(prefix="fl-"))
        self.leases, self.log = self.folder / "leases", self.folder / "log"
        self.range, self.options, self.lease = (first, last), options, lease
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self.leases.touch()
        first, last = self.range
        lines = (
            f"start {self.net}.{first}",
            f"end {self.net}.{last}",
            f"interface {self.link}",
            f"lease_file {self.leases}",
            f"pidfile {self.folder}/pid",
            "auto_time 1",
            "min_lease 10",
            *(f"option {line}" for line in ("subnet 255.255.255.0", f"lease {self.lease}", *self.options)),
        )
        config = self.folder / "conf"
        config.write_text("\n".join(lines) + "\n")
        words = [*FOLLOW, "nsenter", f"--net={self.lan.network}", "busybox", "udhcpd", "-f", "-a", "0", str(config)]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(words, stdout=log, stderr=log)
        eventually(lambda: b"started" in self.log.read_bytes(), "udhcpd")

    def stop(self) -> None:
        if self.process is not None:
            self.process.send_signal(signal.SIGTERM)
            self.process.wait()
            self.process = None

    def forget(self) -> None:
        """It comes back without any memory of what it lent."""
        self.stop()
        self.leases.write_bytes(b"")
        self.log.write_bytes(b"")

    def said(self, text: str) -> int:
        """How often it said that."""
        return self.log.read_text(errors="replace").count(text)

    def lent(self) -> dict[str, str]:
        """Address -> MAC of everything that it thinks is lent now (its file: 8 bytes of time, then records)."""
        assert self.process is not None
        before = self.leases.stat().st_mtime_ns
        self.process.send_signal(signal.SIGUSR1)
        eventually(lambda: self.leases.stat().st_mtime_ns != before, "the lease file")
        data = self.leases.read_bytes()[8:]
        found = {}
        for at in range(0, len(data), 36):
            left, address, mac = struct.unpack_from(">I4s6s", data, at)
            if left:
                found[socket.inet_ntoa(address)] = mac.hex(":")
        return found

    def close(self) -> None:
        self.stop()
        for file in self.folder.iterdir():
            file.unlink()
        self.folder.rmdir()
