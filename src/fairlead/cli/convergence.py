"""Waiting until a service is as it was wished: the tasks run, and go on running for the time of its monitor.

    every 0.2 s:  service, its tasks, the nodes --> a page of lines (Board) --> done?

    overall progress: 2 out of 3 tasks
    1/3: running   [==================================================>]
    3/3: preparing [=======>                                           ]
    verify: Waiting 5 seconds to verify that tasks are stable...

A job is done when its tasks are complete. An update that the engine has paused is a failure. ^C stops the watching,
not the service.
"""

from __future__ import annotations

import time
from math import ceil
from typing import Any

from fairlead.cli.client import Client, path
from fairlead.cli.command import filter_query
from fairlead.cli.drawing import Board
from fairlead.errors import Invalid

STATES = ["new", "allocated", "pending", "assigned", "accepted", "preparing", "ready", "starting", "running"]
ENDED = ["complete", "shutdown", "failed", "rejected"]
RANK = {state: place for place, state in enumerate([*STATES, *ENDED], 1)}
RUNNING, COMPLETE = RANK["running"], RANK["complete"]
WIDTH = max(map(len, [*STATES, "complete"]))
MOST_LINES = 20
"""Tasks that have a line each; with more, only the sum is told."""
PAUSE = 0.2
MONITOR = 5 * 10**9
Task = dict[str, Any]


class Silent(Board):
    """Nobody looks."""

    def say(self, name: str, words: str, done: int = 0, total: int = 0, unit: str | None = None) -> None:
        pass


def wait(client: Client, service: str, board: Board) -> None:
    """Return when the service has converged, or is a job that is complete; raises ``Invalid`` when it will not."""
    try:
        _Watch(client, service, board).run()
    except KeyboardInterrupt:
        board.say("", "Operation continuing in background.")
        board.say("", f"Use `{client.typed.partition(' ')[0]} service ps {service}` to check progress.")


class _Watch:
    def __init__(self, client: Client, service: str, board: Board) -> None:
        self.client, self.service, self.board = client, service, board
        self.rolling_back, self.last_words = False, ""
        self.since: float | None = None
        self.view: _View | None = None

    def run(self) -> None:
        converged = False
        while True:
            found = self.client.call("GET", path("services", self.service), {"insertDefaults": "false"})
            monitor = (found["Spec"].get("UpdateConfig") or {}).get("Monitor") or MONITOR
            self.view = self.view or _view(found, self.board)
            if self._status(found.get("UpdateStatus") or {}, converged):
                return
            if converged and self.since is not None and time.monotonic() - self.since >= monitor / 10**9:
                self.board.say("verify", f"Service {self.service} converged")
                if self.last_words:
                    self.board.say("rollback", self.last_words)
                return
            converged = self.view.update(found, self._tasks(found["ID"]), self._nodes(), self.rolling_back)
            if converged and found.get("JobStatus") is not None:
                self.board.say("", "job complete")
                return
            self._verify(converged, monitor / 10**9)
            time.sleep(PAUSE)

    def _status(self, status: dict[str, Any], converged: bool) -> bool:
        """What the engine says of an update; True when there is nothing left to watch."""
        state, words = status.get("State"), status.get("Message", "")
        if state == "updating":
            self.rolling_back = False
        elif state == "completed":
            return not converged
        elif state in ("paused", "rollback_paused"):
            raise Invalid(f"service {'update' if state == 'paused' else 'rollback'} paused: {words}")
        elif state == "rollback_started":
            if not self.rolling_back and words:
                self.board.say("rollback", words)
            self.rolling_back = True
        elif state == "rollback_completed":
            self.last_words = self.last_words if converged else words
            self.rolling_back = True
        return False

    def _tasks(self, service: str) -> list[Task]:
        query = filter_query([("service", service), ("_up-to-date", "true")])
        return self.client.call("GET", "/tasks", {"filters": query}) or []

    def _nodes(self) -> set[str]:
        return {one["ID"] for one in self.client.call("GET", "/nodes") if one["Status"]["State"] != "down"}

    def _verify(self, converged: bool, monitor: float) -> None:
        now = time.monotonic()
        if converged:
            self.since = now if self.since is None else self.since
            left = monitor - (now - self.since)
            if left >= 0:
                self.board.say("verify", f"Waiting {max(1, ceil(left))} seconds to verify that tasks are stable...")
        elif self.since is not None:
            self.board.say("verify", "Detected task failure")
            self.since = None


