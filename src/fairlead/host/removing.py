"""Removing: devices go behind the caller's back.

The kernel takes some 20 ms to delete a device, most of it waiting for its own
readers. A bridge port is cut off at once (no frame passes any more), which costs
nothing; the deleting is handed to a thread. What has piled up meanwhile goes as one
group, at the price of one.

    remove --> cut ports, begin(devices) --> thread: delete
    make of a name still on its way out --> wait_for(names)
    settle --> wait for all

Rules
    1. A device is deleted only if it still is the one that was meant (name and index).
    2. The thread uses sockets opened by its master: which namespace a thread is in
       never matters.
    3. What the kernel refuses is kept and raised by the next ``settle``.
"""

from __future__ import annotations

import errno
import itertools
import threading
from collections import deque
from collections.abc import Callable, Iterable

import msgspec

from fairlead.core.wanted import HOST
from fairlead.errors import Internal
from fairlead.host import links
from fairlead.host.netlink import Netlink, Refused

Name = tuple[str, str]
"""(namespace, device)"""

GONE = frozenset({errno.ENODEV, errno.ENOENT, errno.ESRCH, errno.EADDRNOTAVAIL, errno.ENXIO})
_groups = itertools.count(0x6C000000)
_REMEMBERED = 512


class Leaving(msgspec.Struct, frozen=True):
    """One device on its way out, and every name that is free only then (its own, a veth's other end)."""

    ns: str
    name: str
    index: int
    names: frozenset[Name]


class Remover:
    """The thread and its work."""

    def __init__(self, open_netlink: Callable[[str], Netlink]) -> None:
        self._open = open_netlink
        self._host = open_netlink(HOST)
        self._changed = threading.Condition()
        self._queue: list[tuple[Leaving, Netlink]] = []
        self._pending: dict[Name, int] = {}
        self._failures: list[Exception] = []
        self._running = False
        self._removed: deque[tuple[str, int]] = deque(maxlen=_REMEMBERED)
        """(name, index) of what was removed, and not told to be gone by ``expected`` yet"""

    @property
    def pending(self) -> set[Name]:
        with self._changed:
            return set(self._pending)

    def begin(self, leaving: Iterable[Leaving]) -> None:
        sockets: dict[str, Netlink] = {HOST: self._host}
        with self._changed:
            for one in leaving:
                if one.ns not in sockets:
                    sockets[one.ns] = self._open(one.ns)
                self._removed.append((one.name, one.index))
                self._queue.append((one, sockets[one.ns]))
                for name in one.names:
                    self._pending[name] = self._pending.get(name, 0) + 1
            if self._queue and not self._running:
                self._running = True
                threading.Thread(target=self._run, name="removing devices", daemon=True).start()

    def expected(self, name: str, index: int, gone: bool) -> bool:
        """Whether that device goes, or is ``gone``, by our hand; the latter is told once."""
        with self._changed:
            if (name, index) not in self._removed:
                return False
            if gone:
                self._removed.remove((name, index))
            return True

    def wait_for(self, names: Iterable[Name]) -> None:
        """Return when none of these names is on its way out."""
        names = set(names)
        with self._changed:
            self._changed.wait_for(lambda: names.isdisjoint(self._pending))

    def settle(self) -> None:
        with self._changed:
            self._changed.wait_for(lambda: not self._pending)
            failures, self._failures = self._failures, []
        if failures:
            raise ExceptionGroup("devices could not be removed", failures)

    def close(self) -> None:
        with self._changed:
            self._changed.wait_for(lambda: not self._pending)
        self._host.close()

    def _run(self) -> None:
        while True:
            with self._changed:
                work, self._queue = self._queue, []
                if not work:
                    self._running = False
                    return
            failures: list[Exception] = []
            for netlink in {id(socket): socket for _, socket in work}.values():
                failures += _delete(netlink, [one for one, socket in work if socket is netlink])
                if netlink is not self._host:
                    netlink.close()
            with self._changed:
                self._failures += failures
                for one, _ in work:
                    for name in one.names:
                        self._pending[name] -= 1
                        if not self._pending[name]:
                            del self._pending[name]
                self._changed.notify_all()


def _delete(netlink: Netlink, leaving: list[Leaving]) -> list[Exception]:
    """Delete what is still what was meant; returns what was refused."""
    answers = netlink.ask([links.find(one.name) for one in leaving])
    there = [
        one
        for one, answer in zip(leaving, answers, strict=True)
        if isinstance(answer, bytes) and links.seen(answer).index == one.index
    ]
    if len(there) > 1:
        group = next(_groups)
        netlink.do([links.set_group(one.index, group) for one in there])
        refused = netlink.do([links.delete_group(group)])
        return [_refusal("devices", refused[0])] if refused and refused[0].errno not in GONE else []
    refused = netlink.do([links.delete(one.index) for one in there])
    return [_refusal(there[at].name, error) for at, error in refused.items() if error.errno not in GONE]


def _refusal(name: str, error: Refused) -> Internal:
    return Internal(f"cannot remove {name}: {error}")
