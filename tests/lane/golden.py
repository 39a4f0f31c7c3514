"""Golden pages: text that the program writes and people review.

GOLDEN=write python -m pytest tests/unit tests/kernel     writes them anew; then read the diff
"""

import os
from collections.abc import Iterable
from pathlib import Path

from fairlead.core.wanted import Wanted

ROOT = Path(__file__).parents[2]
WRITE = os.environ.get("GOLDEN") == "write"


def same_as(path: str, text: str) -> None:
    """The file (below the repository) says exactly this; with ``GOLDEN=write`` it is made to."""
    file = ROOT / path
    if WRITE:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    assert file.is_file(), f"{path} is missing: GOLDEN=write writes it"
    assert file.read_text() == text, f"{path} is not what the program says now: GOLDEN=write writes it anew"


def as_text(plan: Iterable[Wanted]) -> str:
    """A plan as people read it: a line an object, its reason behind it."""
    return "\n".join(f"{item}  # {item.why}" if item.why else str(item) for item in plan)
