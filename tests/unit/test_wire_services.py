"""Services and tasks as Docker spells them."""

from __future__ import annotations

import msgspec
import pytest

from fairlead.api import wire_services
from fairlead.core.service import Replicated


def test_what_a_kind_consists_of_is_found_out_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Found by fuzzing: 65,536 tasks took minutes to show, each asking for the fields of all its parts anew."""
    asked: list[object] = []
    real = msgspec.structs.fields
    monkeypatch.setattr(msgspec.structs, "fields", lambda kind: asked.append(kind) or real(kind))
    wire_services._fields.cache_clear()
    shown = [wire_services.sparse(Replicated(number)) for number in range(3)]
    assert shown == [{"Replicas": number} for number in range(3)]
    assert asked == [Replicated]
