"""Our nftables table: what somebody else does to it is seen, what we do to it is exactly that."""

from collections.abc import Callable
from typing import Any

import pytest
from msgspec.structs import replace

from fairlead.core import rules
from fairlead.core.model import PortBinding
from fairlead.core.wanted import Address, Element, Namespace, Plan, Skeleton, Wanted, difference
from fairlead.errors import Internal, Invalid
from fairlead.host import nft, nftwire
from fairlead.host.linux import LinuxHost
from fairlead.host.nft import Nft
from lane.pretend import PretendHost

pytestmark = pytest.mark.kernel

SKELETON = Skeleton(
    text="""
    map published { type inet_proto . inet_service : ipv4_addr . inet_service; }
    map sixes { type ipv6_addr . inet_proto . inet_service : ipv6_addr . inet_service; }
    set pairs { type ifname . ifname; }
    set near { type ipv4_addr; flags interval; }
    map marks { type mark : ifname; }
    set seen { type ipv4_addr; flags dynamic; size 128; }
    set limited { type ipv4_addr; flags timeout; timeout 1m; }
    chain no { counter drop; }
    chain arriving { type nat hook prerouting priority -100; dnat ip to meta l4proto . th dport map @published; }
    chain passing { type filter hook forward priority 0; policy drop; iifname . oifname @pairs accept; jump no; }
    """
)
ELEMENTS: Plan = (
    Element(map="published", item="tcp . 8080", value="10.0.0.2 . 80"),
    Element(map="published", item="udp . 53", value="10.0.0.3 . 53"),
    Element(map="sixes", item="2001:db8::1 . tcp . 80", value="fd00::2 . 80"),
    Element(map="pairs", item='"br-0a" . "br-1b"'),
    Element(map="near", item="10.0.0.0/8"),
    Element(map="near", item="192.0.2.7"),
    Element(map="near", item="192.0.2.9-192.0.2.12"),
    Element(map="marks", item="0x10", value='"br-0a"'),
)
WANTED = (SKELETON, *ELEMENTS)


@pytest.fixture
def host(pretend_host: PretendHost) -> LinuxHost:
    made = pretend_host.open()
    made.make(WANTED)
    return made


def missing(host: LinuxHost, *plan: Wanted) -> Plan:
    return difference(plan or WANTED, host.look(plan or WANTED))[0]


@pytest.mark.parametrize(
    "deed",
    [
        "flush ruleset",
        "flush table inet fairlead",
        "flush chain inet fairlead no",
        "add rule inet fairlead passing accept",
        "insert rule inet fairlead passing accept",
        "add chain inet fairlead more",
        "add set inet fairlead more { type ipv4_addr; }",
        "chain inet fairlead passing { policy accept; }",
    ],
)
def test_tampering_is_seen_and_repaired(pretend_host: PretendHost, host: LinuxHost, deed: str) -> None:
    pretend_host.run("nft", deed)
    assert SKELETON in missing(host)
    host.make(WANTED)
    assert missing(host) == ()
    host.remove(WANTED)


@pytest.mark.parametrize(
    "deed", ["delete element inet fairlead published { tcp . 8080 }", "flush map inet fairlead sixes"]
)
def test_a_lost_element_is_seen_alone(pretend_host: PretendHost, host: LinuxHost, deed: str) -> None:
    pretend_host.run("nft", deed)
    assert len(missing(host)) == 1
    host.make(missing(host))
    assert missing(host) == ()
    host.remove(WANTED)


def test_a_strange_element_is_surplus_and_removable(pretend_host: PretendHost, host: LinuxHost) -> None:
    pretend_host.run("nft", "add element inet fairlead near { 203.0.113.0/24 }")
    pretend_host.run("nft", 'add element inet fairlead pairs { "x" . "y" }')
    surplus = difference(WANTED, host.look(WANTED))[1]
    assert {item.key[2:] for item in surplus} == {("near", "203.0.113.0/24"), ("pairs", "x . y")}
    host.remove(surplus)
    assert difference(WANTED, host.look(WANTED)) == ((), ())
    host.remove(WANTED)


