"""A container's runtime configuration, as golden text; and the rules of its parts."""

import json
from pathlib import Path

import pytest

from fairlead.core import capabilities, ociresources, ocispec, seccomp, users
from fairlead.core.container import Config, Container, HostConfig, Mount, ThrottleDevice, Ulimit
from fairlead.core.ociresources import DeviceNode
from fairlead.core.ocispec import Facts, Place
from fairlead.core.users import Identity
from fairlead.errors import FairleadError, Invalid

GOLDEN = Path(__file__).parent.parent / "data" / "ocispec.json"
PLACE = Place(rootfs="/r", network="/run/netns/x", files={"/etc/hosts": "/d/hosts"})
ROOT = Identity(0, 0, (0,), "/root")


def make(config: dict | None = None, place: Place = PLACE, facts: Facts = Facts(), mounts=(), who=ROOT, **host):
    container = Container(
        id="c" * 64, name="box", created="", path="sh", args=("-c", "true"),
        config=Config(**{"hostname": "box", **(config or {})}), host=HostConfig(**host),
    )  # fmt: skip
    return ocispec.spec(container, who, mounts, place, facts)


def test_a_plain_container_is_as_written_down() -> None:
    made = make()
    made["linux"]["seccomp"]["syscalls"][0]["names"] = ["…"]
    text = json.dumps(made, indent=1, sort_keys=True) + "\n"
    if not GOLDEN.exists():
        GOLDEN.write_text(text)
    assert text == GOLDEN.read_text()


def test_privileged_means_everything() -> None:
    made = make(privileged=True)
    assert "seccomp" not in made["linux"] and "maskedPaths" not in made["linux"]
    assert made["linux"]["resources"]["devices"] == [{"allow": True, "access": "rwm"}]
    assert "CAP_SYS_ADMIN" in made["process"]["capabilities"]["effective"]
    assert {"rw"} < set(next(m for m in made["mounts"] if m["destination"] == "/sys")["options"])


def test_only_root_keeps_capabilities() -> None:
    made = make(who=Identity(7, 7))["process"]["capabilities"]
    assert made["effective"] == made["permitted"] == [] and made["bounding"]


@pytest.mark.parametrize(
    ("asked", "absent", "path"),
    [
        ({"pid_mode": "host"}, "pid", None),
        ({"ipc_mode": "host"}, "ipc", None),
        ({"uts_mode": "host"}, "uts", None),
        ({"cgroupns_mode": "host"}, "cgroup", None),
        ({"pid_mode": "container:other"}, None, "/proc/42/ns/pid"),
    ],
)
def test_shared_namespaces(asked: dict, absent: str | None, path: str | None) -> None:
    place = Place(rootfs="/r", joined={"pid": 42} if path else {})
    made = {item["type"]: item for item in make(place=place, **asked)["linux"]["namespaces"]}
    assert absent not in made
    assert path is None or made["pid"]["path"] == path


def test_joining_what_does_not_run_is_refused() -> None:
    with pytest.raises(Invalid, match="not running"):
        make(pid_mode="container:gone")


def test_the_hosts_network_has_the_hosts_sysctls() -> None:
    made = make(place=Place(rootfs="/r", network=None))
    assert "sysctl" not in made["linux"]
    assert "network" not in {item["type"] for item in made["linux"]["namespaces"]}


def test_shared_memory_by_mode() -> None:
    def shm(**host):
        joined = {"ipc": 9} if host.get("ipc_mode", "").startswith("container:") else {}
        shared = "/s" if joined or host.get("ipc_mode") == "shareable" else ""
        made = make(place=Place(rootfs="/r", joined=joined, shm=shared), **host)["mounts"]
        return next(({**m} for m in made if m["destination"] == "/dev/shm"), None)

    assert "size=1024" in shm(shm_size=1024)["options"]
    assert shm(ipc_mode="none") is None
    assert shm(ipc_mode="host")["source"] == "/dev/shm"
    assert shm(ipc_mode="container:x")["source"] == shm(ipc_mode="shareable")["source"] == "/s"


