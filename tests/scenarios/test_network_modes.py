"""Network modes none, host and container (S048 to S058)."""

import re

from scenarios.lab import Lab
from scenarios.rows import rows


@rows("S048", "S049", "S050")
def test_none_has_nothing_but_lo(lab: Lab) -> None:
    lab.run("-itd --name instance0 --net=none busybox")
    assert lab.docker.field("instance0", ".NetworkSettings.IPAddress") == "" == lab.address("instance0", "none")
    assert lab.docker("run --rm --net none busybox ip -o link show").out.count("\n") == 0
    shown = lab.docker("run --rm --net none busybox ifconfig -a").out
    assert re.findall(r"^(\S+) ", shown, re.M) == ["lo"]
    assert lab.docker("run --rm --net=none ubuntu ip route").out == ""
    assert lab.docker("exec instance0 readlink /proc/self/ns/net").out != lab.host.inside("readlink /proc/1/ns/net").out


@rows("S051", "S052")
def test_host_mode_sees_the_hosts_devices(lab: Lab) -> None:
    lab.run("-d busybox sleep 100")  # one more veth to be seen

    def names(shown: str) -> set[str]:
        return {line.split(":")[1].split("@")[0].strip() for line in shown.splitlines()}

    assert names(lab.docker("run --rm --net host busybox ip -o link show").out) == set(lab.host.links())


@rows("S053")
def test_ports_are_discarded_without_a_network_of_ones_own(lab: Lab) -> None:
    lab.run("-d --name nn --net none -p 81:80 busybox sleep 100")
    warned = lab.docker("run -d --name hh --net host -p 82:80 busybox sleep 100")
    assert "Published ports are discarded when using host network mode" in warned
    for name in ("nn", "hh"):
        assert lab.docker.field(name, "json .NetworkSettings.Ports") == "{}"
        assert lab.ports(name) == []
    assert not lab.host.reaches("127.0.0.1", 81) and not lab.host.reaches("127.0.0.1", 82)


@rows("S054")
def test_two_containers_share_one_network(lab: Lab) -> None:
    first = lab.run("-d --name cook -h cookbook ubuntu sleep 100")
    inside = lab.docker(
        ["run", "--rm", f"--net=container:{first}", "ubuntu", "sh", "-c", "hostname; ip -4 a show eth0"]
    )
    assert inside.lines[0] == "cookbook"
    assert f"inet {lab.address('cook')}/16" in inside


@rows("S055", "S056", "S057")
def test_none_and_host_are_not_connected_at_run_time(lab: Lab) -> None:
    lab.docker("network create X")
    lab.run("-d --name nn --net none busybox sleep 100")
    lab.run("-d --name hh --net host busybox sleep 100")
    lab.docker.refused(
        "network connect X nn",
        "container cannot be connected to multiple networks with one of the networks in private (none) mode",
    )
    lab.docker.refused(
        "network connect X hh",
        "container sharing network namespace with another container or host cannot be connected to any other network",
    )
    lab.docker.refused(
        "network disconnect host hh",
        "cannot disconnect container from host network - container was created in host network mode",
    )
    http = lab.engine.http()
    for path, name in (("X/connect", "nn"), ("X/connect", "hh"), ("host/disconnect", "hh")):
        assert http.call("POST", f"/v1.51/networks/{path}", {"Container": name}).status == 400


@rows("S058")
def test_an_outside_tool_can_add_a_device(lab: Lab) -> None:
    """What pipework does: find the container's network by its pid and its sandbox key, put a veth in it."""
    lab.run("-d --net=none --name cookbook ubuntu sleep 100")
    pid = lab.docker.field("cookbook", ".State.Pid")
    key = lab.docker.field("cookbook", ".NetworkSettings.SandboxKey")
    host = lab.host
    assert host.inside(f"readlink /proc/{pid}/ns/net").out.startswith("net:[")
    try:
        for step in (
            "ip link add br0 type bridge",
            "ip addr add 192.168.1.254/24 dev br0",
            "ip link set br0 up",
            f"ip link add pipe0 type veth peer name pipe1 netns {pid}",
            "ip link set pipe0 master br0 up",
            f"nsenter --net={key} ip link set pipe1 name eth1",
            f"nsenter --net={key} ip addr add 192.168.1.10/24 dev eth1",
            f"nsenter --net={key} ip link set eth1 up",
            f"nsenter --net={key} ip route add default via 192.168.1.254",
        ):
            done = host.inside(step)
            assert done.code == 0, repr(done)
        assert "192.168.1.10/24" in lab.docker("exec cookbook ip addr show eth1")
        assert host.pings("192.168.1.10")
    finally:
        host("ip link del pipe0")
        host("ip link del br0")
