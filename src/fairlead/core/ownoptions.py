"""Driver options that are ours: one that is misspelt, or stands where nobody reads it, is refused.

    docker network create -o com.fairlead.antispof=true RED
    docker network connect --driver-opt com.fairlead.raet=10mbit RED web

Options of others are kept and not read (``core.bridgeoptions``). Of ours we know that nobody else will read them: a
network that was to be guarded and is not would be found out by whom it was to keep out. What is stored is not judged
again: a network of an older engine stays.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from fairlead.core.bridgeoptions import ANTISPOOF, RATE, RATE_IN, RATE_OUT

PREFIX = "com.fairlead."
MAC_FROM_ADDRESS = PREFIX + "mac_from_address"
"""Of a network: MACs 02:42:<IPv4 address> as engines before 28 had them, instead of stable random ones."""
BRIDGE, OTHER, ENDPOINT = "a bridge network", "a network", "an endpoint"
KNOWN = {BRIDGE: (ANTISPOOF, MAC_FROM_ADDRESS), OTHER: (MAC_FROM_ADDRESS,), ENDPOINT: (RATE, RATE_IN, RATE_OUT)}


def of_network(driver: str, options: Mapping[str, str]) -> Iterator[str]:
    """What is wrong with them, a sentence each."""
    return _complaints(BRIDGE if driver == "bridge" else OTHER, options)


def of_endpoint(options: Mapping[str, str]) -> Iterator[str]:
    return _complaints(ENDPOINT, options)


def _complaints(of: str, options: Mapping[str, str]) -> Iterator[str]:
    for name in sorted(options):
        if not name.startswith(PREFIX) or name in KNOWN[of]:
            continue
        other = next((where for where, names in KNOWN.items() if name in names), "")
        hint = f"it is one of {other}" if other else f"there are {', '.join(KNOWN[of])}"
        yield f"option {name} of {of}: {hint}"
