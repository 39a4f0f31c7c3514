"""The promises of ``store.base``, asked of real servers."""

from lane.store_promises import *  # noqa: F403
