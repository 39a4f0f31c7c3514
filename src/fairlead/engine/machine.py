"""Machine: what the host itself needs before any network stands on it: the table, and the kernel's forwarding.

    resume()            at every start: ready, unless it is already
    ready(ipv6=True)    before the first network with IPv6, and from then on

Turning on IPv6 forwarding makes the kernel ignore router advertisements on
devices with ``accept_ra=1``: a host that got its default route that way would
lose it. So it waits until a network needs it, as in dockerd.

Rules
    1. Guards before doors: the table stands before anything is forwarded.
    2. What this engine turned on, it turned on for containers: the host must not
       begin to route between networks that are none of ours. A family that was
       forwarded before is the admin's business and left alone. Which it was is
       noted for this boot, since after a restart both look the same.
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from fairlead.core import rules
from fairlead.core.wanted import Plan
from fairlead.engine.kernel import Kernel
from fairlead.host.base import Host

OWNER = "engine"
SWITCHES = {4: "net/ipv4/ip_forward", 6: "net/ipv6/conf/all/forwarding"}


class Wishes(msgspec.Struct, frozen=True, kw_only=True):
    """The engine's options about the machine. ``confine``: drop foreign forwarding that we made possible."""

    firewall: bool = True
    forward: bool = True
    confine: bool = True


class Machine:
    """The host's own part of the plan. ``boot`` tells one life of the machine from the next; ``note`` is our memory."""

    def __init__(self, kernel: Kernel, host: Host, note: Path, boot: str, wishes: Wishes) -> None:
        self._kernel = kernel
        self._host = host
        self._wishes = wishes
        self._ipv6 = self._stood = False
        self._confined = self._turned_on_by_us(note, boot) if wishes.forward and wishes.confine else ()

    @property
    def stood(self) -> bool:
        """An engine was here before us, and left the machine as one needs it, as far as a glance tells."""
        return self._stood

    def resume(self) -> None:
        """``ready`` at a start: what stands already is only noted, and compared by the first ``Kernel.repair``."""
        self._stood = self._host.rules_stand()
        if self._stood:
            self._kernel.adopt(OWNER, self._plan(False), "the engine")
        else:
            self.ready()

    def ready(self, ipv6: bool = False) -> None:
        """Want it all; with IPv6 forwarding from the first call that needs it on."""
        if ipv6 > self._ipv6 or not self._kernel.wanted(OWNER):
            ipv6 = ipv6 or self._ipv6
            self._kernel.want(OWNER, self._plan(ipv6), "the engine")
            self._ipv6 = ipv6

    def _plan(self, ipv6: bool) -> Plan:
        return rules.machine_plan(
            firewall=self._wishes.firewall,
            forward=self._wishes.forward,
            ipv6=ipv6,
            drop_foreign=self._confined,
        )

    def declare(self) -> None:
        """The table for people's own rules; what is in it is theirs."""
        if self._wishes.firewall:
            self._host.declare(rules.USER_TABLE)

    def _turned_on_by_us(self, note: Path, boot: str) -> tuple[int, ...]:
        """Families that nobody forwarded before this engine (in this life of the machine)."""
        known = note.read_text().split() if note.exists() else []
        before = {int(word) for word in known[1:]} if known[:1] == [boot] else set()
        off = {family for family, path in SWITCHES.items() if self._host.sysctl(path) == "0"}
        families = sorted(before | off)
        note.write_text(" ".join([boot, *map(str, families)]))
        return tuple(families)
