"""How Docker's swarm says no. What its managers refuse comes back with the words of their protocol in front:

    rpc error: code = InvalidArgument desc = name must be provided

People and programs look for these texts, so they are ours too.
"""

from __future__ import annotations

from fairlead.errors import Conflict, FairleadError, Invalid, Unsupported


def invalid(text: str) -> Invalid:
    """It makes no sense."""
    return Invalid(f"rpc error: code = InvalidArgument desc = {text}")


def unmet(text: str) -> Invalid:
    """It would make sense if things were otherwise."""
    return Invalid(f"rpc error: code = FailedPrecondition desc = {text}")


def exists(text: str) -> Conflict:
    return Conflict(f"rpc error: code = AlreadyExists desc = {text}")


def unsupported(text: str) -> Unsupported:
    return Unsupported(f"rpc error: code = Unimplemented desc = {text}")


def unknown(text: str) -> FairleadError:
    """What Docker did not give a kind: status 500."""
    return FairleadError(f"rpc error: code = Unknown desc = {text}")
