"""Events of a swarm, as dockerd 28.5.2 tells them."""

import pytest
from msgspec.structs import replace

from fairlead.core.cluster import Description, Manager, Node, NodeSpec, Service, Task, UpdateStatus
from fairlead.core.model import Network
from fairlead.core.service import Global, Mode, Replicated, ServiceSpec, TaskSpec
from fairlead.core.swarmspec import ConfigFile, FileSpec, Secret, SharedNetwork
from fairlead.core.tidings import tiding

WEB = Service("s1", ServiceSpec(name="web", mode=Mode(replicated=Replicated(2))))
NODE = Node("n1", NodeSpec(name="fred"), Description(hostname="host61"), state="unknown")


def paused(of: Service, state: str) -> Service:
    return replace(of, update=UpdateStatus(state))


@pytest.mark.parametrize(
    ("before", "after", "told"),
    [
        (None, WEB, ("service", "create", "s1", {"name": "web"})),
        (WEB, None, ("service", "remove", "s1", {"name": "web"})),
        (WEB, replace(WEB, updated=5), ("service", "update", "s1", {"name": "web"})),
        (
            WEB,
            replace(WEB, spec=ServiceSpec(name="web", mode=Mode(replicated=Replicated(3)))),
            ("service", "update", "s1", {"name": "web", "replicas.old": "2", "replicas.new": "3"}),
        ),
        (WEB, paused(WEB, "updating"), ("service", "update", "s1", {"name": "web", "updatestate.new": "updating"})),
        (
            paused(WEB, "updating"),
            paused(WEB, "paused"),
            ("service", "update", "s1", {"name": "web", "updatestate.old": "updating", "updatestate.new": "paused"}),
        ),
        (
            NODE,
            replace(NODE, state="ready"),
            ("node", "update", "n1", {"name": "host61", "state.old": "unknown", "state.new": "ready"}),
        ),
        (
            NODE,
            replace(NODE, spec=NodeSpec(name="fred", role="manager", availability="drain")),
            (
                "node",
                "update",
                "n1",
                {
                    "name": "host61",
                    "role.old": "worker",
                    "role.new": "manager",
                    "availability.old": "active",
                    "availability.new": "drain",
                },
            ),
        ),
        (
            NODE,
            replace(NODE, spec=NodeSpec(name="fred", labels={"a": "b"})),
            ("node", "update", "n1", {"name": "host61"}),
        ),
        (None, SharedNetwork("x", Network("x", "net", "")), ("network", "create", "x", {"name": "net"})),
        (Secret("x", FileSpec("s")), None, ("secret", "remove", "x", {"name": "s"})),
        (None, ConfigFile("x", FileSpec("c")), ("config", "create", "x", {"name": "c"})),
    ],
)
def test_what_is_told(before: object, after: object, told: tuple[str, str, str, dict[str, str]]) -> None:
    assert tiding(before, after) == told


def test_a_new_leader_is_told() -> None:
    follower = replace(NODE, manager=Manager(reachability="reachable"))
    told = tiding(follower, replace(follower, manager=Manager(True, "reachable")))
    assert told is not None and told.attributes == {"name": "host61", "leader.old": "false", "leader.new": "true"}


def test_global_services_have_no_number() -> None:
    everywhere = Service("s1", ServiceSpec(name="web", mode=Mode(everywhere=Global())))
    told = tiding(everywhere, replace(everywhere, updated=5))
    assert told is not None and told.attributes == {"name": "web"}


def test_what_nobody_asked_about_is_not_told() -> None:
    assert tiding(NODE, replace(NODE, address="192.0.2.1", updated=5)) is None
    assert tiding(None, Task("t1", TaskSpec())) is None