def _view(service: dict[str, Any], board: Board) -> _View:
    mode = service["Spec"]["Mode"]
    kinds: dict[str, type[_View]] = {
        "Replicated": _Replicated, "Global": _Global, "ReplicatedJob": _Job, "GlobalJob": _GlobalJob,
    }  # fmt: skip
    for key, kind in kinds.items():
        if mode.get(key) is not None:
            return kind(board)
    raise Invalid("unrecognized service mode")


class _View:
    """A page of lines about one kind of service."""

    def __init__(self, board: Board) -> None:
        self.board, self.begun, self.done = board, False, False
        self.slots: dict[int, int] = {}

    def update(self, service: dict[str, Any], tasks: list[Task], nodes: set[str], rolling_back: bool) -> bool:
        """Draw what is; True when all is as wished."""
        raise AssertionError("every kind has its own")

    def overall(self, number: int, total: int, rolling_back: bool) -> None:
        words = "rolling back update: " if rolling_back else ""
        self.board.say("overall progress", f"{words}{number} out of {total} tasks")

    def task(self, name: str, task: Task, most: int) -> None:
        """The line of one task. ``most``: the rank at which its bar is full."""
        state, error = task["Status"]["State"], task["Status"].get("Err", "").replace("\n", " ")
        if error:
            self.board.say(name, error if len(error) <= 75 else error[:74] + "…")
        elif most == COMPLETE or max(RANK[task["DesiredState"]], RANK[state]) <= RUNNING:
            self.board.say(name, f"{state:<{WIDTH}}", RANK[state], most)

    def running(self, chosen: dict[Any, Task]) -> int:
        if self.done and any(task["Status"]["State"] != "running" for task in chosen.values()):
            self.done = False
        return sum(
            task["Status"]["State"] == "running" and RANK[task["DesiredState"]] <= RUNNING for task in chosen.values()
        )


def _chosen(tasks: list[Task], key: str, nodes: set[str] | None = None) -> dict[Any, Task]:
    """One task per slot (or node): the one that is to go on, and of two such the one that has come less far."""
    found: dict[Any, Task] = {}
    for task in tasks:
        if task["DesiredState"] not in RANK or task["Status"]["State"] not in RANK:
            continue
        rank = (RANK[task["DesiredState"]], RANK[task["Status"]["State"]])
        known = found.get(task.get(key))
        if known:
            other = (RANK[known["DesiredState"]], RANK[known["Status"]["State"]])
            if other[0] < rank[0] or (other[0] == rank[0] and other[1] <= rank[1]):
                continue
        if nodes is not None and task.get("NodeID") and task["NodeID"] not in nodes:
            continue
        found[task.get(key)] = task
    return found


class _Replicated(_View):
    def update(self, service: dict[str, Any], tasks: list[Task], nodes: set[str], rolling_back: bool) -> bool:
        replicas = service["Spec"]["Mode"]["Replicated"].get("Replicas", 1)
        if not self.begun:
            self.overall(0, replicas, rolling_back)
            for place in range(1, replicas + 1 if replicas <= MOST_LINES else 0):
                self.board.say(f"{place}/{replicas}", " ")
            self.begun = True
        chosen = _chosen(tasks, "Slot", nodes)
        running = self.running(chosen)
        for slot, task in chosen.items():
            place = self.slots.setdefault(slot, len(self.slots) + 1)
            if not self.done and place <= replicas <= MOST_LINES:
                self.task(f"{place}/{replicas}", task, RUNNING)
        if not self.done:
            self.overall(running, replicas, rolling_back)
            self.done = running == replicas
        return bool(running == replicas)


