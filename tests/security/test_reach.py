"""The engine itself: its API, its sockets. None of them is where a container is."""

import pytest

from scenarios.lab import Lab
from security.attack import Seat

pytestmark = pytest.mark.lab
NAP = "busybox sleep 1000"


@pytest.mark.proves(
    "CVE-2020-15257",
    guard=("engine/control.py", "        sock.bind(path)\n", '        sock.bind("\\0" + path)\n'),
)
def test_there_are_no_abstract_sockets(lab: Lab) -> None:
    """They belong to a network namespace: a container in the host's could connect."""
    lab.run(f"-d --name house --net host {NAP}")
    lab.docker("network create RED")
    lab.run("-d --name web --net RED -p 8080:80 nginx")
    sockets = [line.split()[-1] for line in lab.inside("house", "cat /proc/net/unix").lines[1:]]
    assert not [name for name in sockets if name.startswith("@")]


@pytest.mark.proves(
    "CVE-2021-4024",
    guard=(
        "engine/relay.py",
        "        try:\n            sock.bind((way.address, port.number))",
        '        try:\n            sock.bind(("::" if ":" in way.address else "0.0.0.0", port.number))',
    ),
)
def test_only_what_was_published_listens(lab: Lab) -> None:
    """Each with the address that was asked for; and the engine's own sockets are files, for root and its group."""
    lab.docker("network create RED")
    lab.run("-d --name web --net RED -p 127.0.0.1:8080:80 -p [::1]:8081:80 nginx")
    assert [line.split()[3] for line in lab.host.must("ss -Hltn").lines] == ["[::1]:8081"], "the rest is the kernel's"
    assert not lab.host.must("ss -Hlun").lines
    for path in (*lab.engine.base.glob("exec/*.sock"), lab.engine.socket):
        assert not path.stat().st_mode & 0o007, path


@pytest.mark.proves(
    "CVE-2025-9074",
    guard=(
        "api/server.py",
        "        for host in settings.hosts\n",
        '        for host in (*settings.hosts, "tcp://0.0.0.0:2375")\n',
    ),
)
def test_containers_do_not_reach_the_engine(lab: Lab) -> None:
    net = lab.outside.net
    lab.docker("network create RED")
    lab.docker("network create --internal DEEP")
    lab.docker(f"network create -d macvlan --subnet {net}.0/24 --ip-range {net}.128/28 -o parent=eth0 LAN")
    for name, network in (("one", "bridge"), ("two", "RED"), ("three", "DEEP"), ("four", "LAN"), ("five", "host")):
        lab.run(f"-d --name {name} --net {network} {NAP}")
        seat = lab.host if network == "host" else Seat(lab.engine, name)
        gateway = lab.docker.field(name, f'(index .NetworkSettings.Networks "{network}").Gateway')
        for address in filter(None, (gateway, lab.host.address, "127.0.0.1")):
            for port in (2375, 2376, 2377, 4789, 7946, 9323, 80):
                assert not seat.reaches(address, port, 0.3 if network == "LAN" else 1), (name, address, port)
        assert lab.inside(name, "ls /var/run/docker.sock /run/docker.sock").code != 0
