"""Macvlan beyond the labs: what the host may see, what a router may say, what a returning engine finds."""

import socket
import struct
from collections.abc import Iterator

import pytest

from lane.machine import Lan, eventually
from scenarios.lab import Lab

NAP = "busybox sleep 1000"


def create(lab: Lab, *options: str, name: str = "lan") -> None:
    net = lab.outside.net
    words = f"--subnet {net}.0/24 --gateway {net}.1 --ip-range {net}.128/28 -o parent=eth0"
    lab.docker(f"network create -d macvlan {words} {' '.join(options)} {name}")


def advertise(lan: Lan) -> None:
    """A router on the LAN offers a prefix (2001:db8:bad::/64) and itself as the default route."""
    prefix = struct.pack(
        ">BBBBIII16s", 3, 4, 64, 0xC0, 3600, 3600, 0, socket.inet_pton(socket.AF_INET6, "2001:db8:bad::")
    )
    message = struct.pack(">BBHBBHII", 134, 0, 0, 64, 0, 1800, 0, 0) + prefix

    def send() -> None:
        with socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6) as sock:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, 255)
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_IF, socket.if_nametoindex("lan0"))
            sock.sendto(message, ("ff02::1", 0))

    lan.within(send)


def senders(wire: socket.socket) -> Iterator[str]:
    """The MAC addresses that have spoken ARP on this wire until now."""
    wire.setblocking(False)
    while True:
        try:
            yield wire.recv(100)[22:28].hex(":")
        except BlockingIOError:
            return


def test_routers_on_the_lan_are_not_believed(lab: Lab) -> None:
    create(lab)
    lab.docker("network create -d macvlan --ipv6 --subnet 10.77.0.0/24 --subnet fd00:77::/64 -o parent=eth0 lan6")
    lab.run(f"-d --name four --network lan {NAP}")
    lab.run(f"-d --name six --network lan6 {NAP}")
    believes = "--driver-opt com.docker.network.endpoint.sysctls=net.ipv6.conf.IFNAME.accept_ra=1"
    lab.run(f"-d --name asked {NAP}")
    lab.docker(f"network connect {believes} lan6 asked")

    def heard() -> bool:
        advertise(lab.outside)
        return "2001:db8:bad:" in lab.inside("asked", "ip -6 addr")

    eventually(heard, "the one that asked for it hears the router")
    assert "inet6" not in lab.inside("four", "ip -6 addr show eth0")
    shown = lab.inside("six", "ip -6 addr show eth0; ip -6 route")
    assert "2001:db8:bad" not in shown and "default via fe80" not in shown and "fd00:77::" in shown


def test_ports_are_not_published(lab: Lab) -> None:
    create(lab)
    lab.run("-d --name web -p 8080:80 --network lan nginx")
    assert lab.ports("web") == []
    assert not lab.host.reaches("127.0.0.1", 8080)
    assert "nginx" in lab.outside.page(lab.address("web", "lan"))


def test_the_host_reaches_its_containers_when_asked_to(lab: Lab) -> None:
    create(lab)
    lab.run(f"-d --name far --network lan {NAP}")
    assert not lab.host.pings(lab.address("far", "lan"))
    lab.docker("rm -f far")
    lab.docker("network rm lan")

    create(lab, "-o host_access=true")
    lab.run(f"-d --name near --network lan {NAP}")
    address = lab.address("near", "lan")
    second = lab.host.must(["ip", "-br", "link", "show", "type", "macvlan"]).out.split()[2]
    lab.outside("ip neigh flush all")
    lab.host("ip neigh flush all")
    with lab.outside.within(lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x0806))) as wire:
        wire.bind(("lan0", 0))
        assert lab.host.pings(address) and lab.pings("near", lab.host.address)
        assert lab.pings("near", lab.outside.address) and lab.outside.pings(lab.host.address)
        heard = set(senders(wire))
    assert heard and second not in heard, "the LAN hears nothing of the host's second MAC"
    lab.engine.restart()
    assert lab.host.pings(address)
    lab.docker("rm -f near")
    assert address not in lab.host("ip route").out
    lab.docker("network rm lan")
    eventually(
        lambda: not [name for name in lab.host.links() if name.startswith("hx")], "the host's own macvlan is gone"
    )


def test_passthru_is_for_one(lab: Lab) -> None:
    create(lab, "-o macvlan_mode=passthru")
    lab.run(f"-d --name one --network lan {NAP}")
    mac = lab.docker.field("one", '(index .NetworkSettings.Networks "lan").MacAddress')
    assert mac in lab.inside("one", "ip link show eth0")
    lab.docker.refused(f"run --rm --network lan {NAP}", "it has room for one")


