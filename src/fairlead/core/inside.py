"""Inside: an endpoint's interface in its sandbox, whatever kind of device it is.

    endpoint --plan--> settings (refuse routers' news, no IPv6 without an IPv6 address) ---> addresses

Settings come first in the plan and are in force before the interface is up:
there is no moment at which a container on an IPv4-only network has even a
link-local IPv6 address, or takes a route from an advertisement on the LAN.

What the user said with ``com.docker.network.endpoint.sysctls`` has the last word.
"""

from __future__ import annotations

from fairlead.core.bridgeoptions import EndpointOptions
from fairlead.core.model import Endpoint
from fairlead.core.wanted import Address, Shaper, Sysctl


def plan(endpoint: Endpoint, own: EndpointOptions, has_ipv6: bool = True) -> tuple[Sysctl | Address | Shaper, ...]:
    """Settings, addresses and sending rate of ``endpoint.interface``; ``has_ipv6``: this kernel speaks it at all."""
    ns, link = endpoint.namespace, endpoint.interface
    given = {path.replace("IFNAME", link): value for path, value in own.sysctls}
    settings = {**_settings(endpoint, has_ipv6), **given}
    held = [(address, why) for address, why in ((endpoint.ipv4, _lent(endpoint)), (endpoint.ipv6, "")) if address]
    local = [(_with_length(address), "") for address in endpoint.settings.link_local]
    return (
        *(Sysctl(ns=ns, path=path, value=value) for path, value in settings.items()),
        *(Address(ns=ns, link=link, address=address, why=why) for address, why in (*held, *local)),
        *(Shaper(ns=ns, link=link, rate=rate, why="what the container may send") for rate in (own.rate_out,) if rate),
    )


def _settings(endpoint: Endpoint, has_ipv6: bool) -> dict[str, str]:
    """Believe no router, be silent in IPv6 without it."""
    if not has_ipv6:
        return {}
    wants_it = endpoint.ipv6 or any(":" in address for address in endpoint.settings.link_local)
    ours = f"net/ipv6/conf/{endpoint.interface}"
    return {f"{ours}/accept_ra": "0", f"{ours}/disable_ipv6": "0" if wants_it else "1"}


def _lent(endpoint: Endpoint) -> str:
    lease = endpoint.lease
    if lease is None:
        return ""
    return f"lent by {lease.server} {f'for {lease.seconds} seconds, and prolonged' if lease.seconds else 'for ever'}"


def _with_length(address: str) -> str:
    return address if "/" in address else f"{address}/{64 if ':' in address else 16}"
