"""The town in which everybody calls everybody, and the table of who was heard.

Used by the kernel test that checks the table and by the page that shows it
(docs/packets/reachability.md).
"""

from fairlead.core.model import PortBinding
from fairlead.core.wanted import Route
from lane.town import Arrival, Town


def published(port: int, host_port: int, address4: str = "0.0.0.0", address6: str = "::") -> tuple[PortBinding, ...]:
    """``-p host_port:port``, tcp and udp, both families."""
    return tuple(
        PortBinding(port, protocol, address, host_port)
        for protocol in ("tcp", "udp")
        for address in (address4, address6)
        if address
    )


PLACES = """\
| place | is |
|---|---|
| near, far | neighbours of the host on two different LANs; they route container addresses straight to the host |
| host | a process on the host itself |
| a1 | on network A; publishes 80 at 8080 of every address, and 443 at 8081 of 127.0.0.1 |
| a2 | on network A, nothing published |
| b1 | on network B |
| r1 | on R, gateway mode routed; publishes 80 |
| o1 | on O, gateway mode nat-unprotected |
| i1, i2 | on I, internal; i1 has given itself a default route |
| p1, p2 | on P, icc off; p1 publishes 80 at 8090 |
| t1 | on T, trusts lan0 (where near is); publishes 80 at 8091 |
| n1 | on N, without masquerading |
"""

CALLERS = ("near", "far", "host", "a1", "a2", "b1", "r1", "o1", "i1", "p1", "p2", "t1", "n1")


def build(town: Town) -> None:
    for name, options in (
        ("A", {}),
        ("B", {}),
        ("R", {"gateway_mode_ipv4": "routed", "gateway_mode_ipv6": "routed"}),
        ("O", {"gateway_mode_ipv4": "nat-unprotected", "gateway_mode_ipv6": "nat-unprotected"}),
        ("P", {"enable_icc": "false"}),
        ("T", {"trusted_host_interfaces": "lan0"}),
        ("N", {"enable_ip_masquerade": "false"}),
    ):
        town.network(name, **options)
    town.network("I", internal=True)
    town.container("a1", "A", *published(80, 8080), *published(443, 8081, "127.0.0.1", ""))
    town.container("a2", "A")
    town.container("b1", "B")
    town.container("r1", "R", *published(80, 0))
    town.container("o1", "O")
    town.container("i1", "I")
    town.container("i2", "I")
    town.container("p1", "P", *published(80, 8090))
    town.container("p2", "P")
    town.container("t1", "T", *published(80, 8091))
    town.container("n1", "N")
    i1 = town.endpoints["i1"]
    for pool in town.networks["I"].ipam.config:
        everything = "::/0" if ":" in pool.subnet else "0.0.0.0/0"
        town.make([Route(ns=i1.namespace, destination=everything, gateway=pool.gateway, link="eth0")])


def targets(town: Town, family: int) -> list[tuple[str, str, int, str]]:
    """(heading, address, port, who should hear it) of everything that is called."""
    lan, loopback = ("192.0.2.1", "127.0.0.1") if family == 4 else ("2001:db8::1", "::1")
    found = [("host:8080", lan, 8080, "a1"), ("host:8090", lan, 8090, "p1"), ("host:8091", lan, 8091, "t1")]
    if family == 4:
        found += [(f"127.0.0.1:{port}", loopback, port, "a1") for port in (8080, 8081)]
        found += [("host:8081", lan, 8081, "a1")]
    for place, port in (
        ("near", 80), ("far", 80), ("a1", 80), ("a1", 53), ("a2", 80), ("b1", 80), ("r1", 80), ("r1", 53), ("o1", 53),
        ("i2", 80), ("p1", 80), ("p1", 53), ("t1", 80), ("t1", 53), ("n1", 80),
    ):  # fmt: skip
        found.append((f"{place}:{port}", town.address(place, family), port, place))
    return found


def table(town: Town, family: int, protocol: str = "tcp") -> str:
    """A markdown table: a row a target, a column a caller, a cell what the target saw."""
    wanted = targets(town, family)
    probes = [(caller, address, port, protocol) for _, address, port, _ in wanted for caller in CALLERS]
    heard = iter(town.reach_all(probes))
    lines = ["| to | " + " | ".join(CALLERS) + " |", "|---" * (len(CALLERS) + 1) + "|"]
    for heading, _, _, listener in wanted:
        cells = [cell(town, caller, family, next(heard), listener) for caller in CALLERS]
        lines.append(f"| {heading} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def cell(town: Town, caller: str, family: int, arrival: Arrival | None, listener: str) -> str:
    """``yes``: heard, with the caller's own address; ``masked``: with the host's; empty: not heard there."""
    if arrival is None or arrival.place != listener:
        return ""
    return "yes" if caller == "host" or arrival.source == town.address(caller, family) else "masked"


def without(skeleton: str, *rules: str) -> str:
    """The same text with these rules taken out, each of which must be there exactly once."""
    lines = skeleton.splitlines()
    for rule in rules:
        found = [line for line in lines if rule in line]
        assert len(found) == 1, f"{rule!r} is there {len(found)} times"
        lines.remove(found[0])
    return "\n".join(lines)


def changed(skeleton: str, old: str, new: str) -> str:
    assert skeleton.count(old) == 1, f"{old!r} is there {skeleton.count(old)} times"
    return skeleton.replace(old, new)
