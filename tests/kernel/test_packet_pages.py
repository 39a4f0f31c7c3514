"""The pages of docs/packets that show rules are written from a real kernel, and checked against it."""

import re

import pytest

from fairlead.core import rules
from fairlead.core.model import PortBinding
from lane.golden import ROOT, WRITE, as_text, same_as
from lane.matrix import published
from lane.pretend import PretendHost
from lane.roads import Roads
from lane.town import Town, town

pytestmark = pytest.mark.kernel

PAGE = "docs/packets/firewall.md"
FIREWALL = """\
# The firewall, all of it

Written by `tests/kernel/test_packet_pages.py`: this is what a real kernel lists (`nft -s list table inet fairlead`,
{version}) for one host with these networks and containers:

| network | options | container | published |
|---|---|---|---|
| RED | | web | `-p 8080:80`, `-p 127.0.0.1:8443:443` |
| BLUE | gateway mode routed | api | `-p 80` |
| DEEP | internal | vault | |
| APART | icc off | lonely | |

## What is fixed

The chains are the same on every machine and are made once. A packet meets a handful of rules, however many networks
there are.

```
{chains}
```

| chain | asks | says |
|---|---|---|
| guard | first of all, before connections are looked up | loopback addresses come from `lo` or not at all |
| prerouting, output | is it for an address of this host? | then look the port up |
| published | address, protocol, port | this container, that port; nothing found: go on |
| forward | what passes through the host | in one network: yes; internal: never; replies: yes; else see `entering` |
| entering | why should this get in? | translated by a map, or exposed on purpose; else dropped |
| postrouting | does it leave its network? | with the host's address; what stays keeps its own |

Why an `accept` here never opens what your own firewall closed: [host-firewall.md](host-firewall.md).

## What comes and goes

Networks, endpoints and ports are elements. Creating RED:

```
{network}
```

Publishing web's ports:

```
{ports}
```

## The sets and maps, with those four networks in them

```
{sets}
```
"""


def build(t: Town) -> None:
    t.network("RED")
    t.network("BLUE", gateway_mode_ipv4="routed", gateway_mode_ipv6="routed")
    t.network("DEEP", internal=True)
    t.network("APART", enable_icc="false")
    t.container("web", "RED", *tcp(published(80, 8080)), PortBinding(443, "tcp", "127.0.0.1", 8443))
    t.container("api", "BLUE", *tcp(published(80, 0)))
    t.container("vault", "DEEP")
    t.container("lonely", "APART")


def tcp(bindings: tuple[PortBinding, ...]) -> tuple[PortBinding, ...]:
    return tuple(binding for binding in bindings if binding.protocol == "tcp")


def test_the_firewall_page(pretend_host: PretendHost) -> None:
    with town(pretend_host) as t:
        build(t)
        listing = pretend_host.run("nft", "-s", "list", "table", "inet", "fairlead")
        red = [item for item in t.driver.network(t.networks["RED"], t.facts) if item.key[0] == "element"]
        ports = t.driver.publish(t.networks["RED"], t.endpoints["web"], t.facts)
        version = pretend_host.run("nft", "--version").split("(")[0].strip()
        blocks = re.findall(r"^    (?:set|map|chain) .*?^    }\n", listing.expandtabs(4), re.MULTILINE | re.DOTALL)
        assert len(blocks) == listing.count("\n\t}\n")
        chains = "\n".join(block for block in blocks if block.startswith("    chain")).rstrip()
        sets = "\n".join(block for block in blocks if not block.startswith("    chain")).rstrip()
        parts = {"chains": chains, "sets": sets, "network": as_text(red), "ports": as_text(ports)}
        if WRITE or f"{version})" in (ROOT / PAGE).read_text():  # another nft writes the same in other words
            same_as(PAGE, FIREWALL.format(version=version, **parts))


def as_shown(page: str) -> str:
    """The table that the page shows, to be loaded."""
    chains, _, _, sets = re.findall(r"^```\n(.*?)^```\n", page, re.MULTILINE | re.DOTALL)
    return f"table inet fairlead {{\n{sets}{chains}}}\n"