def test_mounts_of_the_user_replace_and_follow() -> None:
    mounts = [
        Mount("bind", "/a/b", source="/s/b", rw=False, propagation="rshared"),
        Mount("bind", "/a", source="/s/a"),
        Mount("tmpfs", "/dev/shm", options=("size=1m",)),
    ]
    made = make(mounts=mounts)
    places = [item["destination"] for item in made["mounts"]]
    assert places.index("/a") < places.index("/a/b") and places.count("/dev/shm") == 1
    assert made["linux"]["rootfsPropagation"] == "rshared"
    assert next(m for m in made["mounts"] if m["destination"] == "/a/b")["options"] == ["rbind", "ro", "rshared"]


def test_an_init_comes_first_unless_it_could_not_be_process_1() -> None:
    facts = Facts(init="/usr/bin/catatonit")
    assert make(facts=facts, init=True)["process"]["args"] == ["/sbin/docker-init", "--", "sh", "-c", "true"]
    assert make(facts=facts, init=True, pid_mode="host")["process"]["args"] == ["sh", "-c", "true"]


def test_environment() -> None:
    config = Config(env=("A=1", "HOSTNAME=mine", "TERM"))
    assert ocispec.environment(config, "box", "/root", ["L=2", "A=0"], tty=True) == [
        ocispec.PATH, "HOSTNAME=mine", "L=2", "A=1", "HOME=/root",
    ]  # fmt: skip


def test_limits() -> None:
    host = HostConfig(
        memory=1 << 30, nano_cpus=1_500_000_000, pids_limit=10, ulimits=(Ulimit("nofile", -1, 5),),
        blkio_device_read_bps=(ThrottleDevice("/dev/sda", 7),),
    )  # fmt: skip
    assert ociresources.limits(host, {"/dev/sda": (8, 0)}) == {
        "memory": {"limit": 1 << 30, "swap": 2 << 30},
        "cpu": {"period": 100_000, "quota": 150_000},
        "pids": {"limit": 10},
        "blockIO": {"throttleReadBpsDevice": [{"major": 8, "minor": 0, "rate": 7}]},
    }
    limits = make(ulimits=host.ulimits)["process"]["rlimits"]
    assert limits == [{"type": "RLIMIT_NOFILE", "hard": (1 << 64) - 1, "soft": 5}]


def test_devices() -> None:
    made = make(place=Place(rootfs="/r", devices=[DeviceNode("/dev/x", "c", 1, 11, "r")]))["linux"]
    assert {"allow": True, "type": "c", "major": 1, "minor": 11, "access": "r"} in made["resources"]["devices"]
    assert made["devices"][0]["path"] == "/dev/x"
    assert ociresources.parse_rule("c 7:* rm") == {"allow": True, "type": "c", "major": 7, "access": "rm"}
    for bad in ("", "c 1:2", "x 1:2 r", "c 1 r", "c 1:2 z"):
        with pytest.raises(Invalid):
            ociresources.parse_rule(bad)


def test_capabilities() -> None:
    have = capabilities.known((1 << 41) - 1)
    assert capabilities.settle(["net_admin"], ["CAP_CHOWN"], have)[-1] != "CAP_CHOWN"
    assert "CAP_NET_ADMIN" in capabilities.settle(["net_admin"], None, have)
    assert capabilities.settle(None, ["ALL"], have) == ()
    assert capabilities.settle(["KILL"], ["all"], have) == ("CAP_KILL",)
    assert set(capabilities.settle(["ALL"], ["SYS_ADMIN"], have)) == set(have) - {"CAP_SYS_ADMIN"}
    with pytest.raises(Invalid, match="unknown capability"):
        capabilities.settle(["NOSUCH"], None, have)
    with pytest.raises(Invalid, match="not supported by your kernel"):
        capabilities.settle(["SYS_BOOT"], None, have[:3])


