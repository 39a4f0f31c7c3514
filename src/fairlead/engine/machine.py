"""Machine: what the host itself needs before any network stands on it: the table, and the kernel's forwarding.

    ready(ipv6=False)   at every start
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
        self._ipv6 = False
        self._confined = self._turned_on_by_us(note, boot) if wishes.forward and wishes.confine else ()

    def ready(self, ipv6: bool = False) -> None:
        """Want it all; with IPv6 forwarding from the first call that needs it on."""
        self._ipv6 = self._ipv6 or ipv6
        plan = rules.machine_plan(
            firewall=self._wishes.firewall,
            forward=self._wishes.forward,
            ipv6=self._ipv6,
            drop_foreign=self._confined,
        )
        self._kernel.want(OWNER, plan, "the engine")

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
