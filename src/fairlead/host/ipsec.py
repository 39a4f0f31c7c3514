"""IPsec: security associations and policies to messages and back (ip-xfrm(8), through NETLINK_XFRM).

    Association  NEWSA    ESP, transport mode, rfc4106(gcm(aes)), extended sequence numbers, a window of 1024
    Policy       NEWPOLICY, UPDPOLICY to change what it needs

Ours are known by a number: of an association its ``reqid``, of a policy its priority.
Those between two hosts come before those that stop everybody.

Rules
    1. The kernel gives keys back when it is asked what it has. They are not read.
    2. A policy that leads packets out names its association; so a new one takes over at once, and
       what the old one had begun still leaves with it.
    3. An association takes packets of its own two hosts only (its selector): one that host C got
       from us does not open what says it comes from B.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections.abc import Callable, Iterator, Sequence
from ipaddress import ip_address

from fairlead.core.protocol import Protocol
from fairlead.core.wanted import Association, Policy
from fairlead.errors import Conflict, FairleadError, Internal, Unsupported
from fairlead.host.netlink import CREATE, EXCL, Netlink, Refused, Request, attribute, attributes, family_of

XFRM = 6
"""NETLINK_XFRM"""
NEW_STATE, DELETE_STATE, GET_STATE = 0x10, 0x11, 0x12
NEW_POLICY, DELETE_POLICY, GET_POLICY, UPDATE_POLICY = 0x13, 0x14, 0x15, 0x19
FLUSH_STATES, FLUSH_POLICIES = 0x1C, 0x1D
_TEMPLATE, _AEAD, _NUMBERS = 5, 18, 23
_ESP, _UDP, _TRANSPORT, _ESN = 50, 17, 0, 0x80
_ALGORITHM, _TAG, _WINDOW = b"rfc4106(gcm(aes))", 128, 1024
_ALLOW, _BLOCK = 0, 1
_LACKING = (errno.EPROTONOSUPPORT, errno.ENOSYS, errno.ENOENT)
_WAYS = {"in": 0, "out": 1}

OURS = 0x0FA171EA
"""The ``reqid`` of our associations."""
_PAIR, _EVERYBODY = 0xFA1, 0xFA2
"""The priorities of our policies; the lower number is asked first, and other people's programs begin far above."""
_SELECTOR = struct.Struct("=16s16s4s4xHBBB3xiI")
"""target, source, target's port and its mask, family, prefix lengths, protocol, device, user"""
_LIFETIME = struct.pack("=4Q", *[2**64 - 1] * 4) + bytes(32 + 32)
"""Nothing ever expires by itself; and nothing is used yet."""

Item = Association | Policy


def add(item: Item, again: bool = False) -> Request:
    """Make it; ``again``: a policy that is there is changed. Spends an association's key."""
    if isinstance(item, Association):
        key = item.secret.take()
        if not key:
            raise Internal(f"cannot make {item}: its key was spent")
        return Request(NEW_STATE, CREATE | EXCL, _state(item, key))
    return Request(UPDATE_POLICY if again else NEW_POLICY, CREATE | EXCL, _policy(item))


def drop(item: Item) -> Request:
    if isinstance(item, Association):
        family = family_of(item.target)
        return Request(DELETE_STATE, 0, struct.pack("=16s4sHBx", _address(item.target), _spi(item.spi), family, _ESP))
    return Request(DELETE_POLICY, 0, _selector_of(item) + struct.pack("=IB3x", 0, _WAYS[item.way]))


def look(netlink: Netlink) -> Iterator[Item]:
    """Everything of ours."""
    for message in netlink.dump(GET_STATE, b""):
        if state := _as_association(message):
            yield state
    for message in netlink.dump(GET_POLICY, b""):
        if policy := _as_policy(message):
            yield policy


class Door(Protocol):
    """The way to the host's (``host.doors``)."""

    @property
    def ipsec(self) -> Netlink: ...


def make(door: Door, items: Sequence[Item]) -> Callable[[], None]:
    """Make them in order, all or nothing; what is there is left alone, a policy changed. Returns how it is undone."""
    try:
        netlink = door.ipsec
    except OSError as error:
        raise lacking(error, items[0].target) from None
    there = {item.key: item for item in look(netlink)}
    missing = [item for item in items if there.get(item.key) != item]
    refused = netlink.do([add(item, again=item.key in there) for item in missing])
    fresh = [item for at, item in enumerate(missing) if at not in refused and item.key not in there]

    def undo() -> None:
        netlink.do([drop(item) for item in reversed(fresh)])

    for at, refusal in sorted(refused.items()):
        undo()
        raise _refusal(missing[at], refusal)
    return undo


def _refusal(item: Item, refusal: Refused) -> FairleadError:
    if isinstance(item, Association) and refusal.errno in _LACKING:
        return lacking(refusal, item.target)
    if refusal.errno == errno.EEXIST:
        return Conflict(f"cannot make {item}: there is one of somebody else")
    return Internal(f"cannot make {item}: {refusal}")


