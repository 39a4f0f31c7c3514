"""Which containers ``docker ps --filter`` lets through; the answers are those of dockerd 28.5.2."""

import pytest

from fairlead.api.container_filters import Facts, matcher
from fairlead.core.container import Config, Container

PORTS = {
    "web": [{"PrivatePort": 80, "PublicPort": 9090, "Type": "tcp"}, {"PrivatePort": 90, "Type": "tcp"}],
    "inner": [{"PrivatePort": 95, "Type": "tcp"}],
    "stopped": [],
}
FACTS = Facts(
    lambda container: PORTS[container.name],
    {},
    lambda ref: {"old": "base", "young": "child"}.get(ref, ""),
    lambda ref: Container("", "", ""),
    lambda image: {"child": "base"}.get(image, ""),
)


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


@pytest.mark.parametrize(("ancestor", "found"), [("old", True), ("young", True), ("asked", True), ("other", False)])
def test_an_ancestor_is_any_image_that_its_own_was_built_on(ancestor: str, found: bool) -> None:
    test = matcher({"ancestor": [ancestor]}, FACTS)
    assert test(Container("web", "web", "", image="child", config=Config(image="asked"))) is found
    assert test(Container("web", "web", "", image="base")) is (ancestor == "old")
