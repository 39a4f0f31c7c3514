"""The default network: what the settings fix, what stands, and whose bridge it is."""

import itertools
from pathlib import Path

import pytest
from paper import Paper

from fairlead import settings
from fairlead.core.addresses import PoolPlan
from fairlead.core.wanted import HOST, Address, Element, Link, Route
from fairlead.engine.kernel import Kernel
from fairlead.engine.machine import Machine, Wishes
from fairlead.engine.predefined import Predefined
from fairlead.errors import Conflict, Invalid

numbers = itertools.count(1)


async def ensure(paper: Paper, *options: str) -> dict[str, str]:
    """Subnet, range and gateway of the default network as these options want it."""
    wanted = settings.parse(["--config-file", "/dev/null", *options])
    made = Predefined(
        paper.controller, paper.host, wanted, PoolPlan(), lambda: "", lambda: f"{next(numbers):064x}"[::-1]
    )
    await made.ensure()
    pool = paper.controller.network("bridge").ipam.config[0]
    return {"subnet": pool.subnet, "range": pool.ip_range, "gateway": pool.gateway}


async def test_the_options_fix_it(paper: Paper) -> None:
    found = await ensure(paper, "--bip=10.1.0.1/16", "--fixed-cidr=10.1.2.0/24")
    assert found == {"subnet": "10.1.0.0/16", "range": "10.1.2.0/24", "gateway": "10.1.0.1"}


async def test_it_keeps_its_id_and_what_stands(paper: Paper) -> None:
    first, id = await ensure(paper), paper.controller.network("bridge").id
    paper.host.put(Route(ns=HOST, destination=first["subnet"], link="vpn0"))
    for _ in range(3):
        assert await ensure(paper) == first, "a route that came since does not move it"
    assert paper.controller.network("bridge").id == id
    paper.kernel.drop(id)
    assert (await ensure(paper))["subnet"] != first["subnet"], "but a bridge made anew keeps clear of it"


async def test_a_bridge_of_somebody_else_is_not_touched(paper: Paper) -> None:
    paper.host.put(Link(name="docker0", kind="bridge"))
    with pytest.raises(Conflict, match="docker0 exists and is not ours"):
        await ensure(paper)


async def test_a_named_bridge_must_be_there(paper: Paper) -> None:
    with pytest.raises(Invalid, match="bridge cookbook does not exist"):
        await ensure(paper, "-b", "cookbook")


async def test_what_stands_as_it_was_asked_for_is_compared_by_the_first_repair(paper: Paper) -> None:
    await ensure(paper)
    id = paper.controller.network("bridge").id
    returned = Kernel(paper.host)
    machine = Machine(returned, paper.host, Path("/dev/null"), "boot", Wishes(forward=False))
    machine.resume()
    paper.controller._kernel, paper.controller._machine = returned, machine
    paper.host.remove([item for item in paper.kernel.wanted(id) if isinstance(item, Element)])
    await ensure(paper)
    assert returned.wanted(id) == paper.kernel.wanted(id)
    missing, _ = returned.drift()
    assert {type(item) for item in missing} == {Element}, "noted, not made again one by one"
    await ensure(paper, "--bip=10.1.0.1/16")
    assert Address(link="docker0", address="10.1.0.1/16").key in paper.host.things, "what changed is made at once"
