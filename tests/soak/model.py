"""What must exist: the little that a person would write on paper while typing the same commands.

    Net  a network and what its kind means for those on it     Box  a container, where it hangs and what it offers

Every container serves one page that holds its token, so whoever answers tells who it is.
"""

from __future__ import annotations

from dataclasses import dataclass, field

KINDS: dict[str, dict[str, object]] = {
    "bridge": {},
    "internal": {"Internal": True},
    "dual": {"EnableIPv6": True},
    "quiet": {"Options": {"com.docker.network.bridge.enable_icc": "false"}},
    "macvlan": {"Driver": "macvlan", "Options": {"parent": "eth0"}, "IPAM": {"Config": [{"Subnet": "10.77.0.0/24"}]}},
}
"""kind -> what its creation asks for"""


@dataclass
class Net:
    name: str
    kind: str

    @property
    def resolves(self) -> bool:
        return self.name != "bridge"

    @property
    def talks(self) -> bool:
        """May those on it talk with each other?"""
        return self.kind != "quiet"

    @property
    def publishes(self) -> bool:
        return self.kind in ("bridge", "dual", "quiet")


@dataclass
class Box:
    token: str
    """what its page says, and its alias on every network; never changes"""
    name: str
    mode: str
    """``networks``, ``host`` or ``none``"""
    networks: set[str] = field(default_factory=set)
    status: str = "created"
    ports: dict[str, str] = field(default_factory=dict)
    """container's port ("80/tcp") -> host's port, "" for any"""
    volume: str = ""
    policy: str = "no"

    @property
    def lives(self) -> bool:
        return self.status in ("running", "paused")

    @property
    def answers(self) -> bool:
        return self.status == "running" and self.mode == "networks"


@dataclass
class Model:
    nets: dict[str, Net] = field(default_factory=lambda: {"bridge": Net("bridge", "bridge")})
    boxes: dict[str, Box] = field(default_factory=dict)
    volumes: set[str] = field(default_factory=set)
    images: set[str] = field(default_factory=set)
    """tags beyond those the engine was given at the start"""

    def made(self) -> list[Net]:
        return [net for name, net in sorted(self.nets.items()) if name != "bridge"]

    def members(self, net: str) -> list[Box]:
        return [box for _, box in sorted(self.boxes.items()) if net in box.networks]

    def having(self, *statuses: str) -> list[Box]:
        return [box for _, box in sorted(self.boxes.items()) if box.status in statuses]

    def shared(self, one: Box, other: Box) -> list[Net]:
        return [self.nets[name] for name in sorted(one.networks & other.networks)]

    def published(self, box: Box) -> bool:
        """Ports belong to the gateway: of the networks that lead out, the first by name."""
        leading = [net for _, net in sorted(self.nets.items()) if net.name in box.networks and net.kind != "internal"]
        return box.answers and bool(leading) and leading[0].publishes
