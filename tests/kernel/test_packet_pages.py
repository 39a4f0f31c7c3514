"""The pages of docs/packets that show rules are written from a real kernel, and checked against it."""

import re

import pytest

from fairlead.core import rules
from fairlead.core.model import PortBinding
from fairlead.core.wanted import as_text
from lane.golden import ROOT, WRITE, same_as
from lane.matrix import published
from lane.pretend import PretendHost
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
