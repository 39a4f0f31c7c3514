"""Good and bad requests about networks and containers: status and words as dockerd 28.5.2 gave them."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from api_replay.accounted import ACCOUNTED
from api_replay.replay import Replay, requests, same
from lane.engines import Engine, clean

pytestmark = pytest.mark.lab


@pytest.fixture(scope="module")
def answers(engine: Engine) -> Iterator[dict[int, tuple[int, Any]]]:
    yield Replay(engine).run().answers
    clean(engine)


def title(line: dict[str, Any]) -> str:
    return f"{line['number']:03} {line['ask']} {json.dumps(line.get('body', ''))}"[:90]


@pytest.mark.parametrize("line", requests(), ids=title)
def test_answer(engine: Engine, answers: dict[int, tuple[int, Any]], line: dict[str, Any]) -> None:
    status, answer = answers[line["number"]]
    agrees = status == line["status"] and same(line["answer"], answer)
    if engine.kind == "fairlead" and line["number"] in ACCOUNTED:
        ours, words, reason = ACCOUNTED[line["number"]]
        assert not agrees, f"no longer differs ({reason}): strike it from the list"
        assert status == ours and words in json.dumps(answer), reason
        return
    expected = f"{line['status']} {line['answer']}"
    assert agrees, (
        f"{line['ask']} {line.get('body', line.get('text', ''))}\ndocker: {expected}\nhere:   {status} {answer}"
    )
