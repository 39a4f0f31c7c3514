"""Crossings: what a port of an overlay network does with a frame, before its bridge is asked.

    frame for 02:42:0a:00:01:05 --(map: MAC -> device)--> out by that device at once (the tunnel)
                                                     `--> in by its peer (eth0 of a container), waiting for nothing
    frame for a MAC that is not in the map, or for many  --> the bridge, as ever

Here are the program (BPF) that each port has, and how the map's keys and values are written.

What it does not do: load anything, or know ports (``host.crossings``).

Source: linux/bpf.h, struct __sk_buff; Documentation of helpers, bpf-helpers(7).
"""

from __future__ import annotations

import struct

from fairlead.core import bpf

KEY_SIZE, VALUE_SIZE = 8, 8
_MAC = 6
"""bytes: a frame begins with the MAC it is for"""
_ELEMENT, _REDIRECT, _READ, _FOR_WHOM, _REDIRECT_PEER = 1, 23, 26, 32, 155
"""helpers: bpf_map_lookup_elem, bpf_redirect, bpf_skb_load_bytes, bpf_skb_change_type, bpf_redirect_peer (Linux 5.10)
"""
_THIS_HOST = 0
"""PACKET_HOST"""
_GO_ON = -1
"""what a filter returns that has nothing to say (TC_ACT_UNSPEC)"""


def key(mac: str) -> bytes:
    return bytes.fromhex(mac.replace(":", "")).ljust(KEY_SIZE, b"\0")


def value(index: int, *, within: bool = False) -> bytes:
    """``index``: of a device in the same namespace; ``within``: not out by it, but in by its peer, a container's."""
    return struct.pack("=II", index, within)


def program(table: int) -> bytes:
    """``table``: the map's descriptor."""
    by_the_bridge, by_device = "by the bridge", "by the device"
    return bpf.assemble(
        bpf.copy(6, 1),
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
        bpf.load(7, 0, 0),
        bpf.load(1, 0, 4),
        bpf.when(1, 0, by_device),
        bpf.copy(1, 6),
        bpf.number(2, _THIS_HOST),
        bpf.call(_FOR_WHOM),
        bpf.copy(1, 7),
        bpf.number(2, 0),
        bpf.call(_REDIRECT_PEER),
        bpf.leave(),
        bpf.label(by_device),
        bpf.copy(1, 7),
        bpf.number(2, 0),
        bpf.call(_REDIRECT),
        bpf.leave(),
        bpf.label(by_the_bridge),
        bpf.number(0, _GO_ON),
        bpf.leave(),
    )
