"""Monitor: a bell that rings when something of ours may have been changed by another hand.

    kernel --notifications--> two sockets --one file descriptor--> loop.add_reader(monitor, ...)
             settings (host.watched), mounts --------^                  |
                                                  monitor.urgent() -> {"firewall"}, and it rings for nothing else until
                                                  monitor.heard()  -> {"link", "firewall", ...}

It tells that it is worth looking, not what to do: ``look`` and ``difference`` find
out. A bell that rings too often costs a look; one that does not ring leaves a hole until
the next periodic look. So in doubt it rings.

Rules
    1. What concerns the host's namespace; of the others that we can hear of, tables, and devices of ours (an overlay's
       tunnel and bridge), macvlans and ipvlans that somebody deleted: those have no end on the host that would go
       with them. (We can hear of a namespace that has a number here: of every one with such a device or a veth's
       end, see ``links.number``.)
    2. What our own sockets caused is not told, as far as the kernel says who did it.
    3. Of mounts only that something changed: any of them may have been what keeps a namespace of ours.
    4. When the kernel had to drop notifications, everything may have changed.
"""

from __future__ import annotations

import ctypes
import errno
import os
import select
import socket
import struct
from collections.abc import Callable, Iterable, Iterator

from fairlead.host import ipsec, links
from fairlead.host.ipsec import XFRM
from fairlead.host.netlink import NETFILTER, ROUTE, SOL_NETLINK, attributes
from fairlead.host.routing import KERNEL
from fairlead.host.watched import Watched

_ADD_MEMBERSHIP, _LISTEN_ALL = 1, 8
_GROUPS = {ROUTE: (1, 5, 7, 8, 9, 11, 19, 24, 25), NETFILTER: (7,), XFRM: (3, 4)}
"""link; v4 address, route, rule; v6 address, route, rule; forwarding of v4, v6; nftables; associations, policies"""
_ENCRYPTION = frozenset(
    {ipsec.DELETE_STATE, ipsec.FLUSH_STATES, ipsec.NEW_POLICY, ipsec.DELETE_POLICY}
    | {ipsec.UPDATE_POLICY, ipsec.FLUSH_POLICIES}
)
"""What somebody's hand may do to it."""
_KINDS = {
    16: "link",
    17: "link",
    20: "address",
    21: "address",
    24: "route",
    25: "route",
    32: "rule",
    33: "rule",
    80: "setting",
}
_NEW_GENERATION, _GET_GENERATION = (10 << 8) | 15, (10 << 8) | 16
_ATTACH_FILTER = 26
_OF_ALL_DEVICES = struct.pack("=HHi", 8, 1, -1)
_NOTE = socket.CMSG_SPACE(4)
"""room for the number of the namespace that a notification comes from, if it is another one"""
_WITHOUT_END = frozenset({"macvlan", "ipvlan"})
_State = tuple[str, bool, int]
"""name, up, number of its bridge"""
EVERYTHING, SANDBOX, MOUNT, SETTING = "everything", "sandbox", "mount", "setting"


