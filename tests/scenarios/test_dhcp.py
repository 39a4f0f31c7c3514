"""Addresses from the LAN's own DHCP server (``--ipam-driver dhcp``), against a real one: busybox udhcpd.

Leases here last 10 seconds, the shortest that is taken, and are prolonged from the first second on (T1 and T2 are
options of the server's, in hexadecimal).
"""

import signal
from collections.abc import Iterator

import pytest

from lane.dhcpd import Dhcpd
from lane.engines import Fairlead
from lane.machine import eventually
from scenarios.lab import Lab

NAP = "busybox sleep 1000"
QUICK = ("0x3a 00000001", "0x3b 00000008")
PROLONGED = "sending ACK"


@pytest.fixture(autouse=True)
def ours(lab: Lab) -> None:
    if not isinstance(lab.engine, Fairlead):
        pytest.skip("only ours leases addresses")


@pytest.fixture
def server(lab: Lab) -> Iterator[Dhcpd]:
    router, names = f"router {lab.outside.address}", f"dns {lab.outside.address}"
    server = Dhcpd(lab.outside, 150, 159, router, names, "domain lan.example", "mtu 1400", *QUICK, lease=10)
    server.start()
    yield server
    server.close()


def create(lab: Lab, *options: str) -> None:
    lab.docker(f"network create -d macvlan --ipam-driver dhcp -o parent=eth0 {' '.join(options)} lan")


def held(lab: Lab, container: str) -> str:
    """The address that the interface really has."""
    words = lab.inside(container, "ip -4 addr show eth0").out.split()
    return words[words.index("inet") + 1] if "inet" in words else ""


def told(lab: Lab, id: str, action: str) -> list[str]:
    """The addresses that events of that container name: before and now."""
    form = "{{.Actor.ID}} {{.Actor.Attributes.before}} {{.Actor.Attributes.address}}"
    said = lab.docker(["events", "--since", "1", "--until", "0s", "--filter", f"event={action}", "--format", form])
    return [line.removeprefix(id).strip() for line in said.lines if line.startswith(id)]


def asked(lab: Lab, words: str) -> dict:
    """What the engine answers to ``fairlead doctor`` and ``fairlead explain``."""
    answer = lab.engine.http().call("GET", f"/fairlead/{words}").json
    assert isinstance(answer, dict)
    return answer


def test_a_container_has_what_the_lan_gave_it(lab: Lab, server: Dhcpd) -> None:
    create(lab)
    lab.run(f"-d --name web --network lan {NAP}")
    address = lab.address("web", "lan")
    mac = lab.docker.field("web", '(index .NetworkSettings.Networks "lan").MacAddress')
    assert server.lent() == {address: mac}
    assert held(lab, "web") == f"{address}/24"
    assert "mtu 1400" in lab.inside("web", "ip link show eth0")
    assert f"default via {lab.outside.address}" in lab.inside("web", "ip route")
    assert "search lan.example" in lab.inside("web", "cat /etc/resolv.conf")
    assert address in lab.inside("web", "cat /etc/hosts")
    assert lab.resolves("web", "outside") and lab.outside.pings(address)
    lab.docker("rm -f web")
    eventually(lambda: not server.lent(), "the address is given back", 3)


def test_a_lease_is_prolonged_while_the_daemon_is_away(lab: Lab, server: Dhcpd) -> None:
    create(lab)
    id = lab.run(f"-d --name web --network lan {NAP}")
    address = lab.address("web", "lan")
    lab.engine.kill()
    already = server.said(PROLONGED)
    eventually(lambda: server.said(PROLONGED) > already + 2, "it is prolonged")
    said = lab.engine.log.stat().st_size
    lab.engine.start()
    assert not (right := lab.put_right(said)), "\n".join(right)
    assert lab.address("web", "lan") == address and held(lab, "web") == f"{address}/24"
    already = server.said(PROLONGED)
    eventually(lambda: server.said(PROLONGED) > already + 1, "and goes on")
    assert not told(lab, id, "lease_lost")


