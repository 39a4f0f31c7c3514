"""Which containers ``docker ps --filter`` lets through; the answers are those of dockerd 28.5.2."""

import pytest

from fairlead.api.container_filters import Facts, matcher
from fairlead.core.container import Container

PORTS = {
    "web": [{"PrivatePort": 80, "PublicPort": 9090, "Type": "tcp"}, {"PrivatePort": 90, "Type": "tcp"}],
    "inner": [{"PrivatePort": 95, "Type": "tcp"}],
    "stopped": [],
}
FACTS = Facts(lambda container: PORTS[container.name], {}, lambda ref: "", lambda ref: Container("", "", ""))


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        ({"publish": ["9090"]}, "web"),
        ({"publish": ["9000-9100/udp"]}, ""),
        ({"publish": ["90"]}, ""),
        ({"publish": ["0"]}, "web inner"),
        ({"expose": ["80"]}, "web"),
        ({"expose": ["90-95/tcp"]}, "web inner"),
        ({"publish": ["9090"], "expose": ["95"]}, "web inner"),
        ({"expose": ["95"], "name": ["web"]}, ""),
    ],
    ids=str,
)
def test_ports_are_those_of_the_list(wanted: dict[str, list[str]], found: str) -> None:
    test = matcher(wanted, FACTS)
    assert [name for name in PORTS if test(Container(name, name, ""))] == found.split()
