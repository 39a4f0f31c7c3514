"""``fairlead swarm ca``: the authority that signs the certificates of nodes, and a new one that takes its place."""

from __future__ import annotations

import time
from typing import Any

from fairlead.cli.client import Client
from fairlead.cli.command import command, content, option, switch
from fairlead.cli.drawing import Board
from fairlead.cli.swarm import EXPIRY, EXTERNAL, Trouble, change, write
from fairlead.errors import Invalid

PAUSE = 0.2
"""Seconds between two looks at how far it is."""


def _pem(name: str) -> str:
    text = content(name).decode()
    if "-----BEGIN " not in text:
        raise Invalid("file contents must be in PEM format")
    return text


@command("[OPTIONS]")
@switch("--rotate", help="A new authority takes over; nobody notices.")
@option("--ca-cert", word="pem-file", read=_pem, help="File with the certificate of the new authority.")
@option("--ca-key", word="pem-file", read=_pem, help="File with its key.")
@EXPIRY
@EXTERNAL
@switch("-d", "--detach", help="Do not wait until all nodes have new certificates.")
@switch("-q", "--quiet", help="Do not show progress.")
def ca(client: Client, rotate: bool, detach: bool, quiet: bool, **flags: Any) -> int:
    """Show the certificate of the swarm's authority, or let a new one take over."""
    swarm = client.call("GET", "/swarm")
    if not rotate:
        for flag in ("ca_cert", "ca_key", "cert_expiry", "external_ca"):
            if flags[flag]:
                raise Invalid(f"`--{flag.replace('_', '-')}` flag requires the `--rotate` flag to update the CA")
        return _show_root(swarm)
    if flags["external_ca"] and not flags["ca_cert"]:
        raise Invalid(
            "rotating to an external CA requires the `--ca-cert` flag to specify the external CA's cert - "
            "to add an external CA with the current root CA certificate, use the `update` command instead"
        )
    if flags["ca_cert"] and not flags["ca_key"] and not flags["external_ca"]:
        raise Invalid("the --ca-cert flag requires that a --ca-key flag and/or --external-ca flag be provided as well")
    change(swarm["Spec"], flags)
    settings = swarm["Spec"].setdefault("CAConfig", {})
    settings["ForceRotate"] = settings.get("ForceRotate", 0) + 1
    settings |= {"SigningCACert": flags["ca_cert"], "SigningCAKey": flags["ca_key"]}
    write(client, swarm)
    if detach:
        return 0
    _watch_rotation(client, quiet)
    return 0 if quiet else _show_root(client.call("GET", "/swarm"))


def _show_root(swarm: dict[str, Any]) -> int:
    root = (swarm.get("TLSInfo") or {}).get("TrustRoot")
    if not root:
        raise Trouble("No CA information available")
    print(root.strip())
    return 0


def _watch_rotation(client: Client, quiet: bool) -> None:
    """Wait until every node has a certificate from the new authority, and trusts no other."""
    from hashlib import sha256

    board, done = None if quiet else Board(), False
    lines = ("desired root digest", "  rotated TLS certificates", "  rotated CA certificates")
    if board:
        for name, words in zip(lines, ("", "", " "), strict=True):
            board.say(name, words)
    while True:
        swarm = client.call("GET", "/swarm")
        if done:
            return
        nodes = [node["Description"].get("TLSInfo") or {} for node in client.call("GET", "/nodes")]
        wanted = swarm["TLSInfo"]
        signed = sum(
            all(node.get(key) == wanted.get(key) for key in ("CertIssuerPublicKey", "CertIssuerSubject"))
            for node in nodes
        )
        trusting = sum(node.get("TrustRoot") == wanted["TrustRoot"] for node in nodes)
        if signed < len(nodes) or swarm.get("RootRotationInProgress"):
            trusting = 0
        if board:
            board.say(lines[0], f"sha256:{sha256(wanted['TrustRoot'].encode()).hexdigest()}")
            board.say(lines[1], "", signed, len(nodes), "nodes")
            board.say(lines[2], " ", trusting, len(nodes), "nodes")
        done = bool(nodes) and trusting == len(nodes)
        time.sleep(PAUSE)
