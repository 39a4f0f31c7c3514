"""Every call of recorded sessions: status and answer as dockerd 28.5.2 gave them."""

import re
from collections.abc import Iterator
from typing import Any

import pytest

from api_replay.accounted import IN_SESSIONS
from api_replay.sessions import SESSIONS, Session, calls, differences, record
from lane.engines import Engine, clean
from lane.golden import WRITE

pytestmark = pytest.mark.lab

Answers = dict[tuple[str, int], tuple[int, Any]]


@pytest.fixture(scope="module")
def answers(engine: Engine) -> Iterator[Answers]:
    found: Answers = {}
    for name in SESSIONS:
        played = Session(engine, name).run().answers
        clean(engine)
        if WRITE and engine.kind == "dockerd":
            record(name, played)
        found |= {(name, number): answer for number, answer in played.items()}
    yield found


CALLS = [(name, call) for name in SESSIONS for call in calls(name)]


@pytest.mark.parametrize(("session", "call"), CALLS, ids=lambda it: it if isinstance(it, str) else it["ask"][:60])
def test_call(engine: Engine, answers: Answers, session: str, call: dict[str, Any]) -> None:
    status, answer = answers[session, call["number"]]
    assert status == call["status"], answer
    found = differences(call["answer"], answer)
    if engine.kind == "fairlead":
        found = [one for one in found if not any(re.fullmatch(pattern, one[0]) for pattern in IN_SESSIONS)]
    assert not found, f"{call['ask']}: (where, dockerd, here) {found}"


def test_no_account_is_stale(engine: Engine, answers: Answers) -> None:
    if engine.kind != "fairlead":
        pytest.skip("the accounts are about ours")
    seen = [
        where for name, call in CALLS for where, _, _ in differences(call["answer"], answers[name, call["number"]][1])
    ]
    stale = [pattern for pattern in IN_SESSIONS if not any(re.fullmatch(pattern, where) for where in seen)]
    assert not stale, f"no longer differs: strike {stale}"
