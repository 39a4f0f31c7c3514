"""Members: the live endpoints of every network, and the addresses they hold.

What an endpoint holds is noted when it comes, as a number, too: whoever chooses an address among a thousand looks at no
endpoint and reads no text.
"""

from __future__ import annotations

from collections.abc import Set

from fairlead.core.addresses import number_of
from fairlead.core.model import Endpoint


class Members:
    """Endpoints by network id and id."""

    def __init__(self) -> None:
        self._endpoints: dict[str, dict[str, Endpoint]] = {}
        self._held: dict[tuple[str, int], dict[str, str]] = {}
        """(network, family) -> address -> endpoint; no address is given twice"""
        self._numbers: dict[tuple[str, int], set[int]] = {}
        """the same addresses"""

    def put(self, endpoint: Endpoint) -> None:
        """It is there, or is now another value."""
        live = self._endpoints.setdefault(endpoint.network, {})
        if old := live.get(endpoint.id):
            self._let_go(old)
        live[endpoint.id] = endpoint
        for family, address in _addresses(endpoint):
            self._held.setdefault((endpoint.network, family), {})[address] = endpoint.id
            self._numbers.setdefault((endpoint.network, family), set()).add(number_of(address))

    def drop(self, endpoint: Endpoint) -> None:
        """It is gone; an unknown one is fine."""
        live = self._endpoints.get(endpoint.network, {})
        if old := live.pop(endpoint.id, None):
            self._let_go(old)
        if not live:
            self._endpoints.pop(endpoint.network, None)

    def of(self, network_id: str) -> list[Endpoint]:
        return list(self._endpoints.get(network_id, {}).values())

    def addresses(self, network_id: str, family: int) -> Set[str]:
        """What they hold of one family, without prefix length."""
        return self._held.get((network_id, family), {}).keys()

    def numbers(self, network_id: str, family: int) -> Set[int]:
        """The same as numbers."""
        return self._numbers.get((network_id, family), frozenset())

    def _let_go(self, endpoint: Endpoint) -> None:
        for family, address in _addresses(endpoint):
            held = self._held.get((endpoint.network, family), {})
            if held.get(address) == endpoint.id:
                del held[address]
                self._numbers[endpoint.network, family].discard(number_of(address))
            if not held:
                self._held.pop((endpoint.network, family), None)
                self._numbers.pop((endpoint.network, family), None)


def _addresses(endpoint: Endpoint) -> list[tuple[int, str]]:
    both = ((4, endpoint.address4), (6, endpoint.address6))
    return [(family, address) for family, address in both if address]
