"""An encrypted network of a swarm: two tasks of a service on two hosts, and only ESP between them.

web.1 (node-1) ==== net, encrypted ==== web.2 (node-2)         node-3: reads what was on the wire
"""

import subprocess
from pathlib import Path

from cluster.town import Host
from fairlead.errors import Unavailable
from fairlead.lab import demo
from fairlead.lab.topology import one_cable
from fairlead.lab.world import World
from lane.machine import eventually
from lane.sealed import Wiretap
from scenarios.rows import rows


@rows("S131")
def test_traffic_between_nodes_is_in_esp(tmp_path: Path) -> None:
    image = tmp_path / "busybox.tar"
    demo.busybox_image(image)
    with World(one_cable("node-1", "node-2", "node-3"), str(tmp_path)) as world:
        tap = Wiretap(world.hosts[0])
        one, two = (Host(machine, world.folder) for machine in world.hosts[:2])
        for host in (one, two):
            try:
                world.start_engines([host.machine.name])
            except Unavailable:  # an emulated machine takes its time
                eventually(lambda host=host: host.machine.answers, "the engine answers", 90)
            with image.open("rb") as tar:
                command = [host.docker.binary, "import", "-c", 'CMD ["sh"]', "-", "busybox"]
                subprocess.run(command, stdin=tar, env=host.docker.env, check=True, capture_output=True)
        one.docker("swarm init", timeout=300)
        token = one.docker("swarm join-token -q worker").out
        two.docker(f"swarm join --token {token} {one.machine.address4}:2377", timeout=300)
        one("network create -d overlay --opt encrypted=true net")
        one("service create -q -d --name web --network net --replicas 2 busybox sleep 100000")
        here, there = (eventually(lambda host=host: task(host), "a task", 90) for host in (one, two))
        address = two(f"inspect -f {{{{.NetworkSettings.Networks.net.IPAddress}}}} {there}").strip()
        eventually(lambda: one.pings(here, address), "they hear each other", 60)
        assert ", 0% packet loss" in one.inside(here, f"ping -c5 -W9 {address}")
        lines = tap.lines(world.hosts[2])
        assert lines and not [line for line in lines if ": ESP(" not in line]


def task(host: Host) -> str:
    return next((name for name in host("ps --format {{.Names}}").split() if name.startswith("web.")), "")
