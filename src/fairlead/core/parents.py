"""Parents: the devices of the host that macvlan and ipvlan networks hang on.

    -o parent=eth0       eth0 is there: used, never touched
    -o parent=eth0.10    there: used, and left when the network goes
                         not there: a VLAN sub-interface of eth0, made and removed with the network
    no parent            dm-<12 of the id>, a dummy: containers reach each other and nobody else

Whether we made the parent is settled once, when the network is created, and
kept with it (``Network.made``): asked later, "it is there" would be true either way.

Rules
    1. Complaints are dockerd's sentences, with dockerd's status (500).
    2. Several networks may share a parent, unless one of them is a macvlan in passthru
       mode, which has it for itself.
    3. A parent we made outlives its network while another one hangs on it, which
       inherits it (``heir``).

What it does not do: look at the machine; whether a device exists is asked
through the ``exists`` that callers bring along.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from fairlead.core.bridgeoptions import bridge_options, is_device_name
from fairlead.core.model import Network, NetworkRequest
from fairlead.core.wanted import HOST, Link, Wanted
from fairlead.errors import FairleadError

LAN_DRIVERS = frozenset({"macvlan", "ipvlan"})
"""Their containers are on the LAN: its subnet *should* be one of the host's routes."""
PARENT = "parent"
MODES = {"macvlan": ("bridge", "private", "vepa", "passthru"), "ipvlan": ("l2", "l3", "l3s")}
"""The first is the default."""
PASSTHRU = "passthru"
LAST_VLAN = 4094


def mode_of(driver: str, options: Mapping[str, str]) -> str:
    """``macvlan_mode`` or ``ipvlan_mode``; raises for what is none."""
    mode = options.get(f"{driver}_mode") or MODES[driver][0]
    if mode not in MODES[driver]:
        raise FairleadError(
            f"requested {driver} mode '{mode}' is not valid, '{MODES[driver][0]}' mode is the {driver} driver default"
        )
    return mode


def parent_of(network: Network) -> str:
    """Name of the device on the host that the network's containers hang on, "" for networks of other kinds."""
    if network.driver not in LAN_DRIVERS or network.config_only:
        return ""
    return network.options.get(PARENT, "") or f"dm-{network.short}"


def is_alone(network: Network) -> bool:
    """No parent was named: the network ends at this host."""
    return network.driver in LAN_DRIVERS and not network.options.get(PARENT)


def has_gateway(network: Network, family: int) -> bool:
    """Whether an address is set aside for a router: not where no road leads out, nor where roads need none (l3)."""
    if network.driver == "bridge" and network.internal:
        options = bridge_options(network.options)
        inhibited = family == 4 and options.inhibit_ipv4
        return not inhibited and (options.mode4 if family == 4 else options.mode6) != "isolated"
    if network.driver not in LAN_DRIVERS:
        return True
    return leads_out(network) and not is_routed(network)


def leads_out(network: Network) -> bool:
    """Whether its containers get to the world by it."""
    return not (network.internal or is_alone(network))


def is_routed(network: Network) -> bool:
    """An ipvlan in a mode without neighbours: everything is sent down the link, wherever it goes."""
    return network.driver == "ipvlan" and mode_of("ipvlan", network.options) in ("l3", "l3s")


# -- before anything exists -------------------------------------------------------------


def check(request: NetworkRequest, others: Iterable[Network], exists: Callable[[str], bool]) -> None:
    """Raise in dockerd's words when containers cannot hang on what was named."""
    parent = request.options.get(PARENT, "")
    if request.driver not in LAN_DRIVERS or not parent:
        return
    if parent == "lo":
        raise FairleadError(f"loopback interface is not a valid {request.driver} parent link")
    _refuse_passthru(request, parent, others)
    if not exists(parent):
        base, _ = vlan_of(parent)
        if not base or not exists(base):
            raise FairleadError(f"-o parent interface was not found on the host: {base}")


def _refuse_passthru(request: NetworkRequest, parent: str, others: Iterable[Network]) -> None:
    if request.driver != "macvlan":
        return
    for other in others:
        if other.driver != "macvlan" or parent_of(other) != parent:
            continue
        told = f"macvlan network {other.id} is already using parent interface {parent}"
        if mode_of("macvlan", other.options) == PASSTHRU:
            raise FairleadError(f"{told} in mode passthru")
        if mode_of("macvlan", request.options) == PASSTHRU:
            raise FairleadError(f"cannot use mode passthru, {told}")


def vlan_of(name: str) -> tuple[str, int]:
    """("eth0", 10) of ``eth0.10``; raises in dockerd's words when it is no name of a VLAN sub-interface."""
    parts = name.split(".")
    if len(parts) == 1 or not is_device_name(name):
        raise FairleadError(f"invalid subinterface vlan name {name}, example formatting is eth0.10")
    if len(parts) > 2:
        raise FairleadError(
            f"required interface name format is: name.vlan_id, ex. eth0.10 for vlan 10, instead received {name}"
        )
    base, number = parts
    if not (number.isdecimal() and number.isascii()):
        raise FairleadError(f"unable to parse a valid vlan id from: {number} (ex. eth0.10 for vlan 10)")
    if not 1 <= int(number) <= LAST_VLAN:
        raise FairleadError(f"vlan id must be between 1-{LAST_VLAN}, received: {int(number)}")
    return base, int(number)


# -- what we make -----------------------------------------------------------------------


def to_make(network: Network, exists: Callable[[str], bool]) -> str:
    """The parent, if it has to be made with the network; "" when there is one (or none is needed)."""
    parent = parent_of(network)
    return parent if parent and not exists(parent) else ""


def heir(network: Network, others: Iterable[Network]) -> Network | None:
    """Who else hangs on the parent that was made for this network."""
    return next((o for o in others if o.id != network.id and network.made and parent_of(o) == network.made), None)


def link(network: Network) -> Link | None:
    """The parent, if we made it."""
    if not network.made:
        return None
    if is_alone(network):
        return Link(name=network.made, kind="dummy", why=f"network {network.name} has no parent: it ends here")
    base, number = vlan_of(network.made)
    why = f"VLAN {number} of {base}, for network {network.name}"
    return Link(name=network.made, kind="vlan", parent=base, options=(("id", str(number)),), why=why)


def missing(plan: Iterable[Wanted], exists: Callable[[str], bool]) -> tuple[str, ...]:
    """Devices of the host that this plan hangs on, does not make, and that are not there (any more)."""
    links = [item for item in plan if isinstance(item, Link)]
    made = {item.name for item in links if item.ns == HOST}
    return tuple(dict.fromkeys(i.parent for i in links if i.parent and i.parent not in made and not exists(i.parent)))
