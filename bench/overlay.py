"""Overlay networks over two hosts: what packets pay, how soon a new container is reached by name, what much costs.

    A 192.168.90.61 --- LAN --- B 192.168.90.62     an engine on each: ours share an etcd on the LAN's own place,
      client                      server            dockerd's are a swarm

Held against dockerd, and against the same by hand: two namespaces, veth, bridge, VXLAN, no rules at all; and beside it
with the fewest rules that do what ours are there for.
"""

import os
import socket
import struct
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from bench.api import Api, Job
from bench.paths import (
    CLONE_NEWNET,
    PORT,
    Child,
    Road,
    greet,
    knock,
    libc,
    name_server,
    network_of,
    pinned,
    pour_briefly,
    question,
)
from bench.table import OURS
from fairlead.lab import keyvalue
from lane.engines import ENGINES, FOLLOW, Engine
from lane.images import import_images
from lane.machine import Lan, Place, eventually

HAND = "veth + bridge + VXLAN by hand"
RULED = "the same with the fewest rules"
FIRST = {"fairlead": 61, "dockerd": 63, HAND: 65, RULED: 67}
"""last byte of the first host's address on the LAN"""
NETWORK = "ov"
FEWEST = """
table inet hand {
    chain guard {
        type filter hook prerouting priority raw
        udp dport 4789 ip saddr PEER notrack accept
        udp dport 4789 drop
    }
    chain leaving {
        type filter hook output priority raw
        udp dport 4789 notrack
    }
    chain published {
        type nat hook prerouting priority dstnat
        fib daddr type local tcp dport 8080 dnat ip to 172.18.0.2:80
    }
    chain world {
        type nat hook postrouting priority srcnat
        ip saddr 172.18.0.0/16 masquerade
    }
}
"""
"""Of a host whose tunnel hears one other host, whose containers have a way out, and which publishes one port. What the
kernel does for tracking and NAT, as soon as somebody asks for it, is the most of what an overlay of ours pays."""
FIRST_PINGS = ("run to first ping by name", "run to first ping by name, first container on a host")


# -- two hosts of each kind -------------------------------------------------------------------------------------------


@contextmanager
def store(lan: Lan) -> Iterator[str]:
    """An etcd on the LAN; what ``--cluster-store`` is told."""
    with tempfile.TemporaryDirectory(prefix="fl-etcd", dir="/var/tmp") as folder:
        words = [*FOLLOW, "nsenter", f"--net={lan.network}", "--"]
        words += keyvalue.command("etcd", Path(folder), lan.address)
        serving = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            eventually(lambda: lan(f"ss -Hltn sport = :{keyvalue.PORTS['etcd']}").out, "etcd")
            yield keyvalue.url("etcd", lan.address, path="/network")
        finally:
            serving.kill()
            serving.wait()


@contextmanager
def pair(kind: str, job: Job, url: str) -> Iterator[list[Engine]]:
    """Two hosts with engines of a kind that know of each other, and an overlay network."""
    shared = {"fairlead": [f"--cluster-store={url}", "--cluster-advertise=eth0:2376"]}.get(kind, [])
    own = [word for word in job.options(kind) if word != "--live-restore"]  # no swarm with it
    engines: list[Engine] = []
    try:
        for last in (FIRST[kind], FIRST[kind] + 1):
            engines.append(ENGINES[kind](job.lan, last, [*own, *shared]))
            engines[-1].start()
            import_images(engines[-1].docker, engines[-1].base, ("busybox",))
        if kind == "dockerd":
            swarm(*engines)
        Api(engines[0])("POST", "/networks/create", {"Name": NETWORK, "Driver": "overlay", "Attachable": True})
        yield engines
    finally:
        for engine in engines:
            engine.close()


def swarm(first: Engine, *others: Engine, role: str = "Worker") -> None:
    """One swarm of all."""
    listen = "0.0.0.0:2377"
    Api(first)("POST", "/swarm/init", {"ListenAddr": listen, "AdvertiseAddr": first.machine.address})
    token = Api(first)("GET", "/swarm")["JoinTokens"][role]
    remote = {"RemoteAddrs": [f"{first.machine.address}:2377"], "JoinToken": token}
    for other in others:
        Api(other)("POST", "/swarm/join", {"ListenAddr": listen, "AdvertiseAddr": other.machine.address, **remote})


@contextmanager
def by_hand(lan: Lan, title: str) -> Iterator[tuple[str, str, str]]:
    """The same without an engine; the networks of the client and the server, and the server's address."""
    children = [Child(lan.network, lambda: (libc.unshare(CLONE_NEWNET), time.sleep(3600))) for _ in range(4)]
    try:
        places = [Place(child.pid, "") for child in children]
        strange = {os.readlink(lan.network), os.readlink("/proc/self/ns/net")}
        for place in places:
            eventually(lambda place=place: os.readlink(place.network) not in strange)
        addresses = [lan.plug(places[number].pid, FIRST[title] + number) for number in (0, 1)]
        for number in (0, 1):
            host, inner = places[number], places[2 + number]
            tunnel = f"id 77 local {addresses[number]} remote {addresses[1 - number]} dstport 4789 dev eth0"
            host.must("sysctl -qw net.bridge.bridge-nf-call-iptables=0 net.bridge.bridge-nf-call-ip6tables=0")
            for words in (
                f"link add vxlan0 type vxlan {tunnel}",
                "link add br0 type bridge",
                "link set vxlan0 master br0 up",
                "link set br0 up",
                f"link add veth0 type veth peer name eth0 netns {inner.pid}",
                "link set veth0 master br0 up",
            ):
                host.must(f"ip {words}")
            inner.must(f"ip addr add 10.99.0.{1 + number}/24 dev eth0")
            inner.must("ip link set eth0 mtu 1450 up")
            if title == RULED:
                host.must(["nft", FEWEST.replace("PEER", addresses[1 - number])])
        yield places[2].network, places[3].network, "10.99.0.2"
    finally:
        for child in children:
            child.end()


