"""Kernel: owners want plans; the machine follows, or nothing changes."""

from collections.abc import Callable, Sequence

import pytest

from fairlead.core.wanted import HOST, Address, Element, Link, Plan, Route, Skeleton, Wanted
from fairlead.engine.kernel import Kernel
from fairlead.errors import FairleadError, Internal
from fairlead.host.fake import FakeHost

BRIDGE = Link(name="br-red", kind="bridge", why="network RED")
GATEWAY = Address(link="br-red", address="10.0.0.1/24")
SECOND = Link(name="br-blue", kind="bridge")


def there(host: FakeHost, *items: Wanted) -> list[bool]:
    found = {item.key: item for item in host.look(items)}
    return [found.get(item.key) == item for item in items]


@pytest.fixture
def host() -> FakeHost:
    return FakeHost()


@pytest.fixture
def kernel(host: FakeHost) -> Kernel:
    return Kernel(host)


def test_wanting_makes_and_wanting_nothing_removes(host: FakeHost, kernel: Kernel) -> None:
    kernel.want("red", (BRIDGE, GATEWAY), "network RED")
    assert there(host, BRIDGE, GATEWAY) == [True, True]
    assert {item.owner for item in kernel.wanted()} == {"network RED"}
    kernel.drop("red")
    assert there(host, BRIDGE, GATEWAY) == [False, False]
    assert kernel.wanted() == ()


def test_only_the_difference_is_done(host: FakeHost, kernel: Kernel) -> None:
    kernel.want("red", (BRIDGE, GATEWAY))
    other = Address(link="br-red", address="10.0.1.1/24")
    kernel.want("red", (BRIDGE, other))
    assert there(host, BRIDGE, GATEWAY, other) == [True, False, True]


def test_a_refused_plan_changes_nothing(host: FakeHost, kernel: Kernel) -> None:
    kernel.want("red", (BRIDGE,))
    host.fail_on(GATEWAY.key)
    with pytest.raises(FairleadError):
        kernel.want("red", (BRIDGE, SECOND, GATEWAY))
    assert there(host, BRIDGE, SECOND, GATEWAY) == [True, False, False]
    assert kernel.wanted("red") == (BRIDGE,)
    host.relent()
    kernel.want("red", (BRIDGE, SECOND, GATEWAY))
    assert there(host, BRIDGE, SECOND, GATEWAY) == [True, True, True]


def test_a_plan_refused_for_what_somebody_deleted_is_tried_again(host: FakeHost, kernel: Kernel) -> None:
    kernel.want("red", (BRIDGE, GATEWAY))
    host.remove([BRIDGE])
    cable = Link(name="veth1", kind="veth", master="br-red", peer="eth0", peer_ns="")
    refuse, host.make = host.make, lambda items: _on_ground(host, refuse, items)  # type: ignore[method-assign]
    told: list[Plan] = []
    kernel.when_repaired(lambda made, removed: told.append(made))
    kernel.want("sandbox", (cable,))
    assert [len(made) for made in told] == [2]
    assert there(host, BRIDGE, GATEWAY, cable) == [True, True, True]


async def test_what_can_be_mended_is_mended_and_told(host: FakeHost, kernel: Kernel) -> None:
    """The whole cannot be made: the table still is, and elements of owners that come before its own."""
    element, table = Element(ns=HOST, map="networks", item="br-red"), Skeleton(ns=HOST, text="table")
    kernel.want("engine", (table,))
    kernel.want("blue", (SECOND,))
    kernel.want("red", (BRIDGE, element))
    kernel.drop("engine")
    kernel.want("engine", (table,))  # now it comes last
    host.lose([table, element, SECOND])
    host.fail_on(SECOND.key)
    told: list[Wanted] = []
    kernel.when_repaired(lambda made, removed: told.extend(made))
    with pytest.raises(FairleadError):
        await kernel.heal()
    assert there(host, table, element, SECOND) == [True, True, False]
    assert {item.key for item in told} == {table.key, element.key}


def _on_ground(host: FakeHost, make: Callable[[Sequence[Wanted]], None], items: Sequence[Wanted]) -> None:
    """The kernel's way: no cable to a bridge that is not there."""
    if any(item.kind == "veth" for item in items if isinstance(item, Link)) and not there(host, BRIDGE)[0]:
        raise Internal("there is no device br-red")
    make(items)


def test_two_owners_cannot_want_the_same_object(host: FakeHost, kernel: Kernel) -> None:
    kernel.want("red", (BRIDGE,))
    with pytest.raises(Internal, match="two owners"):
        kernel.want("blue", (SECOND, BRIDGE))
    assert there(host, SECOND) == [False]
    with pytest.raises(Internal, match="two owners"):
        kernel.want("blue", (SECOND, SECOND))
    assert there(host, SECOND) == [False]
    kernel.drop("red")
    assert there(host, BRIDGE) == [False]


def test_repair_makes_what_is_missing_and_removes_what_nobody_wants(host: FakeHost, kernel: Kernel) -> None:
    kernel.want("red", (BRIDGE, GATEWAY))
    host.remove((BRIDGE, GATEWAY))
    host.make((SECOND,))
    make, surplus = kernel.repair()
    assert set(make) == {BRIDGE, GATEWAY}
    assert [item.key for item in surplus] == [SECOND.key]
    assert there(host, BRIDGE, GATEWAY, SECOND) == [True, True, False]
    assert kernel.repair() == ((), ())


def test_adopting_touches_nothing_until_repair(host: FakeHost, kernel: Kernel) -> None:
    kernel.adopt("red", (BRIDGE,))
    assert there(host, BRIDGE) == [False]
    kernel.repair()
    assert there(host, BRIDGE) == [True]


def test_a_new_skeleton_brings_its_elements_back(host: FakeHost, kernel: Kernel) -> None:
    skeleton = Skeleton(ns=HOST, text="set ours { type ifname; }")
    kernel.want("base", (skeleton,))
    element = Element(map="ours", item='"br-red"')
    kernel.want("red", (element,))
    host.remove((skeleton,))
    kernel.repair()
    assert there(host, skeleton, element) == [True, True]


def test_a_changed_object_is_changed_in_place(host: FakeHost, kernel: Kernel) -> None:
    before = Route(destination="0.0.0.0/0", gateway="10.0.0.1", link="br-red")
    after = Route(destination="0.0.0.0/0", gateway="10.0.0.254", link="br-red")
    kernel.want("red", (BRIDGE, GATEWAY, before))
    kernel.want("red", (BRIDGE, GATEWAY, after))
    assert there(host, after) == [True]


def test_another_skeleton_keeps_everybodys_elements(host: FakeHost, kernel: Kernel) -> None:
    kernel.want("base", (Skeleton(ns=HOST, text="set ours { type ifname; }"),))
    element = Element(map="ours", item='"br-red"')
    kernel.want("red", (element,))
    kernel.want("base", (Skeleton(ns=HOST, text="set ours { type ifname; } # and more"),))
    assert there(host, element) == [True]


def test_two_looks_at_once_each_learn_what_was_touched() -> None:
    """Though both have heard the same so far: nothing."""
    kernel, link = Kernel(FakeHost()), Link(name="red0", kind="bridge")
    with kernel._journal():
        with kernel._journal() as second:
            first = kernel._journals[0]
            assert kernel._journals[1] is second
        kernel._touch([link])
        assert link.key in first and link.key not in second
