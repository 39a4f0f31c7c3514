"""Host: containers that use the machine's own network stack. There is one such network, and nothing to make.

The sandbox *is* the host's: no namespace, no interface, no address, no rule, and
published ports are discarded (the process binds them itself), as in dockerd.
"""

from __future__ import annotations

from fairlead.core.model import Endpoint, Network, NetworkRequest
from fairlead.core.wanted import Plan
from fairlead.engine.drivers.base import Attachment, Facts, Publishing
from fairlead.errors import Forbidden


class Host:
    """Driver of the network ``host``."""

    name = "host"
    scope = "local"

    def check(self, request: NetworkRequest, facts: Facts) -> None:
        raise Forbidden('only one instance of "host" network is allowed')

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
