"""Driver options of ours: what is misspelt, or stands where nobody reads it, is refused; others' are left alone."""

import pytest
from msgspec.structs import replace

from fairlead.core import ownoptions, servicecheck, sharednetworks
from fairlead.core.model import NetworkRequest
from fairlead.core.service import ContainerSpec, NetworkAttachment, ServiceSpec, TaskSpec
from fairlead.errors import Invalid

WEB = ServiceSpec(name="web", task_template=TaskSpec(container_spec=ContainerSpec(image="busybox")))


@pytest.mark.parametrize(
    ("driver", "option", "words"),
    [
        ("bridge", "antispof", "of a bridge network: there are com.fairlead.antispoof, com.fairlead.mac_from_address"),
        ("bridge", "rate", "of a bridge network: it is one of an endpoint"),
        ("macvlan", "antispoof", "of a network: it is one of a bridge network"),
        ("overlay", "antispof", "of a network: there are com.fairlead.mac_from_address"),
    ],
)
def test_of_a_network(driver: str, option: str, words: str) -> None:
    given = {f"com.fairlead.{option}": "true"}
    assert list(ownoptions.of_network(driver, given)) == [f"option com.fairlead.{option} {words}"]


def test_of_an_endpoint() -> None:
    told = list(ownoptions.of_endpoint({"com.fairlead.raet": "1mbit", "com.fairlead.antispoof": "1"}))
    assert told == [
        "option com.fairlead.antispoof of an endpoint: it is one of a bridge network",
        "option com.fairlead.raet of an endpoint:"
        " there are com.fairlead.rate, com.fairlead.rate_in, com.fairlead.rate_out",
    ]


def test_what_there_is_and_what_others_have_passes() -> None:
    theirs = {"com.example.rate": "x", "com.fairlead": "x", "parent": "eth0"}
    assert not list(ownoptions.of_endpoint({"com.fairlead.rate": "1mbit", "com.fairlead.rate_in": "2mbit", **theirs}))
    ours = {"com.fairlead.antispoof": "true", "com.fairlead.mac_from_address": "true"}
    assert not list(ownoptions.of_network("bridge", {**ours, **theirs}))


@pytest.mark.parametrize("older", [False, True])
def test_of_a_service(older: bool) -> None:
    on = (NetworkAttachment(target="red", driver_opts={"com.fairlead.raet": "1mbit"}),)
    template = replace(WEB.task_template, networks=None if older else on)
    with pytest.raises(Invalid, match=r"option com\.fairlead\.raet of an endpoint: there are "):
        servicecheck.check(replace(WEB, task_template=template, networks=on if older else None))


def test_of_a_network_of_a_swarm() -> None:
    request = NetworkRequest("red", driver="overlay", options={"com.fairlead.antispof": "true"})
    with pytest.raises(Invalid, match=r"option com\.fairlead\.antispof of a network: there are "):
        sharednetworks.check(request)
