"""A sandbox's table that nobody touched is known again without words; whatever somebody did to it is seen."""

import pytest

from fairlead.core.hostsfile import redirect_skeleton
from fairlead.core.wanted import Element, Namespace, Plan, Skeleton, difference
from fairlead.host import listings, nft, nftwords, untouched
from fairlead.host.linux import LinuxHost
from lane.pretend import PretendHost

pytestmark = pytest.mark.kernel

WANTED: Plan = (Namespace(name="s1"), redirect_skeleton("s1", 40000, 40001))


@pytest.fixture
def host(pretend_host: PretendHost) -> LinuxHost:
    """An engine that came back: the one before it looked once."""
    first = pretend_host.open()
    first.make(WANTED)
    assert difference(WANTED, first.look(WANTED)) == ((), ())
    return pretend_host.open()


@pytest.fixture
def listed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Namespaces whose table was listed."""
    asked: list[str] = []
    look = nft.look

    def noting(way: nft.Nft, ns: str, wanted: Skeleton | None):  # type: ignore[no-untyped-def]
        asked.append(ns)
        return look(way, ns, wanted)

    monkeypatch.setattr(nft, "look", noting)
    return asked


def test_it_is_not_listed_again(host: LinuxHost, listed: list[str]) -> None:
    assert difference(WANTED, host.look(WANTED)) == ((), ())
    assert "s1" not in listed
    host.remove(WANTED)


@pytest.mark.parametrize(
    "deed",
    [
        "flush chain inet fairlead names",
        "add rule inet fairlead answers drop",
        "insert rule inet fairlead answers drop",
        "add chain inet fairlead mine",
        "add set inet fairlead mine { type ipv4_addr; }",
        "add counter inet fairlead mine",
        "add chain inet fairlead answers { policy drop; }",
        "add table inet fairlead { flags dormant; }",
        "delete table inet fairlead",
    ],
)
def test_whatever_somebody_did_is_seen(
    pretend_host: PretendHost, host: LinuxHost, listed: list[str], deed: str
) -> None:
    pretend_host.run("nft", deed, ns="s1")
    made, _ = difference(WANTED, host.look(WANTED))
    assert made == (WANTED[1],) and "s1" in listed
    host.make(made)
    assert difference(WANTED, host.look(WANTED)) == ((), ())
    host.remove(WANTED)


def test_what_changed_while_it_was_listed_is_not_remembered(
    pretend_host: PretendHost, host: LinuxHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    listings._known.clear()
    look = nft.look

    def meddled(way: nft.Nft, ns: str, wanted: Skeleton | None):  # type: ignore[no-untyped-def]
        if ns:
            pretend_host.run("nft", "add chain inet fairlead answers { policy accept; }", ns="s1")
        return look(way, ns, wanted)

    pretend_host.run("nft", "add chain inet fairlead answers { policy drop; }", ns="s1")
    monkeypatch.setattr(nft, "look", meddled)
    assert difference(WANTED, host.look(WANTED)) == ((), ()), "it was right when it was listed"
    monkeypatch.setattr(nft, "look", look)
    pretend_host.run("nft", "add chain inet fairlead answers { policy drop; }", ns="s1")
    assert difference(WANTED, host.look(WANTED))[0] == (WANTED[1],)
    host.remove(WANTED)


def test_a_table_with_sets_is_not_its_text_alone() -> None:
    assert untouched.suits(redirect_skeleton("s1", 40000, 40001))
    assert not untouched.suits(Skeleton(text="\n  map vips { type ipv4_addr : ipv4_addr; }"))


def test_elements_in_words_are_those_of_the_json(pretend_host: PretendHost) -> None:
    host = pretend_host.open()
    skeleton = Skeleton(
        text="""
        set networks { type ifname; }
        set ranges { type ipv4_addr; flags interval; }
        set six { type ipv6_addr . inet_service; }
        set seen { type ipv4_addr; flags dynamic,timeout; timeout 1m; size 100; }
        set sized { type ipv4_addr; size 10; }
        map published4 { type inet_proto . inet_service : ipv4_addr . inet_service; }
        map led { type ifname : verdict; }
        map marks { type ipv4_addr : mark; }
        chain no { counter drop comment "a, } elements = { "; }
        chain in { type filter hook input priority 0; iifname vmap @led; ip saddr { 192.0.2.1, 192.0.2.7 } drop; }
        """
    )
    plan = (
        skeleton,
        *(Element(map="networks", item=f'"br-{number}"') for number in range(40)),
        *(Element(map="ranges", item=item) for item in ("10.0.0.0/24", "10.1.0.1-10.1.0.7", "10.2.0.1")),
        *(Element(map="published4", item=f"tcp . {port}", value=f"10.0.0.2 . {port}") for port in range(80, 140)),
        Element(map="six", item="fd00::1 . 80"),
        Element(map="sized", item="192.0.2.1"),
        Element(map="marks", item="192.0.2.1", value="0x10"),
        Element(map="led", item='"eth0"', value="goto no"),
        Element(map="led", item='"eth1"', value="drop"),
    )
    host.make(plan)
    pretend_host.run("nft", 'add element inet fairlead networks { "a,b}" }')
    pretend_host.run("nft", "add element inet fairlead seen { 192.0.2.9 }")
    way = nft.Nft("", lively=True)
    told = way.listing(elements=True)
    assert nftwords.without_elements(told) == way.listing()
    words = nftwords.elements(told, {"seen"})
    assert words is not None and len(words) > 100
    there = {(name, nft.canonical(key), nft.canonical(value)) for name, key, value in words}
    other = {(e.map, e.item, e.value) for e in nft._elements(way.read(f"table {nft.TABLE}"), "") if e.map != "seen"}
    assert there == other
    pretend_host.run("nft", 'add element inet fairlead networks { "br-x" comment "hi, there" }')
    assert nftwords.elements(way.listing(elements=True)) is None, "said more of than its key"
    assert difference(plan, host.look(plan))[0] == ()
    way.close()
    host.remove(plan)
