"""Roads: which of our rules a packet met, as the kernel tells it (``nft monitor trace``).

    with Roads(town) as roads:
        print(roads.of("near", "192.0.2.1", 8080))

Only the first packet of a TCP connection is traced: it decides.
"""

import re
import select
import socket
import subprocess
from types import TracebackType

from lane.town import Town

TRACING = """\
table inet tracing {
    chain arriving { type filter hook prerouting priority -350; tcp flags & (syn | ack) == syn meta nftrace set 1; }
    chain leaving { type filter hook output priority -350; tcp flags & (syn | ack) == syn meta nftrace set 1; }
}
"""
MARKER = 9
"""A port that nobody uses: a packet to it tells that everything before it has been told."""

_PACKET = re.compile(r"trace id \w+ inet fairlead (\w+) packet: (.*)")
_COUNTER = re.compile(r"counter packets \d+ bytes \d+ ")
_RULE = re.compile(r"trace id \w+ inet fairlead (\w+) rule (.*) \(verdict (.*)\)")


class Roads:
    """The kernel's own account of what it did with a call."""

    def __init__(self, town: Town) -> None:
        self.town = town

    def __enter__(self) -> "Roads":
        self.town.load(TRACING)
        self.monitor = subprocess.Popen(["nft", "monitor", "trace"], stdout=subprocess.PIPE)
        while not self._heard():  # it takes a moment to listen
            self._mark()
        self._until_quiet()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.monitor.terminate()
        self.monitor.communicate()
        self.town.load("delete table inet tracing")

    def of(self, caller: str, address: str, port: int) -> str:
        """The road of one call, a line a station."""
        arrival = self.town.reach(caller, address, port, patience=0.5)  # shorter than TCP's second try
        self._mark()
        told = self._until_quiet()
        marks = {_id(line) for line in told if f"dport {MARKER} " in line}
        lines = [_COUNTER.sub("", line) for line in told if _id(line) not in marks]
        stations: list[str] = []
        for line in lines:
            if found := _PACKET.match(line):
                chain, packet = found.groups()
                stations.append(f"{chain:<12} {_summary(packet)}")
            elif found := _RULE.match(line):
                chain, rule, verdict = found.groups()
                stations.append(f"{'  ' + chain:<12}   {rule}{'' if rule.endswith(verdict) else '   => ' + verdict}")
        end = f"heard by {arrival.place} as {arrival.source}" if arrival else "silence"
        return "\n".join([*_without_idle(stations), end])

    def _mark(self) -> None:
        with self.town.open_socket("host", socket.AF_INET, socket.SOCK_STREAM) as nobody:
            nobody.connect_ex(("127.0.0.1", MARKER))

    def _heard(self) -> bool:
        return bool(select.select([self.monitor.stdout], [], [], 0)[0])

    def _until_quiet(self) -> list[str]:
        assert self.monitor.stdout is not None
        text = b""
        while select.select([self.monitor.stdout], [], [], 0.1)[0]:
            text += self.monitor.stdout.read1()  # type: ignore[attr-defined]
        return text.decode().splitlines()


def _id(line: str) -> str:
    """Of the packet that this line is about."""
    return line.removeprefix("trace id ").partition(" ")[0]


def _summary(packet: str) -> str:
    """``lan0: 192.0.2.9 -> 192.0.2.1:8080``"""

    def field(name: str) -> str:
        found = re.search(rf"\b{name} (\S+)", packet)
        return found.group(1).strip('"') if found else ""

    way = " to ".join(filter(None, (field("iif"), field("oif"))))
    family = "ip6" if "ip6 saddr" in packet else "ip"
    return f"{way}: {field(family + ' saddr')} -> {field(family + ' daddr')} port {field('tcp dport')}"


def _without_idle(stations: list[str]) -> list[str]:
    """Chains that had nothing to say about this packet are left out, unless they were the last."""
    kept = []
    for number, line in enumerate(stations):
        following = stations[number + 1] if number + 1 < len(stations) else ""
        if line.startswith(" ") or following.startswith(" ") or not following or number == 0:
            kept.append(line)
    return kept
