"""Elements read out of nft's words are those that it tells as JSON."""

import pytest

from fairlead.core.wanted import Element, Skeleton, difference
from fairlead.host import nft, nftwords
from lane.pretend import PretendHost

pytestmark = pytest.mark.kernel


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
