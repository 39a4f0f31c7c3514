"""Paths are found by their first word, and what answers them is imported then."""

from __future__ import annotations

import pytest

from fairlead.api import directory, routes, web
from fairlead.errors import NotFound
from fairlead.settings import Settings

from .fake_engine import fake_engine


@pytest.mark.parametrize("words", directory.GROUPS)
def test_a_group_answers_the_words_it_is_listed_under(words: tuple[str, ...]) -> None:
    found = directory.GROUPS[words](fake_engine(), Settings())
    assert {route.path.split("/")[1] for route in found} == set(words)


async def answer(request: web.Request) -> web.Response:
    return web.Response()


def test_a_group_is_made_once_and_when_asked_for() -> None:
    made = []

    def group() -> list[web.Route]:
        made.append("group")
        return [web.get("/images/json", answer), web.post("/build", answer)]

    table = routes.Table(late={("images", "build"): group})
    with pytest.raises(NotFound):
        table.find("GET", "/volumes")
    assert made == []
    assert table.find("GET", "/images/json").handler is answer
    assert table.find("POST", "/build").handler is answer
    assert made == ["group"]
