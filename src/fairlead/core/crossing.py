"""Crossings: what a port of an overlay network does with a frame, before its bridge is asked.

    frame for 02:42:0a:00:01:05 --(map: MAC -> device)--> out by that device at once
    frame for a MAC that is not in the map, or for many  --> the bridge, as ever

Here are the program (BPF) that each port has, and how the map's keys and values are written.

What it does not do: load anything, or know ports (``host.crossings``).

Source: linux/bpf.h, struct __sk_buff; Documentation of helpers, bpf-helpers(7).
"""

from __future__ import annotations

import struct

from fairlead.core import bpf

KEY_SIZE, VALUE_SIZE = 8, 4
_MAC = 6
"""bytes: a frame begins with the MAC it is for"""
_ELEMENT, _REDIRECT, _READ = 1, 23, 26
"""helpers: bpf_map_lookup_elem, bpf_redirect, bpf_skb_load_bytes"""
_GO_ON = -1
"""what a filter returns that has nothing to say (TC_ACT_UNSPEC)"""


def key(mac: str) -> bytes:
    return bytes.fromhex(mac.replace(":", "")).ljust(KEY_SIZE, b"\0")


def value(index: int) -> bytes:
    """``index``: of a device in the same namespace."""
    return struct.pack("=I", index)


def program(table: int) -> bytes:
    """``table``: the map's descriptor."""
    by_the_bridge = "by the bridge"
    return bpf.assemble(
        bpf.number(2, 0),
        bpf.copy(3, 10),
        bpf.add(3, -KEY_SIZE),
        bpf.store_number(10, -4, 0),
        bpf.number(4, _MAC),
        bpf.call(_READ),
        bpf.map_at(1, table),
        bpf.copy(2, 10),
        bpf.add(2, -KEY_SIZE),
        bpf.call(_ELEMENT),
        bpf.null(0, by_the_bridge),
        bpf.load(1, 0, 0),
        bpf.number(2, 0),
        bpf.call(_REDIRECT),
        bpf.leave(),
        bpf.label(by_the_bridge),
        bpf.number(0, _GO_ON),
        bpf.leave(),
    )
