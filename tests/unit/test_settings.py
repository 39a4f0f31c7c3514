"""Settings: what dockerd's options become, and the words when they make no sense."""

# ruff: noqa: E501 (complaints are quoted whole)

import json
from pathlib import Path

import msgspec
import pytest

from fairlead.errors import Invalid
from fairlead.options import AddressPool, Ulimit, as_go
from fairlead.settings import BY_KEY, parse, table

NO_FILE = ["--config-file", "/dev/null"]


def refused(argv: list[str]) -> str:
    with pytest.raises(Invalid) as caught:
        parse([*NO_FILE, *argv])
    return caught.value.message


def file_with(tmp_path: Path, content: object) -> list[str]:
    path = tmp_path / "daemon.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return ["--config-file", str(path)]


def refused_file(tmp_path: Path, content: object, *argv: str) -> str:
    with pytest.raises(Invalid) as caught:
        parse([*file_with(tmp_path, content), *argv])
    start = f"unable to configure the Docker daemon with file {tmp_path}/daemon.json: "
    assert caught.value.message.startswith(start)
    return caught.value.message.removeprefix(start)


def test_the_name_decides_the_socket() -> None:
    assert parse(NO_FILE).hosts == ("unix:///var/run/fairlead.sock",)
    assert parse(NO_FILE, "dockerd").hosts == ("unix:///var/run/docker.sock",)
    assert parse(NO_FILE).data_root == parse(NO_FILE, "dockerd").data_root == "/var/lib/fairlead"


@pytest.mark.parametrize(
    "argv", [["-Dl", "warn"], ["-D", "-lwarn"], ["--debug", "--log-level=warn"], ["-D=true", "-l=warn"]]
)
def test_short_and_long_flags(argv: list[str]) -> None:
    settings = parse([*NO_FILE, *argv])
    assert (settings.debug, settings.log_level) == (True, "warn")


def test_values_are_typed_and_canonical() -> None:
    typed = """
        --config-file /dev/null -H tcp://:9 -H unix:// --iptables=false --bip 172.17.0.1/17 --fixed-cidr-v6 FD00:0::1/64
        --dns 1.1.1.1 --dns ::0:1 --default-address-pool base=10.0.0.0/8,size=24 --default-ulimit nofile=1:2 --label a=b
        --default-shm-size 1g --default-network-opt bridge=a.b=c=d --log-opt max-size=1m"""
    settings = parse(typed.split())
    assert settings.hosts == ("tcp://localhost:9", "unix:///var/run/docker.sock")
    assert settings.iptables is False
    assert settings.bip == "172.17.0.1/17"
    assert settings.fixed_cidr_v6 == "fd00::/64"
    assert settings.dns == ("1.1.1.1", "::1")
    assert settings.default_address_pools == (AddressPool("10.0.0.0/8", 24),)
    assert settings.default_ulimits == {"nofile": Ulimit(1, 2)}
    assert settings.default_shm_size == 1 << 30
    assert settings.default_network_opts == {"bridge": {"a.b": "c=d"}}
    assert settings.log_opts == {"max-size": "1m"}


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["--mtu", "x"], 'invalid argument "x" for "--mtu" flag: strconv.ParseInt: parsing "x": invalid syntax'),
        (["--mtu", "-1"], "invalid default MTU: -1"),
        (["--mtu"], "flag needs an argument: --mtu"),
        (["--icc=maybe"], 'invalid argument "maybe" for "--icc" flag: strconv.ParseBool: parsing "maybe": invalid syntax'),
        (["--label", "a"], 'invalid argument "a" for "--label" flag: bad attribute format: a'),
        (["-H", "foo://x"], 'invalid argument "foo://x" for "-H, --host" flag: invalid bind address (foo://x): unsupported proto \'foo\''),
        (["--default-gateway", "x"], 'invalid argument "x" for "--default-gateway" flag: failed to parse IP: "x"'),
        (["--default-network-opt", "x"], 'invalid argument "x" for "--default-network-opt" flag: invalid value "x" for map option, should be root-key=key=value'),
        (["--nosuch"], "unknown flag: --nosuch"),
        (["-Z"], "unknown shorthand flag: 'Z' in -Z"),
        (["word"], '"dockerd" accepts no arguments, got "word".'),
        (["--log-level", "zz"], 'invalid argument "zz" for "-l, --log-level" flag: invalid logging level: zz'),
        (["--bip", "1.2.3.4"], 'invalid argument "1.2.3.4" for "--bip" flag: invalid CIDR address: 1.2.3.4'),
        (["-b", "br", "--bip", "10.0.0.1/24"], "You specified -b & --bip, mutually exclusive options. Please specify only one"),
        (["--icc=false", "--iptables=false"], "You specified --iptables=false with --icc=false. ICC=false uses iptables to function. Please set --icc or --iptables to true"),
        (["--userns-remap", "x"], "--userns-remap is not supported: root in containers would be root on the host"),
        (["--data-root", "x"], "--data-root must be an absolute path: 'x'"),
        (["--default-ulimit", "nofile=9:2"], 'invalid argument "nofile=9:2" for "--default-ulimit" flag: ulimit soft limit must be less than or equal to hard limit: 9 > 2'),
    ],
)  # fmt: skip
def test_complaints_are_dockerds(argv: list[str], words: str) -> None:
    assert refused(argv) == words


