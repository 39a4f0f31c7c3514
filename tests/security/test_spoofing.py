"""A container on a network with ``com.fairlead.antispoof`` speaks for nobody else."""

import socket
import struct

import pytest

from lane.machine import Place
from scenarios.lab import Lab
from security.attack import Seat, frame, heard, listen, mac_of, say, throw

pytestmark = pytest.mark.lab
NAP = "busybox sleep 1000"


def claim(place: Place, address: str) -> bytes:
    """A gratuitous ARP answer to everybody: this address is here."""
    mine, everybody = mac_of(place, "eth0"), b"\xff" * 6
    body = struct.pack("!HHBBH", 1, 0x800, 6, 4, 2) + mine + socket.inet_aton(address)
    return everybody + mine + b"\x08\x06" + body + everybody + socket.inet_aton(address)


def believed(place: Place, address: str) -> str:
    """The MAC at which a place believes an address to be."""
    return place.must(f"ip neigh show {address}").out.partition("lladdr ")[2].partition(" ")[0]


@pytest.mark.proves(
    "arp-spoof",
    guard=("engine/drivers/bridge.py", "(_fence(endpoint),) if options.antispoof else ()", "()"),
)
def test_a_container_speaks_for_itself_only(lab: Lab) -> None:
    lab.docker("network create -o com.fairlead.antispoof=true FENCED")
    for name in ("evil", "good"):
        lab.run(f"-d --name {name} --net FENCED {NAP}")
    gateway = lab.docker.field("FENCED", "range .IPAM.Config}}{{.Gateway}}{{end", "network")
    evil, good = Seat(lab.engine, "evil"), Seat(lab.engine, "good")
    good_address, evil_mac = lab.address("good", "FENCED"), mac_of(evil, "eth0").hex(":")
    with listen(good, 53) as service:
        say(evil, good_address, 53, b"in my name")
        assert heard(service, 5)[0] == b"in my name"
        good.must(f"ping -c1 -W2 {gateway}")
        lab.host.must(f"ping -c1 -W2 {good_address}")
        throw(evil, "eth0", claim(evil, gateway))
        throw(evil, "eth0", claim(evil, good_address))
        forged = frame(mac_of(evil, "eth0"), mac_of(good, "eth0"), gateway, good_address, 53, b"as the gateway")
        throw(evil, "eth0", forged)
        say(evil, good_address, 53, b"after all that")
        assert heard(service, 5)[0] == b"after all that"
    assert believed(good, gateway) not in ("", evil_mac)
    assert believed(lab.host, good_address) not in ("", evil_mac)
