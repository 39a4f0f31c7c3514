#!/usr/bin/env python3
"""How fast the resolver answers, beside the least a Python server can do, in one run and one namespace.

    python bench/dns.py [--seconds 3] [--outstanding 32] [--json FILE]

Everything happens in network namespaces of its own (root is needed). The client
is this program: one thread per socket would measure the client, so it keeps
``outstanding`` queries on their way on one socket and counts answers. The
figure "least" is a blocking loop around a dictionary in the same interpreter:
what is left of it is what the resolver's features cost.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import socket
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from fairlead.core import dnswire
from fairlead.engine import resolver
from fairlead.engine.resolverclient import EndpointNames, ResolverClient, SandboxNames
from fairlead.host import netns

ADDRESS = resolver.ADDRESS
Figure = dict[str, float]


def cpu(pid: int) -> float:
    """Seconds of processor time a process has used, to the nanosecond."""
    return int(Path(f"/proc/{pid}/schedstat").read_text().split()[0]) / 1e9


def flood(path: str, address: tuple[str, int], packets: list[bytes], seconds: float, outstanding: int) -> Figure:
    """Keep ``outstanding`` queries on their way for a while: rate, median and 99th percentile in microseconds."""
    sock = netns.socket_in(path, socket.AF_INET, socket.SOCK_DGRAM)
    sock.connect(address)
    sock.settimeout(1)
    sent_at, took, lost = [0.0] * outstanding, [], 0
    clock = time.perf_counter
    at = 0

    def send(slot: int) -> None:
        nonlocal at
        at = (at + 1) % len(packets)
        sent_at[slot] = clock()
        sock.send(slot.to_bytes(2, "big") + packets[at][2:])

    for slot in range(outstanding):
        send(slot)
    began = clock()
    ends = began + seconds
    done = 0
    while clock() < ends:
        try:
            answer = sock.recv(4096)
        except TimeoutError:
            lost += outstanding
            for slot in range(outstanding):
                send(slot)
            continue
        slot = answer[0] << 8 | answer[1]
        done += 1
        if not done & 15:
            took.append((clock() - sent_at[slot]) * 1e6)
        send(slot)
    elapsed = clock() - began
    sock.close()
    took.sort()
    return {
        "rate": done / elapsed,
        "p50": statistics.median(took),
        "p99": took[int(len(took) * 0.99)],
        "done": done,
        "lost": lost,
    }


def least(path: str, packets: list[bytes]) -> tuple[int, int]:
    """The least a server can do, in a child: (pid, port)."""
    sock = netns.socket_in(path, socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind((ADDRESS, 0))
    pid = os.fork()
    if pid:
        port = sock.getsockname()[1]
        sock.close()
        return pid, port
    answers = {}
    for packet in packets:
        query = dnswire.read_query(packet)
        answers[packet[2:]] = dnswire.reply(query, 0, [dnswire.record(1, bytes(4))])[2:]
    receive, send, find = sock.recvfrom, sock.sendto, answers.get
    while True:
        packet, client = receive(1500)
        answer = find(packet[2:])
        if answer:
            send(packet[:2] + answer, client)


def echo(path: str) -> int:
    """An upstream that answers everything, in a child: its pid."""
    sock = netns.socket_in(path, socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind(("127.0.0.1", 53))
    pid = os.fork()
    if pid:
        sock.close()
        return pid
    while True:
        packet, client = sock.recvfrom(1500)
        sock.sendto(packet[:2] + b"\x81\x83" + packet[4:], client)


class Bench:
    """One namespace, one resolver."""

    def __init__(self, root: Path, seconds: float, outstanding: int) -> None:
        self.spaces = netns.Namespaces(root / "ns")
        self.socket = str(root / "s")
        self.seconds, self.outstanding = seconds, outstanding
        self.figures: dict[str, Figure] = {}
        self.children: list[int] = []
        self.process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        words = [sys.executable, "-m", "fairlead", "resolver", "--socket", self.socket]
        self.process = await asyncio.create_subprocess_exec("nsenter", f"--net={self.path}", *words)

    @property
    def path(self) -> str:
        return self.spaces.path("bench")

    async def measure(
        self, title: str, port: int, pid: int, packets: list[bytes], outstanding: int, rcode: int = dnswire.NOERROR
    ) -> None:
        self.check(title, port, packets[0], rcode)
        before = cpu(pid)
        figure = await asyncio.to_thread(flood, self.path, (ADDRESS, port), packets, self.seconds, outstanding)
        figure["cpu"] = (cpu(pid) - before) / max(1, figure["done"]) * 1e6
        self.figures[title] = figure
        line = f"{figure['rate']:>9,.0f} q/s  {figure['cpu']:6.2f} µs CPU  p50 {figure['p50']:5.0f} µs"
        print(f"{title:<36}{line}  p99 {figure['p99']:5.0f} µs  lost {figure['lost']:.0f}", flush=True)

    def check(self, title: str, port: int, packet: bytes, rcode: int) -> None:
        """A figure about another answer than its title says would be worse than none."""
        with netns.socket_in(self.path, socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.settimeout(2)
            sock.sendto(packet, (ADDRESS, port))
            got = sock.recv(4096)[3] & 15
        if got != rcode:
            raise SystemExit(f"{title}: answered with code {got}, not {rcode}")

    async def run(self) -> None:
        self.spaces.create("bench", lambda: None)
        up = await asyncio.create_subprocess_exec("nsenter", f"--net={self.path}", "ip", "link", "set", "lo", "up")
        await up.wait()
        self.children.append(echo(self.path))
        client = ResolverClient(self.socket, self.start)
        names = [
            EndpointNames(
                network="n", name="one", endpoint=f"e{i}", names=(f"name{i}",), ipv4=f"10.1.{i // 250}.{i % 250}"
            )
            for i in range(200)
        ]
        ring = [
            EndpointNames(network="n", name="one", endpoint=f"r{i}", names=("any",), ipv4=f"10.2.0.{i}")
            for i in range(4)
        ]
        box = SandboxNames(id="s", namespace=self.path, networks=("n",), upstreams=(("127.0.0.1", "sandbox"),))
        await client.open(box, (*names, *ring))
        assert self.process is not None
        mine = resolver.PORT, self.process.pid
        two, all_ = [[dnswire.query(f"name{i}", size=1232) for i in range(count)] for count in (2, 200)]
        child, port = least(self.path, all_)
        self.children.append(child)
        many = self.outstanding
        await self.measure("least, 200 names", port, child, all_, many)
        await self.measure("A, 2 names", *mine, two, many)
        await self.measure("A, 200 names", *mine, all_, many)
        await self.measure("AAAA of a known name", *mine, [dnswire.query("name1", dnswire.AAAA)], many)
        await self.measure("PTR", *mine, [dnswire.query("1.0.1.10.in-addr.arpa", dnswire.PTR)], many)
        await self.measure("A, shared by 4 (rotating)", *mine, [dnswire.query("any")], many)
        fresh = [dnswire.query(mixed("name1", number)) for number in range(512)]
        await self.measure("A, 512 spellings (0x20)", *mine, fresh, many)
        missing = [dnswire.query(f"missing{i}.example") for i in range(100)]
        await self.measure("forwarded (NXDOMAIN)", *mine, missing, many, dnswire.NXDOMAIN)
        await self.measure("A, 1 outstanding", *mine, two, 1)
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        print(f"memory of the resolver: {int(status.partition('VmRSS:')[2].split()[0]) / 1024:.1f} MiB")
        await client.exit()
        await self.process.wait()

    def close(self) -> None:
        for pid in self.children:
            os.kill(pid, 9)
            os.waitpid(pid, 0)
        self.spaces.destroy("bench")
        self.spaces.close()


def mixed(name: str, number: int) -> str:
    """The name with upper and lower case by the bits of ``number``."""
    full = name + ".one"
    spelling: Callable[[str, int], str] = lambda c, bit: c.upper() if number >> bit & 1 else c  # noqa: E731
    return "".join(spelling(character, bit) for bit, character in enumerate(full))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=3)
    parser.add_argument("--outstanding", type=int, default=32)
    parser.add_argument("--json", type=Path)
    words = parser.parse_args()
    with tempfile.TemporaryDirectory() as root:
        bench = Bench(Path(root), words.seconds, words.outstanding)
        try:
            asyncio.run(bench.run())
        finally:
            bench.close()
    if words.json:
        words.json.write_text(json.dumps(bench.figures, indent=1))


if __name__ == "__main__":
    main()