def test_the_file_says_the_same_as_flags(tmp_path: Path) -> None:
    content = {
        "hosts": ["unix:///a"], "mtu": 1400, "debug": True, "dns": ["9.9.9.9"], "labels": ["x=y"], "default-shm-size": "1m",
        "default-address-pools": [{"base": "10.0.0.0/8", "size": 24}], "log-opts": {"max-file": "3"},
        "default-network-opts": {"bridge": {"k": "v"}}, "default-ulimits": {"nofile": {"Name": "nofile", "Hard": 8, "Soft": 4}},
    }  # fmt: skip
    flags = ["-H", "unix:///a", "--mtu=1400", "-D", "--dns=9.9.9.9", "--label=x=y", "--default-shm-size=1m"]
    flags += [
        "--default-address-pool=base=10.0.0.0/8,size=24",
        "--log-opt=max-file=3",
        "--default-network-opt=bridge=k=v",
    ]
    flags += ["--default-ulimit=nofile=4:8"]
    ours, theirs = parse(file_with(tmp_path, content)), parse([*NO_FILE, *flags])
    assert msgspec.structs.replace(ours, config_file="") == msgspec.structs.replace(theirs, config_file="")


def test_unknown_keys_are_named(tmp_path: Path) -> None:
    words = refused_file(tmp_path, {"foo": 1, "mtu": 1, "bar": 2})
    assert words == "the following directives don't match any configuration option: foo, bar"


def test_flag_and_file_together_are_named(tmp_path: Path) -> None:
    words = refused_file(tmp_path, {"mtu": 1400, "labels": ["a=b"]}, "--mtu=1300", "--label", "c=d")
    assert words == (
        "the following directives are specified both as a flag and in the configuration file: "
        "mtu: (from flag: 1300, from file: 1400), labels: (from flag: [c=d], from file: [a=b])"
    )


@pytest.mark.parametrize(
    "content", ["{bad", "[]", {"debug": 1}, {"mtu": True}, {"dns": "1.1.1.1"}, {"log-opts": {"a": 1}}]
)
def test_wrong_json_is_refused(tmp_path: Path, content: object) -> None:
    assert refused_file(tmp_path, content).startswith("invalid JSON: ")


def test_values_of_the_file_are_checked(tmp_path: Path) -> None:
    assert refused_file(tmp_path, {"labels": ["a"]}) == "bad attribute format: a"
    assert refused_file(tmp_path, {"userns-remap": "x"}).startswith("userns-remap is not supported")


def test_a_missing_file_matters_only_when_asked_for() -> None:
    with pytest.raises(Invalid, match="open /nonexistent: no such file or directory"):
        parse(["--config-file", "/nonexistent"])


def test_what_means_nothing_is_one_warning_each(tmp_path: Path) -> None:
    argv = [
        *file_with(tmp_path, {"experimental": True, "runtimes": {}}),
        "--storage-driver",
        "x",
        "-s",
        "y",
        "--experimental",
    ]
    lines = parse(argv).warnings
    assert [line.split()[0] for line in lines] == [
        "--storage-driver",
        "--storage-driver",
        "--experimental",
        "--add-runtime",
    ]


