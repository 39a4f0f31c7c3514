"""How fast an endpoint may send and be sent to (``--driver-opt com.fairlead.rate…``): a bounded transfer, timed."""

import socket
import time
from collections.abc import Callable

from lane.machine import eventually
from scenarios.lab import Lab

SIZE = 2 << 20
RATE = 20_000_000
SHOULD_TAKE = SIZE * 8 / RATE
SEND = f"nc -ll -p 5000 -e dd if=/dev/zero bs=64k count={SIZE >> 16}"
TAKE = "nc -ll -p 5001 -e md5sum"


def start(lab: Lab, name: str, options: str = "") -> None:
    lab.run(f'-d --name {name} --network name=net1{options} busybox sh -c "{SEND} & {TAKE}"')


def timed(work: Callable[[], object]) -> float:
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


def sends(lab: Lab, name: str) -> float:
    """Seconds it takes to get ``SIZE`` bytes out of the container."""

    def fetch(sock: socket.socket) -> None:
        with sock:
            got = sum(map(len, iter(lambda: sock.recv(1 << 16), b"")))
        assert got == SIZE

    address = lab.address(name, "net1")
    eventually(lambda: lab.host.reaches(address, 5000))
    return timed(lambda: fetch(lab.host.connect(address, 5000, 20)))


def takes(lab: Lab, name: str) -> float:
    """Seconds it takes to get them in."""

    def push(sock: socket.socket) -> None:
        with sock:
            sock.sendall(bytes(SIZE))
            sock.shutdown(socket.SHUT_WR)
            assert sock.recv(100)

    address = lab.address(name, "net1")
    eventually(lambda: lab.host.reaches(address, 5001))
    return timed(lambda: push(lab.host.connect(address, 5001, 20)))


def test_rates_are_kept(lab: Lab) -> None:
    lab.docker("network create net1")
    start(lab, "free")
    start(lab, "out", ",driver-opt=com.fairlead.rate_out=20mbit")
    start(lab, "in", ",driver-opt=com.fairlead.rate_in=20mbit")
    start(lab, "both", ",driver-opt=com.fairlead.rate=20mbit")
    slow = (0.8 * SHOULD_TAKE, 2 * SHOULD_TAKE)
    for name, out, into in (("free", False, False), ("out", True, False), ("in", False, True), ("both", True, True)):
        for seconds, limited in ((sends(lab, name), out), (takes(lab, name), into)):
            if limited:
                assert slow[0] < seconds < slow[1], (name, seconds)
            else:
                assert seconds < 0.5 * SHOULD_TAKE, (name, seconds)


def test_a_rate_that_was_taken_away_is_back(lab: Lab) -> None:
    lab.docker("network create net1")
    start(lab, "in", ",driver-opt=com.fairlead.rate_in=20mbit")
    (device,) = [line.split()[4] for line in lab.host("tc qdisc").lines if " tbf " in line]
    said = lab.engine.log.stat().st_size
    lab.engine.restart()
    assert not (right := lab.put_right(said)), "\n".join(right)
    lab.host.must(f"tc qdisc del dev {device} root")
    lab.engine.restart()
    assert " tbf " in lab.host.must(f"tc qdisc show dev {device}")


def test_what_is_no_rate_is_refused(lab: Lab) -> None:
    lab.docker("network create net1")
    for text in ("fast", "10", "10mbyte", "1bit", "-1mbit", "9999999999mbit"):
        refused = lab.docker.refused(f"create --network name=net1,driver-opt=com.fairlead.rate={text} busybox")
        assert f"invalid com.fairlead.rate {text}" in refused


def test_what_is_misspelt_is_refused(lab: Lab) -> None:
    lab.docker("network create net1")
    refused = lab.docker.refused("create --network name=net1,driver-opt=com.fairlead.raet=10mbit busybox")
    assert "option com.fairlead.raet of an endpoint: there are com.fairlead.rate, " in refused
    lab.docker("run -d --name web busybox sleep 1000")
    refused = lab.docker.refused("network connect --driver-opt com.fairlead.raet=10mbit net1 web")
    assert "option com.fairlead.raet of an endpoint: there are com.fairlead.rate, " in refused
