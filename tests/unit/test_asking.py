"""Names as a program's resolver asks for them: search domains and ndots."""

import pytest

from fairlead.core.asking import Asker, look_up, spellings
from fairlead.core.names import Names


@pytest.mark.parametrize(
    ("name", "ndots", "asked"),
    [
        ("db", 0, ("db", "db.corp", "db.lab.corp")),
        ("db", 1, ("db.corp", "db.lab.corp", "db")),
        ("a.b", 1, ("a.b", "a.b.corp", "a.b.lab.corp")),
        ("a.b", 2, ("a.b.corp", "a.b.lab.corp", "a.b")),
        ("db.", 5, ("db",)),
    ],
)
def test_spellings(name: str, ndots: int, asked: tuple[str, ...]) -> None:
    assert spellings(name, ("corp", "lab.corp."), ndots) == asked


def asker(ndots: int) -> Asker:
    names = Names()
    names.put("n1", "RED", "e1", ("db", "db.lab"), "10.0.0.2", "")
    names.sandbox("s1", ("n1",), {})
    more = {"networks": ("RED",), "upstreams": ("9.9.9.9",), "search": ("lab",), "ndots": ndots}
    return Asker(title="web", sandbox="s1", names=names, **more)  # type: ignore[arg-type]


def test_an_explanation_says_who_is_asked_first() -> None:
    assert look_up(asker(0), "db", 4).says.endswith("answers db with 10.0.0.2: a name on RED")
    assert "answers db.lab with 10.0.0.2" in look_up(asker(1), "db", 4).says
    told = look_up(asker(2), "db.lab", 4).says
    assert "10.0.0.2" in told and "unless others know db.lab.lab" in told and "ndots:2" in told
    assert look_up(asker(1), "www", 4).says.endswith("asks 9.9.9.9 for www.lab, www")
