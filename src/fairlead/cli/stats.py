"""``stats``: how much containers use, once or again and again."""

from __future__ import annotations

import json
import sys
import threading
import time
from typing import Any

from fairlead.cli import completing, tables
from fairlead.cli.client import Client, path
from fairlead.cli.command import command, form, no_trunc, switch
from fairlead.errors import FairleadError

COLUMNS = ("ID", "Name", "CPUPerc", "MemUsage", "MemPerc", "NetIO", "BlockIO", "PIDs")
HEADS = {
    "ID": "CONTAINER ID", "CPUPerc": "CPU %", "MemUsage": "MEM USAGE / LIMIT", "MemPerc": "MEM %", "NetIO": "NET I/O",
    "BlockIO": "BLOCK I/O", "PIDs": "PIDS",
}  # fmt: skip
PAUSE = 0.5
"""Seconds between two looks at the screen."""


@command("[OPTIONS] [CONTAINER...]", complete=completing.containers)
@switch("-a", "--all", help="Also those that do not run.")
@form
@switch("--no-stream", help="Only once.")
@no_trunc
def stats(client: Client, *containers: str, all: bool, form: str, no_stream: bool, no_trunc: bool) -> int:
    """Show how much containers use."""
    names = list(containers)
    if not names:
        names = [one["Id"] for one in client.call("GET", "/containers/json", {"all": all})]
    for name in containers:  # one that is not there is said now, before the first table
        client.call("GET", path("containers", name, "json"))
    if no_stream:
        return _show([(name, _once(client, name)) for name in names], form, no_trunc)
    return _watch(client, names, bool(containers), all, form, no_trunc)


def _once(client: Client, name: str) -> dict[str, Any]:
    return dict(client.call("GET", path("containers", name, "stats"), {"stream": "false"}))


def _show(found: list[tuple[str, dict[str, Any]]], form: str, whole: bool) -> int:
    tables.show([_row(name, one, whole) for name, one in found if one.get("id")], form, COLUMNS, HEADS)
    return 0


class _Watched:
    """One container, its newest numbers kept by a thread of its own."""

    def __init__(self, client: Client, name: str) -> None:
        self.newest: dict[str, Any] = {}
        self.gone = False
        self._client, self._name = client, name
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        try:
            with self._client.stream("GET", path("containers", self._name, "stats"), {"stream": "true"}) as lines:
                for line in lines:
                    self.newest = json.loads(line)
        except (FairleadError, OSError, ValueError):
            pass  # the same as its end: the container is gone, or the engine
        self.gone = True


def _watch(client: Client, names: list[str], asked: bool, all: bool, form: str, whole: bool) -> int:
    """Until interrupted, or until all that were asked for are gone."""
    watched = {name: _Watched(client, name) for name in names}
    clear = "\033[H\033[J" if sys.stdout.isatty() else ""
    while True:
        time.sleep(PAUSE)
        if not asked:
            found = [one["Id"] for one in client.call("GET", "/containers/json", {"all": all})]
            watched = {name: watched.get(name) or _Watched(client, name) for name in found}
        print(clear, end="")
        _show([(name, one.newest) for name, one in watched.items()], form, whole)
        sys.stdout.flush()
        if asked and all_gone(watched):
            return 0


def all_gone(watched: dict[str, _Watched]) -> bool:
    return all(one.gone for one in watched.values())


def _row(asked: str, one: dict[str, Any], whole: bool) -> dict[str, Any]:
    """One container as texts, every field that a template may name."""
    memory = one.get("memory_stats") or {}
    used, most = _memory(memory), memory.get("limit", 0)
    received, sent = _network(one.get("networks") or {})
    read, written = _blocks((one.get("blkio_stats") or {}).get("io_service_bytes_recursive") or [])
    ident = one["id"] if whole else one["id"][:12]
    units = [tables.bytes_of(number, 3) for number in (received, sent, read, written)]
    return {
        "ID": ident,
        "Container": ident if asked == one["id"] else asked,
        "Name": one["name"].lstrip("/"),
        "CPUPerc": f"{cpu_percent(one):.2f}%",
        "MemUsage": f"{tables.bytes_of(used, 4, 1024.0)} / {tables.bytes_of(most, 4, 1024.0)}",
        "MemPerc": f"{100 * used / most if most else 0:.2f}%",
        "NetIO": f"{units[0]} / {units[1]}",
        "BlockIO": f"{units[2]} / {units[3]}",
        "PIDs": str((one.get("pids_stats") or {}).get("current", 0)),
    }


def cpu_percent(one: dict[str, Any]) -> float:
    """Of one CPU: two busy ones are 200."""
    now, before = one.get("cpu_stats") or {}, one.get("precpu_stats") or {}
    used = now.get("cpu_usage", {}).get("total_usage", 0) - before.get("cpu_usage", {}).get("total_usage", 0)
    passed = now.get("system_cpu_usage", 0) - before.get("system_cpu_usage", 0)
    count = now.get("online_cpus") or len(now.get("cpu_usage", {}).get("percpu_usage") or [])
    return used / passed * count * 100 if used > 0 and passed > 0 else 0.0


def _memory(stats: dict[str, Any]) -> int:
    """Without what the kernel could drop at once (cgroup v1 and v2 name it differently)."""
    used = int(stats.get("usage", 0))
    for key in ("total_inactive_file", "inactive_file"):
        spare = (stats.get("stats") or {}).get(key)
        if spare is not None and spare < used:
            return used - int(spare)
    return used


def _network(devices: dict[str, dict[str, int]]) -> tuple[int, int]:
    return sum(one["rx_bytes"] for one in devices.values()), sum(one["tx_bytes"] for one in devices.values())


def _blocks(entries: list[dict[str, Any]]) -> tuple[int, int]:
    read = sum(one["value"] for one in entries if one["op"][:1].lower() == "r")
    return read, sum(one["value"] for one in entries if one["op"][:1].lower() == "w")
