"""None (Docker calls the driver ``null``): a sandbox with a loopback device and no way out.

The namespace is all there is, and ``engine.sandboxes`` makes that. There is one
such network.
"""

from __future__ import annotations

from fairlead.engine.drivers.base import Fixed


class Null(Fixed):
    """Driver of the network ``none``."""

    name = "null"