def test_containers_outlive_an_engine_but_not_one_called_dockerd_unless_asked() -> None:
    assert parse([]).live_restore and not parse(["--live-restore=false"]).live_restore
    assert not parse([], "dockerd").live_restore and parse(["--live-restore"], "dockerd").live_restore


def test_help_needs_no_file() -> None:
    assert parse(["--config-file", "/nonexistent", "--help"]).help


def test_every_option_has_a_sentence_and_a_name_of_its_own() -> None:
    options = [option for option, _ in table()]
    assert all(option.says.endswith(".") for option in options)
    flags = [flag for option in options for flag in option.flags]
    assert len(flags) == len(set(flags))
    assert len(BY_KEY) == len([option for option in options if option.key])


def test_as_go() -> None:
    assert as_go([True, "a", {"k": 1}]) == "[true a map[k:1]]"


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("consul://10.0.0.1:8500/network", ("consul", ("10.0.0.1:8500",), "network", "", "")),
        ("etcd://u:p%40ss@a:2379,b/x/y", ("etcd", ("a:2379", "b:2379"), "x/y", "u", "p@ss")),
        ("zk://[fd00::1]:2182", ("zk", ("[fd00::1]:2182",), "", "", "")),
        ("boltdb:///var/lib/c.db", ("boltdb", (), "/var/lib/c.db", "", "")),
    ],
)
def test_where_the_cluster_store_is(text: str, address: tuple[object, ...]) -> None:
    store = parse([*NO_FILE, "--cluster-store", text]).cluster_store
    assert msgspec.structs.astuple(store) == address
    assert "p@ss" not in str(store) and "p%40ss" not in str(store)


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["--cluster-store=redis://x"], ('for "--cluster-store" flag', "consul://, etcd://, zk:// or boltdb://")),
        (["--cluster-store=10.0.0.1:8500"], ('for "--cluster-store" flag', "as in consul://192.168.99.100:8500")),
        (["--cluster-store=consul://10.0.0.1:0"], ('for "--cluster-store" flag', "port between 1 and 65535")),
        (["--cluster-store=consul:///network"], ('for "--cluster-store" flag', "no ADDRESS:PORT")),
        (["--cluster-store=boltdb://x"], ('for "--cluster-store" flag', "absolute path")),
        (["--cluster-store=zk://a", "--cluster-advertise=eth0"], ('for "--cluster-advertise" flag', "needs a port")),
        (["--cluster-advertise=eth0:2376"], ("--cluster-advertise must be accompanied by --cluster-store",)),
        (["--cluster-store-opt=kv.path=x"], ("--cluster-store-opt must be accompanied by --cluster-store",)),
        (["--cluster-store=zk://a", "--cluster-store-opt=kv.cafile=x"], ('"kv.cafile"', "kv.cacertfile")),
        (
            ["--cluster-store=zk://a", "--cluster-gossip-port=70000"],
            ("--cluster-gossip-port: 70000 is no port: 65535 is the last",),
        ),
        (
            ["--cluster-store=zk://a", "--cluster-store-opt=kv.certfile=x"],
            ("kv.certfile and kv.keyfile belong together",),
        ),
        (
            [
                "--cluster-store=zk://a",
                "--cluster-store-opt=discovery.ttl=5",
                "--cluster-store-opt=discovery.heartbeat=5",
            ],
            ("discovery.ttl must be greater",),
        ),
    ],
)
def test_which_of_the_cluster_options_is_wrong(argv: list[str], words: tuple[str, ...]) -> None:
    message = refused(argv)
    for word in words:
        assert word in message


def test_a_cluster_in_the_file(tmp_path: Path) -> None:
    file = tmp_path / "daemon.json"
    file.write_text(
        '{"cluster-store": "etcd://a:2379", "cluster-advertise": "eth1:2376", "cluster-store-opts": {"kv.path": "x"}}'
    )
    settings = parse(["--config-file", str(file)])
    assert str(settings.cluster_store) == "etcd://a:2379" and str(settings.cluster_advertise) == "eth1:2376"
    assert settings.cluster_store_opts == {"kv.path": "x"}
