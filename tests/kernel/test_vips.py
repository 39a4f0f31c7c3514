"""Virtual addresses in a sandbox: who is chosen, how evenly, and what happens to those under way.

client (10.0.0.2)  web1 (.3)  web2 (.4)  web3 (.5)    on one bridge; the service's address is 10.0.0.99, fd00::99
"""

import errno
import ipaddress
import socket
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from msgspec.structs import replace

from fairlead.core import shortcut
from fairlead.core.wanted import Address, Link, Namespace, Plan, Vip, difference
from fairlead.errors import Invalid
from fairlead.host.linux import LinuxHost
from fairlead.host.netns import inside, socket_in
from fairlead.host.vips import TABLE
from lane.golden import ROOT, WRITE, same_as
from lane.pretend import PretendHost

pytestmark = pytest.mark.kernel

PORT = 8000
SHORT, TABLE_ALONE = "short cut", "table alone"
VIRTUAL = {4: "10.0.0.99", 6: "fd00::99"}
CHI_SQUARE_2 = 13.82
"""of three kinds: an even choice is further off once in a thousand times"""


def address(number: int, family: int = 4) -> str:
    return f"10.0.0.{number}" if family == 4 else f"fd00::{number}"


def stack(number: int) -> Plan:
    ns = f"s{number}"
    return (
        Namespace(name=ns),
        Link(name=f"veth{number}", kind="veth", master="br0", peer="eth0", peer_ns=ns),
        Address(ns=ns, link="eth0", address=f"{address(number)}/24"),
        Address(ns=ns, link="eth0", address=f"{address(number, 6)}/64"),
    )


GROUND: Plan = (Link(name="br0", kind="bridge", mac="02:00:00:00:00:01"), *(o for n in (2, 3, 4, 5) for o in stack(n)))


@pytest.fixture(params=[SHORT, TABLE_ALONE])
def host(pretend_host: PretendHost, request: pytest.FixtureRequest) -> Iterator[LinuxHost]:
    """Whatever is promised of virtual addresses holds on either road."""
    opened = pretend_host.open()
    if request.param == TABLE_ALONE:
        opened._doors.shortcuts.close()
    opened.make(GROUND)
    yield opened
    opened.remove(GROUND)
    opened.settle()


def vip(*weights: tuple[int, int], family: int = 4, ns: str = "s2", policy: str = "") -> Vip:
    """(number of the task, weight)."""
    targets = tuple((address(number, family), weight) for number, weight in weights)
    return Vip(ns=ns, address=VIRTUAL[family], targets=targets, policy=policy)


