"""Doors: the open ways into namespaces, kept while they are of use.

A door is a netlink socket of one namespace, a libnftables context of it once one
is needed, and the number the next device there gets. Opening one takes a visit
and a third of a millisecond, so they are kept: always the host's, and those of
the sandboxes used last, so that a thousand containers do not cost two thousand
descriptors.

Rules
    1. A door is closed before its namespace is destroyed: an open one would keep it alive.
    2. Device numbers only grow while a door is open; a number that turns out to be
       taken (others make devices too) makes us look and count from there.
"""

from __future__ import annotations

import os
import time
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager

from fairlead.core.wanted import HOST
from fairlead.host import ipsec, links, sysctls
from fairlead.host.crossings import Crossings
from fairlead.host.netlink import NETFILTER, Netlink
from fairlead.host.netns import HERE, Namespaces, inside
from fairlead.host.nft import Nft
from fairlead.host.shortcuts import Shortcuts

KEPT = 64
_TURN, _TURNS = 0.0005, 20
"""How long, and how often, to wait for a carrier: 10 ms at most."""


class Door:
    """The way into one namespace."""

    def __init__(
        self,
        path: str | int,
        netlink: Netlink,
        next_index: int = 0,
        lively: bool = False,
        stands: set[str] | None = None,
        blank: bool = False,
        shortcuts: Shortcuts | None = None,
    ) -> None:
        """``lively``: elements of its table come and go. ``stands``: see there. ``blank``: it was just made."""
        self.path = path
        self.netlink = netlink
        self._next_index, self._counted = next_index, next_index > 0
        self._lively, self._blank = lively, blank
        self._nft: Nft | None = None
        self._ipsec: Netlink | None = None
        self.settings = sysctls.Folders()
        self._wire: Netlink | None = None
        self.stands = set() if stands is None else stands
        self.shortcuts = shortcuts or Shortcuts()

    @property
    def wire(self) -> Netlink:
        """For what netfilter is told without words."""
        if self._wire is None:
            with inside(self.path):
                self._wire = Netlink.here(NETFILTER)
        return self._wire

    @property
    def nft(self) -> Nft:
        if self._nft is None:
            with inside(self.path):
                self._nft = Nft("" if self._lively else self.path, self._lively, self._blank)
        return self._nft

    @property
    def ipsec(self) -> Netlink:
        """For associations and policies; ``OSError`` where the kernel has none of that."""
        if self._ipsec is None:
            with inside(self.path):
                self._ipsec = Netlink.here(ipsec.XFRM)
        return self._ipsec

    def devices(self) -> list[links.Seen]:
        """Everything with a name here."""
        return [links.seen(message) for message in self.device_messages()]

    def device_messages(self) -> list[bytes]:
        """The same as the kernel tells it."""
        return self.netlink.dump(links.RTM_GETLINK, links.EVERY)

    def new_index(self) -> int:
        """A number that no device has here, and none that was made by this door ever had: who is about to delete one by
        its number must not meet another."""
        if not self._counted:
            highest = max((device.index for device in self.devices()), default=1)
            self._next_index = max(self._next_index, highest + 1)
            self._counted = True
        self._next_index += 1
        return self._next_index - 1

    def recount(self) -> None:
        """Somebody took the number we were about to use."""
        self._counted = False

    def wait_for_carrier(self, *devices: str) -> None:
        """Until the kernel has noticed that these (a port, its bridge) have one: before that it drops their packets.

        Asking makes it notice, nearly always at once; while others hold its locks it may take some turns more.
        """
        for _ in range(_TURNS):
            answers = self.netlink.ask([links.find(name) for name in devices])
            if all(isinstance(answer, bytes) and links.running(answer) for answer in answers):
                return
            time.sleep(_TURN)

    @property
    def ports(self) -> set[int]:
        """The numbers under which the kernel knows our sockets, that for encryption (the host's) included."""
        return {socket.port for socket in (self.netlink, self._ipsec) if socket}

    def close(self) -> None:
        self.settings.close()
        self.netlink.close()
        if self._ipsec is not None:
            self._ipsec.close()
            self._ipsec = None
        if self._wire is not None:
            self._wire.close()
            self._wire = None
        if self._nft is not None:
            self._nft.close()
            self._nft = None


class Doors:
    """One door a namespace, opened when asked for."""

    def __init__(self, namespaces: Namespaces) -> None:
        self._namespaces = namespaces
        self.home = os.open(HERE, os.O_RDONLY | os.O_CLOEXEC)
        self._at_home = os.fstat(self.home)
        self._host = Door(self.home, Netlink.here(), lively=True)
        self._others: OrderedDict[str, Door] = OrderedDict()
        self._stands: dict[str, set[str]] = {}
        """of every namespace, its door open or not"""
        self.shortcuts = Shortcuts()
        self.crossings = Crossings()

    def __getitem__(self, ns: str) -> Door:
        if ns == HOST:
            return self._host
        door = self._others.get(ns)
        if door is None:
            path = self._namespaces.path(ns)
            with inside(path):
                door = Door(path, Netlink.here(), stands=self._stands.setdefault(ns, set()), shortcuts=self.shortcuts)
            self._keep(ns, door)
        self._others.move_to_end(ns)
        return door

    def create(self, ns: str) -> None:
        """A new namespace with ``lo`` up, and its door."""
        netlink = self._namespaces.create(ns, _open_with_lo)
        self.forget(ns)
        stands = self._stands.setdefault(ns, set())
        path = self._namespaces.path(ns)
        self._keep(ns, Door(path, netlink, next_index=2, stands=stands, blank=True, shortcuts=self.shortcuts))

    def forget(self, ns: str) -> None:
        """The namespace is not what it was."""
        self._stands.pop(ns, None)
        self.shortcuts.forget(ns)
        self._close(ns)

    def _close(self, ns: str) -> None:
        self.crossings.forget(ns)
        if door := self._others.pop(ns, None):
            door.close()

    @contextmanager
    def visit(self, ns: str) -> Iterator[None]:
        """This thread inside the namespace, for what asks where the thread is (/proc/sys)."""
        if ns == HOST and os.path.samestat(os.stat(HERE), self._at_home):
            yield
            return
        with inside(self.home if ns == HOST else self._namespaces.path(ns)):
            yield

    @contextmanager
    def file(self, ns: str) -> Iterator[int]:
        """An open file of the namespace, by which the kernel is told where a device shall be born."""
        if ns == HOST:
            yield self.home
            return
        number = os.open(self._namespaces.path(ns), os.O_RDONLY | os.O_CLOEXEC)
        try:
            yield number
        finally:
            os.close(number)

    def ports(self) -> set[int]:
        """The numbers under which the kernel knows our sockets."""
        return self._host.ports | {door.netlink.port for door in self._others.values()}

    def close(self) -> None:
        for ns in list(self._others):
            self.forget(ns)
        self.shortcuts.close()
        self.crossings.close()
        self._host.close()
        os.close(self.home)

    def _keep(self, ns: str, door: Door) -> None:
        self._close(ns)
        self._others[ns] = door
        while len(self._others) > KEPT:
            self._close(next(iter(self._others)))


def _open_with_lo() -> Netlink:
    netlink = Netlink.here()
    if refused := netlink.do([links.set_state(1, True)]):
        netlink.close()
        raise refused[0]
    return netlink
