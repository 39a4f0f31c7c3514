"""Nodes of a swarm in Docker's spelling, and whose certificates they have."""

from __future__ import annotations

import base64
from functools import lru_cache
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from fairlead.api import wire, wire_services
from fairlead.core.cluster import Description, Manager, Node, NodeSpec
from fairlead.core.swarmspec import Trust


def node_spec(body: Any) -> NodeSpec:
    """The body of ``nodes/…/update``: nothing of it has a default."""
    if body is not None and not isinstance(body, dict):
        raise wire.wrong(body, "", "swarm.NodeSpec")
    given = wire.members(body, "", "swarm.NodeSpec")
    where = "NodeSpec"
    return NodeSpec(
        name=wire.get(given, "Name", str, "", where),
        labels=wire.get(given, "Labels", dict[str, str], {}, where),
        role=wire.get(given, "Role", str, "", where).lower(),
        availability=wire.get(given, "Availability", str, "", where).lower(),
    )


def node(of: Node, trust: Trust) -> dict[str, Any]:
    shown = {
        **wire_services.head(of),
        "Spec": {
            **({"Name": of.spec.name} if of.spec.name else {}),
            "Labels": of.spec.labels,
            "Role": of.spec.role,
            "Availability": of.spec.availability,
        },
        "Description": {**description(of.description), "TLSInfo": tls_info(trust.root)},
        "Status": _given({"State": of.state, "Message": of.message, "Addr": of.address}),
    }
    return {**shown, "ManagerStatus": manager(of.manager)} if of.manager else shown


def description(of: Description) -> dict[str, Any]:
    platform = {"Architecture": of.platform.architecture, "OS": of.platform.os}
    engine = {
        "EngineVersion": of.engine_version,
        "Labels": of.engine_labels,
        "Plugins": [{"Type": plugin.type, "Name": plugin.name} for plugin in of.plugins],
    }
    return {
        "Hostname": of.hostname,
        "Platform": _given(platform),
        "Resources": wire_services.sparse(of.resources),
        "Engine": _given(engine),
    }


def manager(of: Manager) -> dict[str, Any]:
    return _given({"Leader": of.leader, "Reachability": of.reachability, "Addr": of.address})


@lru_cache(maxsize=4)
def tls_info(root: str) -> dict[str, str]:
    """Of the certificates that a root has signed. ``root``: PEM; empty or unreadable: nothing is known."""
    try:
        parsed = x509.load_pem_x509_certificate(root.encode())
    except ValueError:
        return {}
    public = parsed.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return {
        "TrustRoot": root,
        "CertIssuerSubject": base64.b64encode(parsed.subject.public_bytes()).decode(),
        "CertIssuerPublicKey": base64.b64encode(public).decode(),
    }


def _given(shown: dict[str, Any]) -> dict[str, Any]:
    """Without what is empty."""
    return {key: value for key, value in shown.items() if value}