SHOWN = "docs/packets/vip.md"
PAGE = """\
# The road to a service

Written by `tests/kernel/test_vips.py`: the table is what a real kernel lists ({version}).

```
  client, 10.0.1.7 (host one)                                             web.2, 10.0.1.4 (host two)
     | asks 127.0.0.11 for "web": 10.0.1.2, the service's own address          ^
     | connects to 10.0.1.2                                                    |
     v                                                                         |  from 10.0.1.7, as ever
  output, in the client's own namespace: 10.0.1.2 -> 10.0.1.4                  |
     |                                                                         |
     '--- eth0 --- the overlay, as any packet to 10.0.1.4 (overlay.md) --------'
```

Nobody has the address 10.0.1.2: it is a place in a table that stands in each container on the network. No packet makes
a detour, no address of a sender is changed, and the answers are turned back by the kernel's own connection tracking.

In the sandbox of a client, with the service `web` at 10.0.1.2 (three tasks, one of them with twice the weight), `cache`
at 10.0.1.9 (label `fairlead.policy=source`: one client, one task) and `idle` at 10.0.1.20 (nobody serves):

```
{table}```

| | |
|---|---|
| a new connection to 10.0.1.2 | `choose`: its chain draws a number; that place in the list is its task from now on |
| a packet of a connection that stands | is turned as its first one was; `refuse` does not find it |
| `connect()` over TCP | a task is drawn before there is a packet, so that none has to be turned: below |
| who serves | rows that the network's nodes tell each other (`swarm/rows.py`), then `engine/services.py` |
| a task starts, stops, is sick | one transaction about that address; who is under way stays (`host/vips.py`) |
| nobody serves | `refuse`: a reset, or "unreachable", at once; so it is with the address of a service that is gone |
| a task calls its own service | may get itself |
| `tasks.web` | all tasks that serve, as they are; `--endpoint-mode dnsrr`: so is `web` itself, and there is no table |
| see it | `nsenter --net=$(docker inspect -f {{{{.NetworkSettings.SandboxKey}}}} client) nft list ruleset` |

## Short cuts

The table stands in each client, and serves by itself. Where the kernel lets us (BPF, and control groups of version 2,
also beside version 1), most connections never come to it:

```
  process: connect(10.0.1.2) --> our program: 10.0.1.2 in this namespace? --> connect(10.0.1.4)
  process: getpeername()     --> our program: 10.0.1.2
```

| | |
|---|---|
| goes so | TCP of IPv4 and IPv6, from every process in the sandbox |
| goes by the table | UDP, SCTP, pings; `fairlead.policy=source`; who has nobody to go to |
| that, too | more than {places} places (tasks, each as often as its weight) |
| a task leaves | out of both: the short cut is closed, then the table changes, then it is opened again |
| a task is gone | what still leads to it is closed: ECONNABORTED, also for who only waits |
| the engine ends | its programs, too, and the table goes on; who is connected stays so, and its peer is the task |
| see it | `ss -t` in the sandbox shows tasks; `fairlead explain` says `connect` |
| there are none | the log says why, at the first address |

## Whose turn it is

| label | |
|---|---|
| of the service: `fairlead.policy=random` | the same as none: each connection by chance |
| `fairlead.policy=round-robin` | one task after the other, as each client (at a published port: each node) counts |
| `fairlead.policy=source` | by the client's address: one client, one task |
| of a node: `fairlead.weight=3` | tasks of that node get three times as much, of every service |
| of a container: `fairlead.weight=2` | `--container-label-add`: the tasks of that version; times the node's |

Weights are whole numbers to 100. What begins with `fairlead.` and is none of ours, or stands where nobody looks, is
refused. All of it may be changed while the service runs, without a task being replaced (but
for the container's own label, which belongs to its version: nine tasks of weight 10 and one of weight 1 try the new).

Why so: [vip-without-ipvs.md](../why/vip-without-ipvs.md).
"""


def test_the_page(pretend_host: PretendHost, host: LinuxHost) -> None:
    version = pretend_host.run("nft", "--version").split(" (")[0].strip()
    if not WRITE and f"({version})" not in (ROOT / SHOWN).read_text():
        pytest.skip(f"the page was written by another nft than {version}")
    three = (("10.0.1.3", 1), ("10.0.1.4", 1), ("10.0.1.5", 2))
    web, idle = Vip(ns="s2", address="10.0.1.2", targets=three), Vip(ns="s2", address="10.0.1.20")
    cache = Vip(ns="s2", address="10.0.1.9", targets=(("10.0.1.11", 1), ("10.0.1.12", 1)), policy="source")
    host.make([web, cache, idle])
    table = pretend_host.run("nft", "-s", "list", "table", "inet", "fairlead-vips", ns="s2")
    same_as(SHOWN, PAGE.format(version=version, table=table.replace("\t", "    "), places=shortcut.PLACES))


class Listeners:
    """One in each task, over TCP."""

    def __init__(self, host: LinuxHost, family: int = 4) -> None:
        kind = socket.AF_INET6 if family == 6 else socket.AF_INET
        self._socks = {n: socket_in(host.namespace_path(f"s{n}"), kind, socket.SOCK_STREAM) for n in (3, 4, 5)}
        for sock in self._socks.values():
            sock.bind(("", PORT))
            sock.listen(4096)
            sock.setblocking(False)

    def accepted(self) -> tuple[int, socket.socket, str]:
        """Who got the next connection, and from whom it is."""
        end = time.monotonic() + 5
        while time.monotonic() < end:
            for number, sock in self._socks.items():
                try:
                    found, (peer, *_) = sock.accept()
                except BlockingIOError:
                    continue
                return number, found, peer
        raise AssertionError("nobody got it")

    def close(self) -> None:
        for sock in self._socks.values():
            sock.close()


