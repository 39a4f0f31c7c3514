"""Several keys at once, in memory. With etcd: tests/stores/test_ledger_etcd.py."""

import pytest

from fairlead.store.base import Ledger
from fairlead.store.memory import MemoryStore
from lane.ledger_promises import *  # noqa: F403


@pytest.fixture
def ledger() -> Ledger:
    return MemoryStore()
