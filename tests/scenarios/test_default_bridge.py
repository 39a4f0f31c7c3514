"""The default bridge: attach, addresses, who reaches whom (S012 to S025)."""

import re
import socket

from lane.machine import eventually
from scenarios.lab import Lab
from scenarios.rows import rows


@rows("S012", "S020")
def test_each_container_brings_one_veth(lab: Lab) -> None:
    before = lab.host.links()
    lab.run("-dt ubuntu sleep infinity")
    new = {name: master for name, master in lab.host.links().items() if name not in before}
    assert list(new.values()) == ["docker0"] and all(name.startswith("veth") for name in new)
    lab.run("-dt ubuntu sleep infinity")
    assert sum(master == "docker0" for master in lab.host.links().values()) == 2


@rows("S013")
def test_the_network_lists_its_container(lab: Lab) -> None:
    container = lab.run("-dt --name u1 ubuntu sleep infinity")
    ((key, entry),) = lab.network("bridge")["Containers"].items()
    assert key == container and entry["Name"] == "u1"
    assert (entry["IPv4Address"], entry["IPv6Address"]) == ("172.17.0.2/16", "")
    assert re.match(r"^[0-9a-f]{64}$", entry["EndpointID"])
    assert re.match(r"^([0-9a-f]{2}:){5}[0-9a-f]{2}$", entry["MacAddress"])


@rows("S014", "S017")
def test_the_host_reaches_the_container(lab: Lab) -> None:
    lab.run("-dt ubuntu sleep infinity")
    assert ", 0% packet loss" in lab.host("ping -c2 -i0.2 172.17.0.2")
    assert re.search(r"172\.17\.0\.0/16 dev docker0 .*src 172\.17\.0\.1", lab.host("ip route").out)


@rows("S015", "S016")
def test_inside_there_is_eth0_and_a_default_route(lab: Lab) -> None:
    shell = lab.docker.terminal("run -it --name c1 busybox sh", keys="ip address\nip route\nexit\n")
    assert shell.code == 0
    assert re.search(r"eth0@if\d+:", shell.out) and re.search(r"\d: lo:", shell.out)
    assert "inet 172.17.0.2/16" in shell and "link/ether" in shell
    assert re.search(r"default via 172\.17\.0\.1 dev eth0", shell.out)
    assert re.search(r"172\.17\.0\.0/16 dev eth0 .*src 172\.17\.0\.2", shell.out)


@rows("S018")
def test_the_way_out_is_masqueraded(lab: Lab) -> None:
    lab.run("-d --name c1 busybox sleep 100")
    assert lab.pings("c1", lab.outside.address)
    with lab.outside.within(lambda: socket.create_server(("0.0.0.0", 0))) as server:
        port = server.getsockname()[1]
        lab.inside("c1", f"nc -w 1 {lab.outside.address} {port} -e true")
        server.settimeout(5)
        peer, source = server.accept()
        peer.close()
    assert source[0] == lab.host.address


@rows("S019")
def test_exec_passes_the_exit_code(lab: Lab) -> None:
    lab.run("-d --name c1 busybox sleep 100")
    assert lab.docker("exec c1 echo hello").out == "hello"
    assert lab.docker.attempt(["exec", "c1", "sh", "-c", "exit 7"]).code == 7


@rows("S021")
def test_inspect_knows_the_address(lab: Lab) -> None:
    lab.run("-d --name nginx nginx")
    address = lab.docker.field("nginx", ".NetworkSettings.IPAddress")
    assert address == "172.17.0.2" == lab.address("nginx")


@rows("S022")
def test_the_host_needs_no_mapping(lab: Lab) -> None:
    lab.run("-d --name foobar flask")
    assert lab.host.page(lab.address("foobar"), 5000, "/hi") == "Hi from flask\n"


@rows("S023", "S025")
def test_hostnames(lab: Lab) -> None:
    shell = lab.docker.terminal(
        "run -it --rm -h cookbook ubuntu sh", keys="hostname; cat /etc/hostname; ifconfig\nexit\n"
    )
    assert len(re.findall(r"^cookbook$", shell.out, re.M)) == 2
    assert "eth0" in shell and "inet addr:172.17.0." in shell
    container = lab.run("-d busybox sleep 100")
    assert lab.docker(f"exec {container} hostname").out == container[:12]


@rows("S024")
def test_there_are_no_names_on_the_default_bridge(lab: Lab) -> None:
    postgres = lab.run("-d --name fake-postgres postgres")
    lab.run("-d --name fake-nginx net-test sleep 100")
    assert not lab.resolves("fake-nginx", "fake-postgres")
    assert "bad address" in lab.inside("fake-nginx", f"nc {postgres[:12]} 5432")
    eventually(lambda: "postgres" in lab.inside("fake-nginx", f"nc {lab.address('fake-postgres')} 5432 </dev/null"))