@pytest.fixture
def listeners(host: LinuxHost) -> Iterator[Listeners]:
    found = Listeners(host, 6)  # which hear IPv4 as well
    yield found
    found.close()


def call(host: LinuxHost, family: int = 4, ns: str = "s2") -> socket.socket:
    sock = socket_in(host.namespace_path(ns), socket.AF_INET6 if family == 6 else socket.AF_INET, socket.SOCK_STREAM)
    sock.settimeout(5)
    sock.connect((VIRTUAL[family], PORT))
    return sock


def shares(host: LinuxHost, listeners: Listeners, count: int, family: int = 4, ns: str = "s2") -> Counter[int]:
    """How many of so many connections each task gets; nobody's address is changed."""
    kind = socket.AF_INET6 if family == 6 else socket.AF_INET
    found: Counter[int] = Counter()
    reset = b"\1\0\0\0\0\0\0\0"
    with inside(host.namespace_path(ns)):
        for _ in range(count):
            sock = socket.socket(kind)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, reset)  # a port is free again at once
            sock.connect((VIRTUAL[family], PORT))
            number, there, peer = listeners.accepted()
            assert peer.removeprefix("::ffff:") == address(int(ns[1:]), family)
            found[number] += 1
            there.close()
            sock.close()
    return found


@pytest.mark.parametrize("family", [4, 6])
def test_the_choice_is_even(host: LinuxHost, listeners: Listeners, family: int) -> None:
    host.make([vip((3, 1), (4, 1), (5, 1), family=family)])
    count = 10_000 if family == 4 else 1_000
    found = shares(host, listeners, count, family)
    assert sum((found[n] - count / 3) ** 2 / (count / 3) for n in (3, 4, 5)) < CHI_SQUARE_2, found


def test_weights(host: LinuxHost, listeners: Listeners) -> None:
    host.make([vip((3, 100), (4, 300))])
    found = shares(host, listeners, 2000)
    assert (found[3] - 500) ** 2 / 500 + (found[4] - 1500) ** 2 / 1500 < 10.83, found


def test_in_turn_everybody_gets_exactly_as_much(host: LinuxHost, listeners: Listeners) -> None:
    host.make([vip((3, 1), (4, 1), (5, 1), policy="round-robin")])
    assert shares(host, listeners, 300) == {3: 100, 4: 100, 5: 100}
    host.make([vip((3, 1), (4, 3), policy="round-robin")])
    assert [set(shares(host, listeners, 4).items()) for _ in range(5)] == [{(3, 1), (4, 3)}] * 5


def test_another_policy_is_seen(host: LinuxHost) -> None:
    """Also when somebody else made it so."""
    for policy in ("", "round-robin", "source"):
        made, others = vip((3, 1), (4, 1), policy=policy), {"", "round-robin", "source"} - {policy}
        host.make([made])
        assert not difference([made], host.look([made]))[0]
        assert all(difference([vip((3, 1), (4, 1), policy=other)], host.look([made]))[0] for other in others)


SHAPES = [
    vip(),
    vip((3, 1)),
    vip((3, 1), (4, 1), (5, 1)),
    vip((3, 1), (4, 3), policy="round-robin"),
    vip((3, 1), (4, 1), policy="source"),
    vip(family=6),
    vip((3, 1), family=6),
    vip((3, 1), (4, 2), family=6),
    vip((3, 1), (4, 1), family=6, policy="source"),
    vip(*((3 + n % 3, 1) for n in range(600))),
]


def listed(pretend_host: PretendHost, ns: str = "s2") -> str:
    return pretend_host.run("nft", "-s", "list", "table", "inet", "fairlead-vips", ns=ns)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_what_is_told_without_words_is_the_same(pretend_host: PretendHost, host: LinuxHost, shape: Vip) -> None:
    """The first in a namespace takes the long way; its twin is told where the table stands already."""
    twin = replace(shape, ns="s3")
    host.make([shape])
    host.make([vip((3, 1), family=6 if ":" in shape.address else 4, ns="s3")])
    assert host._doors["s3"].stands == {TABLE}
    host.make([twin])
    assert listed(pretend_host, "s3") == listed(pretend_host, "s2")
    assert not difference([shape, twin], host.look([shape, twin]))[0]
    host.remove([twin])
    assert str(ipaddress.ip_address(shape.address)) not in listed(pretend_host, "s3")
    host.remove([twin])


