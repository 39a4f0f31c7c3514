"""Three managers, one truth: whoever leads, each answers as a single correct store would, and what was acknowledged
stays. Its leader is killed again and again while people write; the history is searched for what cannot be."""

import random
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from fairlead.lab.machine import Machine
from fairlead.lab.topology import one_cable
from fairlead.lab.world import World
from fleet.managers import Gone, agree, call, founded, leader
from lane.history import LOST, OK, READ, REFUSED, WRITE, Operation, unexplained
from lane.machine import eventually

KEYS = ("one", "two", "three")
WRITERS = 6
KILLED = 4


@pytest.fixture(scope="module")
def managers() -> Iterator[list[Machine]]:
    with World(one_cable("m1", "m2", "m3")) as world:
        world.start_engines(world.topology.hosts)
        founded(world.hosts)
        yield world.hosts


class Writer(threading.Thread):
    """Reads and writes labels of configs, at whichever manager; writes down what was answered."""

    def __init__(self, number: int, machines: list[Machine], over: threading.Event) -> None:
        super().__init__(daemon=True)
        self.host, self._machines, self._over = f"writer{number}", machines, over
        self._dice, self._count = random.Random(number), 0
        self.operations: list[Operation] = []

    def run(self) -> None:
        while not self._over.is_set():
            machine, key = self._dice.choice(self._machines), self._dice.choice(KEYS)
            try:
                found = self._read(machine, key)
                if found is not None and self._dice.random() < 0.6:
                    self._write(self._dice.choice(self._machines), key, found)
            except Gone:
                time.sleep(0.01)

    def _read(self, machine: Machine, key: str) -> dict[str, Any] | None:
        began = time.monotonic()
        status, found = call(machine, "GET", f"/configs/{key}")
        if status == 404:
            self._note(READ, key, began, None)
        if status != 200:
            return None
        self._note(READ, key, began, found["Spec"]["Labels"]["v"])
        return found

    def _write(self, machine: Machine, key: str, seen: dict[str, Any]) -> None:
        self._count += 1
        old, new = seen["Spec"]["Labels"]["v"], f"{self.host}.{self._count}"
        spec = {**seen["Spec"], "Labels": {"v": new}}
        began = time.monotonic()
        try:
            status, _ = call(machine, "POST", f"/configs/{seen['ID']}/update?version={seen['Version']['Index']}", spec)
        except Gone:
            status = 0
        outcome = OK if status == 200 else REFUSED if status == 400 else LOST
        self._note(WRITE, key, began, new, old, outcome)

    def _note(
        self, kind: str, key: str, began: float, value: str | None, old: str | None = None, outcome: str = OK
    ) -> None:
        self.operations.append(Operation(self.host, kind, key, began, time.monotonic(), value, old, outcome))


@contextmanager
def writing(machines: list[Machine]) -> Iterator[list[Operation]]:
    """While the block lasts, people write; then what they saw is in the list."""
    operations: list[Operation] = []
    for key in KEYS:
        began = time.monotonic()
        assert (
            call(machines[0], "POST", "/configs/create", {"Name": key, "Labels": {"v": key}, "Data": "eA=="})[0] == 201
        )
        operations.append(Operation("first", WRITE, key, began, time.monotonic(), key))
    over = threading.Event()
    writers = [Writer(number, machines, over) for number in range(WRITERS)]
    for writer in writers:
        writer.start()
    try:
        yield operations
    finally:
        over.set()
        for writer in writers:
            writer.join(60)
            operations.extend(writer.operations)


def test_no_acknowledged_change_is_lost_when_leaders_are_killed(managers: list[Machine]) -> None:
    with writing(managers) as operations:
        for _ in range(KILLED):
            dead = leader(managers)
            process = dead.run("sh", "-c", "kill -9 $(cat /run/fairlead.pid)", check=False)
            assert process.returncode == 0
            leader([one for one in managers if one is not dead])
            dead.start_daemon()
            eventually(lambda: all(agree(machine) for machine in managers), "all three again")
    done = [one for one in operations if one.outcome == OK]
    writes = sum(one.kind == WRITE for one in done)
    print(f"{len(operations)} operations, {len(done)} answered, {writes} of them writes")
    assert len(done) > 200 and writes > 50
    assert unexplained(operations) == []
    for machine in managers:
        last = {key: call(machine, "GET", f"/configs/{key}")[1]["Spec"]["Labels"]["v"] for key in KEYS}
        assert last == {key: call(managers[0], "GET", f"/configs/{key}")[1]["Spec"]["Labels"]["v"] for key in KEYS}
