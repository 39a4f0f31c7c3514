"""Host: the one door through which the engine changes the machine.

    make(objects)   in order, as one batch per kind of door (netlink, nft, files)
    remove(objects) in reverse; what is already gone counts as done
    look()          what of ours is there now, as the same values

Rules of every implementation (``linux``, ``fake``; one contract test runs on both)
    1. ``make`` is idempotent: an equal object that is already there is left
       alone, a different one of ours is changed in place or replaced, a thing
       of somebody else under the same name is ``Conflict`` and is not touched.
    2. ``make`` is all or nothing: on failure what this call made is removed
       again, then ``Internal``/``Conflict``/``Unsupported`` is raised, naming
       the object and the kernel's reason.
    3. ``remove`` keeps going, forgives what is gone, and raises one
       ``ExceptionGroup`` of what was really refused, at the end.
    4. The slow part of removing (a veth costs the kernel about 20 ms) happens
       behind the caller's back; ``settle`` waits for it. ``make`` of a name that is
       still being removed waits by itself.
    5. Nothing here waits for a network or another program, so nothing is async.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from fairlead.core.protocol import Protocol
from fairlead.core.wanted import HOST, Link, Plan, Wanted

if TYPE_CHECKING:
    from fairlead.core.terrain import Road


class Host(Protocol):
    """What the engine may ask of a machine."""

    def make(self, objects: Sequence[Wanted]) -> None:
        """Bring every object into being, in order; all or nothing."""

    def foresee(self, objects: Iterable[Wanted]) -> None:
        """``make`` will be asked for these very values shortly: what can be known before is found out now, and nothing
        is changed."""

    def remove(self, objects: Sequence[Wanted]) -> None:
        """Take objects away, last first; gone already is fine."""

    def look(self, objects: Iterable[Wanted] = (), gently: bool = False) -> Plan:
        """What is there of ours, plus those of ``objects`` that exist in whatever state (read back as they are).

        ``gently``: others have their turns all the while, in this or another thread; what they change meanwhile is told
        as it was before, or is after, or in part."""

    def devices_amiss(self, wanted: Iterable[Link]) -> set[str]:
        """Which of our devices on the host are missing, not up or not plugged in as wanted, or not among these. One
        dump: a glance."""

    def rules_stand(self) -> bool:
        """Whether our table of the host is there at all; a glance, before anything else is looked at."""

    def namespaces_lost(self, names: Iterable[str]) -> set[str]:
        """Which of these namespaces are not kept by their mounts. A glance, too."""

    def keep_namespace(self, name: str, pid: int) -> None:
        """A namespace whose mount was lost, and which process ``pid`` lives in, is kept by a mount again."""

    def settle(self) -> None:
        """Return when every removal begun before is complete in the kernel."""

    def declare(self, text: str) -> None:
        """Load nft text into the host's namespace that only declares: what is there already stays as it is.

        For tables that people own once they are there; never read, replaced or removed by us."""

    def namespace_path(self, name: str) -> str:
        """Path of the bind mount that keeps the namespace; works for setns(2) and as Docker's SandboxKey."""

    def routes(self) -> list[tuple[str, str]]:
        """(prefix, device) of every route of the host, both families; default routes as ``0.0.0.0/0`` and ``::/0``.

        None of a device that was removed, though the kernel may take a while with it."""

    def road(self, ns: str, target: str, source: str = "", arrives: str = "") -> Road | None:
        """Which way the kernel of that namespace sends a packet; ``arrives``: it came in by that device, from there.

        None: it cannot be asked (no such device; a machine on paper)."""

    def leads_at_connect(self, ns: str, address: str) -> bool:
        """Whether a process there that connects over TCP to a virtual address is connected to a target, instead of its
        packets being turned."""

    def rulesets(self, ns: str) -> tuple[str, tuple[str, ...]]:
        """(everything nftables has in that namespace, as nft lists it without counters and elements of named sets;
        names of tables of legacy iptables)."""

    def addresses(self, link: str = "") -> list[tuple[str, str]]:
        """(device, address/prefix) of the host's addresses, of one device or of all."""

    def sysctl(self, path: str) -> str:
        """A kernel setting of the host, by its path below /proc/sys; "" when this kernel has none."""

    def link_mtu(self, link: str = "") -> int:
        """MTU of a device, or of the device of the default route (0: there is none)."""

    def path_mtu(self, link: str, family: int) -> int:
        """MTU on the ways (of IPv4 or 6) that leave by a device: its own, or the least that a route by it says."""

    def link_exists(self, link: str) -> bool:
        """Whether the host's namespace has a device of that name, ours or not."""

    def is_ours(self, link: str) -> bool:
        """Whether that device carries our mark (``ifalias``)."""

    def check_encryption(self, address: str) -> None:
        """``Unsupported``, saying what is missing, where this kernel cannot encrypt what this address sends."""

    def forget_flows(self, bindings: Sequence[tuple[str, str, int]]) -> None:
        """Flush conntrack entries by original destination: (protocol, host address or "", host port)."""

    def forget_answers(self, targets: Sequence[tuple[str, str, int]], ns: str = HOST) -> None:
        """Flush conntrack entries by who answers them: (protocol, address, port), or ("", address, 0) for any; what of
        those no entry leads is closed.

        A namespace that is gone has none."""
