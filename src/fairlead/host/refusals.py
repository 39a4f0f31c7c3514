"""Refusals: why the kernel did not make what was wanted, as an error of ours with words that help."""

from __future__ import annotations

import errno

from fairlead.core.wanted import Link, Shaper, Wanted
from fairlead.errors import Conflict, FairleadError, Internal, Unsupported
from fairlead.host.netlink import Refused

TAKEN = (errno.EEXIST, errno.EBUSY)


def as_error(item: Wanted, refusal: Refused) -> FairleadError:
    """The error to raise when ``item`` was refused."""
    if refusal.errno == errno.EOPNOTSUPP and isinstance(item, Link):
        if "type" in str(refusal) or not item.options:
            module = {"vlan": "8021q"}.get(item.kind, item.kind)
            return Unsupported(f"this kernel has no {item.kind} devices (module {module}), wanted for {item}")
        options = ", ".join(name for name, _ in item.options)
        return Unsupported(f"this kernel cannot make {item.kind} devices with all of {options}: {item}")
    if refusal.errno in (errno.ENOENT, errno.EOPNOTSUPP) and isinstance(item, Shaper):
        return Unsupported(f"this kernel has no token bucket (module sch_tbf), wanted for {item}")
    if refusal.errno in (errno.EOPNOTSUPP, errno.EAFNOSUPPORT, errno.EPROTONOSUPPORT):
        return Unsupported(f"this kernel cannot make {item}: {refusal}")
    if refusal.errno == errno.EINVAL and isinstance(item, Link) and ("mode", "passthru") in item.options:
        return Conflict(f"{item.parent} belongs to another container already: in mode passthru it has room for one")
    kind = Conflict if refusal.errno in TAKEN else Internal
    return kind(f"cannot make {item}: {refusal}")


def no_room(link: Link) -> FairleadError:
    """The error to raise when the kernel says again and again that something of a new device is taken."""
    if link.parent:
        return Conflict(f"{link.parent} carries devices of another kind, or is part of a bridge: no room for {link}")
    if link.kind == "vxlan":
        told = dict(link.options)
        return Conflict(
            f"identifier {told['id']} on UDP port {told['port']} is another VXLAN device's of this host (see it:"
            " ip -d link show type vxlan): remove it, or make a network with another identifier"
        )
    return Internal(f"cannot make {link}: no free device number")
