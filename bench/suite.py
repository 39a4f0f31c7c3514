"""The run: which engines, which parts, in which order; then the page and its pictures.

part         what is measured                                                        file
networks     networks come and go                                                    api.py
containers   containers come and go                                                  api.py
connect      a running container gets one network more, and less                     api.py
ports        containers with 1 and with 1,000 published ports                        api.py
dns          names asked from within a container                                     paths.py
datapath     bytes and new connections between containers and from outside           paths.py
memory       what the engine's processes weigh                                       api.py
return       the daemon is killed and started again                                  api.py
crowd        start and connect among 1, 50, 200 containers (ours only)               growth.py
landscape    start and connect among 1, 50, 200 networks (ours only)                 growth.py
overlay      two hosts: packets between containers; from run to the first ping       overlay.py
cluster      10,000 endpoints of other hosts: memory and restart (ours only)         cluster.py
swarm        three managers: services, leader killed                                 swarm.py
requests     the same: requests to a task, by every road (ours only)                 swarm.py
scale        5,000 nodes, 100,000 tasks: what their leader decides (on paper)        scale.py
"""

import argparse
import os
import platform
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from bench import api, cluster, growth, kept, overlay, paths, plot, scale, swarm
from bench.table import OURS, Goal, Table
from lane.engines import ENGINES, Engine
from lane.images import import_images
from lane.machine import Lan, run

PARTS: dict[str, Callable[[api.Job], None]] = {
    "networks": api.networks,
    "containers": api.containers,
    "connect": api.connect,
    "ports": api.ports,
    "dns": paths.names,
    "datapath": paths.traffic,
    "memory": api.memory,
    "return": api.come_back,
    "crowd": growth.containers,
    "landscape": growth.networks,
    "overlay": overlay.run,
    "cluster": cluster.known,
    "swarm": swarm.run,
    "requests": swarm.requests,
    "scale": scale.run,
}
PAGE = Path(__file__).parent.parent / "docs" / "performance.md"
PICTURES = PAGE.parent / "performance"


def goals(quick: bool) -> list[Goal]:
    """What we set out to reach. A quick run holds smaller crowds against the same figures."""
    heavy, largest = (10, growth.QUICK[-1]) if quick else (50, growth.SIZES[-1])
    flat = [
        Goal(growth.row(deed, largest, kind), "<=", 1.3, growth.row(deed, 1, kind))
        for kind in ("containers", "networks")
        for deed in ("create + start", "connect")
    ]
    published = [
        Goal(f"{road}: {figure}", ">", 1.0, "both")
        for road in ("outside to published port", "host to its own published port")
        for figure in ("throughput", "new connections")
    ]
    across = []
    figures = (("throughput", True), ("processor time", False), ("round trip", False), ("new connections", True))
    for figure, more in figures:
        row, hand = f"overlay: {figure}", f"{overlay.HAND}: {figure}"
        across.append(Goal(row, ">" if more else "<", 1.0, "dockerd"))
        for other in (hand, f"{overlay.RULED}: {figure}"):
            across.append(Goal(row, ">=", 0.95, other) if more else Goal(row, "<=", 1 / 0.95, other))
    none, some, many = cluster.QUICK if quick else cluster.SIZES
    restart = "processor time of a restart"
    steady = [
        Goal(cluster.each_endpoint(many), "<=", 1.3, cluster.each_endpoint(some)),
        Goal(cluster.row(restart, many), "<=", 1.3, cluster.row(restart, none)),
    ]
    few, *_, crowd = scale.QUICK if quick else scale.SIZES
    return [
        Goal("network create", "<=", 0.15, "dockerd"),
        Goal("network rm", "<=", 0.10, "dockerd"),
        Goal("create and start", "<=", 0.40, "dockerd"),
        Goal("create and start", "<=", 1.0, "podman"),
        Goal("connect", "<=", 0.40, "dockerd"),
        Goal("disconnect", "<=", 0.15, "dockerd"),
        Goal(f"start with {api.MANY} published ports", "<=", 1.5, "start with 1 published port"),
        Goal(
            f"processes that come with {api.MANY} published ports",
            "<=",
            1.0,
            "processes that come with 1 published port",
        ),
        Goal("back after SIGKILL", "<=", 0.10, "dockerd"),
        *flat,
        Goal("container to container: throughput", ">=", 0.95, "bare bridge: throughput"),
        Goal("container to container: processor time", "<=", 1 / 0.95, "bare bridge: processor time"),
        Goal("container to container: throughput", ">", 1.0, "dockerd"),
        Goal("outside to published port: processor time", "<", 1.0, "both"),
        *published,
        Goal("DNS rate", ">=", 1.3, "both"),
        Goal("DNS p99", "<=", 1.0, "both"),
        Goal(f"memory with {heavy} containers", "<=", 0.5, "dockerd"),
        *across,
        *(Goal(row, "<=", 0.3, "dockerd") for row in overlay.FIRST_PINGS),
        *steady,
        *(Goal(title, "<", 1.0, "dockerd") for title in swarm.WAITS),
        Goal(f"{swarm.ROADS['vip']}: throughput", ">=", 0.97, f"{swarm.ROADS['task']}: throughput"),
        Goal(f"{swarm.ROADS['mesh']}: throughput", ">=", 0.9, f"{swarm.ROADS['port']}: throughput"),
        *(Goal(scale.row(figure, crowd), "<=", 1.3, scale.row(figure, few)) for figure in scale.FIGURES),
    ]


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Measure Fairlead beside other engines.")
    parser.add_argument("--engines", default="fairlead,dockerd,podman", help="in the order of the columns, ours first")
    parser.add_argument("--only", default="", help=f"some of {','.join(PARTS)}")
    parser.add_argument("--quick", action="store_true", help="fewer samples, smaller crowds: a few minutes")
    parser.add_argument(
        "--write", action="store_true", help=f"write {PAGE.name} and its pictures; parts not measured stay as they were"
    )
    chosen = parser.parse_args()
    if chosen.write and chosen.quick:
        parser.error("a quick run is not for keeping")
    chosen.parts = chosen.only.split(",") if chosen.only else list(PARTS)
    if unknown := set(chosen.parts) - set(PARTS):
        parser.error(f"no part is called {', '.join(sorted(unknown))}")
    return chosen