def test_who_took_the_table_away_gets_it_back_with_the_next_change(pretend_host: PretendHost, host: LinuxHost) -> None:
    host.make([vip((3, 1))])
    pretend_host.run("nft", "delete", "table", "inet", "fairlead-vips", ns="s2")
    host.make([vip((4, 1))])
    assert not difference([vip((4, 1))], host.look([vip((4, 1))]))[0]
    pretend_host.run("nft", "flush", "chain", "inet", "fairlead-vips", "refuse", ns="s2")
    assert difference([vip((4, 1))], host.look([vip((4, 1))]))[0]
    host.make([vip((4, 1))])
    assert not difference([vip((4, 1))], host.look([vip((4, 1))]))[0], "its rules are said again, too"


def test_one_source_one_task(host: LinuxHost, listeners: Listeners) -> None:
    host.make([vip((3, 1), (4, 1), (5, 1), policy="source"), vip((3, 1), (4, 1), (5, 1), policy="source", ns="s5")])
    assert len(shares(host, listeners, 50)) == len(shares(host, listeners, 50, ns="s5")) == 1


def test_pings_are_answered(pretend_host: PretendHost, host: LinuxHost) -> None:
    host.make([vip((3, 1), (4, 1)), vip((3, 1), (4, 1), family=6)])
    for family in (4, 6):
        pretend_host.run("ping", "-c2", "-i0.01", "-W2", VIRTUAL[family], ns="s2")


@pytest.mark.parametrize("family", [4, 6])
def test_a_task_calls_its_own_service_and_gets_itself(host: LinuxHost, listeners: Listeners, family: int) -> None:
    host.make([vip((3, 1), family=family, ns="s3")])
    assert shares(host, listeners, 20, family, ns="s3") == {3: 20}


def test_who_is_under_way_stays_with_a_task_that_leaves(host: LinuxHost, listeners: Listeners) -> None:
    host.make([vip((3, 1))])
    sock = call(host)
    _, there, _ = listeners.accepted()
    host.make([vip((4, 1))])
    assert shares(host, listeners, 20) == {4: 20}
    host.make([vip()])
    for sender, receiver in ((sock, there), (there, sock)):
        sender.send(b"still here")
        receiver.settimeout(5)
        assert receiver.recv(100) == b"still here"
    sock.close()
    there.close()


@pytest.mark.parametrize("family", [4, 6])
def test_nobody_serves_is_said_at_once(host: LinuxHost, listeners: Listeners, family: int) -> None:
    host.make([vip((3, 1), family=family)])
    host.make([vip(family=family)])
    began = time.monotonic()
    with pytest.raises(ConnectionRefusedError):
        call(host, family)
    kind = socket.AF_INET6 if family == 6 else socket.AF_INET
    with socket_in(host.namespace_path("s2"), kind, socket.SOCK_DGRAM) as sock:
        sock.settimeout(5)
        sock.connect((VIRTUAL[family], PORT))
        with pytest.raises(OSError) as refusal:
            sock.send(b"anybody?")
        assert refusal.value.errno == errno.EPERM
    assert time.monotonic() - began < 1
    host.make([vip((3, 1), family=family)])
    assert shares(host, listeners, 5, family) == {3: 5}


def test_datagrams_go_there_and_back(host: LinuxHost) -> None:
    host.make([vip((3, 1))])
    with (
        socket_in(host.namespace_path("s3"), socket.AF_INET, socket.SOCK_DGRAM) as task,
        socket_in(host.namespace_path("s2"), socket.AF_INET, socket.SOCK_DGRAM) as client,
    ):
        task.bind(("", PORT))
        for sock in (task, client):
            sock.settimeout(5)
        client.connect((VIRTUAL[4], PORT))
        client.send(b"question")
        data, peer = task.recvfrom(100)
        assert (data, peer[0]) == (b"question", address(2))
        task.sendto(b"answer", peer)
        assert client.recv(100) == b"answer"