def test_a_lease_outlives_the_process_that_prolongs_it(lab: Lab, server: Dhcpd) -> None:
    create(lab)
    lab.run(f"-d --name web --network lan {NAP}")
    address, already = lab.address("web", "lan"), server.said("sending OFFER")
    pid = (lab.engine.base / "exec" / "leases.pid").read_text().split()[0]
    lab.host.inside(["kill", f"-{signal.SIGKILL}", pid])
    prolonged = server.said(PROLONGED)
    eventually(lambda: server.said(PROLONGED) > prolonged + 2, "another one goes on")
    assert held(lab, "web") == f"{address}/24" and server.said("sending OFFER") == already


def test_who_starts_again_asks_for_the_old_address(lab: Lab, server: Dhcpd) -> None:
    create(lab)
    lab.run(f"-d --name first --network lan {NAP}")
    lab.run(f"-d --name second --network lan {NAP}")
    address = lab.address("first", "lan")
    lab.docker("stop -t 0 first")
    server.forget()
    server.start()
    lab.docker("start first")
    assert lab.address("first", "lan") == address != lab.address("second", "lan")


def test_a_server_that_is_gone_for_long(lab: Lab, server: Dhcpd) -> None:
    create(lab)
    id = lab.run(f"-d --name web --network lan {NAP}")
    address = lab.address("web", "lan")
    server.stop()
    eventually(lambda: told(lab, id, "lease_lost"), "the lease runs out", 15)
    eventually(lambda: not held(lab, "web"), "an address that is not ours is not used")
    assert lab.address("web", "lan") == ""
    assert asked(lab, "doctor")["Findings"][0]["Object"] == "lease of web on lan"
    assert "lends it none now" in asked(lab, "explain?from=host&to=web")["Hops"][0]["Says"]
    server.start()
    eventually(lambda: told(lab, id, "lease"), "it has one again", 15)
    assert held(lab, "web") == f"{address}/24" and lab.outside.pings(address)
    assert not asked(lab, "doctor")["Findings"]


def test_a_server_that_takes_it_back(lab: Lab, server: Dhcpd) -> None:
    """It was set up anew, for other addresses, and refuses to prolong what it never lent."""
    create(lab)
    id = lab.run(f"-d --name web --network lan {NAP}")
    server.forget()
    server.range = (170, 179)
    server.start()
    eventually(lambda: held(lab, "web").startswith(f"{lab.outside.net}.17"), "an address of the new range", 15)
    assert lab.address("web", "lan").startswith(f"{lab.outside.net}.17")
    eventually(lambda: any(line.endswith(held(lab, "web")) for line in told(lab, id, "lease")), "an event")
    assert lab.outside.pings(lab.address("web", "lan"))


def test_routes_of_the_lan(lab: Lab, server: Dhcpd) -> None:
    routes = ("10.55.0.0/16", "10.66.0.0/24", "0.0.0.0/0")
    server.options += (f"staticroutes {','.join(f'{prefix} {lab.outside.net}.1' for prefix in routes)}",)
    server.stop()
    server.start()
    create(lab)
    lab.docker("network create --subnet 10.66.0.0/16 other")
    lab.run(f"-d --name web --network lan {NAP}")
    shown = lab.inside("web", "ip route")
    assert all(f"{prefix} via {lab.outside.net}.1" in shown for prefix in routes[:2])
    lab.docker("network connect --gw-priority 1 other web")
    shown = lab.inside("web", "ip route")
    assert f"10.55.0.0/16 via {lab.outside.net}.1" in shown and "default via 10.66.0.1" in shown
    assert "10.66.0.0/24" not in shown, "the LAN has no say about the way to another network"


def test_what_cannot_be(lab: Lab) -> None:
    for words, why in (
        ("-d bridge --ipam-driver dhcp", "needs a LAN"),
        ("-d macvlan --ipam-driver dhcp", "needs a LAN"),
        ("-d macvlan -o parent=eth0 --ipam-driver dhcp --subnet 10.1.0.0/16", "takes no --subnet"),
        ("-d macvlan -o parent=eth0 --ipam-driver nobody", 'plugin "nobody" not found'),
    ):
        lab.docker.refused(f"network create {words} lan", why)
