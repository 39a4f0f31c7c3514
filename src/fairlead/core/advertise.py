"""Where other hosts find this one: ``--cluster-advertise`` against the addresses that this machine has."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable

from fairlead.errors import Invalid

LACKING = (
    "--cluster-store makes no networks of many hosts without --cluster-advertise beside it: the interface or address at"
    " which other hosts reach this one, as in eth0:2376 (see the addresses of this machine: ip -brief address)"
)


def settle(where: str, addresses: Iterable[tuple[str, str]]) -> tuple[str, str]:
    """The address that ``where`` (an address or an interface) stands for, and a warning or "".

    ``addresses``: (device, "10.0.0.1/24") of this machine. ``Invalid``, naming the option, when no address is meant.
    """
    here = [(device, ipaddress.ip_interface(text).ip) for device, text in addresses]
    try:
        asked = ipaddress.ip_address(where)
    except ValueError:
        return _of_interface(where, here), ""
    if asked.is_loopback or asked.is_unspecified or asked not in [address for _, address in here]:
        return str(asked), (
            f"Multi-Host overlay networking requires cluster-advertise({asked}) to be configured with a local"
            " ip-address that is reachable within the cluster (see the addresses of this machine: ip -brief address)"
        )
    return str(asked), ""


def _of_interface(name: str, here: list[tuple[str, ipaddress.IPv4Address | ipaddress.IPv6Address]]) -> str:
    found = [address for device, address in here if device == name and not address.is_link_local]
    if found:
        return str(min(found, key=lambda address: address.version))  # min keeps the first of equals: the primary one
    there = ", ".join(dict.fromkeys(device for device, address in here if not address.is_loopback))
    raise Invalid(
        f"invalid cluster advertise IP address or interface name ({name}): no interface of this name has an address;"
        f" there are {there or 'none'}. Check --cluster-advertise (see it: ip -brief address)"
    )