def test_the_filter_follows_the_capabilities() -> None:
    def allowed(*names: str) -> set[str]:
        return {n for rule in seccomp.profile(names, "x86_64")["syscalls"] for n in rule["names"] if "args" not in rule}

    plain, admin = allowed(), allowed("CAP_SYS_ADMIN")
    assert {"mount", "setns", "unshare", "bpf", "clone"} <= admin - plain
    assert {"read", "futex", "execve", "accept4"} <= plain
    assert not {"keyctl", "io_uring_setup", "kexec_load", "add_key", "userfaultfd", "reboot"} & plain
    listed = [n for group in (*seccomp._ALWAYS.values(), *seccomp._ON.values()) for n in group.split()]
    assert not set(listed) & {n for calls in seccomp._WITH.values() for n in calls.split()}


def test_a_users_profile_is_decided_by_its_conditions() -> None:
    given = {
        "defaultAction": "SCMP_ACT_ERRNO",
        "archMap": [{"architecture": "SCMP_ARCH_X86_64", "subArchitectures": ["SCMP_ARCH_X86"]}],
        "syscalls": [
            {"names": ["a"], "action": "SCMP_ACT_ALLOW", "includes": {"caps": ["CAP_KILL"]}},
            {"name": "b", "action": "SCMP_ACT_ALLOW", "excludes": {"caps": ["CAP_KILL"]}},
            {"names": ["c"], "action": "SCMP_ACT_ALLOW", "includes": {"arches": ["arm64"]}},
            {"names": ["d"], "action": "SCMP_ACT_ALLOW", "includes": {"minKernel": "99.0"}},
        ],
    }
    made = seccomp.from_docker(given, {"CAP_KILL"}, "x86_64")
    assert [rule["names"] for rule in made["syscalls"]] == [["a"]]
    assert made["architectures"] == ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86"]
    with pytest.raises(Invalid):
        seccomp.from_docker({}, set(), "x86_64")


PASSWD = "root:x:0:0::/root:/bin/sh\nbroken\nann:x:1000:1000::/home/ann:/bin/sh\n"
GROUP = "root:x:0:\nann:x:1000:\nstaff:x:50:ann,bob\n"


@pytest.mark.parametrize(
    ("user", "add", "expected"),
    [
        ("", None, (0, 0, (0,), "/root")),
        ("ann", None, (1000, 1000, (1000, 50), "/home/ann")),
        ("1000", None, (1000, 1000, (1000, 50), "/home/ann")),
        ("ann:staff", None, (1000, 50, (50,), "/home/ann")),
        ("77", None, (77, 0, (0,), "/")),
        ("77:88", ["staff", "99"], (77, 88, (88, 50, 99), "/")),
    ],
)
def test_users(user: str, add: list[str] | None, expected: tuple) -> None:
    assert users.resolve(user, add, PASSWD, GROUP) == expected


@pytest.mark.parametrize(
    ("user", "says"),
    [
        ("eve", "unable to find user eve: no matching entries in passwd file"),
        ("ann:eve", "unable to find group eve: no matching entries in group file"),
        ("4294967295", "uids and gids must be in range"),
        ("-1", "uids and gids must be in range"),
        ("1:-1", "uids and gids must be in range"),
    ],
)
def test_nobody(user: str, says: str) -> None:
    with pytest.raises(FairleadError, match=says):
        users.resolve(user, None, PASSWD, GROUP)


def test_security_options() -> None:
    options = ("no-new-privileges", "seccomp={}", "apparmor=x", "label=disable", "systempaths=unconfined")
    parsed = ocispec.parse_security(options)
    assert parsed.no_new_privileges and parsed.seccomp == "{}" and parsed.unmasked and parsed.label == ("disable",)
    assert not ocispec.parse_security(("no-new-privileges:false",)).no_new_privileges
    for bad in ("what", "what=ever"):
        with pytest.raises(Invalid, match="invalid --security-opt"):
            ocispec.parse_security((bad,))
