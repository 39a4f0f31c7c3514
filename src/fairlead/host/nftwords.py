r"""Elements in nft's own words: read out of the listing of a table.

    map published4 {
        type inet_proto . inet_service : ipv4_addr . inet_service
        elements = { tcp . 80 : 10.0.0.2 . 80,
                     tcp . 81 : 10.0.0.3 . 81 }
    }                                  ---> ("published4", "tcp . 80", "10.0.0.2 . 80"), …

nft has the same as JSON, which is without doubt, and costs three times as much: every rule is told in it, too.

Rules
    1. What says more of an element than its key and value (a time it has left, a counter, a comment) is none that we
       made, and not for here: ``elements`` says ``None``, and the reader asks for JSON.
    2. A name in quotes may hold any sign but quotes and white space.
"""

from __future__ import annotations

from collections.abc import Collection

_BEGIN = "\t\telements = { "
_MORE = (" timeout ", " expires ", " counter ", " comment ", " limit ", " quota ", " last ", " ct count ")


def without_elements(listing: str) -> str:
    """The listing as it would be if all sets and maps were empty."""
    kept, inside = [], False
    for line in listing.splitlines(keepends=True):
        inside = inside or line.startswith(_BEGIN)
        if not inside:
            kept.append(line)
        elif line.endswith(" }\n"):
            inside = False
    return "".join(kept)


def elements(listing: str, but: Collection[str] = ()) -> list[tuple[str, str, str]] | None:
    """(set or map, key, value) of every element of sets and maps that are not among ``but``; None: ask for JSON."""
    found: list[tuple[str, str, str]] = []
    name, words = "", ""
    for line in listing.splitlines():
        if words:
            words += line.strip()
        elif line.startswith(("\tset ", "\tmap ")):
            name = line.split()[1]
        elif line.startswith(_BEGIN) and name not in but:
            words = line[len(_BEGIN) :]
        if words.endswith(" }"):
            if any(word in words for word in _MORE):
                return None
            found += [(name, *_pair(element)) for element in _split(words.removesuffix(" }"))]
            words = ""
    return found


def _split(words: str) -> list[str]:
    """At commas, but not at those in quotes."""
    if '"' not in words:
        return words.split(",")
    parts = [""]
    for at, piece in enumerate(words.split('"')):
        if at % 2:
            parts[-1] += f'"{piece}"'
            continue
        first, *others = piece.split(",")
        parts[-1] += first
        parts += others
    return parts


def _pair(element: str) -> tuple[str, str]:
    key, _, value = element.partition(" : ")
    return key.strip(), value.strip()
