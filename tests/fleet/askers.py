"""Who asks a service over and over while something is done to it (``lane.asking``), and what he tells."""

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lane import asking, crowd

ASKING = [sys.executable, str(Path(asking.__file__))]
CROWD = [sys.executable, str(Path(crowd.__file__))]
"""plain HTTP alone, and much of it"""


class Counts:
    """What an asker told."""

    def __init__(self, told: str) -> None:
        found = json.loads(told)
        self.asked, self.lost, self.first = found["asked"], found["lost"], found["first"]
        self.rate = self.asked / found["seconds"]


@contextmanager
def asked(words: list[str]) -> Iterator[list[Counts]]:
    """Asks while the block lasts."""
    found: list[Counts] = []
    process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        yield found
    finally:
        told, _ = process.communicate(timeout=60)
        found.append(Counts(told))
