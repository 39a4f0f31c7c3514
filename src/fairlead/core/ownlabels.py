"""Labels that mean something to us: a word of ours that is misspelt, or stands where nobody looks, is refused.

A label is where Docker's clients let people say what Docker has no flag for. A label that nobody reads is taken without
a word, so ``fairlead.polcy=source`` would be found out under load. All that begins with ``fairlead.`` is ours.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from fairlead.core import mesh, serving, webmesh
from fairlead.core.refusals import invalid

PREFIX = "fairlead."
WEB = webmesh.LABELS[-1]
KNOWN = {
    "a service": (serving.LABEL, mesh.AT, mesh.PROXY, WEB),
    "a container": (serving.WEIGHT,),
    "a node": (serving.WEIGHT,),
}


def service(labels: Mapping[str, str]) -> None:
    """Raises ``Invalid``; so do the others."""
    _known("a service", labels)
    serving.asked(labels.get(serving.LABEL, ""))
    at, proxy = labels.get(mesh.AT, ""), labels.get(mesh.PROXY, "")
    if at and not mesh.PUBLISHED.fullmatch(f"{at}@1:1/tcp"):
        raise invalid(f"label {mesh.AT}={at}: expected an address, or the name of a device")
    if proxy not in ("", mesh.V2):
        raise invalid(f"label {mesh.PROXY}={proxy}: expected {mesh.V2}")


def container(labels: Mapping[str, str]) -> None:
    _weighed("a container", labels)


def node(labels: Mapping[str, str]) -> None:
    _weighed("a node", labels)


def _weighed(of: str, labels: Mapping[str, str]) -> None:
    _known(of, labels)
    given = labels.get(serving.WEIGHT, "")
    if given and not (re.fullmatch("[0-9]{1,3}", given, re.ASCII) and 1 <= int(given) <= serving.HEAVIEST):
        raise invalid(f"label {serving.WEIGHT}={given}: expected a whole number from 1 to {serving.HEAVIEST}")


def _known(of: str, labels: Mapping[str, str]) -> None:
    for name in sorted(labels):
        word = WEB if webmesh.leads(name) else name  # more than one has a dot and a word behind it
        if not name.startswith(PREFIX) or word in KNOWN[of]:
            continue
        other = next((where for where, names in KNOWN.items() if word in names), "")
        raise invalid(f"label {name} of {of}: {f'it is one of {other}' if other else f'there are {_list(of)}'}")


def _list(of: str) -> str:
    return ", ".join(KNOWN[of])
