"""What packets wait for: DNS from within a container, bytes and new connections along the roads of the design.

The programs that ask and answer are small blocking loops of this file, each in a process of its own that has moved
into the namespace where it works; the same ones for every engine. Run in turns, a second or two at a time.
"""

import ctypes
import json
import os
import re
import signal
import socket
import struct
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from bench.api import Api, Job
from bench.table import OURS
from fairlead.engine.datagrams import Batch
from lane.engines import Engine
from lane.machine import CLONE_NEWNET, Lan, eventually

libc = ctypes.CDLL(None, use_errno=True)
PORT = 5300
PR_SET_PDEATHSIG = 1
CONGESTION = b"cubic"
"""What a kernel has by itself. BBR, which some machines are set to, paces with timers that cost more than the roads do,
and cuts packets by how fast it found the road a moment ago."""
ROOM = 1 << 16
"""Bytes read at a time: they stay in the processor's cache. Where they lie in memory is luck, of each sink for as long
as it lives, and was seen to make one of two equal roads twice as dear: so each turn of pouring has its own sink."""


TIMES = (1, 4, 1)
"""How often a round asks each way. From outside to a published port engines differ by less than anywhere, for all of
them do the same with the kernel: it takes more turns to tell."""


def move(network: str) -> None:
    handle = os.open(network, os.O_RDONLY)
    if libc.setns(handle, CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), network)
    os.close(handle)


class Child:
    """A process that has moved to a network namespace and works there; ``result()`` waits for what it returns."""

    def __init__(self, network: str, work: Callable[[], Any]) -> None:
        reader, writer = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            try:
                os.close(reader)
                libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
                move(network)
                with os.fdopen(writer, "w") as out:
                    json.dump(work(), out)
            finally:
                os._exit(0)
        os.close(writer)
        self.reader = os.fdopen(reader)

    def result(self) -> Any:
        with self.reader:
            text = self.reader.read()
        os.waitpid(self.pid, 0)
        assert text, "a measuring process died"
        return json.loads(text)

    def end(self) -> None:
        os.kill(self.pid, 9)
        os.waitpid(self.pid, 0)
        self.reader.close()


def network_of(engine: Engine, container: str) -> str:
    """A path to a container's network namespace as this process can open it."""
    pid = Api(engine)("GET", f"/containers/{container}/json")["State"]["Pid"]
    name = engine.machine.inside(f"readlink /proc/{pid}/ns/net").out
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                if os.readlink(f"/proc/{entry}/ns/net") == name:
                    return f"/proc/{entry}/ns/net"
            except OSError:
                continue
    raise LookupError(f"no process in {name}")


# -- names ----------------------------------------------------------------------------------------------------------


def question(name: str, number: int) -> bytes:
    labels = b"".join(bytes([len(label)]) + label.encode() for label in name.split("."))
    return struct.pack(">HHHHHH", number, 0x0100, 1, 0, 0, 0) + labels + b"\0" + struct.pack(">HH", 1, 1)


def flood(server: str, names: list[str], seconds: float, outstanding: int) -> dict[str, float]:
    """Keep so many questions on the road; answers per second, and microseconds from question to answer.

    The client shares the machine with the server, so it does little: the questions are made beforehand (the number of
    one is its place among those on the road), what waits is read and asked again by the handful, and every eighth
    answer is timed.
    """
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.connect((server, 53))
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("ll", 1, 0))  # Python's own would poll each time
    questions = [question(names[number % len(names)], number) for number in range(outstanding)]
    asked = [0.0] * outstanding
    took: list[float] = []
    lost = done = 0
    send, receive, clock, batch, file = sock.send, sock.recv, time.perf_counter, Batch(outstanding, 2048), sock.fileno()

    def ask_all() -> None:
        for number, packet in enumerate(questions):
            asked[number] = clock()
            send(packet)

    begun = now = clock()
    ask_all()
    while now - begun < seconds:
        try:
            answer = receive(2048)
            number = answer[0] << 8 | answer[1]
        except BlockingIOError:
            lost += outstanding
            ask_all()
            now = clock()
            continue
        more = batch.receive(file, outstanding) if outstanding > 1 else 0
        now = clock()
        numbers = [number, *(batch.write[at * 2048] << 8 | batch.write[at * 2048 + 1] for at in range(more))]
        for number in numbers:
            done += 1
            if not done & 7:
                took.append(now - asked[number])
            asked[number] = now
        for at, number in enumerate(numbers[1:]):
            packet = questions[number]
            batch.write[at * 2048 : at * 2048 + len(packet)] = packet
            batch.size(at, len(packet))
        send(questions[numbers[0]])
        if more:
            batch.send(file, 0, more)
    rate = done / (now - begun)
    return {"rate": rate, "p50": quantile(took, 0.5) * 1e6, "p99": quantile(took, 0.99) * 1e6, "lost": lost}


