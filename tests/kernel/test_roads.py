"""The kernel tells which way it sends a packet, and why not; other people's rules are read as nft lists them."""

import pytest

from fairlead.core.others import Others
from fairlead.core.ruleset import Packet
from fairlead.host.linux import LinuxHost
from lane.pretend import PretendHost

pytestmark = pytest.mark.kernel


@pytest.fixture
def host(pretend_host: PretendHost) -> LinuxHost:
    for words in (
        "link add br0 type bridge",
        "addr add 10.0.0.1/24 dev br0",
        "addr add fd00::1/64 dev br0 nodad",
        "link set br0 up",
        "link add card type veth peer name plug",
        "addr add 192.0.2.1/24 dev card",
        "link set plug up",
        "link set card up",
        "route add default via 192.0.2.2",
    ):
        pretend_host.run("ip", *words.split())
    pretend_host.run("sysctl", "-q", "-w", "net.ipv4.ip_forward=1")
    opened = pretend_host.open()
    yield opened
    for link in ("br0", "card"):
        pretend_host.run("ip", "link", "delete", link)


def test_it_is_the_way_the_kernel_takes(pretend_host: PretendHost, host: LinuxHost) -> None:
    own = host.road("", "10.0.0.2")
    assert own and (own.device, own.gateway, own.source, own.prefix) == ("br0", "", "10.0.0.1", "10.0.0.0/24")
    out = host.road("", "198.51.100.1", "10.0.0.2", "br0")
    assert out and (out.device, out.gateway, out.prefix) == ("card", "192.0.2.2", "0.0.0.0/0")
    here = host.road("", "10.0.0.1", "10.0.0.2", "br0")
    assert here and here.kind == "local"
    six = host.road("", "fd00::2")
    assert six and (six.device, six.prefix) == ("br0", "fd00::/64")
    assert host.road("", "10.0.0.2", "10.0.0.3", "gone0") is None


def test_a_narrower_route_and_a_rule_of_somebody_else(pretend_host: PretendHost, host: LinuxHost) -> None:
    pretend_host.run("ip", "route", "add", "10.0.0.2/32", "dev", "card", "proto", "static")
    found = host.road("", "10.0.0.2")
    assert str(found) == "10.0.0.2/32 dev card proto static (table main)"
    pretend_host.run("ip", "route", "add", "default", "dev", "card", "table", "77")
    pretend_host.run("ip", "rule", "add", "priority", "9", "from", "10.0.0.0/24", "to", "9.9.9.0/24", "lookup", "77")
    found = host.road("", "9.9.9.9", "10.0.0.3", "br0")
    assert str(found) == "0.0.0.0/0 dev card proto boot (table 77, by rule 9: from 10.0.0.0/24 to 9.9.9.0/24 lookup 77)"
    pretend_host.run("ip", "rule", "delete", "priority", "9")


@pytest.mark.parametrize(
    ("deed", "kind", "says"),
    [
        ("ip route add prohibit 198.51.100.0/24", "prohibit", "198.51.100.0/24"),
        ("ip route add blackhole 198.51.100.0/24", "blackhole", "198.51.100.0/24"),
        ("ip route add unreachable 198.51.100.0/24", "unreachable", "198.51.100.0/24"),
        ("ip route delete default", "no route", "no entry"),
        ("sysctl -q -w net.ipv4.conf.br0.rp_filter=1", "rp_filter", "no entry"),
        ("sysctl -q -w net.ipv4.ip_forward=0", "unreachable", "no entry"),
    ],
)
def test_why_it_goes_nowhere(pretend_host: PretendHost, host: LinuxHost, deed: str, kind: str, says: str) -> None:
    pretend_host.run(*deed.split())
    source = "172.30.0.9" if kind == "rp_filter" else "10.0.0.2"
    found = host.road("", "198.51.100.1", source, "br0")
    assert found and found.kind == kind and says in str(found)


def test_other_peoples_rules_are_read_as_they_are(pretend_host: PretendHost, host: LinuxHost) -> None:
    pretend_host.run("iptables-nft", "-P", "FORWARD", "DROP")
    pretend_host.run("iptables-nft", "-A", "FORWARD", "-i", "br0", "-p", "tcp", "--dport", "80", "-j", "ACCEPT")
    listing, _ = host.rulesets("")
    others = Others(listing)
    (chain,) = others.chains("forward", "ip")
    packet = Packet(source="10.0.0.2", target="198.51.100.1", protocol="tcp", port=80, arrives="br0", leaves="card")
    assert (str(chain), chain.policy) == ("ip filter FORWARD", "drop")
    assert not others.opinion(chain, packet, lambda address: False).drops
    pretend_host.run("iptables-nft", "-F", "FORWARD")
    others = Others(host.rulesets("")[0])
    assert others.opinion(others.chains("forward", "ip")[0], packet, lambda address: False).drops
    pretend_host.run("nft", "flush", "ruleset")


def test_tables_of_legacy_iptables_are_named(pretend_host: PretendHost, host: LinuxHost) -> None:
    assert host.rulesets("")[1] == ()
    pretend_host.run("iptables-legacy", "-P", "FORWARD", "DROP")
    assert host.rulesets("")[1] == ("iptables filter",)
