"""What a client waits for: every number here is the time of one HTTP request on one connection that stays open.

A container is ``sleep`` with SIGKILL as its stop signal, so that stopping measures the engine and not a program's
good manners.
"""

import time
from typing import Any

from bench.table import Table
from lane.engines import Engine
from lane.machine import Lan, eventually

V = "/v1.41"


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


def turns(engines: list[Engine], count: int) -> Any:
    """Every engine once, ``count`` times over, after one round that does not count."""
    pairs = [(engine, Api(engine)) for engine in engines]
    for number in range(-1, count):
        for engine, api in pairs:
            yield number, engine, api


def life(table: Table, lan: Lan, engines: list[Engine], quick: bool) -> None:
    for engine in engines:
        api = Api(engine)
        api.network("one")
        api.network("two")
    for number, engine, api in turns(engines, 10 if quick else 40):
        got = {"network create": api.network("fresh"), "network rm": api.remove_network("fresh")}
        got["container create + start"] = api.run("life", "one")
        got["connect"] = api.connect("two", "life")
        got["disconnect"] = api.disconnect("two", "life")
        got["stop"] = api.stop("life")
        got["rm"] = api.remove("life")
        got["GET /containers/json"] = api.timed("GET", "/containers/json")
        if number >= 0:
            for row, value in got.items():
                table.add(row, engine.kind, value)
    for engine in engines:
        api = Api(engine)
        api.remove_network("one")
        api.remove_network("two")


def ports(table: Table, lan: Lan, engines: list[Engine], quick: bool) -> None:
    for count in (1, 100, 1000):
        for number, engine, api in turns(engines, 2 if quick else 5):
            patient = count < 1000 or engine.kind == "fairlead"
            if not patient and (number != 0 or engine.kind == "podman"):
                continue  # a thousand take dockerd two minutes to start and remove: once, and not for warming up
            before = len(engine.processes())
            api.create("ports", "podman" if engine.kind == "podman" else "bridge", range(20000, 20000 + count))
            started = api.start("ports")
            extra = len(engine.processes()) - before
            gone = api.remove("ports")
            if number >= 0:
                table.add(f"start with {count} published ports", engine.kind, started)
                table.add(f"rm -f with {count} published ports", engine.kind, gone)
                table.add(f"processes that come with {count} published ports", engine.kind, extra, "processes")


def crowd(table: Table, lan: Lan, engines: list[Engine], quick: bool) -> None:
    """How start and connect grow with the number of containers on a network and of networks."""
    for engine in engines:
        api = Api(engine)
        api.network("crowd")
        api.network("aside")
        api.run("loner", "aside")
    sizes = (1, 20) if quick else (1, 50, 200)
    there = 0
    for size in sizes:
        for engine in engines:
            for number in range(there, size):
                Api(engine).run(f"crowd{number}", "crowd")
        there = size
        for number, engine, api in turns(engines, 5):
            started = api.run("probe", "crowd")
            connected, gone = api.connect("crowd", "loner"), api.disconnect("crowd", "loner")
            api.remove("probe")
            if number >= 0:
                table.add(f"create + start beside {size} containers", engine.kind, started)
                table.add(f"connect beside {size} containers", engine.kind, connected)
                table.add(f"disconnect beside {size} containers", engine.kind, gone)
    for engine in engines:
        api = Api(engine)
        for name in ("loner", *(f"crowd{number}" for number in range(there))):
            api.remove(name)
        api.remove_network("crowd")
        api.remove_network("aside")


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


def memory(table: Table, lan: Lan, engines: list[Engine], quick: bool) -> None:
    count = 10 if quick else 50
    for engine in engines:
        api = Api(engine)
        table.add("memory, all processes of the engine (no container)", engine.kind, weight(engine), "MiB")
        api.network("heavy")
        for number in range(count):
            api.run(f"heavy{number}", "heavy")
        table.add(f"memory, all processes of the engine ({count} containers)", engine.kind, weight(engine), "MiB")
        table.add(f"processes of the engine ({count} containers)", engine.kind, len(engine.processes()), "processes")
        for number in range(count):
            api.remove(f"heavy{number}")
        api.remove_network("heavy")


def come_back(table: Table, lan: Lan, engines: list[Engine], quick: bool) -> None:
    engines = [engine for engine in engines if engine.kind != "podman"]  # it has no state to come back with
    for engine in engines:
        api = Api(engine)
        for number in range(5):
            api.network(f"back{number}")
            api.run(f"back{number}", f"back{number}")
    for _ in range(3 if quick else 8):
        for engine in engines:
            seconds = engine.restart()
            title = "daemon back after SIGKILL (5 networks, 5 containers)"
            table.add(title, engine.kind, seconds * 1000)
            running = eventually(lambda engine=engine: Api(engine)("GET", "/containers/json"), "the containers")
            assert len(running) == 5, (engine.kind, running)
    for engine in engines:
        api = Api(engine)
        for number in range(5):
            api.remove(f"back{number}")
            api.remove_network(f"back{number}")
