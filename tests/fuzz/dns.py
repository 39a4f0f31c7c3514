"""The DNS: messages taken apart, the whole answering function, answers of hostile upstreams, and a real socket."""

from __future__ import annotations

import atexit
import fcntl
import os
import signal
import socket
import struct
import tempfile
from typing import Any

from fairlead.core import dnswire, names
from fairlead.core.dnswire import Malformed, Message, Question, Record
from fairlead.engine import resolver
from fairlead.engine.loop import Loop
from fairlead.host import netns, steering
from fuzz.mutate import Dice
from fuzz.targets import target

NAMES = (
    "web",
    "WEB.red",
    "db.red",
    "db",
    "_80._tcp.web",
    "a.shop",
    "10.0.18.172.in-addr.arpa",
    "nobody",
    "outside.example.com",
    ".",
)
NAMES += ("1." * 32 + "ip6.arpa", "x" * 63 + ".red", "_x._tcp.db", "_²._tcp.web", "tasks.web")
SERVER = (resolver.ADDRESS, resolver.PORT)
_SET_FLAGS, _UP = 0x8914, 1
"""SIOCSIFFLAGS, IFF_UP: netdevice(7)"""
TYPES = (dnswire.A, dnswire.AAAA, dnswire.PTR, dnswire.SRV, dnswire.ANY, dnswire.TXT, dnswire.OPT, 0, 65535)


def question(dice: Dice) -> bytes:
    data = dnswire.query(
        dice.choice(NAMES), dice.choice(TYPES), dice.randrange(1 << 16), dice.choice((0, 0, 512, 4096, 1))
    )
    return dice.mangled(data, data) if dice.random() < 0.8 else data


def message(dice: Dice) -> bytes:
    owner = dnswire.wire(dice.choice(NAMES))
    records = [
        Record(owner, dice.choice(TYPES), dnswire.IN, dice.randrange(1 << 32), dice.randbytes(dice.randrange(20)))
        for _ in range(dice.randrange(4))
    ]
    data = dnswire.build(Message(7, dnswire.QR | dnswire.RD, (Question(owner, dice.choice(TYPES)),), tuple(records)))
    return dice.mangled(data, data) if dice.random() < 0.9 else data


@target("dns message", 12, message)
def parsed(data: bytes) -> None:
    """What can be read can be written, and reads the same."""
    try:
        got = dnswire.parse(data)
    except Malformed:
        return
    assert dnswire.parse(dnswire.build(got)) == got


@target("dns upstream", 12, message)
def checked(data: bytes) -> None:
    """What passes as an answer can be read, unless it says itself that it is cut off, or is an error."""
    try:
        name, at = dnswire.read_name(data, 12)
        asked = name + data[at : at + 4].ljust(4, b"\0")
        rcode = dnswire.check_answer(data, asked)
    except Malformed:
        return
    assert data[12 : 12 + len(asked)].lower() == asked.lower() or rcode not in (dnswire.NOERROR, dnswire.NXDOMAIN)
    if rcode in (dnswire.NOERROR, dnswire.NXDOMAIN) and not data[2] & 2:
        dnswire.build(dnswire.parse(data))


class _Wire:
    """A raw socket that keeps the answers in what it is given."""

    def __init__(self) -> None:
        self.sent: list[bytes] = []

    def sendto(self, packet: bytes, client: Any) -> None:
        self.sent.append(packet[28:])


def lonely() -> str:
    """A namespace of nobody else's, with a loopback; its path in this process."""
    space = netns.in_new(_begun)
    return f"/proc/self/fd/{space}"


def _begun() -> int:
    with socket.socket() as asking:  # ifreq: a name of 16 bytes, flags
        fcntl.ioctl(asking, _SET_FLAGS, struct.pack("16sh22x", b"lo", _UP))
    return os.open(netns.HERE, os.O_RDONLY)


def served(space: str) -> tuple[Loop, resolver.Resolver]:
    """A resolver with names and a door in that namespace."""
    loop = Loop()
    it = resolver.Resolver(loop, netns.socket_in, steering.open_door)
    entries = [
        {
            "network": "n1",
            "name": "red",
            "endpoint": f"e{n}",
            "names": ["web", f"w{n}", "*.shop"],
            "ipv4": f"172.18.0.{n}",
        }
        for n in range(10, 13)
    ]
    entries[0] |= {"ipv6": "fd00::10", "ports": ["80/tcp"]}
    box = {"id": "box", "namespace": space, "networks": ["n1"], "links": {"n1": {"db": "w11"}}}
    assert not it.state({"names": entries, "sandboxes": [box]})["failed"]
    return loop, it


