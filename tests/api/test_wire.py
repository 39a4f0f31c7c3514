"""Structs to Docker's JSON and back."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairlead.api import wire, wire_containers, wire_networks
from fairlead.core.container import Config, Container, Health, Healthcheck, HostConfig, LogConfig, RestartPolicy, State
from fairlead.core.model import Endpoint, EndpointSettings, PortBinding
from fairlead.errors import Invalid

TEXT = st.text(max_size=8)
WORDS = st.none() | st.lists(TEXT, max_size=3).map(tuple)
MAP = st.none() | st.dictionaries(TEXT, TEXT, max_size=3)
CONFIGS = st.builds(
    Config,
    hostname=TEXT,
    tty=st.booleans(),
    env=WORDS,
    cmd=WORDS,
    exposed_ports=st.none() | st.dictionaries(TEXT, st.just({}), max_size=2),
    labels=MAP,
    stop_timeout=st.none() | st.integers(1, 99),
    healthcheck=st.none() | st.builds(Healthcheck, test=WORDS, interval=st.integers(0, 99)),
)
HOSTS = st.builds(
    HostConfig,
    binds=WORDS,
    memory=st.integers(-(1 << 63), (1 << 63) - 1),
    restart_policy=st.builds(RestartPolicy, name=TEXT, maximum_retry_count=st.integers(0, 9)),
    log_config=st.builds(LogConfig, type=TEXT, config=MAP),
    console_size=st.tuples(st.integers(0, 99), st.integers(0, 99)),
    sysctls=MAP,
    init=st.none() | st.just(True),
    port_bindings=st.none()
    | st.dictionaries(TEXT, st.none() | st.lists(st.dictionaries(TEXT, TEXT), max_size=2).map(tuple), max_size=2),
)


def empty_as_absent(value: Any) -> Any:
    """What Docker leaves out when empty cannot come back as empty."""
    changes = {
        n: type(value)().__getattribute__(n)
        for n in wire.OMITTED
        if n in value.__struct_fields__ and not getattr(value, n)
    }
    return msgspec.structs.replace(value, **changes)


@given(CONFIGS)
def test_config_there_and_back(config: Config) -> None:
    config = empty_as_absent(config)
    if config.healthcheck is not None:
        check = empty_as_absent(config.healthcheck)
        config = msgspec.structs.replace(config, healthcheck=check)
    spelt = json.loads(json.dumps(wire.write(config)))
    back = wire.read(Config, spelt)
    if config.healthcheck == Healthcheck():
        back = msgspec.structs.replace(back, healthcheck=Healthcheck())
    assert back == config


@given(HOSTS)
def test_host_config_there_and_back(host: HostConfig) -> None:
    host = empty_as_absent(host)
    assert wire.read(HostConfig, json.loads(json.dumps(wire.write(host)))) == host


def test_every_field_has_dockers_name() -> None:
    """The odd spellings; the others follow the rule."""
    spelt = set(wire.write(HostConfig(sysctls={"a": "b"}, tmpfs={"a": ""}, init=True, annotations={"a": ""})))
    assert {"ContainerIDFile", "UTSMode", "BlkioDeviceReadIOps", "IOMaximumIOps", "IOMaximumBandwidth"} <= spelt
    assert {
        "Dns",
        "IpcMode",
        "PidMode",
        "ReadonlyRootfs",
        "NanoCpus",
        "CpusetCpus",
        "CpuShares",
        "OomScoreAdj",
    } <= spelt
    assert {"Sysctls", "Tmpfs", "Init", "Annotations"} <= spelt
    assert not {"Sysctls", "Tmpfs", "Init", "Annotations", "StorageOpt", "Mounts"} & set(wire.write(HostConfig()))


def test_names_match_in_any_case_and_unknown_ones_are_ignored() -> None:
    found = wire.read(HostConfig, {"MEMORY": 5, "nanocpus": 6, "NoSuchThing": [], "Binds": None})
    assert found == HostConfig(memory=5, nano_cpus=6)


def test_one_word_is_a_command_too() -> None:
    assert wire.read(Config, {"Cmd": "a b", "Entrypoint": ["c"]}) == Config(cmd=("a b",), entrypoint=("c",))


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | TEXT,
        lambda i: (
            st.lists(i)
            | st.dictionaries(
                st.sampled_from(
                    [
                        "Memory",
                        "Binds",
                        "LogConfig",
                        "Type",
                        "Config",
                        "Ulimits",
                        "Name",
                        "Devices",
                        "PortBindings",
                        "80/tcp",
                        "HostPort",
                        "Mounts",
                        "ConsoleSize",
                        "BlkioWeightDevice",
                        "Path",
                    ]
                ),
                i,
            )
        ),
        max_leaves=8,
    )
)
def test_any_json_is_read_or_refused(data: Any) -> None:
    for kind in (HostConfig, Config):
        try:
            wire.read(kind, data)
        except Invalid as error:
            assert error.message.startswith("invalid JSON: json: cannot unmarshal ")


# -- the container-wide MAC ------------------------------------------------------------------

MAC = "02:42:00:00:00:07"


def create(version: tuple[int, int], **more: Any) -> wire_containers.Create:
    return wire_containers.create({"Image": "x", **more}, version)


def test_the_old_mac_goes_to_the_network_of_the_mode() -> None:
    new = create((1, 51), MacAddress=MAC, HostConfig={"NetworkMode": "red"})
    assert new.networks["red"].mac == MAC
    assert new.config.mac_address == ""
    assert new.warnings == [wire_containers.MAC_DEPRECATED]
    assert create((1, 43), MacAddress=MAC).networks["bridge"].mac == MAC
    assert create((1, 43), MacAddress=MAC).warnings == []


def test_macs_that_disagree_are_refused() -> None:
    networks = {"EndpointsConfig": {"red": {"MacAddress": "02:42:00:00:00:08"}}}
    with pytest.raises(Invalid, match="must match the endpoint-specific MAC address"):
        create((1, 51), MacAddress=MAC, HostConfig={"NetworkMode": "red"}, NetworkingConfig=networks)


def test_before_1_44_an_endpoint_had_no_mac_and_a_container_one_network() -> None:
    networks = {"EndpointsConfig": {"red": {"MacAddress": MAC}}}
    assert create((1, 43), NetworkingConfig=networks).networks["red"].mac == ""
    two = {"EndpointsConfig": {"red": {}, "blue": {}}}
    with pytest.raises(Invalid, match="Container cannot be connected to network endpoints: red, blue"):
        create((1, 43), NetworkingConfig=two)
    assert list(create((1, 44), NetworkingConfig=two).networks) == ["red", "blue"]


# -- shown -------------------------------------------------------------------------------------

NETWORK = "n" * 64
RUNNING = Container(
    id="c" * 64,
    name="web",
    created="2026-01-02T03:04:05.000000006Z",
    path="sleep",
    args=("a b", "c"),
    config=Config(image="busybox", exposed_ports={"80/tcp": {}, "81/udp": {}}),
    host=HostConfig(network_mode="red"),
    networks={"red": EndpointSettings(aliases=("w",), ipv4="10.0.0.5")},
    state=State(status="running", pid=5, started_at="2026-01-02T03:04:05Z"),
)
ENDPOINT = Endpoint(
    id="e" * 64,
    network=NETWORK,
    container=RUNNING.id,
    sandbox=RUNNING.id,
    name="web",
    ipv4="10.0.0.5/24",
    gateway4="10.0.0.1",
    mac=MAC,
    names=("web", "w", "c" * 12),
    bindings=(PortBinding(80, "tcp", "::", 8080), PortBinding(80, "tcp", "0.0.0.0", 8080)),
)
PLACE = wire_containers.Place(
    (ENDPOINT,), {"red": NETWORK}, {NETWORK: "red"}, publishing={NETWORK}, sandbox_key="/run/netns/c"
)


def test_a_running_container_on_a_user_network() -> None:
    shown = wire_containers.inspect(RUNNING, PLACE, (1, 51))["NetworkSettings"]
    assert shown["IPAddress"] == shown["EndpointID"] == shown["MacAddress"] == ""
    assert shown["Ports"] == {
        "80/tcp": [{"HostIp": "0.0.0.0", "HostPort": "8080"}, {"HostIp": "::", "HostPort": "8080"}],
        "81/udp": None,
    }
    assert shown["Networks"]["red"] == {
        "IPAMConfig": {"IPv4Address": "10.0.0.5"},
        "Links": None,
        "Aliases": ["w"],
        "MacAddress": MAC,
        "DriverOpts": None,
        "GwPriority": 0,
        "NetworkID": NETWORK,
        "EndpointID": "e" * 64,
        "Gateway": "10.0.0.1",
        "IPAddress": "10.0.0.5",
        "IPPrefixLen": 24,
        "IPv6Gateway": "",
        "GlobalIPv6Address": "",
        "GlobalIPv6PrefixLen": 0,
        "DNSNames": ["web", "w", "c" * 12],
    }


def test_the_default_network_also_fills_the_old_fields() -> None:
    place = PLACE._replace(network_names={NETWORK: "bridge"})
    shown = wire_containers.inspect(RUNNING, place, (1, 51))["NetworkSettings"]
    assert (shown["IPAddress"], shown["IPPrefixLen"], shown["Gateway"]) == ("10.0.0.5", 24, "10.0.0.1")


def test_the_short_id_is_an_alias_before_1_45() -> None:
    for version, expected in (((1, 44), ["w", "c" * 12]), ((1, 45), ["w"])):
        shown = wire_containers.inspect(RUNNING, PLACE, version)["NetworkSettings"]["Networks"]["red"]
        assert shown["Aliases"] == expected


def test_a_line_of_the_list() -> None:
    shown = wire_containers.summary(RUNNING, PLACE, (1, 51))
    assert shown["Command"] == "sleep 'a b' c"
    assert shown["Names"] == ["/web"]
    assert shown["Created"] == 1767323045
    assert shown["Ports"] == [
        {"IP": "0.0.0.0", "PrivatePort": 80, "PublicPort": 8080, "Type": "tcp"},
        {"IP": "::", "PrivatePort": 80, "PublicPort": 8080, "Type": "tcp"},
        {"PrivatePort": 81, "Type": "udp"},
    ]
    network = shown["NetworkSettings"]["Networks"]["red"]
    assert (network["Aliases"], network["DNSNames"]) == (None, None)


@pytest.mark.parametrize(
    ("state", "words"),
    [
        (State(), "Created"),
        (State(status="running", started_at="2026-01-01T00:00:00Z"), "Up 3 seconds"),
        (
            State(status="running", started_at="2026-01-01T00:00:00Z", health=Health()),
            "Up 3 seconds (health: starting)",
        ),
        (
            State(status="running", started_at="2026-01-01T00:00:00Z", health=Health("healthy")),
            "Up 3 seconds (healthy)",
        ),
        (State(status="paused", started_at="2026-01-01T00:00:00Z"), "Up 3 seconds (Paused)"),
        (
            State(
                status="exited", exit_code=137, started_at="2025-01-01T00:00:00Z", finished_at="2026-01-01T00:00:00Z"
            ),
            "Exited (137) 3 seconds ago",
        ),
        (State(status="restarting", exit_code=1, finished_at="2026-01-01T00:00:00Z"), "Restarting (1) 3 seconds ago"),
        (State(status="removing"), "Removal In Progress"),
        (State(status="dead"), "Dead"),
    ],
)
def test_status_words(state: State, words: str) -> None:
    assert wire_containers.status(state, 1767225603 * 10**9) == words


def test_a_network_request_with_nulls_as_compose_sends_it() -> None:
    found = wire_networks.network_request(
        {
            "Name": "two_front",
            "Driver": "bridge",
            "IPAM": {"Driver": "", "Options": None, "Config": [{"Subnet": "10.77.5.0/24", "Gateway": None}]},
            "ConfigFrom": None,
            "Options": None,
            "Labels": {"a": "b"},
            "CheckDuplicate": True,
        }
    )
    assert found.ipam.config[0].subnet == "10.77.5.0/24"
    assert (found.ipam.driver, found.options, found.labels) == ("default", {}, {"a": "b"})
