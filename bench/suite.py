"""The run: which engines, which parts, in which order; then the page.

part       what is measured                                                   file
life       networks and containers come and go, through the API               api.py
ports      containers with 1, 100 and 1,000 published ports                   api.py
crowd      connect and start among many containers and networks               api.py
return     the daemon is killed and started again                             api.py
memory     what the engine's processes weigh                                  api.py
names      DNS from within a container                                        paths.py
traffic    bytes and new connections between containers and from outside      paths.py
"""

import argparse
import os
import platform
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

from bench import api, paths
from bench.table import Table
from lane.engines import ENGINES, Engine
from lane.images import import_images
from lane.machine import Lan, run

PARTS = {
    "life": api.life,
    "ports": api.ports,
    "crowd": api.crowd,
    "names": paths.names,
    "traffic": paths.traffic,
    "memory": api.memory,
    "return": api.come_back,
}
NOT_QUICK = {"crowd"}


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Measure Fairlead beside other engines.")
    parser.add_argument("--engines", default="fairlead,dockerd,podman", help="in the order of the columns")
    parser.add_argument("--only", default="", help=f"some of {','.join(PARTS)}")
    parser.add_argument("--quick", action="store_true", help="fewer samples, smaller crowds: about two minutes")
    parser.add_argument("--write", action="store_true", help="write docs/performance.md")
    return parser.parse_args()


def options(kind: str) -> list[str]:
    """Started alike: ours keeps containers over a restart always, dockerd when told."""
    pools = ["--default-address-pool", "base=10.96.0.0/11,size=24"]
    return {"dockerd": ["--live-restore", *pools], "fairlead": pools}.get(kind, [])


def start(lan: Lan, kinds: list[str]) -> list[Engine]:
    engines: list[Engine] = []
    try:
        for last, kind in enumerate(kinds, 11):
            engines.append(ENGINES[kind](lan, last, options(kind)))
            engines[-1].start()
            import_images(engines[-1].docker, engines[-1].base, ("busybox",))
    except BaseException:
        for engine in engines:
            engine.close()
        raise
    return engines


def machine() -> str:
    told = Path("/proc/cpuinfo").read_text().splitlines()
    model = next((line.split(":")[1].strip() for line in told if line.startswith("model name")), "?")
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return f"{os.cpu_count()} cores ({model}), {memory:.0f} GiB, Linux {platform.release()}"


def version(engine: Engine) -> str:
    found = engine.docker.attempt(["version", "--format", "{{.Server.Version}}"])
    return f"{engine.kind} {found.out or '?'}"


def main() -> int:
    chosen = arguments()
    parts = chosen.only.split(",") if chosen.only else [p for p in PARTS if not (chosen.quick and p in NOT_QUICK)]
    kinds = chosen.engines.split(",")
    table = Table(kinds)
    begun = time.monotonic()
    lan = Lan()
    try:
        engines = start(lan, kinds)
        try:
            versions = ", ".join(version(engine) for engine in engines)
            for part in parts:
                print(f"{time.monotonic() - begun:6.1f} s  {part}", file=sys.stderr, flush=True)
                PARTS[part](table, lan, engines, chosen.quick)
        finally:
            for engine in engines:
                engine.close()
    finally:
        lan.close()
    text = table.page(
        {
            "machine": machine(),
            "versions": versions,
            "date": f"{datetime.now(UTC):%Y-%m-%d}",
            "run": f"{'quick' if chosen.quick else 'full'}, {time.monotonic() - begun:.0f} s",
            "python": sys.version.split()[0],
            "commit": run(["git", "-C", os.path.dirname(__file__), "rev-parse", "--short", "HEAD"]).out,
        }
    )
    if chosen.write:
        (Path(__file__).parent.parent / "docs" / "performance.md").write_text(text)
    print(text)
    return 0
