"""Several keys at once, in etcd."""

from typing import cast

import pytest

from fairlead.store.base import Ledger, Store
from lane.ledger_promises import *  # noqa: F403

pytestmark = pytest.mark.parametrize("server", ["etcd"], indirect=True)


@pytest.fixture
def ledger(store: Store) -> Ledger:
    return cast(Ledger, store)