def test_what_packets_do_is_not_a_change(pretend_host: PretendHost, host: LinuxHost) -> None:
    pretend_host.run("nft", "add element inet fairlead seen { 192.0.2.1 }")
    pretend_host.run("nft", "add element inet fairlead limited { 192.0.2.1 }")
    assert difference(WANTED, host.look(WANTED)) == ((), ())
    host.remove(WANTED)


def test_other_tables_are_not_ours(pretend_host: PretendHost, host: LinuxHost) -> None:
    pretend_host.run("nft", "table ip fairlead { set strange { type ipv4_addr; elements = { 192.0.2.1 }; }; }")
    assert difference(WANTED, host.look(WANTED)) == ((), ())
    host.remove(WANTED)
    assert pretend_host.run("nft", "list", "tables").split() == ["table", "ip", "fairlead"]
    pretend_host.run("nft", "delete table ip fairlead")


def test_counters_survive_making_again(pretend_host: PretendHost, host: LinuxHost) -> None:
    handle = pretend_host.run("nft", "-a", "list", "chain", "inet", "fairlead", "no")
    host.make(WANTED)
    assert pretend_host.run("nft", "-a", "list", "chain", "inet", "fairlead", "no") == handle
    host.remove(WANTED)


def test_a_restarted_engine_knows_its_table(pretend_host: PretendHost, host: LinuxHost) -> None:
    nft.as_it_should_list.cache_clear()
    again = pretend_host.open()
    assert missing(again) == ()
    again.remove(WANTED)