def test_a_task_that_is_gone_leaves_nobody_waiting(host: LinuxHost, listeners: Listeners) -> None:
    """Who goes on sending is led to another: of a connection it knows nothing, and says so; a datagram it takes. What
    the table did not lead is closed."""
    host.make([vip((3, 1))])
    connection, datagrams = call(host), socket_in(host.namespace_path("s2"), socket.AF_INET, socket.SOCK_DGRAM)
    _, there, _ = listeners.accepted()
    first = socket_in(host.namespace_path("s3"), socket.AF_INET, socket.SOCK_DGRAM)
    first.bind(("", PORT))
    datagrams.connect((VIRTUAL[4], PORT))
    datagrams.send(b"to the first")
    host.make([vip((4, 1))])
    host.forget_answers([("", address(3), 0)], "s2")
    short = host._doors.shortcuts.open
    with pytest.raises(ConnectionAbortedError if short else ConnectionResetError):
        connection.send(b"anybody?")
        connection.recv(100)
    with socket_in(host.namespace_path("s4"), socket.AF_INET, socket.SOCK_DGRAM) as other:
        other.bind(("", PORT))
        other.settimeout(5)
        datagrams.send(b"to the second")
        assert other.recv(100) == b"to the second"
    for sock in (connection, datagrams, there, first):
        sock.close()


def test_it_is_missed_and_made_again(pretend_host: PretendHost, host: LinuxHost, listeners: Listeners) -> None:
    plan = (*GROUND, vip((3, 1), (4, 2)), Vip(ns="s2", address="10.0.0.98"), vip((3, 1), family=6))
    host.make(plan)
    assert difference(plan, host.look(plan)) == ((), ())
    table = ("table", "inet", "fairlead-vips")
    for deed in (
        ("nft", "flush", "ruleset"),
        ("nft", "flush", "chain", *table[1:], "choose"),
        ("nft", "flush", "chain", *table[1:], "vip-10.0.0.99"),
        ("nft", "delete", "element", *table[1:], "choose4", "{ 10.0.0.99 }"),
        ("nft", "add", "rule", *table[1:], "vip-10.0.0.98", "dnat", "ip", "to", "10.0.0.5"),
    ):
        pretend_host.run(*deed, ns="s2")
        lost, _ = difference(plan, host.look(plan))
        assert lost, deed
        host.make(lost)
        assert difference(plan, host.look(plan)) == ((), ()), deed
        assert set(shares(host, listeners, 20)) == {3, 4}, deed


def test_one_that_nobody_wants_any_more_goes(pretend_host: PretendHost, host: LinuxHost) -> None:
    plan = (*GROUND, vip((3, 1)))
    surplus = Vip(ns="s2", address="10.0.0.98", targets=((address(4), 1),))
    host.make([*plan, surplus])
    make, remove = difference(plan, host.look(plan))
    assert not make and [item.key for item in remove] == [surplus.key]
    host.remove(remove)
    host.remove(remove)
    assert difference(plan, host.look(plan)) == ((), ())
    assert "10.0.0.98" not in pretend_host.run("nft", "list", "ruleset", ns="s2")


def test_a_weight_of_nothing_is_refused_and_changes_nothing(host: LinuxHost, listeners: Listeners) -> None:
    host.make([vip((3, 1))])
    with pytest.raises(Invalid):
        host.make([vip((4, 0))])
    assert shares(host, listeners, 5) == {3: 5}


def test_a_connection_may_be_silent_for_as_long_as_any_other(host: LinuxHost, listeners: Listeners) -> None:
    """IPVS forgets one after 900 seconds. Here the kernel's own patience with any connection holds: five days."""
    host.make([vip((3, 1), (4, 1))])
    with call(host) as sock:
        _, there, _ = listeners.accepted()
        source = sock.getsockname()[1]
        with there, inside(host.namespace_path("s2")):
            patience = int(Path("/proc/sys/net/netfilter/nf_conntrack_tcp_timeout_established").read_text())
            flows = [line.split() for line in Path("/proc/thread-self/net/nf_conntrack").read_text().splitlines()]
    (left,) = (int(flow[4]) for flow in flows if f"sport={source}" in flow and "ESTABLISHED" in flow)
    assert patience == 5 * 24 * 3600 and patience - 60 < left <= patience