def test_a_returning_engine_changes_nothing_inside(lab: Lab) -> None:
    """Addresses that a container with the right to do so gave itself (a floating one, say) are its own affair."""
    create(lab)
    lab.run(f"-d --name c1 --network lan {NAP}")
    place = lab.docker.field("c1", ".NetworkSettings.SandboxKey")
    command = ["nsenter", f"--net={place}", "ip", "addr", "add", f"{lab.outside.net}.200/24", "dev", "eth0"]
    assert lab.host.inside(command).code == 0
    before = lab.inside("c1", "ip addr; ip route").out
    said = lab.engine.log.stat().st_size
    lab.engine.restart()
    assert lab.inside("c1", "ip addr; ip route").out == before
    assert not (right := lab.put_right(said)), "\n".join(right)
    assert lab.pings("c1", lab.outside.address)


def test_the_engine_returns_although_a_parent_is_gone(lab: Lab) -> None:
    """A card that was pulled takes its networks with it, not the engine."""
    lab.host.must("ip link add card0 type veth peer name card1")
    lab.host.must("ip link set card0 up")
    lab.docker("network create -d macvlan --subnet 10.88.0.0/24 -o parent=card0 -o host_access=true pulled")
    lab.run("-d --name other -p 8080:80 nginx")
    lab.run(f"-d --name there --network pulled {NAP}")
    lab.engine.kill()
    lab.host.must("ip link del card0")
    lab.host("nft flush ruleset")
    lab.engine.start()
    assert "nginx" in lab.outside.page(lab.host.address, 8080), "what can be put right is put right"
    assert len(lab.docker("ps -q").lines) == 2 and "pulled" in lab.docker("network ls")
    lab.docker("rm -f there")
    lab.docker.refused(f"run --rm --network pulled {NAP}", "card0")
    lab.docker("network rm pulled")


def test_a_deleted_device_is_back_at_once(lab: Lab) -> None:
    """It has no other end on the host that would tell; nobody waits for the half minute's look."""
    create(lab)
    lab.run(f"-d --name c1 --network lan {NAP}")
    before = lab.inside("c1", "ip route").lines
    place = lab.docker.field("c1", ".NetworkSettings.SandboxKey")
    assert lab.host.inside(["nsenter", f"--net={place}", "ip", "link", "del", "eth0"]).code == 0
    eventually(lambda: lab.pings("c1", lab.outside.address), "it is on the LAN again", 3)
    assert lab.inside("c1", "ip route").lines == before


# Who reaches whom: two containers on one parent, the LAN, and the host.
REACHES = {
    "bridge": {"neighbour": True, "lan": True},
    "private": {"neighbour": False, "lan": True},
    "vepa": {"neighbour": False, "lan": True},
}


@pytest.mark.parametrize("mode", REACHES)
def test_modes(lab: Lab, mode: str) -> None:
    create(lab, f"-o macvlan_mode={mode}")
    for name in ("one", "two"):
        lab.run(f"-d --name {name} --network lan {NAP}")
    other = lab.address("two", "lan")
    seen = {"neighbour": bool(lab.pings("one", other)), "lan": bool(lab.pings("one", lab.outside.address))}
    assert seen == REACHES[mode]
    assert lab.outside.pings(other) and not lab.host.pings(other)
    assert lab.resolves("one", "two"), "names are ours in every mode"


def test_vepa_behind_a_switch_that_turns_frames_round(lab: Lab) -> None:
    """That is what the mode is for: the switch decides, and sees every frame."""
    lab.outside.must(f"bridge link set dev port{lab.host.last} hairpin on")
    try:
        create(lab, "-o macvlan_mode=vepa")
        for name in ("one", "two"):
            lab.run(f"-d --name {name} --network lan {NAP}")
        assert eventually(lambda: lab.pings("one", lab.address("two", "lan")), "by way of the switch")
    finally:
        lab.outside.must(f"bridge link set dev port{lab.host.last} hairpin off")


def test_host_access_in_ipv6(lab: Lab) -> None:
    """With an address reserved for the host, which IPv6 needs; the host's own ones are for the LAN."""
    net = lab.outside.net
    four = f"--subnet {net}.0/24 --gateway {net}.1 --ip-range {net}.128/28"
    six = "--ipv6 --subnet fd00:88::/64 --aux-address host=fd00:88::ffff"
    lab.docker(f"network create -d macvlan {four} {six} -o parent=eth0 -o host_access=true lan")
    lab.run(f"-d --name near --network lan {NAP}")
    address = lab.docker.field("near", '(index .NetworkSettings.Networks "lan").GlobalIPv6Address')
    assert eventually(lambda: lab.host.pings(address), "the host reaches it")
    assert lab.inside("near", "ping -6 -c1 -W1 fd00:88::ffff"), "and is reached"
    assert lab.host.pings(lab.address("near", "lan"))