def quantile(values: list[float], share: float) -> float:
    return sorted(values)[min(len(values) - 1, int(len(values) * share))] if values else float("nan")


def name_server(engine: Engine, container: str) -> str:
    shown = engine.docker(f"exec {container} cat /etc/resolv.conf").out
    return re.search(r"^nameserver\s+([\d.]+)", shown, re.M)[1]  # type: ignore[index]


def names(job: Job) -> None:
    table, engines, quick = job.table, job.engines, job.quick
    where: dict[str, tuple[str, str]] = {}
    for engine in engines:
        api = Api(engine)
        api.network("names")
        for name in ("asker", "web0", "web1"):
            api.run(name, "names")
        where[engine.kind] = network_of(engine, "asker"), name_server(engine, "asker")
    for number, engine, _ in job.turns(3 if quick else 10):
        network, server = where[engine.kind]
        seconds = 1 if quick else 2
        crowd = Child(network, lambda s=server, t=seconds: flood(s, ["web0", "web1"], t, 32)).result()
        single = Child(network, lambda s=server, t=seconds: flood(s, ["web0", "web1"], t, 1)).result()
        if number >= 0:
            table.add("DNS rate", engine.kind, crowd["rate"], "answers/s", True)
            table.add("DNS p50", engine.kind, crowd["p50"], "us")
            table.add("DNS p99", engine.kind, crowd["p99"], "us")
            table.add("DNS p50, one at a time", engine.kind, single["p50"], "us")
            table.add("DNS p99, one at a time", engine.kind, single["p99"], "us")
            table.add("DNS questions lost", engine.kind, crowd["lost"] + single["lost"], "questions")
    for engine in engines:
        api = Api(engine)
        for name in ("asker", "web0", "web1"):
            api.remove(name)
        api.remove_network("names")


# -- traffic --------------------------------------------------------------------------------------------------------


def greet() -> None:
    """Answer each connection on PORT+1 with one byte."""
    listener = socket.create_server(("0.0.0.0", PORT + 1), backlog=1024)
    while True:
        peer, _ = listener.accept()
        peer.send(b"x")
        peer.close()


def sink(ready: int) -> None:
    """Swallow what one connection on PORT brings; ``ready`` is closed when there may be one."""
    listener = socket.create_server(("0.0.0.0", PORT))
    os.close(ready)
    room = bytearray(ROOM)
    peer, _ = listener.accept()
    while peer.recv_into(room):
        pass
    peer.close()
    signal.pause()


@contextmanager
def sinking(network: str) -> Iterator[Child]:
    """A sink in a network namespace, on the first processor."""
    told, ready = os.pipe()
    child = Child(network, lambda: pinned(0, lambda: sink(ready)))
    try:
        os.close(ready)
        os.read(told, 1)
        yield child
    finally:
        os.close(told)
        child.end()


def pour_out(address: str, seconds: float) -> tuple[int, float]:
    """Bytes to the sink, and the seconds it took; over when the sink has swallowed all."""
    sock = socket.socket()
    sock.settimeout(5)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, CONGESTION)
    sock.connect((address, PORT))
    water, poured = bytes(1 << 20), 0
    begun = time.perf_counter()
    while time.perf_counter() - begun < seconds:
        sock.sendall(water)
        poured += len(water)
    sock.shutdown(socket.SHUT_WR)
    sock.recv(1)
    took = time.perf_counter() - begun
    sock.close()
    return poured, took


def knock(address: str, seconds: float) -> float:
    """New connections per second, one after the other, each with one byte."""
    begun, count = time.perf_counter(), 0
    patience, at_once = struct.pack("ll", 5, 0), struct.pack("ii", 1, 0)
    while time.perf_counter() - begun < seconds:
        with socket.socket() as sock:  # Python's own way would ask for the address each time, and poll before each step
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, patience)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, at_once)  # no TIME_WAIT pile
            sock.connect((address, PORT + 1))
            sock.recv(1)
        count += 1
    return count / seconds


