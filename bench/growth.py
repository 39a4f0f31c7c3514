"""Does it stay as fast? Engines of ours with few and with many containers, or networks, asked in turns.

Each size has an engine of its own, filled beforehand, so that "with 1" and "with 200" are measured in the same
moments: a machine that grows slower during the run does not look like an engine that does.
"""

from bench.api import Api, Job
from bench.table import OURS
from lane.engines import ENGINES, Engine
from lane.images import import_images

SIZES = (1, 50, 200)
QUICK = (1, 20)
FIRST = 31
"""last byte of the first engine's address on the LAN"""


def containers(job: Job) -> None:
    _grow(job, "containers", _fill_containers)


def networks(job: Job) -> None:
    _grow(job, "networks", _fill_networks)


def row(deed: str, size: int, kind: str) -> str:
    return f"{deed} with {size} {kind if size > 1 else kind[:-1]}"


def _grow(job: Job, kind: str, fill) -> None:  # type: ignore[no-untyped-def]
    sizes = QUICK if job.quick else SIZES
    engines: dict[int, Engine] = {}
    try:
        for place, size in enumerate(sizes):
            engines[size] = engine = ENGINES[OURS](job.lan, FIRST + place, job.options(OURS))
            engine.start()
            import_images(engine.docker, engine.base, ("busybox",))
            _prepare(Api(engine), fill, size)
        apis = {size: Api(engine) for size, engine in engines.items()}
        for number in range(-1, 8 if job.quick else 20):
            for size in sizes if number % 2 else reversed(sizes):
                api = apis[size]
                started = api.run("probe", "crowd")
                connected, gone = api.connect("aside", "probe"), api.disconnect("aside", "probe")
                api.remove("probe")
                if number >= 0:
                    job.table.add(row("create + start", size, kind), OURS, started)
                    job.table.add(row("connect", size, kind), OURS, connected)
                    job.table.add(row("disconnect", size, kind), OURS, gone)
    finally:
        for engine in engines.values():
            engine.close()


def _prepare(api: Api, fill, size: int) -> None:  # type: ignore[no-untyped-def]
    api.network("crowd", IPAM={"Config": [{"Subnet": "10.90.0.0/16"}]})
    api.network("aside", IPAM={"Config": [{"Subnet": "10.91.0.0/16"}]})
    fill(api, size)


def _fill_containers(api: Api, size: int) -> None:
    """All on the network where the probe starts, and on the one it is connected to."""
    for number in range(size):
        api.run(f"crowd{number}", "crowd")
        api.connect("aside", f"crowd{number}")


def _fill_networks(api: Api, size: int) -> None:
    for number in range(size):
        api.network(f"more{number}")
