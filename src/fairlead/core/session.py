"""What nodes and managers say to each other on port 2377, message by message.

    one answer:   Ask... --> Answer                 no certificate yet: GetRoot, Join; with one: Renew, Enroll, GetKeys
    a session:    Hello, then for as long as it lasts:
                  node --> manager    Beat, Told, Call, Reply      manager --> node    Welcome, Assign, Command, Beat,
                                                                                       Call, Reply
    between managers: Relay --> Reply...           a question to a node that has its session with the other one

A message is JSON with its ``type``; what carries them (length, TLS) is ``swarm.gate``. Everything a node says is
believed only as far as its certificate goes: reports of tasks that are its own, rows that are its own.
"""

from __future__ import annotations

import msgspec

from fairlead.core.cluster import Attachment, Description, Node, Report, Task
from fairlead.core.service import ServicePort
from fairlead.core.swarmspec import ConfigFile, Secret, SharedNetwork


class GetRoot(msgspec.Struct, frozen=True, tag="get-root"):
    """What do you call your cluster's root? The answer is held against the digest in the token."""


class Root(msgspec.Struct, frozen=True, tag="root"):
    """``roots``: PEM of every root that is believed now, the one that tokens name first. ``era``: of the cluster."""

    roots: str
    era: int = 0


class Join(msgspec.Struct, frozen=True, tag="join"):
    """``secret``: of the join token; it decides the role. ``request``: PEM of a certificate signing request."""

    secret: str
    request: str
    availability: str = "active"

    def __repr__(self) -> str:
        return "Join()"


class Renew(msgspec.Struct, frozen=True, tag="renew"):
    """The certificate for the role that the node has now."""

    request: str


class Issued(msgspec.Struct, frozen=True, tag="issued"):
    """``certificate``: PEM, bridge included; ``managers``: ``host:port`` of all."""

    node: str
    certificate: str
    roots: str
    managers: tuple[str, ...] = ()


class Enroll(msgspec.Struct, frozen=True, tag="enroll"):
    """A manager (by its certificate) wants to be a member of the managers' etcd. ``address``: ``host:port``, where
    other managers and nodes reach it."""

    address: str


class Enrolled(msgspec.Struct, frozen=True, tag="enrolled"):
    """``members``: node id -> address of every member, the new one too. ``keys``: those their store is sealed with, by
    id; ``key``: the one that has none."""

    members: dict[str, str]
    key: bytes = b""
    keys: dict[str, bytes] = {}

    def __repr__(self) -> str:
        return f"Enrolled({self.members})"


class GetKeys(msgspec.Struct, frozen=True, tag="get-keys"):
    """A member wants the keys with which the managers' store is sealed now (``core.datakeys``)."""


class KeysGiven(msgspec.Struct, frozen=True, tag="keys"):
    """By id, as far as the manager that answers has them."""

    keys: dict[str, bytes]

    def __repr__(self) -> str:
        return f"KeysGiven({len(self.keys)})"


class Refused(msgspec.Struct, frozen=True, tag="refused"):
    """``kind``: name of the error of ours that it was."""

    message: str
    kind: str = "Invalid"


# -- a session: node to manager ----------------------------------------------------------------------------------------


class Hello(msgspec.Struct, frozen=True, tag="hello"):
    """``address``: where this node is reached, empty: as the manager sees it."""

    description: Description
    address: str = ""


class Beat(msgspec.Struct, frozen=True, tag="beat"):
    """Still here. The manager gives it back."""


class Told(msgspec.Struct, frozen=True, tag="told"):
    """What became of tasks. A ``Reply`` of that number says that it is written; else it is told again."""

    number: int
    reports: tuple[Report, ...]
    now: int = 0
    """what the node's clock shows: nanoseconds since 1970"""


class Call(msgspec.Struct, frozen=True, tag="call"):
    """A question within a session, answered by a ``Reply`` (or several, for ``watch``) with the same number.

    ``verb``, asked by nodes: of ``store.base.Store``, on what nodes share (gossip keys, places, halves of keys), or
    ``lease-address``, ``release-address`` for containers that are no tasks; ``leave``: this node will not come back.
    Asked by managers: ``logs``. Either side: ``enough``, about what is answered under that number; nobody replies.
    ``body``: JSON, as the verb has it.
    """

    number: int
    verb: str
    body: msgspec.Raw = msgspec.Raw(b"null")


class Relay(msgspec.Struct, frozen=True, tag="relay"):
    """Between managers: a call for that node, whose session the other one has."""

    node: str
    verb: str
    body: msgspec.Raw


# -- a session: manager to node ----------------------------------------------------------------------------------------


class Welcome(msgspec.Struct, frozen=True, tag="welcome"):
    """``period``: seconds between two beats; said again when it changes. ``node``: as the manager has it now."""

    cluster: str
    period: float
    node: Node


class ServiceView(msgspec.Struct, frozen=True, omit_defaults=True):
    """What the nodes of its tasks know of a service. ``addresses``: virtual ones, by network; none: names only."""

    id: str
    name: str
    labels: dict[str, str] = {}
    addresses: tuple[Attachment, ...] = ()
    ports: tuple[ServicePort, ...] = ()


class Assign(msgspec.Struct, frozen=True, tag="assign"):
    """What the node is to have. ``whole``: this is all, and what is not in it is not wanted any more; else a change.

    ``drop``: (tasks | services | networks | secrets | configs, id). Nothing names what is not in this message or one
    before. ``data_port``: UDP port of frames between nodes; 0: as it was.
    """

    whole: bool = False
    tasks: tuple[Task, ...] = ()
    services: tuple[ServiceView, ...] = ()
    networks: tuple[SharedNetwork, ...] = ()
    secrets: tuple[Secret, ...] = ()
    configs: tuple[ConfigFile, ...] = ()
    drop: tuple[tuple[str, str], ...] = ()
    data_port: int = 0

    def __repr__(self) -> str:
        return f"Assign(whole={self.whole}, {len(self.tasks)} tasks, {len(self.networks)} networks)"


class Command(msgspec.Struct, frozen=True, tag="command"):
    """Sent when anything of it changes.

    ``managers``: node id -> ``host:port``. ``roots``: all that are believed now. ``renew``: get another certificate
    (for another role, of another root). ``node``: this one's labels, role and ingress address.
    """

    managers: dict[str, str]
    roots: str
    renew: bool
    node: Node


class Reply(msgspec.Struct, frozen=True, tag="reply"):
    """``error``: empty, or the name of the error of ours that ``message`` is from. ``more``: others follow."""

    number: int
    body: msgspec.Raw = msgspec.Raw(b"null")
    error: str = ""
    message: str = ""
    more: bool = False


Asked = GetRoot | Join | Renew | Enroll | GetKeys | Hello | Relay
"""What may come first on a connection."""
Answered = Root | Issued | Enrolled | KeysGiven | Refused | Welcome
FromNode = Beat | Told | Call | Reply
ToNode = Welcome | Assign | Command | Beat | Call | Reply | Refused
