"""Networks that are only a configuration for others, and those made from them. The words are dockerd's."""

from typing import Any

import pytest
from paper import Paper

from fairlead.core.model import Ipam, Subnet
from fairlead.errors import Forbidden

ONLY = (
    "configuration network can only contain network specific fields. Network operator fields like"
    " [ ingress | internal | attachable | scope ] are not supported."
)
DEPENDS = "not supported if the network depends on a configuration network"
OWN = f"user specified configurations are {DEPENDS}"


@pytest.fixture
async def town(paper: Paper) -> Paper:
    await paper.network("plan", config_only=True, labels={"a": "b"}, ipam=Ipam(config=(Subnet(subnet="10.71.0.0/24"),)))
    return paper


@pytest.mark.parametrize("field", [{"internal": True}, {"attachable": True}, {"ingress": True}, {"scope": "global"}])
async def test_a_configuration_is_nothing_of_its_own(town: Paper, field: dict[str, Any]) -> None:
    with pytest.raises(Forbidden) as refused:
        await town.network("other", config_only=True, **field)
    assert refused.value.message == ONLY


async def test_a_configuration_is_not_made_from_another(town: Paper) -> None:
    with pytest.raises(Forbidden, match="a configuration network cannot depend on another configuration network"):
        await town.network("other", config_only=True, config_from="plan")


@pytest.mark.parametrize(
    ("field", "words"),
    [
        ({"labels": {"x": "y"}}, OWN),
        ({"ipv6": True}, OWN),
        ({"ipam": Ipam(config=(Subnet(subnet="10.72.0.0/24"),))}, OWN),
        ({"ipam": Ipam(options={"a": "b"})}, OWN),
        ({"options": {"parent": "eth0"}}, f"network driver options are {DEPENDS}"),
    ],
    ids=str,
)
async def test_what_the_configuration_says_nobody_else_does(town: Paper, field: dict[str, Any], words: str) -> None:
    with pytest.raises(Forbidden) as refused:
        await town.network("net", config_from="plan", **field)
    assert refused.value.message == words


async def test_who_comes_in_is_said_by_the_network_itself(town: Paper) -> None:
    await town.network("net", config_from="plan", internal=True, attachable=True)
    made = town.controller.network("net")
    assert (made.internal, made.attachable, made.labels) == (True, True, {"a": "b"})
    assert [pool.subnet for pool in made.ipam.config] == ["10.71.0.0/24"]
