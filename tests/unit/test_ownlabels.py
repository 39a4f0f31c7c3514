"""Labels of ours: what is misspelt, or stands where nobody looks, is refused."""

import pytest
from msgspec.structs import replace

from fairlead.core import ownlabels, servicecheck
from fairlead.core.service import ContainerSpec, ServiceSpec, TaskSpec
from fairlead.errors import FairleadError

WEB = ServiceSpec(name="web", task_template=TaskSpec(container_spec=ContainerSpec(image="busybox")))


@pytest.mark.parametrize(
    ("label", "value", "words"),
    [
        ("fairlead.polcy", "source", "label fairlead.polcy of a service: there are fairlead.policy, "),
        ("fairlead.weight", "3", "label fairlead.weight of a service: it is one of a container"),
        ("fairlead.policy", "least", "expected random, round-robin, source"),
        ("fairlead.publish.address", "no/where", "expected an address, or the name of a device"),
        ("fairlead.publish.proxy", "v3", "expected v2"),
        ("fairlead.http.", "8080=nonsense", "label fairlead.http"),
    ],
)
def test_of_a_service(label: str, value: str, words: str) -> None:
    with pytest.raises(FairleadError) as told:
        servicecheck.check(replace(WEB, labels={label: value}))
    assert words in told.value.message


@pytest.mark.parametrize("value", ["0", "-1", "101", "much", "٣"])
def test_a_weight_is_a_number(value: str) -> None:
    container = ContainerSpec(image="busybox", labels={"fairlead.weight": value})
    spec = replace(WEB, task_template=TaskSpec(container_spec=container))
    with pytest.raises(FairleadError, match="whole number from 1 to 100"):
        servicecheck.check(spec)
    with pytest.raises(FairleadError, match="whole number from 1 to 100"):
        ownlabels.node({"fairlead.weight": value})


@pytest.mark.parametrize("label", ["fairlead.policy", "fairlead.heavy"])
def test_of_a_node(label: str) -> None:
    with pytest.raises(FairleadError, match=f"label {label} of a node"):
        ownlabels.node({label: "source"})


def test_what_makes_sense() -> None:
    ownlabels.service({"zone": "a", "fairlead.publish.address": "eth0", "fairlead.http.1": "x", "fairlead.http": "y"})
    ownlabels.service({"fairlead.policy": "source", "fairlead.publish.proxy": "v2", "fairlead": "mine"})
    ownlabels.node({"fairlead.weight": "100"})
    ownlabels.container({"fairlead.weight": "1", "com.docker.ucp.mesh.http": ""})