def options(kind: str) -> list[str]:
    """Started alike: ours keeps containers over a restart always, dockerd when told."""
    pools = ["--default-address-pool", "base=10.96.0.0/11,size=24"]
    return {"dockerd": ["--live-restore", *pools], "fairlead": pools}.get(kind, [])


FRAMES_ALONE = "sysctl -qw net.bridge.bridge-nf-call-iptables=0 net.bridge.bridge-nf-call-ip6tables=0"
"""Frames within a bridge pass no IP rules, as on a host where nobody has loaded br_netfilter. This kernel has it built
in, and on. An engine that wants it turns it on itself."""


def start(lan: Lan, kinds: list[str]) -> list[Engine]:
    engines: list[Engine] = []
    try:
        for last, kind in enumerate(kinds, 11):
            engines.append(ENGINES[kind](lan, last, options(kind)))
            engines[-1].machine.must(FRAMES_ALONE)
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
    kinds = chosen.engines.split(",")
    table = Table(kinds, goals(chosen.quick))
    measured: list[kept.Measured] = []
    begun = time.monotonic()
    lan = Lan()
    run(["nsenter", f"--net={lan.network}", *FRAMES_ALONE.split()])
    try:
        engines = start(lan, kinds)
        try:
            versions = ", ".join(version(engine) for engine in engines)
            job = api.Job(table, lan, engines, chosen.quick, options)
            for part in chosen.parts:
                print(f"{time.monotonic() - begun:6.1f} s  {part}", file=sys.stderr, flush=True)
                measured += _measured(part, job, versions)
        finally:
            for engine in engines:
                engine.close()
    finally:
        lan.close()
    rows = kept.merge(table, measured, list(PARTS)) if chosen.write else measured
    drawn = pictures(table, chosen.quick)
    facts = {
        "machine": machine(),
        "bridge-netfilter": "off, unless an engine turns it on",
        "versions": versions,
        "python": sys.version.split()[0],
        **({"run": "quick"} if chosen.quick else {}),
    }
    text = table.page(facts, {f"{PICTURES.name}/{name}": title for name, (title, _) in drawn.items()}, kept.told(rows))
    if chosen.write:
        kept.keep(rows)
        PAGE.write_text(text)
        PICTURES.mkdir(exist_ok=True)
        for name, (_, image) in drawn.items():
            (PICTURES / name).write_text(image)
    print(text)
    return 0


def _measured(part: str, job: api.Job, versions: str) -> list[kept.Measured]:
    begun, before = time.monotonic(), set(job.table.rows)
    PARTS[part](job)
    commit = run(["git", "-C", os.path.dirname(__file__), "rev-parse", "--short", "HEAD"]).out
    told = part, f"{datetime.now(UTC):%Y-%m-%d}", commit, versions, round(time.monotonic() - begun)
    return [kept.Measured(*told, title, row) for title, row in job.table.rows.items() if title not in before]


def pictures(table: Table, quick: bool) -> dict[str, tuple[str, str]]:
    """File name -> (title, SVG), of what was measured."""
    drawn = {}
    reached = [(goal, ratio) for goal in table.goals if (ratio := table.reached(goal)) is not None]
    if reached:
        title = "How far from the goal (1.00: just reached; shorter is better)"
        entries = [(_label(goal), _share(goal, ratio.value), goal.met(ratio.value)) for goal, ratio in reached]
        drawn["goals.svg"] = title, plot.bars(title, entries)
    sizes = growth.QUICK if quick else growth.SIZES
    for kind in ("containers", "networks"):
        deeds = ("create + start", "connect", "disconnect")
        curves = [(deed, medians) for deed in deeds if (medians := _grown(table, deed, kind))]
        if curves:
            title = f"Milliseconds by the number of {kind}"
            drawn[f"{kind}.svg"] = title, plot.lines(title, sizes, curves)
    return drawn


def _grown(table: Table, deed: str, kind: str) -> list[float]:
    """Medians by size, none when this run did not measure them."""
    titles = dict.fromkeys(growth.row(deed, size, kind) for size in (*growth.QUICK, *growth.SIZES))
    return [table.rows[title].median(OURS) or 0 for title in titles if title in table.rows]


def _label(goal: Goal) -> str:
    return f"{goal.row} / {goal.against}" if goal.against in ("dockerd", "podman") else goal.row


def _share(goal: Goal, ratio: float) -> float:
    return ratio / goal.bound if goal.sign[0] == "<" else goal.bound / ratio