class Monitor:
    """Open until ``close``. ``own_ports``: netlink ports of our own sockets, asked at each notification.
    ``expected(name, index, gone)``: that device is going, or gone, by our hand (of deletions the kernel names no port).
    """

    def __init__(
        self, own_ports: Callable[[], set[int]], expected: Callable[[str, int, bool], bool], settings: Watched
    ) -> None:
        self._own_ports = own_ports
        self._expected = expected
        self._settings = settings
        self._myself = myself()
        self._devices: dict[int, _State] = {}
        """how each device of ours on the host was when it was last told of, by number"""
        self._poll, self._calm = select.epoll(), select.epoll()
        """all there is to hear, and of that what is not urgent"""
        self._hushed = False
        self._sockets: dict[int, tuple[int, socket.socket]] = {}
        for protocol in _GROUPS:
            try:
                sock = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_NONBLOCK, protocol)
            except OSError:
                if protocol != XFRM:
                    raise
                continue  # a kernel without IPsec
            sock.bind((0, 0))
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
            if protocol == NETFILTER:
                _hear_only(sock, _NEW_GENERATION)
            for group in _GROUPS[protocol]:
                sock.setsockopt(SOL_NETLINK, _ADD_MEMBERSHIP, group)
            if protocol != XFRM:
                sock.setsockopt(SOL_NETLINK, _LISTEN_ALL, 1)
            (self._poll if protocol == NETFILTER else self._calm).register(sock, select.EPOLLIN)
            self._sockets[sock.fileno()] = (protocol, sock)
        self._calm.register(settings, select.EPOLLIN)
        # A change of mounts is told once to each open file, and the file that wakes whoever waits for us has told it by
        # the time we ask.
        self._waker = open("/proc/self/mountinfo", "rb")  # noqa: SIM115
        self._mounts = open("/proc/self/mountinfo", "rb")  # noqa: SIM115
        self._calm.register(self._waker, select.EPOLLPRI)
        self._poll.register(self._calm, select.EPOLLIN)
        self._mounted = select.poll()
        self._mounted.register(self._mounts, select.POLLPRI)

    def note(self, devices: Iterable[links.Seen]) -> None:
        """How the host's devices are now: otherwise the first change of one would pass for its birth."""
        self._devices.update((device.index, _state(device)) for device in devices if device.ours)

    def fileno(self) -> int:
        """Readable when there is something to hear."""
        return self._poll.fileno()

    def urgent(self) -> set[str]:
        """What cannot wait: whether somebody touched the firewall. Until ``heard`` nothing else makes us readable."""
        found = self._read([file for file, _ in self._poll.poll(0) if file != self._calm.fileno()], set())
        if not self._hushed:
            self._poll.unregister(self._calm)
            self._hushed = True
        return found

    def heard(self) -> set[str]:
        """Kinds of what may have changed since the last call; empty when it was all our own doing."""
        if self._hushed:
            self._poll.register(self._calm, select.EPOLLIN)
            self._hushed = False
        found = {MOUNT} if self._mounted.poll(0) else set()
        files = [file for poll in (self._poll, self._calm) for file, _ in poll.poll(0) if file != self._calm.fileno()]
        return found | self._read(files, self._own_ports())

    def _read(self, files: Iterable[int], ports: set[int]) -> set[str]:
        found = set[str]()
        for file in files:
            if file == self._waker.fileno():
                continue
            if file == self._settings.fileno():
                found.update([SETTING] if self._settings.heard() else [])
                continue
            protocol, sock = self._sockets[file]
            while True:
                try:
                    data, notes, _, _ = sock.recvmsg(1 << 16, _NOTE)
                except BlockingIOError:
                    break
                except OSError as error:
                    if error.errno != errno.ENOBUFS:
                        raise
                    found.add(EVERYTHING)
                    continue
                elsewhere = any((level, kind) == (SOL_NETLINK, _LISTEN_ALL) for level, kind, _ in notes)
                found.update(self._meanings(protocol, data, elsewhere, ports))
        return found

    def close(self) -> None:
        self._poll.close()
        self._calm.close()
        self._waker.close()
        self._mounts.close()
        for _, sock in self._sockets.values():
            sock.close()

    def _meanings(self, protocol: int, data: bytes, elsewhere: bool, ports: set[int]) -> Iterator[str]:
        offset = 0
        while offset + 16 <= len(data):
            size, kind, _, _, port = struct.unpack_from("=IHHII", data, offset)
            body = data[offset + 16 : offset + size]
            offset += (size + 3) & ~3
            if protocol == NETFILTER:
                if _cause(body) != self._myself:
                    yield "firewall"
            elif protocol == XFRM:
                if kind in _ENCRYPTION and port not in ports:
                    yield "encryption"
            elif kind not in _KINDS or (port in ports and (elsewhere or _KINDS[kind] != "link")):
                continue
            elif elsewhere:
                if kind == links.RTM_DELLINK and self._is_loss(links.seen(body)):
                    yield SANDBOX
            elif _KINDS[kind] == "link":
                if self._is_change(links.seen(body), kind == links.RTM_DELLINK) and port not in ports:
                    yield "link"
            elif _concerns_us(_KINDS[kind], body, port):
                yield _KINDS[kind]

    def _is_change(self, device: links.Seen, gone: bool) -> bool:
        """Whether a device of ours on the host is not as it was: most of what is told of a device is its carrier."""
        if not device.ours:
            return False
        now = _state(device)
        before = self._devices.pop(device.index, now)  # nobody else makes devices with our mark
        if not gone:
            self._devices[device.index] = now
        return (gone or now != before) and not self._expected(device.name, device.index, gone)

    def _is_loss(self, gone: links.Seen) -> bool:
        return (gone.ours or gone.kind in _WITHOUT_END) and not self._expected(gone.name, gone.index, True)


def _state(device: links.Seen) -> _State:
    return device.name, device.up, device.master


def _concerns_us(what: str, body: bytes, port: int) -> bool:
    """Not the routes that the kernel itself (port 0) makes and drops along with an address, and of settings not those
    that a new device is born with."""
    if what == "setting":
        return body[4:12] == _OF_ALL_DEVICES
    return what != "route" or body[5] != KERNEL or port != 0


def _hear_only(sock: socket.socket, kind: int) -> None:
    """Let the kernel keep notifications of any other kind to itself: each element of a set has one."""
    asked = int.from_bytes(struct.pack("=H", kind), "big")
    # load the 16 bits at 4 (the message's type); is it the one asked for? then all of it, else nothing
    steps = [(0x28, 0, 0, 4), (0x15, 0, 1, asked), (0x06, 0, 0, 0xFFFFFFFF), (0x06, 0, 0, 0)]
    program = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *step) for step in steps))
    sock.setsockopt(socket.SOL_SOCKET, _ATTACH_FILTER, struct.pack("@HP", len(steps), ctypes.addressof(program)))


def myself() -> int:
    """Our process id as the kernel writes it into notifications: that of the outermost pid namespace, not ``getpid``.

    Asked for the ruleset's generation, nftables names in its answer the process that asked.
    """
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETFILTER) as sock:
        sock.bind((0, 0))
        sock.send(struct.pack("=IHHIIBBH", 20, _GET_GENERATION, 1, 0, 0, 0, 0, 0))
        data = sock.recv(1 << 16)
    return _cause(data[16:]) if struct.unpack_from("=H", data, 4)[0] == _NEW_GENERATION else os.getpid()


def _cause(generation: bytes) -> int:
    """Process that made this transaction, 0 when the kernel does not say."""
    found = attributes(generation, 4).get(2)
    return int(struct.unpack(">I", found)[0]) if found else 0
