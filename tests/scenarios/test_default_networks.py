"""Listing, inspecting, the three default networks (S001 to S011)."""

import pytest

from scenarios.lab import LONG, SHORT, Lab
from scenarios.rows import rows

DEFAULTS = {("bridge", "bridge", "local"), ("host", "host", "local"), ("none", "null", "local")}


def listed(lab: Lab) -> set[tuple[str, ...]]:
    head, *lines = lab.docker("network ls").lines
    assert head.split() == ["NETWORK", "ID", "NAME", "DRIVER", "SCOPE"]
    cells = [line.split() for line in lines]
    assert all(SHORT.match(line[0]) for line in cells)
    return {tuple(line[1:]) for line in cells}


@rows("S001")
def test_three_networks_are_there_from_the_start(lab: Lab) -> None:
    assert listed(lab) == DEFAULTS


@rows("S002")
def test_the_default_bridge_is_inspected(lab: Lab) -> None:
    bridge = lab.network("bridge")
    assert (bridge["Name"], bridge["Driver"], bridge["Scope"], bridge["Internal"]) == (
        "bridge",
        "bridge",
        "local",
        False,
    )
    assert bridge["IPAM"]["Config"][0] == {"Subnet": "172.17.0.0/16", "Gateway": "172.17.0.1"}
    assert bridge["Containers"] == {}
    assert bridge["Options"] == {
        "com.docker.network.bridge.default_bridge": "true",
        "com.docker.network.bridge.enable_icc": "true",
        "com.docker.network.bridge.enable_ip_masquerade": "true",
        "com.docker.network.bridge.host_binding_ipv4": "0.0.0.0",
        "com.docker.network.bridge.name": "docker0",
        "com.docker.network.driver.mtu": "1500",
    }
    assert bridge["EnableIPv4"] and not bridge["EnableIPv6"]
    assert bridge["ConfigFrom"] == {"Network": ""} and not bridge["ConfigOnly"] and bridge["Created"]


@rows("S003")
def test_info_lists_the_drivers(lab: Lab) -> None:
    info = lab.docker.json(["info", "--format", "{{json .}}"])
    assert {"bridge", "host", "null"} <= set(info["Plugins"]["Network"])
    assert info["Swarm"]["LocalNodeState"] == "inactive"


@rows("S004", "S005")
def test_a_fresh_host_has_one_bridge_without_ports(lab: Lab) -> None:
    assert lab.host.links().keys() - {"lo", "eth0"} == {"docker0"}
    assert lab.host("bridge link show").out == ""
    shown = lab.host("ip address show docker0").out
    assert "inet 172.17.0.1/16" in shown
    assert "NO-CARRIER" in shown and "state DOWN" in shown


@rows("S006", "S007", "S009")
def test_a_network_comes_and_goes(lab: Lab) -> None:
    assert LONG.match(lab.docker("network create MyFirstNetwork").out)
    assert listed(lab) == DEFAULTS | {("MyFirstNetwork", "bridge", "local")}
    assert lab.docker("network rm MyFirstNetwork").out == "MyFirstNetwork"
    assert listed(lab) == DEFAULTS


@rows("S008")
def test_a_new_network_takes_the_next_free_pool(lab: Lab) -> None:
    lab.docker("network create MyFirstNetwork")
    made = lab.network("MyFirstNetwork")
    assert made["IPAM"]["Config"] == [{"Subnet": "172.18.0.0/16", "Gateway": "172.18.0.1"}]
    assert made["EnableIPv6"] is False
    assert (made["Containers"], made["Options"], made["Labels"]) == ({}, {}, {})


@rows("S010")
@pytest.mark.parametrize("name", ["bridge", "host", "none"])
def test_default_networks_cannot_be_removed(lab: Lab, name: str) -> None:
    lab.docker.refused(f"network rm {name}", f"{name} is a pre-defined network and cannot be removed", code=1)
    answer = lab.engine.http().call("DELETE", f"/v1.51/networks/{name}")
    assert answer.status == 403


@rows("S011")
def test_the_usage_names_the_sub_commands(lab: Lab) -> None:
    usage = lab.docker.attempt("network").everything
    for command in ("connect", "create", "disconnect", "inspect", "ls", "rm"):
        assert command in usage