# -- packets ----------------------------------------------------------------------------------------------------------


def serve() -> None:
    """Greets on PORT+1, and on PORT+2 is an echo."""
    listener = socket.create_server(("0.0.0.0", PORT + 2))

    def echo() -> None:
        while True:
            peer, _ = listener.accept()
            peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            while said := peer.recv(64):
                peer.send(said)
            peer.close()

    threading.Thread(target=echo, daemon=True).start()
    greet()


def volley(address: str, seconds: float) -> float:
    """Microseconds from a byte sent to a byte back, the median."""
    took = []
    with socket.create_connection((address, PORT + 2), 5) as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.settimeout(None)
        until = time.perf_counter() + seconds
        while (begun := time.perf_counter()) < until:
            sock.send(b"x")
            sock.recv(64)
            took.append(time.perf_counter() - begun)
    return sorted(took)[len(took) // 2] * 1e6


def packets(job: Job, pairs: dict[str, list[Engine]]) -> None:
    """Bytes, round trips and new connections from a container on A to one on B."""
    with ExitStack() as undo:
        roads = []
        for title in (HAND, RULED):
            client, server, address = undo.enter_context(by_hand(job.lan, title))
            roads.append(Road(title, OURS, client, address, server))
        for kind, (a, b) in pairs.items():
            Api(a).run("client", NETWORK)
            Api(b).run("server", NETWORK)
            found = Api(b)("GET", "/containers/server/json")["NetworkSettings"]["Networks"][NETWORK]
            roads.append(Road("overlay", kind, network_of(a, "client"), found["IPAddress"], network_of(b, "server")))
        for road in roads:
            undo.callback(Child(road.end, lambda: pinned(0, serve)).end)
        for number in range(-1, 4 if job.quick else 16):
            for road in roads if number % 2 else reversed(roads):
                waits(job, road, counts=number >= 0)
        for number in range(20 if job.quick else 100):
            for road in roads if number % 2 else reversed(roads):
                pour_briefly(job, road)
    for a, b in pairs.values():
        Api(a).remove("client")
        Api(b).remove("server")


def waits(job: Job, road: Road, counts: bool) -> None:
    for work, seconds, figure, unit in ((volley, 0.4, "round trip", "us"), (knock, 0.5, "new connections", "per s")):
        found = Child(road.network, lambda w=work, s=seconds: pinned(-1, lambda: w(road.address, s))).result()
        if counts:
            job.table.add(f"{road.title}: {figure}", road.kind, found, unit, work is not volley)


# -- from run to the first ping ---------------------------------------------------------------------------------------


def watch(server: str, name: str, seconds: float = 20) -> float:
    """When (on the clock that all processes share) an address for the name was first pinged."""
    until = time.monotonic() + seconds
    asker = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    asker.connect((server, 53))
    asker.settimeout(0.5)
    while time.monotonic() < until:
        asker.send(question(name, 7))
        answer = asker.recv(2048)
        if not answer[7]:  # nothing found
            time.sleep(0.002)
            continue
        if ping(socket.inet_ntoa(answer[-4:])):
            return time.monotonic()
    raise AssertionError(f"{name} is not reached within {seconds} s")


def ping(address: str, seconds: float = 0.02) -> bool:
    """Whether one echo comes back in time."""
    request = struct.pack(">BBHHH", 8, 0, 0xFFFF - 0x0800 - 7 - 1, 7, 1)
    with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP) as sock:
        sock.settimeout(seconds)
        sock.connect((address, 0))
        sock.send(request)
        try:
            return any(sock.recv(2048)[20] == 0 for _ in range(3))
        except OSError:
            return False


def first_ping(job: Job, pairs: dict[str, list[Engine]]) -> None:
    """How long after ``run`` on B is it reached by name from A: the network's first container on B, then a second."""
    eyes = {}
    for kind, (a, _) in pairs.items():
        Api(a).run("eye", NETWORK)
        eyes[kind] = network_of(a, "eye"), name_server(a, "eye")
    for number in range(-1, 4 if job.quick else 10):
        for kind, (_, b) in pairs.items() if number % 2 else reversed(pairs.items()):
            names = {f"first{number}": FIRST_PINGS[1], f"second{number}": FIRST_PINGS[0]}
            for name, title in names.items():
                network, server = eyes[kind]
                eye = Child(network, lambda s=server, n=name: watch(s, n))
                time.sleep(0.2)
                begun = time.monotonic()
                started = Api(b).run(name, NETWORK)
                reached = eye.result()
                if number >= 0:
                    job.table.add(title, kind, (reached - begun) * 1000)
                    job.table.add(title.replace("run to first ping by name", "run on an overlay"), kind, started)
            for name in names:
                Api(b).remove(name)
            time.sleep(0.3)
    for a, _ in pairs.values():
        Api(a).remove("eye")


def run(job: Job) -> None:
    kinds = [engine.kind for engine in job.engines if engine.kind in FIRST]
    with store(job.lan) as url, ExitStack() as undo:
        pairs = {kind: undo.enter_context(pair(kind, job, url)) for kind in kinds}
        first_ping(job, pairs)
        packets(job, pairs)
