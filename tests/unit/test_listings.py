"""What tables list like when nobody touched them, remembered over a restart."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from fairlead.host import listings


@pytest.fixture(autouse=True)
def nobody_remembers() -> Iterator[None]:
    file = listings._file
    yield
    listings.remember(file or Path("/nonexistent"))
    listings._file = file


class Kernel:
    """Lists every text in its own way, and counts how often it is asked."""

    def __init__(self) -> None:
        self.asked = 0

    def __call__(self, text: str) -> str:
        self.asked += 1
        return f"listed {text}"


def test_the_kernel_is_asked_once_in_the_lives_of_all_engines(tmp_path: Path) -> None:
    kernel = Kernel()
    for _ in range(3):
        listings.remember(tmp_path / "listings")
        assert listings.intact("a", "listed a", kernel)
    assert kernel.asked == 1


def test_another_listing_is_never_believed_without_asking(tmp_path: Path) -> None:
    kernel = Kernel()
    listings.remember(tmp_path / "listings")
    assert listings.intact("a", "listed a", kernel)
    assert not listings.intact("a", "listed a, and more", kernel)
    assert not listings.intact("b", "listed a", kernel), "what is known of one text says nothing of another"
    assert kernel.asked == 3


def test_a_file_that_makes_no_sense_costs_nothing_but_the_question(tmp_path: Path) -> None:
    kernel, file = Kernel(), tmp_path / "listings"
    file.write_text("nonsense\n\na b c\n" + "x y\n" * (listings.KEPT + 5))
    listings.remember(file)
    assert listings.intact("a", "listed a", kernel)
    assert len(file.read_text().splitlines()) == listings.KEPT + 1
    assert kernel.asked == 1
