"""Inlets: what reaches a sandbox by ingress is answered by the way it came in, whoever it is from.

    node B --frame from 02:42:0a:00:00:03--> eth0   the connection remembers B (its mark: the MAC's last four bytes)
    answer --mark--> rule --> table of B --> eth0 --> B, which knows whom it let in        (rules: core.mesh)

Clients keep their addresses, so an answer's target says nothing about where to send it: another way than that through B
would be an answer that nobody asked for.

Rules
    1. One client may call by two nodes from one port: each node is a zone of its own, so neither call is taken for
       the other, and the second gets another *port* here.
    2. A program that listens on every address lets the kernel choose where it answers from, by the client's address:
       for clients beyond our networks that is ``answers``. So calls are led to that address first, and the answer is
       known for what it is. Calls from ingress itself (the nodes' own) need none of that, nor does TCP: its socket
       answers from where it was called.
    3. Nothing else comes in by ingress, and nothing goes out by it that is no answer: it is a way in, not a network for
       tasks to talk on.
    4. What can be said once is said to the first packet (a ``nat`` chain is asked about no other; ours before any of
       the task's own): which node it came by. A TCP socket keeps that packet's mark (``tcp_fwmark_accept``:
       ``core.mesh``), so its answers know their way; others are each sent to look for it again (``back``).
    5. The mark is the MAC's last four bytes, shifted by one: every nft turns the bytes of what it shifts into the
       machine's own order (of others only 1.1 and later do). The bit that falls off is the subnet's, not the node's.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import lru_cache

from fairlead.core.patterns import pattern
from fairlead.core.wanted import Inlet
from fairlead.host import nft
from fairlead.host.nft import Denied, Nft

TABLE = "inet fairlead-ingress"
_ANEW = f"add table {TABLE}\ndelete table {TABLE}\n"
_PORT = pattern(r"(tcp|udp|sctp) \. [0-9]{1,5}")


def make(nft: Nft, inlet: Inlet) -> Callable[[], None]:
    """In its namespace, in one transaction; returns how to undo it."""
    before = nft.output(f"list table {TABLE}")
    try:
        nft.run(_ANEW + text(inlet))
    except Denied as refusal:
        raise refusal.as_error(inlet) from None
    return lambda: nft.run(_ANEW + before)


def remove(nft: Nft) -> None:
    nft.run(_ANEW)


def look(nft: Nft, ns: str, wanted: Iterable[Inlet]) -> Iterator[Inlet]:
    """The one that is there; one that is not what it should be has no device."""
    listing = nft.output(f"list table {TABLE}")
    if listing:
        wish = next((inlet for inlet in wanted if inlet.ns == ns), None)
        stands = wish is not None and listing == _as_it_should_list(text(wish))
        yield wish if wish is not None and stands else Inlet(ns=ns, link="", own=())


def text(inlet: Inlet) -> str:
    """The table in nft's words."""
    link = f'"{inlet.link}"'
    ports = ", ".join(sorted(port for port in inlet.ports if _PORT.fullmatch(port)))
    allowed = f"meta l4proto . th dport {{ {ports} }} accept" if ports else ""
    return "\n".join(
        [
            f"table {TABLE} {{",
            "chain zones { type filter hook prerouting priority raw; policy accept;",
            f"iifname {link} ct original zone set @ll,80,16",
            "}",
            "chain led { type nat hook prerouting priority dstnat - 1; policy accept;",
            f"iifname {link} ct mark set @ll,64,32 << 1",
            f"iifname {link} meta l4proto tcp meta mark set ct mark accept",
            *_led(link, inlet.own, inlet.answers),
            "}",
            "chain entering { type filter hook input priority filter; policy accept;",
            "ct state established,related accept",
            f"iifname {link} goto by_ingress",
            "}",
            "chain by_ingress {",
            "icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert } accept",
            allowed,
            "counter drop",
            "}",
            "chain back { type route hook output priority mangle; policy accept;",
            "ct direction reply ct mark != 0 meta mark set ct mark",
            "}",
            "chain leaving { type filter hook output priority filter; policy accept;",
            f"ct direction original oifname {link} counter reject with icmpx type no-route",
            "}",
            "}\n",
        ]
    )


def _led(link: str, own: Sequence[str], answers: Sequence[str]) -> Iterator[str]:
    for interface in map(ipaddress.ip_interface, own):
        ip = "ip6" if interface.version == 6 else "ip"
        called = f"iifname {link} {ip} saddr != {interface.network} {ip} daddr {interface.ip}"
        for answer in answers:
            if ipaddress.ip_address(answer).version == interface.version:
                yield f"{called} dnat {ip} to {answer}"


@lru_cache(maxsize=4096)
def _as_it_should_list(text: str) -> str:
    return nft.listed(text, TABLE)
