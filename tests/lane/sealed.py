"""An encrypted network by its plans: three machines on a wire, the parts of it on each, and what an enemy may try.

one (10.9.0.2) ==== two (10.9.0.3)         three: on the same wire, not on the network
"""

import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from fairlead.core import keying, rules
from fairlead.core.model import Endpoint, Ipam, Network, Remote, Subnet
from fairlead.core.remotes import VNI
from fairlead.core.wanted import Association, Element, Namespace, Plan, Policy, Wanted
from fairlead.engine.drivers.base import Facts
from fairlead.engine.drivers.overlay import SEALED_PORT, Overlay
from fairlead.lab.machine import Machine
from fairlead.lab.topology import Node, Topology, Wire, one_cable
from fairlead.lab.world import World
from lane.machine import eventually

UNDERLAY_MTU = 1400
RED = Network(
    id="ed" * 32,
    name="RED",
    created="",
    driver="overlay",
    scope="global",
    ipam=Ipam(config=(Subnet(subnet="10.9.0.0/24"),)),
    options={VNI: "4097", "encrypted": ""},
)
MAKE = """
import sys
from fairlead.core.wanted import *
from fairlead.host.linux import LinuxHost
plan = eval(sys.stdin.read())
host = LinuxHost("/run/fl")
host.make(plan)
missing, _ = difference(plan, host.look(plan))
assert not missing, missing
if sys.argv[1:] == ["remove"]:
    host.remove(plan)
    host.settle()
    left = [item for item in host.look(plan) if type(item).__name__ not in ("Skeleton", "Sysctl")]
    assert not left, left
"""
SEND = """
import socket, sys
source, target, port, payload = sys.argv[1], sys.argv[2], int(sys.argv[3]), bytes.fromhex(sys.argv[4])
six = ":" in target
sock = socket.socket(socket.AF_INET6 if six else socket.AF_INET, socket.SOCK_DGRAM)
sock.setsockopt(*((socket.IPPROTO_IPV6, 75, 1) if six else (socket.SOL_IP, 19, 1)))  # any address may be ours
sock.bind((source, 0))
for _ in range(3):
    sock.sendto(payload, (target, port))
"""


@contextmanager
def wire(family: str, folder: Path) -> Iterator[World]:
    """Three hosts; ``family``: four or six, of the wire between them."""
    hosts = ("one", "two", "three")
    six = Topology({name: Node() for name in hosts}, {"lan": Wire(subnet6="fd77:77::/64", mtu=UNDERLAY_MTU)})
    with World(six if family == "six" else one_cable(*hosts, mtu=UNDERLAY_MTU), str(folder)) as world:
        yield world


def address(machine: Machine) -> str:
    return machine.address4 or machine.address6


def joined(number: int) -> Endpoint:
    return Endpoint(
        id=f"{number:064x}", network=RED.id, container=f"c{number}" * 6, sandbox=f"c{number}" * 6, name=f"c{number}",
        interface="eth0", device=f"veth{number}", ipv4=f"10.9.0.{number}/24", mac=f"02:42:0a:09:00:0{number}",
    )  # fmt: skip


def plan(here: Machine, number: int, there: Machine, other: int, guards: Iterable[str] = ("rules", "policies")) -> Plan:
    """Container ``number`` on the network here, one on another host, and these guards."""
    driver, own, facts = Overlay(), joined(number), Facts(vtep=address(here), underlay_mtu=UNDERLAY_MTU)
    wanted: list[Wanted] = [*rules.machine_plan()]
    if "policies" in guards:
        wanted += keying.guard(facts.vtep, SEALED_PORT)
    path = driver.path(RED, facts)
    sealed = [item for item in path if isinstance(item, Element) and item.map == "sealed"]
    assert sealed
    wanted += path if "rules" in guards else [item for item in path if item not in sealed]
    wanted += [Namespace(name=own.namespace), *driver.endpoint(RED, own, facts)]
    remote = joined(other)
    known = Remote(
        id=remote.id, network=RED.id, node="n2", host="two", vtep=address(there), name=remote.name, mac=remote.mac,
        ipv4=remote.ipv4,
    )  # fmt: skip
    return (*wanted, *driver.vtep(RED, known.vtep, facts), *driver.remote(RED, known, facts))


