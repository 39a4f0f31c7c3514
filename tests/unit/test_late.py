"""Parts that are built when something is first asked of them."""

import pytest

from fairlead.engine.late import awake, late


def test_it_is_built_once_and_when_asked() -> None:
    built: list[str] = []

    def build() -> str:
        built.append("once")
        return "part"

    part = late(build)
    assert not awake(part) and not built
    assert part.upper() == "PART" and part.lower() == "part"
    assert awake(part) and built == ["once"]


def test_what_a_builder_lacks_is_told_in_its_own_words() -> None:
    part = late(lambda: object().nothing)  # type: ignore[attr-defined]
    with pytest.raises(AttributeError, match="'object' object has no attribute 'nothing'"):
        part.start()
    assert not awake(part)
