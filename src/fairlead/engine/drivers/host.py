"""Host: containers that use the machine's own network stack. There is one such network, and nothing to make.

The sandbox *is* the host's: no namespace, no interface, no address, no rule; a
process binds the host's ports itself.
"""

from __future__ import annotations

from fairlead.engine.drivers.base import Fixed


class Host(Fixed):
    """Driver of the network ``host``."""

    name = "host"