def test_a_returning_engine_need_not_make_the_table_once_more_to_compare_it(
    pretend_host: PretendHost, host: LinuxHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never() -> Nft:
        raise AssertionError("a table was made elsewhere")

    assert missing(host) == ()
    nft.as_it_should_list.cache_clear()
    again = pretend_host.open()
    with monkeypatch.context() as patch:
        patch.setattr(nft, "elsewhere", never)
        assert missing(again) == ()
    pretend_host.run("nft", "insert rule inet fairlead no counter accept")
    assert any(isinstance(item, Skeleton) for item in missing(again))
    again.remove(WANTED)


def test_what_people_have_in_their_table_is_declared_once(
    pretend_host: PretendHost, host: LinuxHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    host.declare(rules.USER_TABLE)
    pretend_host.run("nft", "add rule inet fairlead-user forward counter accept")
    with monkeypatch.context() as patch:
        patch.setattr(Nft, "run", None)
        host.declare(rules.USER_TABLE)
    pretend_host.run("nft", "flush chain inet fairlead-user forward")
    pretend_host.run("nft", "delete chain inet fairlead-user forward")
    host.declare(rules.USER_TABLE)
    assert "hook forward" in pretend_host.run("nft", "list table inet fairlead-user")
    pretend_host.run("nft", "delete table inet fairlead-user")
    host.remove(WANTED)


def test_adding_and_removing_needs_no_words_and_never_reads_the_table(
    host: LinuxHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: object) -> str:
        raise AssertionError("libnftables was asked on the hot path")

    more = [Element(map="published", item=f"tcp . {port}", value="10.0.0.9 . 80") for port in range(10000, 12000)]
    with monkeypatch.context() as patch:
        patch.setattr(Nft, "listing", never)
        patch.setattr(Nft, "read", never)
        patch.setattr(Nft, "run", never)
        host.make(more)
        host.remove(more)
    assert missing(host) == ()
    host.remove(WANTED)


def test_every_kind_of_binding_is_made_without_words_and_reads_as_it_was_wanted(pretend_host: PretendHost) -> None:
    host = pretend_host.open()
    skeleton = rules.skeleton()
    bindings = [
        PortBinding(port, protocol, address, 8000 + port)
        for port, protocol in ((80, "tcp"), (53, "udp"), (9, "sctp"))
        for address in ("0.0.0.0", "::", "192.0.2.1", "2001:db8::1")
    ]
    networks = [
        rules.NetworkRules(device="br-0a", trusted=("enp0s31f6",)),
        rules.NetworkRules(device="br-0b", mode4="routed", mode6="routed"),
    ]
    plan = [item for network in networks for item in rules.binding_elements(bindings, "10.0.0.2", "fd00::2", network)]
    host.make([skeleton])
    assert host._doors[""].nft.change(plan)
    assert missing(host, skeleton, *plan) == ()
    assert {item.map for item in plan} == set(nftwire.layouts(skeleton.text))
    host.remove([skeleton])


def test_what_was_foreseen_is_made_as_it_was_spelled(host: LinuxHost, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only if it is that, and nothing came between."""
    more = [Element(map="published", item=f"tcp . {port}", value="10.0.0.9 . 80") for port in range(10000, 10010)]
    others = [replace(item, value="10.0.0.8 . 80") for item in more]
    spell, spelled = nftwire.change, list[bool]()

    def change(*words: Any, delete: bool = False) -> Any:
        spelled.append(delete)
        return spell(*words, delete=delete)

    monkeypatch.setattr(nftwire, "change", change)
    for made, also in ((more, [False]), (others, [False, False])):
        host.foresee(more)
        host.make(made)
        assert spelled == also and missing(host, *WANTED, *made) == ()
        host.remove(made)
        assert missing(host, *made) == tuple(made)
        spelled.clear()
    host.remove(WANTED)


def test_half_known_elements_are_removed_all_the_same(host: LinuxHost) -> None:
    strange = Element(map="published", item="tcp . 999", value="10.0.0.2 . 80")
    nowhere = Element(map="nowhere", item="tcp . 999")
    host.remove([*ELEMENTS[:2], strange, nowhere])
    assert missing(host) == ELEMENTS[:2]
    host.remove(WANTED)


def test_a_refused_transaction_changes_nothing(host: LinuxHost) -> None:
    good = Element(map="published", item="tcp . 81", value="10.0.0.2 . 80")
    bad = Element(map="published", item="tcp . eighty", value="10.0.0.2 . 80")
    with pytest.raises(Internal, match="nftables"):
        host.make([good, bad])
    assert missing(host, *WANTED, good) == (good,)
    with pytest.raises(Internal, match="nftables"):
        host.make([Skeleton(text="chain broken {"), *ELEMENTS])
    assert missing(host) == ()
    host.remove(WANTED)


def test_a_replaced_table_comes_back_whole_when_the_plan_fails(host: LinuxHost) -> None:
    other = Skeleton(text="chain other { type filter hook input priority 0; }")
    with pytest.raises(Internal, match="nowhere"):
        host.make([other, Address(link="nowhere", address="10.0.0.1/24")])
    assert missing(host) == ()
    host.remove(WANTED)


@pytest.mark.parametrize(
    "place",
    [
        lambda words: Element(map="near", item=words),
        lambda words: Element(map="published", item="tcp . 1", value=words),
        lambda words: Element(map=words, item="tcp . 1"),
    ],
)
@pytest.mark.parametrize("words", ["1.1.1.1 }; flush ruleset; {", "1.1.1.1\nflush ruleset", "1.1.1.1 # hm", "$x"])
def test_nobody_puts_words_into_our_commands(host: LinuxHost, place: Callable[[str], Element], words: str) -> None:
    with pytest.raises(Invalid, match="no place"):
        host.make([place(words)])
    with pytest.raises(ExceptionGroup):
        host.remove([place(words)])
    assert missing(host) == ()
    host.remove(WANTED)


def test_each_namespace_has_its_own_table(pretend_host: PretendHost, host: LinuxHost) -> None:
    inside: Plan = (
        Namespace(name="s1"),
        Skeleton(ns="s1", text="set near { type ipv4_addr; }"),
        Element(ns="s1", map="near", item="192.0.2.1"),
    )
    host.make(inside)
    assert difference([*WANTED, *inside], host.look([*WANTED, *inside])) == ((), ())
    assert "192.0.2.1" in pretend_host.run("nft", "list", "ruleset", ns="s1")
    host.remove(inside)
    assert missing(host) == ()
    host.remove(WANTED)
