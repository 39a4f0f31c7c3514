"""Conntrack: forget flows that a published port made, so that a new mapping is seen at once.

A UDP client that keeps talking keeps its flow, and with it the address translation
of a container long gone. When a mapping comes or goes, every flow whose *original*
destination is the published address and port is deleted; when a task goes to which
mappings led, every flow that it answers.

    dump --> delete each by the tuple it was chosen for

A client may open the same connection again between the two, and be led to another
task: by what it called, that would be the flow we meant, even by its id (a hash of
that and of where it is in memory, which is the same place again). By who answers it
is another. So flows of a task that is gone are named by its answers.

A dump costs the kernel some milliseconds, for it walks its whole table, and us some
microseconds for every flow. So a quiet machine is asked for everything at once; a busy
one, with hundreds of thousands of flows, for the flows of each binding's protocol and
port. A kernel too old to choose reports them all, so what it reports is always
looked at again. A kernel without conntrack has nothing to forget.
"""

from __future__ import annotations

import errno
import socket
import struct
from collections.abc import Iterator, Sequence
from ipaddress import ip_address

from fairlead.errors import Internal
from fairlead.host.netlink import NESTED, NETFILTER, Netlink, Refused, Request, attribute, attributes

_SUBSYSTEM = 1 << 8
_GET, _DELETE = _SUBSYSTEM | 1, _SUBSYSTEM | 2
_ORIGINAL, _REPLY, _ID, _ZONE, _FILTER = 1, 2, 12, 18, 25
_BY_PROTOCOL, _BY_TARGET_PORT = 1 << 3, 1 << 5
WORTH_CHOOSING = 1000
"""flows for each port: with more, two dumps (one a family) for every port cost less than one of everything"""
COUNT = "/proc/sys/net/netfilter/nf_conntrack_count"
_IP, _PROTOCOL = 1, 2
PROTOCOLS = {"tcp": 6, "udp": 17, "sctp": 132}
_NOT_THERE = (errno.ENOENT, errno.EPROTONOSUPPORT, errno.EINVAL, errno.EOPNOTSUPP)

Binding = tuple[str, str, int]
"""(protocol, address or "" for any, port)"""


def forget(bindings: Sequence[Binding]) -> None:
    """In the namespace the calling thread is in."""
    known = _count() if bindings else 0
    if not known:
        return
    wanted = {(PROTOCOLS.get(protocol, 0), _any(address), port) for protocol, address, port in bindings}
    ports = {(protocol, port) for protocol, _, port in wanted}
    questions = [_header(socket.AF_UNSPEC)]
    if known > len(ports) * WORTH_CHOOSING:
        choices = [_choice(protocol, port) for protocol, port in ports]
        questions = [_header(family) + choice for family in (socket.AF_INET, socket.AF_INET6) for choice in choices]
    _forget(questions, wanted, _ORIGINAL)


def _forget(questions: Sequence[bytes], wanted: set[tuple[int, str, int]], way: int) -> None:
    netlink = Netlink.here(NETFILTER)
    try:
        try:
            flows = {again: flow for question in questions for flow, again in _flows(netlink, question, way)}
        except Refused as refusal:
            if refusal.errno in _NOT_THERE:
                return
            raise Internal(f"cannot read the connection table: {refusal}") from None
        doomed = [again for again, flow in flows.items() if _matches(flow, wanted)]
        refused = netlink.do([Request(_DELETE, 0, again) for again in doomed])
        for error in refused.values():
            if error.errno != errno.ENOENT:
                raise Internal(f"cannot forget a connection: {error}")
    finally:
        netlink.close()


def forget_answers(answers: Sequence[Binding]) -> None:
    """Flows that are answered from there, whatever they were sent to; protocol "" and port 0: by anything there. In the
    namespace the calling thread is in."""
    if answers and _count():
        wanted = {(PROTOCOLS.get(protocol, 0), _any(address), port) for protocol, address, port in answers}
        _forget([_header(socket.AF_UNSPEC)], wanted, _REPLY)


def _count() -> int:
    """How many flows there are; none where the kernel does not track them."""
    try:
        with open(COUNT) as file:
            return int(file.read())
    except OSError:
        return 0


def _any(address: str) -> str:
    return "" if address in ("", "0.0.0.0", "::") else str(ip_address(address))


def _matches(flow: tuple[int, str, int], wanted: set[tuple[int, str, int]]) -> bool:
    protocol, address, port = flow
    return not wanted.isdisjoint({(protocol, address, port), (protocol, "", port), (0, address, 0)})


def _choice(protocol: int, port: int) -> bytes:
    """What tells the kernel to report only flows first sent to this port."""
    target = attribute(1, bytes([protocol])) + attribute(3, struct.pack(">H", port))
    tuple_ = attribute(_ORIGINAL | NESTED, attribute(_PROTOCOL | NESTED, target))
    return tuple_ + attribute(_FILTER | NESTED, attribute(1, struct.pack("=I", _BY_PROTOCOL | _BY_TARGET_PORT)))


def _flows(netlink: Netlink, question: bytes, way: int) -> Iterator[tuple[tuple[int, str, int], bytes]]:
    """((protocol, address, port) that were first sent to, or that answer, what the kernel needs to find it again)."""
    ends, end = ((2, 4), 3) if way == _ORIGINAL else ((1, 3), 2)
    for message in netlink.dump(_GET, question):
        found = attributes(message, 4)
        told = attributes(told_of := found.get(way, b""))
        address, protocol = attributes(told.get(_IP, b"")), attributes(told.get(_PROTOCOL, b""))
        destination = address.get(ends[0]) or address.get(ends[1])
        whole = destination is not None and len(destination) in (4, 16) and protocol.get(1) and end in protocol
        if destination is None or not whole:
            continue
        port = int.from_bytes(protocol[end][:2], "big")
        body = _header(message[0]) + attribute(way | NESTED, told_of)
        for kind in (_ID, _ZONE):
            if kind in found:
                body += attribute(kind, found[kind])
        yield (protocol[1][0], str(ip_address(destination)), port), body


def _header(family: int) -> bytes:
    return struct.pack("=BBH", family, 0, 0)