def test_what_the_page_shows_is_the_table(pretend_host: PretendHost) -> None:
    with town(pretend_host) as t:
        build(t)
        listing = without_mark(pretend_host.run("nft", "-s", "list", "table", "inet", "fairlead"))
        t.load("delete table inet fairlead")
        t.load(as_shown((ROOT / PAGE).read_text()))
        assert pretend_host.run("nft", "-s", "list", "table", "inet", "fairlead") == listing
        t.load("delete table inet fairlead")


def without_mark(listing: str) -> str:
    """The engine notes in the table which text it was made from."""
    return re.sub(r'^\tcomment "fairlead .*\n', "", listing, flags=re.MULTILINE)


ROADS_PAGE = "docs/packets/roads.md"
ROADS = """\
# Roads

Written by `tests/kernel/test_packet_pages.py` with `nft monitor trace` ({version}): what a real kernel did with the
first packet of some connections. Chains that had nothing to say are left out. The town is that of
[the firewall page](firewall.md): web is 10.1.0.2 on RED, api 10.2.0.2 on BLUE (routed), vault 10.3.0.2 on DEEP
(internal); near (192.0.2.9) and far are neighbours of the host, which is 192.0.2.1.

{roads}"""
CALLS = (
    ("A client outside, a published port", "near", "192.0.2.1", 8080),
    ("The same over IPv6", "near", "2001:db8::1", 8080),
    ("The host itself, 127.0.0.1", "host", "127.0.0.1", 8080),
    ("A container, its own published port", "web", "192.0.2.1", 8080),
    ("A container on another network, that port", "api", "192.0.2.1", 8080),
    ("A container and the world", "web", "192.0.2.9", 80),
    ("A neighbour who routes straight to a container", "near", "10.1.0.2", 80),
    ("The same, where the network is routed and the port published", "near", "10.2.0.2", 80),
    ("One network to another", "lonely", "10.1.0.2", 80),
    ("A port that is for 127.0.0.1 only, from outside", "near", "192.0.2.1", 8443),
    ("What only passes through", "near", "198.51.100.9", 8080),
)


def test_the_page_of_roads(pretend_host: PretendHost) -> None:
    """Skipped where nft writes other words: ``test_rules_kernel`` proves where every packet ends."""
    version = pretend_host.run("nft", "--version").split("(")[0].strip()
    if not WRITE and f"({version})" not in (ROOT / ROADS_PAGE).read_text():
        pytest.skip(f"the page was written by another nft than {version}")
    with town(pretend_host) as t:
        build(t)
        with Roads(t) as roads:
            told = [f"## {title}\n\n```\n{roads.of(*call)}\n```\n" for title, *call in CALLS]
    same_as(ROADS_PAGE, ROADS.format(version=version, roads="\n".join(told)))


def test_the_host_firewall_page_shows_the_table_we_declare() -> None:
    page = (ROOT / "docs/packets/host-firewall.md").read_text()
    assert f"```\n{rules.USER_TABLE}```" in page


@pytest.mark.parametrize("number", range(4))
def test_the_examples_of_the_host_firewall_page_do_what_they_say(pretend_host: PretendHost, number: int) -> None:
    page = (ROOT / "docs/packets/host-firewall.md").read_text()
    commands = [line.removeprefix("nft ") for line in page.splitlines() if line.startswith("nft add rule")]
    assert len(commands) == 4
    with town(pretend_host) as t:
        t.network("A")
        t.container("a1", "A", *published(80, 8080), *published(80, 8081))
        t.load(rules.USER_TABLE)
        t.load(commands[number].replace("'", ""))
        heard = {
            (who, port): t.reach(who, "192.0.2.1", port) is not None for who in ("near", "far") for port in (8080, 8081)
        }
        t.load("delete table inet fairlead-user")
    everybody = {("near", 8080): True, ("near", 8081): True, ("far", 8080): True, ("far", 8081): True}
    closed = [
        {("near", 8080), ("far", 8080)},  # nobody
        {("far", 8080)},  # only one LAN
        {("far", 8080), ("far", 8081)},  # not from that device
        set(),  # only counted
    ][number]
    assert heard == {**everybody, **dict.fromkeys(closed, False)}
