"""The promises of ``store.base``, asked of real servers."""

from typing import Any

import pytest

from fairlead.errors import Conflict
from fairlead.store.base import Store
from fairlead.store.zookeeper import ZookeeperStore
from lane.store_promises import *  # noqa: F403


@pytest.mark.parametrize("server", ["zookeeper"], indirect=True)
async def test_made_anew_between_a_look_and_a_write(store: ZookeeperStore, other: Store) -> None:
    """ZooKeeper's own counter of a node begins again when it is made anew, so by itself it would not notice."""
    first = await store.put_if("k", b"old")
    connection = await store._connection()
    ask = connection.ask

    async def interrupted(*questions: Any) -> list[Any]:
        looked = await ask(*questions)
        connection.ask = ask  # type: ignore[method-assign]
        await other.delete_if("k")
        await other.put_if("k", b"new")
        return looked

    connection.ask = interrupted  # type: ignore[method-assign]
    with pytest.raises(Conflict):
        await store.put_if("k", b"mine", first)
    entry = await store.get("k")
    assert entry and entry.value == b"new"
