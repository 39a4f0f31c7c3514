"""Default route: highest priority, then name; each family by itself; internal networks never."""

from fairlead.core.gateway import Candidate, gateway
from fairlead.core.model import Endpoint, EndpointSettings, Network


def candidate(
    name: str, priority: int = 0, ipv4: str = "10.0.0.2/24", ipv6: str = "", leads_out: bool = True
) -> Candidate:
    settings = EndpointSettings(gw_priority=priority)
    endpoint = Endpoint("e-" + name, name, "c", "s", "web", ipv4=ipv4, ipv6=ipv6, settings=settings)
    return Candidate(endpoint, Network(name, name, ""), leads_out)


def chosen(family: int, *candidates: Candidate) -> str:
    found = gateway(candidates, family)
    return found.network.name if found else ""


def test_the_first_by_name_when_nobody_says_otherwise() -> None:
    assert chosen(4, candidate("zulu"), candidate("alpha")) == "alpha"


def test_priority_beats_the_name() -> None:
    assert chosen(4, candidate("alpha"), candidate("zulu", priority=1)) == "zulu"
    assert chosen(4, candidate("alpha", priority=-1), candidate("zulu")) == "zulu"


def test_internal_networks_lead_nowhere() -> None:
    assert chosen(4, candidate("alpha", leads_out=False), candidate("zulu", priority=-9)) == "zulu"
    assert chosen(4, candidate("alpha", leads_out=False)) == ""


def test_families_choose_for_themselves() -> None:
    only4 = candidate("alpha", priority=5)
    only6 = candidate("zulu", ipv4="", ipv6="fd00::2/64")
    assert (chosen(4, only4, only6), chosen(6, only4, only6)) == ("alpha", "zulu")
