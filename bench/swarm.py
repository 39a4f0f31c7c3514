"""A swarm of three managers: how soon a service runs where it should, and what a request pays on its way to a task.

    S1 .71 --- LAN --- S2 .72 --- S3 .73     an engine on each, each kind a swarm of its own

services    create, scale, drain, rm: from the request until every node has done it        beside dockerd
failover    the leader is killed: until another manager takes a change                     beside dockerd
requests    from a container elsewhere to a task's own address and by its service's virtual address; from the LAN
            to its published port on its own node and on another, held against one that is
            published by ``run -p``; short HTTP requests on the same roads and through the HTTP mesh's HAProxy on a
            node without the task (``pages``)                                             ours (dockerd needs IPVS)
"""

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from bench import pages
from bench.api import Api, Job
from bench.overlay import pinned, serve, swarm, waits
from bench.pages import PAGES
from bench.paths import PORT, Child, Road, network_of, pour_briefly
from bench.table import OURS
from lane.engines import ENGINES, Engine
from lane.images import import_images

FIRST = {"fairlead": 71, "dockerd": 75}
"""last byte of the first node's address on the LAN"""
NETWORK = "net"
PATIENCE = 60.0
ROADS = {
    "task": "request to a task itself",
    "vip": "request by virtual address",
    "mesh": "request to the mesh, a task on that node",
    "far": "request to the mesh, the task on another node",
    "port": "request to a port of run -p",
    "web": "request to the HTTP mesh, the task on another node",
}
WEB_NETWORK, WEB_SERVICE, WEB_PORT = "ucp-hrm", "ucp-hrm", 80
CREATE = "service of 6 tasks, until all run"
SCALE = "scale from 1 to 15, until all run"
DRAIN = "drain a node, until all run elsewhere"
REMOVE = "service rm, until no node has anything of it"
FAILOVER = "leader killed, until another has taken a change and done it"
WAITS = (CREATE, SCALE, DRAIN, REMOVE, FAILOVER)


@contextmanager
def three(kind: str, job: Job) -> Iterator[list[Engine]]:
    """Three managers of a kind, and an attachable overlay network."""
    own = [word for word in job.options(kind) if word != "--live-restore"]  # no swarm with it
    engines: list[Engine] = []
    try:
        for last in range(FIRST[kind], FIRST[kind] + 3):
            engines.append(ENGINES[kind](job.lan, last, own))
            engines[-1].start()
            import_images(engines[-1].docker, engines[-1].base, ("busybox",))
        swarm(*engines, role="Manager")
        until(
            lambda: len([node for node in Api(engines[0])("GET", "/nodes") if node["Status"]["State"] == "ready"]) == 3
        )
        Api(engines[0])("POST", "/networks/create", {"Name": NETWORK, "Driver": "overlay", "Attachable": True})
        yield engines
    finally:
        for engine in engines:
            engine.close()


def until(so: Callable[[], bool]) -> float:
    """Milliseconds until it is so."""
    begun = time.perf_counter()
    while not so():
        assert time.perf_counter() < begun + PATIENCE, "it never came to that"
        time.sleep(0.01)
    return (time.perf_counter() - begun) * 1000


class Service:
    """One service of sleeping tasks."""

    def __init__(self, api: Api, name: str, replicas: int, **more: Any) -> None:
        self.api, self.name, self.spec = api, name, _spec(name, replicas, **more)

    def tasks(self) -> list[dict[str, Any]]:
        found = self.api("GET", f'/tasks?filters={{"service":["{self.name}"]}}')
        return [task for task in found if task["Status"]["State"] == "running"]

    def runs(self, count: int, shunned: str = "") -> bool:
        """Exactly so many tasks run, none of them on the node that is shunned."""
        tasks = self.tasks()
        return len(tasks) == count and shunned not in {task["NodeID"] for task in tasks}

    def create(self) -> float:
        count = self.spec["Mode"]["Replicated"]["Replicas"]
        return self.api.timed("POST", "/services/create", self.spec) + until(lambda: self.runs(count))

    def scale(self, count: int) -> float:
        self.spec["Mode"]["Replicated"]["Replicas"] = count
        version = self.api("GET", f"/services/{self.name}")["Version"]["Index"]
        took = self.api.timed("POST", f"/services/{self.name}/update?version={version}", self.spec)
        return took + until(lambda: self.runs(count))

    def remove(self, engines: list[Engine]) -> float:
        """Until no node has a container of it."""
        took = self.api.timed("DELETE", f"/services/{self.name}")
        query = f'/containers/json?all=1&filters={{"name":["{self.name}."]}}'
        return took + until(lambda: not any(Api(engine)("GET", query) for engine in engines))


