"""Other people's rules: what is sure is said so, and what cannot be told is never left out."""

import pytest

from fairlead.core.others import Opinion, Others, describe, remedies
from fairlead.core.ruleset import Packet

CALL = Packet(source="10.0.0.2", target="198.51.100.1", protocol="tcp", port=80, arrives="br-red", leaves="eth0")
LISTING = """\
table {family} {table} {{
	set bad {{
		type ipv4_addr
	}}

	chain {name} {{
		type filter hook forward priority filter; policy {policy};
{rules}
	}}

	chain inner {{
{inner}
	}}
}}
"""


def opinion(
    *rules: str, policy: str = "accept", inner: tuple[str, ...] = (), packet: Packet = CALL, family: str = "inet"
) -> Opinion:
    lines = ["\n".join(f"\t\t{rule}" for rule in part) for part in (rules, inner)]
    text = LISTING.format(family=family, table="theirs", name="f", policy=policy, rules=lines[0], inner=lines[1])
    others = Others(text)
    (chain,) = others.chains("forward", "ip")
    return others.opinion(chain, packet, lambda address: address == "192.0.2.1")


def said(found: Opinion) -> str:
    return "drops" if found.drops else "may" if found.doubts else "passes"


@pytest.mark.parametrize(
    ("rule", "verdict"),
    [
        ("drop", "drops"),
        ("counter reject with icmpx admin-prohibited", "drops"),
        ('iifname "br-red" oifname "eth0" drop', "drops"),
        ('iifname "br-*" drop', "drops"),
        ('iifname != "br-red" drop', "passes"),
        ('iifname { "docker0", "br-red" } drop', "drops"),
        ("ip saddr 10.0.0.0/8 tcp dport { 22, 80-90 } counter reject", "drops"),
        ("ip saddr 10.0.0.0/8 tcp dport 443 drop", "passes"),
        ("ip daddr != { 10.0.0.0/8, 198.51.100.1-198.51.100.9 } drop", "passes"),
        ("udp dport 80 drop", "passes"),
        ("meta l4proto { tcp, udp } th dport 1-1024 drop", "drops"),
        ("meta nfproto ipv6 drop", "passes"),
        ("ip6 saddr fd00::/8 drop", "passes"),
        ("ip protocol icmp drop", "passes"),
        ("ct state invalid drop", "passes"),
        ("ct state established,related accept", "passes"),
        ("ct state { new, untracked } drop", "drops"),
        ("ct state vmap { invalid : drop, new : drop }", "drops"),
        ("ct state vmap { established : accept, related : accept, invalid : drop }", "passes"),
        ("ct status dnat drop", "passes"),
        ("fib daddr type local drop", "passes"),
        ("meta mark 0x00000001 drop", "may"),
        ("meta mark & 0x0000ff00 == 0x00000100 drop", "may"),
        ("ip saddr @bad drop", "may"),
        ("tcp flags syn / fin,syn,rst,ack drop", "may"),
        ("limit rate 5/second drop", "may"),
        ('xt match "string" drop', "may"),
        ('ip saddr 10.0.0.2 xt target "TARPIT"', "drops"),
        ('log prefix "drop " level warn', "passes"),
        ('log prefix "seen: " level debug flags all drop', "drops"),
        ("meta mark set 0x00000001 accept", "passes"),
        ("jump inner", "drops"),
        ("tcp dport 81 jump inner", "passes"),
        ("meta mark 0x00000001 goto inner", "may"),
        ("ip saddr vmap @theirs", "may"),
    ],
)
def test_one_rule(rule: str, verdict: str) -> None:
    assert said(opinion(rule, inner=("drop",))) == verdict


def test_a_policy_of_drop_stands_unless_something_may_let_it_pass() -> None:
    assert said(opinion(policy="drop")) == "drops"
    assert said(opinion("ct state established accept", policy="drop")) == "drops"
    assert said(opinion('iifname "br-red" accept', policy="drop")) == "passes"
    assert said(opinion("meta mark 0x1 accept", policy="drop")) == "may"
    assert said(opinion("meta mark 0x1 return", "accept", policy="drop")) == "may"


def test_what_comes_first_decides() -> None:
    assert said(opinion("accept", "drop")) == "passes"
    assert said(opinion("ip saddr @good accept", "drop")) == "may"
    assert said(opinion("jump inner", "drop", inner=("return", "accept"))) == "drops"
    assert said(opinion("jump inner", inner=("meta mark 0x1 return", "drop"))) == "may"
    assert said(opinion("goto inner", "drop", inner=('iifname "lo" drop',))) == "passes"


def test_only_those_who_are_asked_are_asked() -> None:
    others = Others(
        "table inet fairlead {\n\tchain forward {\n\t\ttype filter hook forward priority filter; policy drop;\n\t}\n}\n"
        "table ip6 six {\n\tchain f {\n\t\ttype filter hook forward priority filter; policy drop;\n\t}\n}\n"
        "table bridge b {\n\tchain f {\n\t\ttype filter hook forward priority filter - 5; policy drop;\n\t}\n}\n"
        'table netdev n {\n\tchain f {\n\t\ttype filter hook ingress device "eth0" priority 0; policy drop;\n\t}\n}\n'
    )
    assert others.chains("forward", "ip") == []
    assert [str(chain) for chain in others.chains("forward", "ip6")] == ["ip6 six f"]
    assert [chain.priority for chain in others.chains("forward", "bridge")] == [-205]
    assert others.chains("ingress", "netdev", "eth1") == [] and others.chains("ingress", "netdev", "eth0")


def test_a_table_that_sleeps_is_not_asked() -> None:
    listing = LISTING.format(family="ip", table="theirs", name="f", policy="drop", rules="", inner="")
    assert Others(listing).chains("forward", "ip")
    assert not Others(listing.replace("{\n", "{\n\tflags dormant\n", 1)).chains("forward", "ip")


OWNED = """\
table {table} {{
	chain {name} {{
		type filter hook forward priority filter; policy drop;
	}}

	chain {sign} {{
	}}
}}
"""


@pytest.mark.parametrize(
    ("table", "name", "sign", "owner", "remedy"),
    [
        ("ip filter", "FORWARD", "DOCKER-USER", "dockerd", "iptables -I DOCKER-USER -i br-red -o eth0 -j ACCEPT"),
        ("ip filter", "FORWARD", "ufw-user-forward", "ufw", "ufw route allow in on br-red out on eth0"),
        ("inet firewalld", "filter_FORWARD", "x", "firewalld", "firewall-cmd --zone=trusted --change-interface=br-red"),
        ("ip filter", "FORWARD", "mine", "", "iptables -I FORWARD -i br-red -o eth0 -j ACCEPT"),
        (
            "inet fairlead-user", "forward", "x", "you",
            'nft insert rule inet fairlead-user forward iifname "br-red" oifname "eth0" accept',
        ),
    ],
)  # fmt: skip
def test_whose_it_is_and_the_way_out(table: str, name: str, sign: str, owner: str, remedy: str) -> None:
    others = Others(OWNED.format(table=table, name=name, sign=sign))
    (chain,) = others.chains("forward", "ip")
    found = others.opinion(chain, CALL, lambda address: False)
    assert others.owner(chain) == owner
    assert describe(found, owner).startswith(f"{table} {name} (forward, priority 0, policy drop; ")
    assert next(iter(remedies(found, owner, CALL))) == remedy
