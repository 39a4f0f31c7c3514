"""The demo: the main job, on a machine that is only pretended, step by step, with what was made and why.

    outside ---- 8080 ----> one (an engine) ---- RED ---- web <--- by name ---> db

Everything is typed as a person would type it, with the ``fairlead`` command. A
step that fails says what it tried and what it was told, and the world is gone
afterwards all the same. ``--keep`` leaves it for playing; the last lines say how
to get in, and ``--end FOLDER`` ends it.

What it leaves behind: nothing (unless ``--keep``).
"""

from __future__ import annotations

import json
import shutil
import sys
import time
from pathlib import Path
from typing import Any

from fairlead.errors import FairleadError, Invalid
from fairlead.lab import image
from fairlead.lab.image import PAGE
from fairlead.lab.machine import Machine
from fairlead.lab.topology import one_cable
from fairlead.lab.world import World

STEPS = 8


class Steps:
    """Says what is being done, and how long it took."""

    def __init__(self) -> None:
        self._number = 0
        self._began = time.monotonic()

    def __call__(self, words: str) -> None:
        self._number += 1
        print(f"  {self._number}/{STEPS}  {words}", flush=True)

    def said(self, text: str) -> None:
        for line in text.strip().splitlines():
            print(f"         {line}", flush=True)

    def close(self) -> None:
        print(f"  Done in {time.monotonic() - self._began:.1f} s.", flush=True)


def story(world: World, step: Steps) -> None:
    """The main job: engine, image, network, two containers, a name, a port."""
    one = world["one"]
    step("starting the engine on a machine of its own (namespaces only; your network is not touched)")
    one.start_daemon()
    step("making a busybox image")
    image.make(world.folder / "busybox.tar")
    fairlead(one, "import", str(world.folder / "busybox.tar"), "busybox:latest")
    step("fairlead network create RED")
    step.said(fairlead(one, "network", "create", "RED")[:12])
    step("fairlead run -d --name db  --network RED busybox sleep 1d")
    fairlead(one, "run", "-d", "--name", "db", "--network", "RED", "busybox", "sleep", "1d")
    step("fairlead run -d --name web --network RED -p 8080:80 busybox httpd -f -h /www")
    fairlead(
        one, "run", "-d", "--name", "web", "--network", "RED", "-p", "8080:80", "busybox", "httpd", "-f", "-h", "/www"
    )
    step("fairlead exec db ping -c 1 web          (by name)")
    step.said("\n".join(fairlead(one, "exec", "db", "ping", "-c", "1", "-W", "5", "web").splitlines()[:2]))
    step(f"a client outside opens http://{one.address4}:8080")
    page = fetch(world, f"http://{one.address4}:8080/")
    step.said(page)
    if page != PAGE:
        raise Invalid(f"the wrong page was served: {page!r}")
    step("what was made, and why")
    print(picture(one, world.outside))


def fairlead(machine: Machine, *words: str) -> str:
    """Type a fairlead command on a machine; its output."""
    return machine.run(sys.executable, "-m", "fairlead", *words).stdout


def fetch(world: World, url: str) -> str:
    program = (
        "import sys, urllib.request; print(urllib.request.urlopen(sys.argv[1], timeout=10).read().decode(), end='')"
    )
    return world.outside.run(sys.executable, "-I", "-c", program, url).stdout


def picture(machine: Machine, outside: Machine) -> str:
    """The packet's road with its real names and addresses, then every wanted object of RED with its reason."""
    network: dict[str, Any] = json.loads(fairlead(machine, "network", "inspect", "RED"))[0]
    at = {each["Name"]: each["IPv4Address"].partition("/")[0] for each in network["Containers"].values()}
    bridge = f"br-{network['Id'][:12]}"
    subnet = network["IPAM"]["Config"][0]["Subnet"]
    road = f"""
      outside {outside.address4}
         |
         v   {machine.address4}:8080
      [eth0]---nftables map: 8080 -> {at["web"]}:80
         |
      [{bridge}]   network RED, {subnet}
         |                     |
      [web eth0]            [db eth0]
      {at["web"]:<22}{at["db"]}
         both ask 127.0.0.11 for names
"""
    told = [line for word in ("RED", "web") for line in fairlead(machine, "plan", word).splitlines()]
    lines = [f"      {line}" for line in told if not line.startswith("    sysctl ")]
    return "\n".join([road, *lines, "      (kernel settings left out; fairlead plan tells all)"])


def keep(world: World) -> None:
    """Leave the world for playing and say how."""
    one = world["one"]
    world.keep()
    sudo = "sudo " if shutil.which("sudo") else ""  # a bare root has none and needs none
    tool = Path(sys.executable).parent / "fairlead"
    print(f"""
  Kept. A shell on the machine:    {sudo}{" ".join(one.enter("bash"))}
  The engine from here:            export FAIRLEAD_HOST=unix://{one.socket}; {sudo and "sudo -E "}{tool} ps
  A client outside:                {sudo}{" ".join(world.outside.enter("busybox", "wget", "-qO-", f"http://{one.address4}:8080"))}
  End it:                          {sudo}scripts/demo --end {world.folder}""")


def main(words: list[str]) -> int:
    """Tell the story once; the exit code."""
    if words[:1] == ["--end"] and len(words) == 2:
        World.found(Path(words[1])).down()
        print(f"  Ended; {words[1]} is gone.")
        return 0
    if words not in ([], ["--keep"]):
        print("usage: scripts/demo [--keep | --end FOLDER]", file=sys.stderr)
        return 2
    step = Steps()
    with World(one_cable("one")) as world:
        try:
            story(world, step)
        except FairleadError:
            if said := world["one"].log():
                print(
                    "  The engine's last words:\n" + "\n".join(f"    {line}" for line in said.splitlines()[-15:]),
                    file=sys.stderr,
                )
            raise
        step.close()
        if words:
            keep(world)
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except FairleadError as problem:
        print(f"  Failed: {problem.message}", file=sys.stderr)
        sys.exit(1)
