"""Topology: a small network of pretend machines, as data.

    Topology(hosts=("one", "two"))

          underlay (a namespace)
    +------------- lan0 -------------+
    |               |                |
    outside       one              two          each a machine of its own: namespaces, eth0, a daemon
    .1            .11              .12          192.168.77.0/24 and fd77:77::/64

``outside`` is the rest of the world: the hosts' default gateway and name
server, and the place from which a client looks at published ports. Names and
numbers follow from the order of the hosts, nothing is chosen.

What it does not do: make anything. ``lab.world`` does.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass

from fairlead.errors import Invalid

OUTSIDE = "outside"


@dataclass(frozen=True)
class Topology:
    """Hosts on one cable. ``subnet4`` and ``subnet6`` are canonical CIDR texts."""

    hosts: tuple[str, ...] = ("one",)
    subnet4: str = "192.168.77.0/24"
    subnet6: str = "fd77:77::/64"
    mtu: int = 1500

    def __post_init__(self) -> None:
        if len(set(self.hosts)) != len(self.hosts) or OUTSIDE in self.hosts:
            raise Invalid(f"every host needs a name of its own, and not {OUTSIDE!r}: {', '.join(self.hosts)}")

    @property
    def nodes(self) -> tuple[str, ...]:
        """All machines on the cable, ``outside`` first."""
        return (OUTSIDE, *self.hosts)

    def _number(self, node: str) -> int:
        return 1 if node == OUTSIDE else 11 + self.hosts.index(node)

    def address4(self, node: str) -> str:
        """The node's IPv4 address on the cable, without prefix length."""
        return str(ipaddress.ip_network(self.subnet4)[self._number(node)])

    def address6(self, node: str) -> str:
        """The node's IPv6 address on the cable, without prefix length."""
        return str(ipaddress.ip_network(self.subnet6)[self._number(node)])

    def cable(self, pids: dict[str, int]) -> list[str]:
        """``ip -batch`` lines for the underlay namespace: a bridge, and one veth pair per node into ``pids``."""
        lines = ["link set lo up", f"link add lan0 mtu {self.mtu} type bridge forward_delay 0 mcast_snooping 0"]
        lines.append("link set lan0 up")
        for number, node in enumerate(self.nodes):
            lines += [
                f"link add port{number} mtu {self.mtu} type veth peer name eth0 mtu {self.mtu} netns {pids[node]}",
                f"link set port{number} master lan0 up",
            ]
        return lines

    def stack(self, node: str) -> list[str]:
        """``ip -batch`` lines for one node: loopback, addresses, routes."""
        bits4, bits6 = self.subnet4.partition("/")[2], self.subnet6.partition("/")[2]
        lines = [
            "link set lo up",
            f"address add {self.address4(node)}/{bits4} dev eth0",
            f"address add {self.address6(node)}/{bits6} dev eth0 nodad",
            "link set eth0 up",
        ]
        if node != OUTSIDE:
            lines += [
                f"route add default via {self.address4(OUTSIDE)}",
                f"route add ::/0 via {self.address6(OUTSIDE)}",
            ]
        return lines
