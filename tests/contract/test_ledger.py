"""Several keys at once, in memory, in the clear and sealed. With etcd: tests/stores/test_ledger_etcd.py."""

import pytest

from fairlead.store.base import Ledger
from fairlead.store.memory import MemoryStore
from fairlead.swarm.sealedledger import SealedLedger
from lane.held import Held
from lane.ledger_promises import *  # noqa: F403


@pytest.fixture(params=["clear", "sealed"])
def ledger(request: pytest.FixtureRequest) -> Ledger:
    return MemoryStore() if request.param == "clear" else SealedLedger(MemoryStore(), Held(b"k" * 32))