class _Answering:
    """The resolver without its sockets: one for the whole run, for it remembers."""

    def __init__(self) -> None:
        self.loop, self.resolver = served(lonely())
        self.box = self.resolver._sandboxes["box"]
        assert self.box.door is not None
        self.loop.unwatch(self.box.door.udp)
        self.box.door.out = self.wire = _Wire()  # type: ignore[assignment]

    def ask(self, packet: bytes) -> list[bytes]:
        self.wire.sent.clear()
        quick = self.box.answers.get(packet[2:])
        if quick is not None:
            return [packet[:2] + quick]
        self.resolver._datagram(self.box, packet, ("127.0.0.1", 9))
        return self.wire.sent

    def ask_stream(self, packet: bytes) -> list[bytes]:
        sent: list[bytes] = []
        self.resolver._answer_stream(self.box, packet, sent.append)
        return sent


_answering: list[_Answering] = []


@target("dns answering", 20, question)
def answered(packet: bytes) -> None:
    """At most one answer; to that question; no larger than the client can take; readable; the same the second time."""
    if not _answering:
        _answering.append(_Answering())
    it = _answering[0]
    for ask, limit in ((it.ask, dnswire.LARGEST_UDP), (it.ask, dnswire.LARGEST_UDP), (it.ask_stream, dnswire.LARGEST)):
        answers = list(ask(packet))
        assert len(answers) <= 1, answers
        for answer in answers:
            assert answer[:2] == packet[:2] and answer[2] & 0x80 and len(answer) <= limit
            got = dnswire.parse(answer)
            if got.questions:
                assert got.questions[0].name == dnswire.read_name(packet, 12)[0]
    counted = it.resolver.statistics({})["remembered"]
    assert counted <= resolver.REMEMBERED, counted


@target("dns names", 5, lambda dice: (dice.scribbled(dice.choice(NAMES)), dice.choice(TYPES)))
def found(asked: tuple[str, int]) -> None:
    name, kind = asked
    if not _answering:
        _answering.append(_Answering())
    records = _answering[0].resolver._names.find("box", name.lower(), kind)
    for type_, data in records or ():
        assert isinstance(type_, int) and isinstance(data, bytes)
    address = names.reverse_address(name)
    assert len(address) in (0, 4, 16)
    try:
        wire = dnswire.wire(name)
    except Malformed:
        return
    assert dnswire.read_name(wire, 0) == (wire, len(wire))


# -- a real socket --------------------------------------------------------------------------


class _Live:
    """The resolver as a process of its own, with real sockets; it dies with us."""

    def __init__(self) -> None:
        ours, theirs = os.pipe()
        self.space = lonely()
        self.complaints = tempfile.TemporaryFile()  # noqa: SIM115  (for as long as we live)
        self.pid = os.fork()
        if not self.pid:
            os.dup2(self.complaints.fileno(), 2)
            signal.setitimer(signal.ITIMER_REAL, 0)
            loop, _ = served(self.space)
            os.write(theirs, b".")
            loop.later(1, lambda: follow(loop, os.getppid()))
            loop.run()
            os._exit(0)
        assert os.read(ours, 1)
        self.udp = netns.socket_in(self.space, socket.AF_INET, socket.SOCK_DGRAM)
        self.udp.settimeout(4)
        self.udp.connect(SERVER)
        self.count = 0
        atexit.register(os.kill, self.pid, signal.SIGKILL)

    def alive(self) -> None:
        """It answers a sane question."""
        self.count += 1
        asked = dnswire.query("w10", dnswire.A, self.count & 0xFFFF)
        self.udp.send(asked)
        while (answer := self.udp.recv(65535))[:2] != asked[:2] or not dnswire.parse(answer).answers:
            pass
        size = self.complaints.seek(0, os.SEEK_END)
        self.complaints.seek(0)
        assert not size, self.complaints.read().decode()


def follow(loop: Loop, parent: int) -> None:
    """End when the parent has."""
    if os.getppid() != parent:
        loop.stop()
    loop.later(1, lambda: follow(loop, parent))


_live: list[_Live] = []


def packets(dice: Dice) -> tuple[str, list[bytes]]:
    return dice.choice(("udp", "udp", "tcp")), [question(dice) for _ in range(8)]


@target("dns socket", 1, packets)
def sent(given: tuple[str, list[bytes]]) -> None:
    """Whatever arrives, the next sane question is answered."""
    if not _live:
        _live.append(_Live())
    it, (way, several) = _live[0], given
    if way == "udp":
        for packet in several:
            it.udp.send(packet)
    else:
        with netns.socket_in(it.space, socket.AF_INET, socket.SOCK_STREAM) as tcp:
            tcp.settimeout(4)
            tcp.connect(SERVER)
            data = b"".join(len(packet).to_bytes(2, "big") + packet for packet in several)
            tcp.sendall(data[: -1 - len(data) % 7])
    it.alive()
