"""None (Docker calls the driver ``null``): a sandbox with a loopback device and no way out.

The namespace is all there is, and ``engine.sandboxes`` makes that. There is one
such network; published ports are discarded.
"""

from __future__ import annotations

from fairlead.core.model import Endpoint, Network, NetworkRequest
from fairlead.core.wanted import Plan
from fairlead.engine.drivers.base import Attachment, Facts, Publishing
from fairlead.errors import Forbidden


class Null:
    """Driver of the network ``none``."""

    name = "null"
    scope = "local"

    def check(self, request: NetworkRequest, facts: Facts) -> None:
        raise Forbidden('only one instance of "null" network is allowed')

    def network(self, network: Network, facts: Facts) -> Plan:
        return ()

    def endpoint(self, network: Network, endpoint: Endpoint, facts: Facts) -> Plan:
        return ()

    def publish(self, network: Network, endpoint: Endpoint, facts: Facts) -> Plan:
        return ()

    def publishing(self, network: Network) -> Publishing:
        return Publishing()

    def attachment(self, network: Network) -> Attachment:
        return Attachment(default_route=False, names=False)

    def device(self, network: Network) -> str:
        return ""