def _spec(
    name: str,
    replicas: int,
    *,
    command: list[str] | None = None,
    ports: tuple[int, ...] = (),
    networks: tuple[str, ...] = (NETWORK,),
    labels: dict[str, str] | None = None,
) -> dict[str, Any]:
    container = {"Image": "busybox:latest", "Args": command or ["sleep", "100000"], "StopSignal": "SIGKILL"}
    published = [{"Protocol": "tcp", "TargetPort": port, "PublishedPort": port} for port in ports]
    return {
        "Name": name,
        "Labels": labels or {},
        "TaskTemplate": {"ContainerSpec": container, "Networks": [{"Target": network} for network in networks]},
        "Mode": {"Replicated": {"Replicas": replicas}},
        "EndpointSpec": {"Mode": "vip", "Ports": published},
    }


def services(job: Job, kind: str, engines: list[Engine], number: int) -> None:
    """One round in the life of a service."""
    api = Api(engines[0])
    service, took = Service(api, f"web{number}", 6), {}
    took[CREATE] = service.create()
    service.scale(1)
    took[SCALE] = service.scale(15)
    last = api("GET", "/info")["Swarm"]["NodeID"]
    drained = next(node for node in api("GET", "/nodes") if node["ID"] != last)
    took[DRAIN] = _available(api, drained["ID"], "drain") + until(lambda: service.runs(15, drained["ID"]))
    _available(api, drained["ID"], "active")
    took[REMOVE] = service.remove(engines)
    for title, milliseconds in took.items() if number >= 0 else ():
        job.table.add(title, kind, milliseconds)


def _available(api: Api, node: str, availability: str) -> float:
    found = api("GET", f"/nodes/{node}")
    spec = {**found["Spec"], "Availability": availability}
    return api.timed("POST", f"/nodes/{node}/update?version={found['Version']['Index']}", spec)


def failover(job: Job, kind: str, engines: list[Engine], number: int) -> None:
    """Kill the leader; how long until the first change is taken by another manager?"""
    nodes = Api(engines[0])("GET", "/nodes")
    leader = next(node["Status"]["Addr"] for node in nodes if node.get("ManagerStatus", {}).get("Leader"))
    dead = next(engine for engine in engines if engine.machine.address == leader)
    other = next(engine for engine in engines if engine is not dead)
    before = Service(Api(other), f"before{number}", 1)
    before.create()
    dead.kill()
    begun = time.perf_counter()
    after = Service(Api(other), f"after{number}", 1)
    until(lambda: other.http().call("POST", "/v1.41/services/create", after.spec).status == 201)
    until(lambda: after.runs(1))
    if number >= 0:
        job.table.add(FAILOVER, kind, (time.perf_counter() - begun) * 1000)
    dead.start()
    until(lambda: all(node["Status"]["State"] == "ready" for node in Api(other)("GET", "/nodes")))
    for service in (before, after):
        service.remove([engine for engine in engines])


def requests(job: Job) -> None:
    with three(OURS, job) as engines:
        _requests(job, engines)


