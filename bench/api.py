"""What a client waits for: every number here is the time of one HTTP request on one connection that stays open.

A container is ``sleep`` with SIGKILL as its stop signal, so that stopping measures the engine and not a program's
good manners.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from bench.table import Table
from lane.engines import Engine
from lane.machine import Lan, eventually

V = "/v1.41"
PAUSE = 0.1
"""Seconds between two engines' turns: the kernel goes on removing devices after an engine has answered, under one lock
for all machines on it, and the next engine is not to pay for that."""


class Api:
    """One open connection, and the few calls that a benchmark makes."""

    def __init__(self, engine: Engine) -> None:
        self.http, self.kind = engine.http(), engine.kind

    def __call__(self, method: str, path: str, body: Any = None) -> Any:
        answer = self.http.call(method, V + path, body)
        assert answer.status < 400, (self.kind, method, path, answer.status, answer.data)
        return answer.json if answer.data[:1] in (b"{", b"[") else None

    def timed(self, method: str, path: str, body: Any = None) -> float:
        begun = time.perf_counter()
        self(method, path, body)
        return (time.perf_counter() - begun) * 1000

    def create(self, name: str, network: str, ports: range = range(0)) -> float:
        host: dict[str, Any] = {"NetworkMode": network}
        body = {"Image": "busybox:latest", "Cmd": ["sleep", "100000"], "StopSignal": "SIGKILL", "HostConfig": host}
        if ports:
            body["ExposedPorts"] = {f"{port}/tcp": {} for port in ports}
            host["PortBindings"] = {f"{port}/tcp": [{"HostPort": str(port)}] for port in ports}
        return self.timed("POST", f"/containers/create?name={name}", body)

    def start(self, name: str) -> float:
        return self.timed("POST", f"/containers/{name}/start")

    def run(self, name: str, network: str) -> float:
        return self.create(name, network) + self.start(name)

    def stop(self, name: str) -> float:
        return self.timed("POST", f"/containers/{name}/stop?t=2")

    def remove(self, name: str) -> float:
        return self.timed("DELETE", f"/containers/{name}?force=true&v=true")

    def network(self, name: str, **more: Any) -> float:
        return self.timed("POST", "/networks/create", {"Name": name, "Driver": "bridge", **more})

    def remove_network(self, name: str) -> float:
        return self.timed("DELETE", f"/networks/{name}")

    def connect(self, network: str, name: str) -> float:
        return self.timed("POST", f"/networks/{network}/connect", {"Container": name})

    def disconnect(self, network: str, name: str) -> float:
        return self.timed("POST", f"/networks/{network}/disconnect", {"Container": name})


@dataclass
class Job:
    """What every part of the run is given."""

    table: Table
    lan: Lan
    engines: list[Engine]
    quick: bool
    options: Callable[[str], list[str]]
    """how an engine of this kind is started"""

    def turns(self, count: int) -> Iterator[tuple[int, Engine, Api]]:
        """Every engine once a round, there and back (ABBA), after one round (-1) that does not count."""
        pairs = [(engine, Api(engine)) for engine in self.engines]
        for number in range(-1, count):
            for engine, api in pairs if number % 2 else reversed(pairs):
                time.sleep(PAUSE)
                yield number, engine, api

    def add(self, number: int, engine: Engine, **milliseconds: float) -> None:
        """Remember the times of a round that counts; ``_`` in a title is a space."""
        for title, value in milliseconds.items() if number >= 0 else ():
            self.table.add(title.replace("_", " "), engine.kind, value)


def networks(job: Job) -> None:
    for number, engine, api in job.turns(10 if job.quick else 20):
        job.add(number, engine, network_create=api.network("fresh"), network_rm=api.remove_network("fresh"))


def containers(job: Job) -> None:
    for engine in job.engines:
        Api(engine).network("one")
    for number, engine, api in job.turns(10 if job.quick else 20):
        started = api.run("life", "one")
        listed = api.timed("GET", "/containers/json")
        job.add(number, engine, create_and_start=started, list=listed, stop=api.stop("life"), rm=api.remove("life"))
    for engine in job.engines:
        Api(engine).remove_network("one")


def connect(job: Job) -> None:
    for engine in job.engines:
        api = Api(engine)
        api.network("one")
        api.network("two")
        api.run("guest", "one")
    for number, engine, api in job.turns(10 if job.quick else 30):
        job.add(number, engine, connect=api.connect("two", "guest"), disconnect=api.disconnect("two", "guest"))
    for engine in job.engines:
        api = Api(engine)
        api.remove("guest")
        api.remove_network("one")
        api.remove_network("two")


MANY = 1000
"""ports. They take dockerd two minutes: it is asked once, and in full runs only."""


def ports(job: Job) -> None:
    def once(number: int, engine: Engine, api: Api, count: int) -> None:
        before = len(engine.processes())
        api.create("ports", "podman" if engine.kind == "podman" else "bridge", range(20000, 20000 + count))
        started = api.start("ports")
        extra = len(engine.processes()) - before
        gone = api.remove("ports")
        if number >= 0:
            published = f"{count} published port{'s' if count > 1 else ''}"
            job.table.add(f"start with {published}", engine.kind, started)
            job.table.add(f"rm -f with {published}", engine.kind, gone)
            job.table.add(f"processes that come with {published}", engine.kind, extra, "processes")

    for number, engine, api in job.turns(5 if job.quick else 10):
        for count in (1, MANY) if engine.kind == "fairlead" else (1,):
            once(number, engine, api, count)
    for engine in job.engines:
        if engine.kind == "dockerd" and not job.quick:
            once(0, engine, Api(engine), MANY)


def weight(engine: Engine) -> float:
    """Proportional set size of all processes of the engine, without the programs in the containers; MiB."""
    total = 0
    for pid in engine.processes():
        try:
            with open(f"/proc/{pid}/smaps_rollup") as file:
                total += next(int(line.split()[1]) for line in file if line.startswith("Pss:"))
        except (OSError, StopIteration):
            continue
    return total / 1024


def memory(job: Job) -> None:
    count = 10 if job.quick else 50
    for engine in job.engines:
        api = Api(engine)
        job.table.add("memory without containers", engine.kind, weight(engine), "MiB")
        api.network("heavy")
        for number in range(count):
            api.run(f"heavy{number}", "heavy")
        job.table.add(f"memory with {count} containers", engine.kind, weight(engine), "MiB")
        job.table.add(f"processes with {count} containers", engine.kind, len(engine.processes()), "processes")
        for number in range(count):
            api.remove(f"heavy{number}")
        api.remove_network("heavy")


def come_back(job: Job) -> None:
    engines = [engine for engine in job.engines if engine.kind != "podman"]  # it has no state to come back with
    for engine in engines:
        api = Api(engine)
        for number in range(5):
            api.network(f"back{number}")
            api.run(f"back{number}", f"back{number}")
    for number in range(5 if job.quick else 12):
        for engine in engines if number % 2 else reversed(engines):
            job.table.add("back after SIGKILL", engine.kind, engine.restart() * 1000)
            running = eventually(lambda engine=engine: Api(engine)("GET", "/containers/json"), "the containers")
            assert len(running) == 5, (engine.kind, running)
    for engine in engines:
        api = Api(engine)
        for number in range(5):
            api.remove(f"back{number}")
            api.remove_network(f"back{number}")