def check(netlink: Netlink, address: str) -> None:
    """Make an association of this host with itself, and remove it; ``Unsupported`` says what the kernel lacks."""
    spi = 0x1000 + int.from_bytes(os.urandom(3), "big")
    probe = Association(source=address, target=address, spi=spi, port=1)
    refused = netlink.do([Request(NEW_STATE, CREATE | EXCL, _state(probe, os.urandom(20))), drop(probe)])
    if 0 in refused:
        raise lacking(refused[0], address)


def lacking(refusal: Refused | OSError, address: str) -> Unsupported:
    """What a kernel without all of IPsec lacks, from its own words."""
    esp = "esp6" if ":" in address else "esp4"
    if not isinstance(refusal, Refused):
        what = "IPsec (module xfrm_user)"
    else:
        what = f"ESP (module {esp})" if refusal.errno == errno.EPROTONOSUPPORT else "AES-GCM for ESP (gcm, seqiv)"
    return Unsupported(f"encrypted overlay networks need {what}, which this kernel does not have: {refusal}")


# -- writing ----------------------------------------------------------------------


def _state(item: Association, key: bytes) -> bytes:
    family, source, target = family_of(item.target), _address(item.source), _address(item.target)
    size = 128 if family == socket.AF_INET6 else 32
    body = _SELECTOR.pack(target, source, _port(item.port), family, size, size, _UDP, 0, 0)
    body += target + _spi(item.spi) + struct.pack("=B3x", _ESP) + source + _LIFETIME + bytes(12)
    body += struct.pack("=IIHBBB7x", 0, OURS, family, _TRANSPORT, 0, _ESN)
    body += attribute(_AEAD, struct.pack("=64sII", _ALGORITHM, 8 * len(key), _TAG) + key)
    words = _WINDOW // 32
    return body + attribute(_NUMBERS, struct.pack("=6I", words, 0, 0, 0, 0, _WINDOW) + bytes(4 * words))


def _policy(item: Policy) -> bytes:
    block = item.need == "nothing"
    priority, action = (_EVERYBODY, _BLOCK) if block else (_PAIR, _ALLOW)
    body = _selector_of(item) + _LIFETIME
    body += struct.pack("=IIBBBB4x", priority, 0, _WAYS[item.way], action, 0, 0)
    if block:
        return body
    source, target = (_address(text.partition("/")[0]) for text in (item.source, item.target))
    number = 0 if item.need == "any" else int(item.need)
    template = target + _spi(number) + struct.pack("=B3xH2x", _ESP, family_of(item.target)) + source
    return body + attribute(_TEMPLATE, template + struct.pack("=IBBBxIII", OURS, _TRANSPORT, 0, 0, *[2**32 - 1] * 3))


def _selector_of(item: Policy) -> bytes:
    (source, source_size), (target, target_size) = (text.split("/") for text in (item.source, item.target))
    sizes = int(target_size), int(source_size)
    return _SELECTOR.pack(_address(target), _address(source), _port(item.port), family_of(target), *sizes, _UDP, 0, 0)


def _address(text: str) -> bytes:
    return ip_address(text).packed.ljust(16, b"\0")


def _spi(number: int) -> bytes:
    return struct.pack(">I", number)


def _port(number: int) -> bytes:
    """A port and its mask."""
    return struct.pack(">HH", number, 0xFFFF)


# -- reading ----------------------------------------------------------------------


def _as_association(message: bytes) -> Association | None:
    _, _, ports, family, *_ = _SELECTOR.unpack_from(message)
    target, (spi,), protocol = message[56:72], struct.unpack_from(">I", message, 72), message[76]
    source, (reqid,) = message[80:96], struct.unpack_from("=I", message, 208)
    if protocol != _ESP or reqid != OURS or not spi:
        return None
    port = struct.unpack(">HH", ports)[0]
    return Association(source=_text(source, family), target=_text(target, family), spi=spi, port=port)


def _as_policy(message: bytes) -> Policy | None:
    target, source, ports, family, target_size, source_size, *_ = _SELECTOR.unpack_from(message)
    priority, _, way, action = struct.unpack_from("=IIBB", message, 152)
    if priority not in (_PAIR, _EVERYBODY) or way not in _WAYS.values():
        return None
    need = "nothing"
    if action == _ALLOW:
        template = attributes(message, 168).get(_TEMPLATE, b"")
        (number,) = struct.unpack_from(">I", template, 16) if template else (0,)
        need = str(number) if number else "any" if template else "not even that"
    return Policy(
        way="out" if way else "in",
        source=f"{_text(source, family)}/{source_size}",
        target=f"{_text(target, family)}/{target_size}",
        port=struct.unpack(">HH", ports)[0],
        need=need,
    )


def _text(packed: bytes, family: int) -> str:
    return str(ip_address(packed[:4] if family == socket.AF_INET else packed))