def _requests(job: Job, engines: list[Engine]) -> None:
    """From a container on S1 to a task elsewhere, and from the LAN to a node without that task."""
    api = Api(engines[0])
    enabled = engines[0].http().call("POST", "/fairlead/mesh/http", {"Port": WEB_PORT})
    assert enabled.status < 300, enabled.data
    service = Service(
        api,
        "served",
        1,
        ports=(PORT, PORT + 1, PORT + 2, PAGES),
        networks=(NETWORK, WEB_NETWORK),
        labels={"fairlead.http": f"{PAGES}=http://{pages.NAME}"},
    )
    service.create()
    node = service.tasks()[0]["NodeID"]
    here = next(engine for engine in engines if Api(engine)("GET", "/info")["Swarm"]["NodeID"] == node)
    other = next(engine for engine in engines if engine is not here)
    name = next(one["Names"][0][1:] for one in Api(here)("GET", "/containers/json") if one["Names"][0][1:7] == "served")
    Api(other).run("client", NETWORK)
    plain = Api(job.engines[0])
    plain.create("plain", "bridge", range(PORT, PAGES + 1))
    plain.start("plain")
    addresses = Api(here)("GET", f"/containers/{name}/json")["NetworkSettings"]["Networks"]
    vips = api("GET", "/services/served")["Endpoint"]["VirtualIPs"]
    net = api("GET", f"/networks/{NETWORK}")["Id"]
    client, outside = network_of(other, "client"), job.lan.network
    served = network_of(here, name)
    roads = [
        Road(ROADS[key], OURS, network, address, end)
        for key, network, address, end in (
            ("task", client, addresses[NETWORK]["IPAddress"], served),
            ("vip", client, next(v["Addr"] for v in vips if v["NetworkID"] == net).partition("/")[0], served),
            ("mesh", outside, here.machine.address, served),
            ("far", outside, other.machine.address, served),
            ("port", outside, job.engines[0].machine.address, network_of(job.engines[0], "plain")),
        )
    ]
    with ExitStack() as undo:
        for end in {road.end for road in roads}:
            undo.callback(Child(end, lambda: pinned(0, serve)).end)
            undo.callback(Child(end, lambda: pinned(0, pages.serve)).end)
        for number in range(-1, 4 if job.quick else 16):
            for road in roads if number % 2 else reversed(roads):
                waits(job, road, counts=number >= 0)
        for number in range(20 if job.quick else 100):
            for road in roads if number % 2 else reversed(roads):
                pour_briefly(job, road)
        web = Road(ROADS["web"], OURS, outside, other.machine.address, served)
        until(lambda: Child(outside, lambda: answers(web.address)).result())
        for number in range(-1, 4 if job.quick else 16):
            for road in [*roads, web] if number % 2 else [web, *reversed(roads)]:
                asks(job, road, WEB_PORT if road is web else PAGES, counts=number >= 0)
    plain.remove("plain")
    Api(other).remove("client")
    service.remove(engines)
    engines[0].http().call("DELETE", "/fairlead/mesh/http")


def answers(address: str) -> bool:
    """Whether the HTTP mesh leads to the task by now."""
    try:
        return bool(pages.ask(address, WEB_PORT, 0.01))
    except (OSError, AssertionError, ValueError):
        return False


def asks(job: Job, road: Road, port: int, counts: bool) -> None:
    found = Child(road.network, lambda: pinned(-1, lambda: pages.ask(road.address, port, 0.5))).result()
    if counts:
        job.table.add(f"{road.title}: HTTP requests", road.kind, found["rate"], "per s", True)
        job.table.add(f"{road.title}: HTTP p99", road.kind, found["p99"], "us")


def run(job: Job) -> None:
    kinds = [engine.kind for engine in job.engines if engine.kind in FIRST]
    with ExitStack() as undo:
        swarms = {kind: undo.enter_context(three(kind, job)) for kind in kinds}
        for part in (services, failover):
            for number in range(-1, 3 if job.quick else 6):
                for kind, engines in swarms.items() if number % 2 else reversed(swarms.items()):
                    part(job, kind, engines, number)
