"""What an endpoint costs: namespace, veth pair on a bridge, settings, addresses, routes; and a published port.

    sudo .venv/bin/python bench/netlink.py [endpoints]

Runs in a network namespace of its own and prints medians in milliseconds.
"""

import statistics
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable

from fairlead.core.wanted import (
    Address,
    Element,
    Link,
    Namespace,
    Plan,
    Route,
    Skeleton,
    Sysctl,
    difference,
)
from fairlead.host.linux import LinuxHost
from fairlead.host.netns import in_new

SKELETON = """
map published { type inet_proto . inet_service : ipv4_addr . inet_service; }
chain arriving { type nat hook prerouting priority dstnat; dnat ip to meta l4proto . th dport map @published; }
"""


def bridge() -> Plan:
    return (
        Link(name="br0", kind="bridge", mac="02:00:00:00:00:01"),
        Address(link="br0", address="10.5.0.1/16"),
        Skeleton(text=SKELETON),
    )


def endpoint(number: int) -> Plan:
    ns, last = f"c{number}", number + 2
    return (
        Link(
            name=f"v{number}",
            kind="veth",
            master="br0",
            mtu=1500,
            peer="eth0",
            peer_ns=ns,
            peer_mac=f"02:42:0a:05:{last >> 8:02x}:{last & 255:02x}",
            options=(("isolated", "1"),),
        ),
        *(
            Sysctl(ns=ns, path=f"net/{path}", value=value)
            for path, value in (
                ("ipv6/conf/eth0/disable_ipv6", "0"),
                ("ipv6/conf/eth0/accept_ra", "0"),
            )
        ),
        Address(ns=ns, link="eth0", address=f"10.5.{last >> 8}.{last & 255}/16"),
        Route(ns=ns, destination="0.0.0.0/0", gateway="10.5.0.1", link="eth0"),
    )


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 50
    times: dict[str, list[float]] = defaultdict(list)

    def timed(label: str, deed: Callable[[], object]) -> None:
        start = time.perf_counter()
        deed()
        times[label].append((time.perf_counter() - start) * 1e3)

    with tempfile.TemporaryDirectory() as root:
        host = LinuxHost(root)
        timed("network: bridge, address, skeleton", lambda: host.make(bridge()))
        numbers = range(count)
        for n in numbers:
            timed("namespace", lambda n=n: host.make((Namespace(name=f"c{n}"),)))
            timed("endpoint up", lambda n=n: host.make(endpoint(n)))
            port = Element(map="published", item=f"tcp . {n + 1}", value="10.5.0.2 . 80")
            timed("publish one port", lambda port=port: host.make((port,)))
        many = tuple(Element(map="published", item=f"udp . {n}", value="10.5.0.2 . 80") for n in range(1, 1001))
        timed("publish 1000 ports", lambda: host.make(many))
        wanted = [item for n in numbers for item in (Namespace(name=f"c{n}"), *endpoint(n))]
        for label in (f"look at {count} endpoints, first", f"look at {count} endpoints, again"):
            timed(label, lambda: host.look(wanted))
        missing, _ = difference(wanted, host.look(wanted))
        print(f"{len(missing)} of {len(wanted)} objects missing")
        timed("withdraw 1000 ports", lambda: host.remove(many))
        for n in numbers:
            timed("endpoint down", lambda n=n: host.remove(endpoint(n)))
            timed("namespace gone", lambda n=n: host.remove((Namespace(name=f"c{n}"),)))
        timed("settle", host.settle)
        host.remove(bridge())
        host.settle()
        host.close()
    for label, values in times.items():
        median, best, worst = statistics.median(values), min(values), max(values)
        print(f"{label:40} {median:8.3f} ms   (best {best:8.3f}, worst {worst:8.3f}, n={len(values)})")


if __name__ == "__main__":
    in_new(main)