def between(here: Machine, there: Machine, send: int, receive: int) -> Plan:
    """Associations of these numbers and policies between two hosts."""
    us, them = address(here), address(there)
    size = 128 if ":" in us else 32
    return (
        Association(source=them, target=us, spi=receive, port=SEALED_PORT),
        Association(source=us, target=them, spi=send, port=SEALED_PORT),
        Policy(way="in", source=f"{them}/{size}", target=f"{us}/{size}", port=SEALED_PORT, need="any"),
        Policy(way="out", source=f"{us}/{size}", target=f"{them}/{size}", port=SEALED_PORT, need=str(send)),
    )


def make(machine: Machine, wanted: Plan, keys: dict[int, bytes] | None = None, *words: str) -> None:
    """Make a plan there; ``keys``: of its associations, by number."""
    lines = []
    for item in wanted:
        key = (keys or {}).get(item.spi, b"") if isinstance(item, Association) else b""
        lines.append(repr(item).replace("Secret()", f"Secret({key!r})"))
    machine.run(sys.executable, "-c", MAKE, *words, input=f"({','.join(lines)},)")


def inside(machine: Machine, number: int, *words: str) -> str:
    ns = f"/run/fl/netns/{joined(number).namespace}"
    return machine.run("nsenter", f"--net={ns}", *words, check=False).stdout


def pings(machine: Machine, number: int, target: str, *words: str) -> bool:
    return " 0% packet loss" in inside(machine, number, "ping", "-c1", "-W2", *words, target)


def heard(machine: Machine, number: int) -> int:
    """How many pings have reached a container, whether or not its answers found their way."""
    text = inside(machine, number, "cat", "/proc/net/snmp").splitlines()
    lines = [line.split() for line in text if line.startswith("Icmp:")]
    return int(dict(zip(*lines, strict=True))["InEchos"])


def frame(number: int, claims: int = 9) -> str:
    """VXLAN of the network, in hex: a ping to container ``number`` from ``claims``, who is nobody."""
    icmp = bytes.fromhex("08000000") + os.urandom(4)
    icmp = icmp[:2] + _sum(icmp).to_bytes(2, "big") + icmp[4:]
    ip = bytes.fromhex("45000000000040004001") + b"\0\0" + bytes([10, 9, 0, claims, 10, 9, 0, number])
    ip = ip[:2] + (20 + len(icmp)).to_bytes(2, "big") + ip[4:]
    ip = ip[:10] + _sum(ip).to_bytes(2, "big") + ip[12:]
    ethernet = bytes.fromhex(joined(number).mac.replace(":", "")) + bytes.fromhex("02420a0900090800")
    vxlan = bytes.fromhex("08000000") + (4097).to_bytes(3, "big") + b"\0"
    return (vxlan + ethernet + ip + icmp).hex()


def _sum(data: bytes) -> int:
    total = sum(int.from_bytes(data[at : at + 2], "big") for at in range(0, len(data), 2))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total ^ 0xFFFF


def send(machine: Machine, source: str, target: str, payload: str) -> None:
    """Thrice, in UDP to the port of encrypted networks, whoever's address ``source`` is."""
    machine.run(sys.executable, "-c", SEND, source, target, str(SEALED_PORT), payload)


class Wiretap:
    """What passes a machine's eth0, as tcpdump tells it."""

    def __init__(self, machine: Machine, name: str = "tap") -> None:
        self._machine, self._name, self._marks = machine, name, 0
        words = "ip proto 50 or ip6 proto 50 or udp portrange 4789-4790 or (udp port 9)"
        machine.start("tcpdump", "-lnni", "eth0", words, log=name)
        eventually(lambda: "listening on" in machine.log(name), "tcpdump listens")

    def lines(self, marker: Machine) -> list[str]:
        """All so far: ``marker``, on the same wire, sends a last one, and we wait for it."""
        self._marks += 1
        text = SEND.replace("_ in range(3)", "_ in range(1)").replace("sock.setsockopt", "0 and sock.setsockopt")
        marker.run(sys.executable, "-c", text, address(marker), address(self._machine), "9", "00")
        eventually(lambda: self._log().count(".9: ") >= self._marks, "the marker")
        return [line for line in self._log().splitlines() if ": ESP(" in line or ".4790:" in line or ".4789:" in line]

    def _log(self) -> str:
        return self._machine.log(self._name)