class _Global(_View):
    def update(self, service: dict[str, Any], tasks: list[Task], nodes: set[str], rolling_back: bool) -> bool:
        chosen = _chosen(tasks, "NodeID")
        if not self.begun:
            if not chosen:
                self.board.say("overall progress", "waiting for new tasks")
                return False
            self.overall(0, len(chosen), rolling_back)
            self.begun = True
        running = self.running({node: task for node, task in chosen.items() if node in nodes})
        for node, task in chosen.items():
            if node in nodes and not self.done and len(chosen) <= MOST_LINES:
                self.task(node[:12], task, RUNNING)
        if not self.done:
            self.overall(running, len(chosen), rolling_back)
            self.done = running == len(chosen)
        return running == len(chosen)


def _of_this_run(service: dict[str, Any], tasks: list[Task]) -> list[Task]:
    run = service["JobStatus"]["JobIteration"].get("Index", 0)
    return [
        task
        for task in tasks
        if task.get("JobIteration") is not None
        and task["JobIteration"].get("Index", 0) == run
        and task["DesiredState"] in RANK
        and task["Status"]["State"] in RANK
    ]


def _least(tasks: list[Task], key: str) -> dict[Any, Task]:
    """One task per slot (or node): the one that has come least far."""
    found: dict[Any, Task] = {}
    for task in tasks:
        known = found.get(task.get(key, 0))
        if not known or RANK[known["Status"]["State"]] > RANK[task["Status"]["State"]]:
            found[task.get(key, 0)] = task
    return found


class _Job(_View):
    def update(self, service: dict[str, Any], tasks: list[Task], nodes: set[str], rolling_back: bool) -> bool:
        mode = service["Spec"]["Mode"]["ReplicatedJob"]
        total, atonce = mode["TotalCompletions"], mode["MaxConcurrent"]
        if not self.begun:
            self._sums(0, 0, total, atonce)
            for place in range(1, total + 1 if total <= MOST_LINES else 0):
                self.board.say(f"{place}/{total}", " ")
            self.begun = True
        chosen = _least(_of_this_run(service, tasks), "Slot")
        for slot, task in sorted(chosen.items()):
            if total <= MOST_LINES:
                self.task(f"{slot + 1}/{total}", task, COMPLETE)
        active = sum(RANK[task["Status"]["State"]] < COMPLETE for task in chosen.values())
        complete = sum(task["Status"]["State"] == "complete" for task in chosen.values())
        self._sums(active, complete, total, atonce)
        return bool(complete == total)

    def _sums(self, active: int, complete: int, total: int, atonce: int) -> None:
        wide, digits = len(str(total)), len(str(atonce))
        self.board.say("job progress", f"{complete:{wide}} out of {total} complete", complete, total)
        self.board.say("active tasks", f"{active:{digits}} out of {min(total - complete, atonce):{digits}} tasks")


class _GlobalJob(_View):
    def __init__(self, board: Board) -> None:
        super().__init__(board)
        self.first: set[str] = set()

    def update(self, service: dict[str, Any], tasks: list[Task], nodes: set[str], rolling_back: bool) -> bool:
        mine = _of_this_run(service, tasks)
        if not self.begun:
            if not tasks and nodes:
                self.board.say("job progress", "waiting for tasks")
                return False
            self.first = {task["NodeID"] for task in mine}  # all are made at once; nodes that come later do not count
            self._sum(0)
            self.begun = True
        chosen = _least([task for task in mine if task.get("NodeID") in self.first], "NodeID")
        for node, task in chosen.items():
            if len(self.first) <= MOST_LINES:
                self.task(node, task, COMPLETE)
        complete = sum(task["Status"]["State"] == "complete" for task in chosen.values())
        self._sum(complete)
        return bool(complete == len(self.first))

    def _sum(self, complete: int) -> None:
        total = len(self.first)
        self.board.say("job progress", f"{complete:{len(str(total))}} out of {total} complete", complete, total)
