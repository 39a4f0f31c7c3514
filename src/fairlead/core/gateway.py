"""Which of a container's networks leads to the world: the same answer every time, for each family by itself.

    candidates --(has a gateway of this family? may lead out?)--> highest priority --> first by network name

Docker's order since 28.0: ``--gw-priority`` first (higher wins), then the
network's name. A family without a candidate has no default route, and
published ports of that family have nowhere to go.
"""

from collections.abc import Iterable

import msgspec

from fairlead.core.model import Endpoint, Network


class Candidate(msgspec.Struct, frozen=True):
    """One endpoint of a sandbox, its network, and whether that network can lead out (``Attachment.default_route``)."""

    endpoint: Endpoint
    network: Network
    leads_out: bool


def gateway(candidates: Iterable[Candidate], family: int) -> Candidate | None:
    """The endpoint that gets the default route (and the published ports) of ``family`` (4 or 6), if any can."""

    def rank(candidate: Candidate) -> tuple[int, str]:
        return -candidate.endpoint.settings.gw_priority, candidate.network.name

    return min((c for c in candidates if c.leads_out and _has_address(c.endpoint, family)), key=rank, default=None)


def _has_address(endpoint: Endpoint, family: int) -> bool:
    return bool(endpoint.ipv4 if family == 4 else endpoint.ipv6)
