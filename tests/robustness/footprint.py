"""What an engine has left on its machine: compared before and after, it must be the same.

devices     of the machine's network            processes   of the engine, by program
rules       of the firewall, counters aside     mounts      below the engine's folders
namespaces  that lie in the exec root           cgroups     below the machine's own
folders     of containers and their layers
"""

import os
import re
from pathlib import Path
from typing import Any

from lane.engines import Engine
from lane.machine import eventually

FOLDERS = ("data/containers", "data/layers", "exec/containers", "exec/exits", "exec/crun")


def footprint(engine: Engine) -> dict[str, Any]:
    machine, base = engine.machine, str(engine.base)
    rules = machine.must("nft -s list ruleset").out
    rules = re.sub(r" (expires|timeout) \S+", "", re.sub(r"# handle \d+", "", rules))
    mounts = Path(f"/proc/{machine.pid}/mountinfo").read_text().splitlines()
    inside = [line.split()[4] for line in mounts if line.split()[4].startswith((f"{base}/data", f"{base}/exec"))]
    programs = sorted(engine.processes().values())
    return {
        "devices": sorted(machine.links()),
        "rules": sorted(line.strip() for line in rules.splitlines()),
        "namespaces": sorted(entry.name for entry in (engine.base / "exec" / "netns").glob("*")),
        "mounts": sorted(inside),
        "processes": {name: programs.count(name) for name in programs},
        "cgroups": sorted(_cgroups(engine)),
        "folders": sorted(str(path.relative_to(base)) for place in FOLDERS for path in engine.base.glob(f"{place}/*")),
    }


def _cgroups(engine: Engine) -> set[str]:
    found = set()
    for root in Path("/sys/fs/cgroup").glob(f"*{engine.machine.cgroup}"):
        found |= {os.path.relpath(folder, root) for folder, _, _ in os.walk(root)} - {"."}
    return found


def same_as(engine: Engine, before: dict[str, Any], timeout: float = 10, where: str = "") -> None:
    """Fails, naming what differs, unless the footprint becomes what it was."""

    def differences() -> dict[str, Any]:
        now = footprint(engine)
        return {key: (before[key], now[key]) for key in before if before[key] != now[key]}

    try:
        eventually(lambda: not differences(), "nothing left behind", timeout)
    except AssertionError:
        found = {key: _delta(*both) for key, both in differences().items()}
        if found:
            raise AssertionError(f"{where} left behind or lost: {found}".strip()) from None


def _delta(before: Any, now: Any) -> Any:
    if isinstance(before, list):
        gone, new = [x for x in before if x not in now], [x for x in now if x not in before]
        return {"gone": gone, "new": new}
    return {"before": before, "now": now}
