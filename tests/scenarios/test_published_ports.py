"""Publishing ports (S026 to S041, S147)."""

import re

from lane.images import PAGE
from lane.machine import eventually
from scenarios.lab import Lab
from scenarios.rows import rows


def ps_ports(lab: Lab, name: str) -> list[str]:
    return bracketed(lab.docker(["ps", "-a", "--filter", f"name=^{name}$", "--format", "{{.Ports}}"]).out).split(", ")


def bracketed(said: str) -> str:
    """``:::80`` of Debian 12's client is ``[::]:80`` of a newer one."""
    return re.sub(r"(?<!\S):::(?=\d)", "[::]:", said)


def host_port(lab: Lab, container: str, port: str) -> int:
    """The one host port that a container's port has on 0.0.0.0."""
    first, *_ = [line for line in lab.docker(f"port {container} {port}").lines if line.startswith("0.0.0.0:")]
    return int(first.rsplit(":", 1)[1])


@rows("S026", "S027", "S028", "S029")
def test_a_published_port_answers_everywhere(lab: Lab) -> None:
    lab.run("--name web1 -d -p 8080:80 nginx")
    assert ps_ports(lab, "web1") == ["0.0.0.0:8080->80/tcp", "[::]:8080->80/tcp"]
    assert lab.host.page("127.0.0.1", 8080) == PAGE
    assert lab.host.page(lab.host.address, 8080) == PAGE
    assert lab.outside.page(lab.host.address, 8080) == PAGE
    assert not lab.host.reaches("127.0.0.1", 8081)


@rows("S030", "S032")
def test_a_random_port_comes_and_goes(lab: Lab) -> None:
    lab.run("-d -p 5000 --name foobar flask")
    port = host_port(lab, "foobar", "5000")
    assert 32768 <= port <= 60999
    assert bracketed(lab.docker("port foobar 5000").out).splitlines() == [f"0.0.0.0:{port}", f"[::]:{port}"]
    assert f"0.0.0.0:{port}->5000/tcp" in ps_ports(lab, "foobar")
    assert "Hi from" in lab.outside.page(lab.host.address, port, "/hi")
    assert lab.docker("kill foobar").out == "foobar"
    eventually(lambda: not lab.outside.reaches(lab.host.address, port), "the mapping is gone")
    assert str(port) not in firewall(lab)
    assert lab.docker("rm foobar").out == "foobar"


@rows("S031")
def test_tcp_and_udp_side_by_side(lab: Lab) -> None:
    lab.run("-d -p 5000/tcp -p 53/udp --name foobar flask")
    ports = ps_ports(lab, "foobar")
    assert "80/tcp" in ports
    assert any(re.match(r"0\.0\.0\.0:\d+->5000/tcp$", one) for one in ports)
    assert any(re.match(r"0\.0\.0\.0:\d+->53/udp$", one) for one in ports)


@rows("S033", "S034")
def test_everywhere_or_on_loopback_only(lab: Lab) -> None:
    lab.run("--name port-binding-test -d -p 5432:5432 postgres")
    eventually(lambda: lab.host.reaches("127.0.0.1", 5432), "5432 on loopback")
    assert lab.outside.reaches(lab.host.address, 5432)
    lab.docker("rm -f port-binding-test")
    lab.run("--name port-binding-test -d -p 127.0.0.1:5432:5432 postgres")
    eventually(lambda: lab.host.reaches("127.0.0.1", 5432), "5432 on loopback")
    assert not lab.outside.reaches(lab.host.address, 5432)
    assert not lab.host.reaches(lab.host.address, 5432)


@rows("S035", "S036")
def test_addresses_of_the_host(lab: Lab) -> None:
    second = f"{lab.outside.net}.77"
    lab.host.must(f"ip address add {second}/24 dev eth0")
    try:
        lab.run(f"-d --name one -p {second}::80 nginx")
        (line,) = lab.ports("one")
        port = int(re.match(rf"80/tcp -> {re.escape(second)}:(\d+)$", line)[1])
        assert port >= 32768 and lab.outside.page(second, port) == PAGE
        assert not lab.outside.reaches(lab.host.address, port)
        lab.run(f"-d --name p3 -p 127.0.0.1:7001:80 -p {lab.host.address}:7001:80 -p {second}:7002:80 nginx")
        assert len(lab.ports("p3")) == 3
        assert lab.host.page("127.0.0.1", 7001) == lab.outside.page(lab.host.address, 7001) == PAGE
        assert lab.outside.page(second, 7002) == PAGE
        assert not lab.outside.reaches(second, 7001)
    finally:
        lab.host(f"ip address del {second}/24 dev eth0")


@rows("S037")
def test_ranges_go_pairwise(lab: Lab) -> None:
    lab.run("-d --name ports -p 5000-5100:2000-2100 postgres sh -c 'httpd -p 2000 -h /www; httpd -f -p 2100 -h /www'")
    lines = lab.ports("ports")
    for step in range(101):
        assert f"{2000 + step}/tcp -> 0.0.0.0:{5000 + step}" in lines
    assert lab.outside.page(lab.host.address, 5000) == lab.outside.page(lab.host.address, 5100) == PAGE


@rows("S038")
def test_unequal_ranges_are_refused_by_the_client(lab: Lab) -> None:
    lab.docker.refused("run -p 5000-6000:2000-2100 postgres", "nvalid ranges specified", code=125)


@rows("S039")
def test_a_taken_port_fails_the_start(lab: Lab) -> None:
    lab.run("-d --name web1 -p 8080:80 nginx")
    taken = "Bind for 0.0.0.0:8080 failed: port is already allocated"
    lab.docker.refused("run -d --name dup -p 8080:80 nginx", taken, code=125)
    assert lab.docker.field("dup", ".State.Status") == "created"
    assert taken in lab.docker.field("dup", ".State.Error")
    assert lab.host.page("127.0.0.1", 8080) == PAGE


def firewall(lab: Lab) -> str:
    """The rules in force, whoever wrote them."""
    return lab.host.must("nft list ruleset").out


@rows("S040")
def test_the_rules_come_and_go(lab: Lab) -> None:
    lab.run("-d --name web1 -p 8080:80 nginx")
    address = lab.address("web1")
    rules = firewall(lab)
    # the port leads to the container, the way out is masqueraded, people have a chain of their own
    assert re.search(rf"\b8080\b.*{re.escape(address)}", rules), rules
    assert "masquerade" in rules
    assert re.search(r"DOCKER-USER|fairlead-user", rules), rules
    lab.docker("rm -f web1")
    assert not re.search(r"\b8080\b", firewall(lab)) and address not in firewall(lab)


@rows("S041")
def test_two_ports_to_two_containers(lab: Lab) -> None:
    for name, port in (("one", 80), ("two", 81)):
        lab.run(f"-itd --name {name} -p {port}:80 --net=bridge nginx")
        lab.docker(["exec", name, "sh", "-c", f"echo {name} > /www/index.html"])
    assert lab.outside.page(lab.host.address, 80) == "one\n"
    assert lab.outside.page(lab.host.address, 81) == "two\n"


@rows("S147")
def test_exposed_ports_are_listed_beside_the_published_one(lab: Lab) -> None:
    lab.run("-d -p 8500:8500 -h consul --name consul progrium/consul")
    ports = ", ".join(ps_ports(lab, "consul"))
    assert "0.0.0.0:8500->8500/tcp" in ports
    for bare in ("53/udp", "8301/udp", "8300-8301/tcp", "8400/tcp"):
        assert re.search(rf"(^|, ){bare}", ports), ports