def pinned(place: int, work: Callable[[], Any]) -> Any:
    """On one processor, the client and the server each on its own: who wakes whom where is not what is measured."""
    os.sched_setaffinity(0, {sorted(os.sched_getaffinity(0))[place]})
    return work()


class Road(NamedTuple):
    title: str
    kind: str
    network: str
    """where who asks is"""
    address: str
    end: str
    """the network of who serves"""


def bare_bridge(lan: Lan) -> tuple[list[Child], Road]:
    """What the kernel gives by itself: two namespaces on a bridge with no rules at all."""
    holders = [Child(lan.network, lambda: (libc.unshare(CLONE_NEWNET), time.sleep(3600))) for _ in range(2)]
    ours = os.readlink(lan.network)
    for last, holder in enumerate(holders, 201):
        eventually(
            lambda pid=holder.pid: os.readlink(f"/proc/{pid}/ns/net") not in (ours, os.readlink("/proc/self/ns/net"))
        )
        lan.plug(holder.pid, last)
    server, client = (f"/proc/{holder.pid}/ns/net" for holder in holders)
    return holders, Road("bare bridge", OURS, client, f"{lan.net}.201", server)


def traffic(job: Job) -> None:
    children, limit = bare_bridge(job.lan)
    roads: dict[str, list[Road]] = {}
    try:
        for engine in job.engines:
            api = Api(engine)
            api.network("traffic")
            api.create("server", "traffic", range(PORT, PORT + 2))
            api.start("server")
            api.run("client", "traffic")
            server, client = network_of(engine, "server"), network_of(engine, "client")
            found = api("GET", "/containers/server/json")["NetworkSettings"]["Networks"]["traffic"]
            ways = {
                "container to container": (client, found["IPAddress"]),
                "outside to published port": (job.lan.network, engine.machine.address),
                "host to its own published port": (engine.machine.network, "127.0.0.1"),
            }
            roads[engine.kind] = [Road(title, engine.kind, *way, server) for title, way in ways.items()]
        alike = [[roads[engine.kind][way] for engine in job.engines] for way in range(3)]
        alike[0].append(limit)
        children += [Child(end, lambda: pinned(0, greet)) for end in {road.end for ways in alike for road in ways}]
        for work, rounds in ((knock_briefly, 5 if job.quick else 40), (pour_briefly, 10 if job.quick else 100)):
            for number in range(rounds):
                for side_by_side, times in zip(alike, TIMES, strict=True):
                    for turn in range(number, number + times):
                        for road in side_by_side if turn % 2 else reversed(side_by_side):
                            work(job, road)
    finally:
        for child in children:
            child.end()
    for engine in job.engines:
        api = Api(engine)
        for name in ("server", "client"):
            api.remove(name)
        api.remove_network("traffic")


def knock_briefly(job: Job, road: Road) -> None:
    """New connections. Short and often, as pouring: what a machine strays in a second is the same for neighbours."""
    fresh = Child(road.network, lambda: pinned(-1, lambda: knock(road.address, 0.2))).result()
    job.table.add(f"{road.title}: new connections", road.kind, fresh, "per s", True)


def pour_briefly(job: Job, road: Road) -> None:
    """Bytes, and what they cost. Short and often: this fills both processors, and whatever else runs shows in it."""

    def work() -> tuple[int, float, float]:
        before = time.process_time()
        poured, took = pour_out(road.address, 0.15)
        return poured, took, time.process_time() - before

    with sinking(road.end) as server:
        before = _processor_time(server.pid)
        poured, took, sending = Child(road.network, lambda: pinned(-1, work)).result()
        spent = sending + _processor_time(server.pid) - before
    job.table.add(f"{road.title}: throughput", road.kind, poured * 8 / took / 1e9, "Gbit/s", True)
    job.table.add(f"{road.title}: processor time", road.kind, spent / poured * 1e12, "ms/GB")


def _processor_time(pid: int) -> float:
    """Seconds that a process's first thread has had; that of a proxy on the way is not in it."""
    return int(Path(f"/proc/{pid}/schedstat").read_text().split()[0]) / 1e9
