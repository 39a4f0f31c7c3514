"""The attacker has a place on the LAN, or in a container, and makes its frames by hand."""

import pytest

from scenarios.lab import Lab
from security.attack import Seat, frame, heard, listen, mac_of, say, throw

pytestmark = pytest.mark.lab

NAP = "busybox sleep 1000"


@pytest.mark.proves(
    "moby#41872",
    guard=(
        "core/rules.py",
        'ip daddr 127.0.0.0/8 iifname != "lo" counter drop',
        'ip daddr 127.0.0.0/8 iifname != "lo" accept',
    ),
)
def test_a_port_of_127_0_0_1_is_for_the_host_alone(lab: Lab) -> None:
    lab.run(f"-d --name web -p 127.0.0.1:8053:53/udp {NAP}")
    with listen(Seat(lab.engine, "web"), 53) as web:
        say(lab.host, "127.0.0.1", 8053, b"from the host")
        assert heard(web, 5)[0] == b"from the host"
        macs = mac_of(lab.outside, "lan0"), mac_of(lab.host, "eth0")
        throw(lab.outside, "lan0", frame(*macs, lab.outside.address, "127.0.0.1", 8053, b"forged"))
        assert not heard(web)[0]


@pytest.mark.proves(
    "CVE-2020-8558",
    guard=(
        "core/rules.py",
        'ip daddr 127.0.0.0/8 iifname != "lo" counter drop',
        'ip daddr 127.0.0.0/8 iifname != "lo" accept',
    ),
)
def test_what_the_host_serves_on_127_0_0_1_is_for_the_host_alone(lab: Lab) -> None:
    """Whatever route_localnet is: with userland proxies gone, it is on for every bridge of ours."""
    lab.run(f"-d --name evil {NAP}")
    lab.host.must("sysctl -q -w net.ipv4.conf.eth0.route_localnet=1")
    seat = Seat(lab.engine, "evil")
    with listen(lab.host, 9000, "127.0.0.1") as service:
        say(lab.host, "127.0.0.1", 9000, b"from the host")
        assert heard(service, 5)[0] == b"from the host"
        for place, device, gate in ((lab.outside, "lan0", "eth0"), (seat, "eth0", "docker0")):
            macs = mac_of(place, device), mac_of(lab.host, gate)
            throw(place, device, frame(*macs, place.address, "127.0.0.1", 9000, b"forged"))
            assert not heard(service)[0], device
    lab.host.must("sysctl -q -w net.ipv4.conf.eth0.route_localnet=0")


@pytest.mark.proves(
    "moby#45610",
    guard=("core/rules.py", 'counter drop comment "another network, or container addresses', 'accept comment "'),
)
def test_a_route_to_a_container_leads_nowhere(lab: Lab) -> None:
    lab.run("-d --name web -p 8080:80 nginx")
    address = lab.address("web")
    assert lab.outside.page(lab.host.address, 8080)
    lab.outside.must(f"ip route replace {address}/32 via {lab.host.address}")
    try:
        assert not lab.outside.reaches(address, 80)
        assert not lab.outside.pings(address)
    finally:
        lab.outside.must(f"ip route del {address}/32")


@pytest.mark.proves(
    "CVE-2025-67499",
    guard=(
        "core/rules.py",
        "priority dstnat; policy accept;\n        fib daddr type local jump published",
        "priority dstnat; policy accept;\n        jump published",
    ),
)
def test_a_published_port_53_is_for_packets_to_this_host(lab: Lab) -> None:
    lab.run(f"-d --name server -p 5353:53/udp {NAP}")
    lab.run(f"-d --name client {NAP}")
    with listen(Seat(lab.engine, "server"), 53) as here, listen(lab.outside, 5353) as there:
        say(Seat(lab.engine, "client"), lab.outside.address, 5353, b"passing through")
        assert heard(there)[0] == b"passing through"
        assert not heard(here, 0)[0]
        say(lab.outside, lab.host.address, 5353, b"for the host")
        assert heard(here, 5)[0] == b"for the host"


@pytest.mark.proves(
    "CVE-2020-8554",
    guard=(
        "core/rules.py",
        'accept comment "the relay\'s"\n        fib daddr type local jump published',
        'accept comment "the relay\'s"\n        jump published',
    ),
)
def test_nobody_elses_address_is_taken_over(lab: Lab) -> None:
    """Publishing at an address that the host has not is allowed: it may come. Till then it is theirs."""
    lab.run(f"-d --name thief -p {lab.outside.address}:7777:53/udp {NAP}")
    lab.run(f"-d --name client {NAP}")
    with listen(Seat(lab.engine, "thief"), 53) as thief, listen(lab.outside, 7777) as owner:
        for place in (lab.host, Seat(lab.engine, "client")):
            say(place, lab.outside.address, 7777, b"secret")
            assert heard(owner)[0] == b"secret"
        assert not heard(thief, 0)[0]


@pytest.mark.proves(
    "CVE-2021-20199",
    guard=(
        "core/rules.py",
        'meta iifkind != "bridge" accept comment "what came by a cable keeps its address"\n'
        "        ip saddr 127.0.0.0/8 oifname @networks masquerade",
        "oifname @networks masquerade",
    ),
)
def test_a_remote_client_is_seen_as_who_it_is(lab: Lab) -> None:
    lab.run(f"-d --name web -p 8053:53/udp {NAP}")
    with listen(Seat(lab.engine, "web"), 53) as web:
        say(lab.outside, lab.host.address, 8053, b"hello")
        assert heard(web, 5) == (b"hello", lab.outside.address)
