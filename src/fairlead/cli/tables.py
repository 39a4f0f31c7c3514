"""Tables: rows as people read them, in Docker's columns, words and units.

    rows (dicts of texts)  +  --format  ---->  lines

``--format`` is ``table`` (the default columns), ``table TEMPLATE``, ``json`` or
a template per row. A row holds every field that a template may name; the
default columns are a few of them.

All functions are pure; ``now`` is an argument.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

Row = Mapping[str, Any]


def columns(lines: Sequence[Sequence[str]], least: int = 10) -> str:
    """Cells under each other: columns at least so wide, three blanks between, the last one ragged."""
    if not lines:
        return ""
    widths = [
        max(least, *(len(line[at]) + 3 for line in lines if len(line) > at)) for at in range(max(map(len, lines)))
    ]
    return "\n".join(
        "".join(cell.ljust(width) for cell, width in zip(line[:-1], widths, strict=False)) + line[-1] for line in lines
    )


def heading(field: str) -> str:
    """``RunningFor`` -> ``RUNNING FOR``; some have a name of their own."""
    known = {"ID": "ID", "IPv4": "IPV4", "IPv6": "IPV6", "CreatedAt": "CREATED AT", "CreatedSince": "CREATED"}
    return known.get(field) or re.sub(r"(?<=[a-z])(?=[A-Z])", " ", field).upper()


def render(rows: Sequence[Row], form: str, default: Sequence[str], heads: Mapping[str, str]) -> str:
    """The rows in the wanted form. ``default``: fields of the plain table; ``heads``: headings that are not plain."""
    if form in ("", "table"):
        table = [[heads.get(name) or heading(name) for name in default]]
        return columns(table + [[str(row[name]) for name in default] for row in rows])
    if form == "json":
        return "\n".join(compact({key: row[key] for key in sorted(row) if not callable(row[key])}) for row in rows)
    import fairlead.core.template as template

    if form.startswith("table "):
        pattern = unescape(form.removeprefix("table "))
        names = _Headings(heads)
        lines = [template.render(pattern, names)] + [template.render(pattern, row) for row in rows]
        return columns([line.split("\t") for line in lines])
    return "\n".join(template.render(unescape(form), _Row(sorted(row.items()))) for row in rows)


def show(rows: Sequence[Row], form: str, default: Sequence[str], heads: Mapping[str, str], only: str = "") -> None:
    """Print the rows. ``only``: the field that ``--quiet`` asks for, unless a template asks for others."""
    if form and not rows:  # a template that makes no sense is refused even when there is nothing to show
        import fairlead.core.template as template

        template.parse(form)
    if only and form in ("", "table"):
        text = "\n".join(str(row[only]) for row in rows)
    else:
        text = render(rows, form, default, heads)
    if text or rows:
        print(text)


def compact(value: Any) -> str:
    """JSON as Go writes it: no blanks, and nothing that HTML could mistake."""
    text = json.dumps(value, separators=(",", ":"), ensure_ascii=False)
    for letter, code in (("<", "\\u003c"), (">", "\\u003e"), ("&", "\\u0026")):
        text = text.replace(letter, code)
    return text


def go_quoted(text: str) -> str:
    """A text in double quotes, as Go quotes it."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\x7f")


def ellipsis(text: str, length: int) -> str:
    """At most ``length`` letters, the last one ``…`` when something is missing."""
    return text if len(text) <= length else text[: length - 1] + "…"


def unescape(text: str) -> str:
    """``\\t`` and ``\\n`` as typed in a shell's single quotes."""
    return text.replace("\\t", "\t").replace("\\n", "\n")


class _Row(dict[str, Any]):
    """A row as a template sees it; its ``{{json .}}`` is what ``--format json`` prints."""

    def as_json(self) -> str:
        return compact({key: value for key, value in self.items() if not callable(value)})


class _Headings(dict[str, Any]):
    """Answers every field with its heading: the first line of ``table TEMPLATE``."""

    def __contains__(self, key: object) -> bool:
        return True

    def __missing__(self, key: str) -> Any:
        return (lambda name: name.rpartition(".")[2]) if key == "Label" else heading(key)


def span(seconds: float) -> str:
    """A time span in words: ``About a minute``, ``3 days``."""
    whole = int(seconds)
    minutes, hours = whole // 60, round(seconds / 3600)
    for limit, words in (
        (1, "Less than a second"),
        (2, "1 second"),
        (60, f"{whole} seconds"),
        (120, "About a minute"),
        (3600, f"{minutes} minutes"),
    ):
        if whole < limit:
            return words
    if hours <= 1:
        return "About an hour"
    days = hours // 24
    for limit, number, unit in ((48, hours, "hours"), (24 * 14, days, "days"), (24 * 60, days // 7, "weeks")):
        if hours < limit:
            return f"{number} {unit}"
    return f"{days // 30} months" if hours < 24 * 365 * 2 else f"{days // 365} years"


def bytes_of(number: float, digits: int = 4, base: float = 1000.0) -> str:
    """``4.49MB`` (base 1000) or ``63.5MiB`` (base 1024)."""
    units = ["B", "kB", "MB", "GB", "TB", "PB"] if base == 1000.0 else ["B", "KiB", "MiB", "GiB", "TiB", "PiB"]
    at = 0
    while number >= base and at < len(units) - 1:
        number /= base
        at += 1
    return f"{number:.{digits}g}{units[at]}"


def ports(published: Iterable[Mapping[str, Any]]) -> str:
    """The PORTS column: ``0.0.0.0:8080->80/tcp, 443/tcp``; runs of equal numbers drawn together."""
    ordered = sorted(
        published,
        key=lambda one: (one.get("PrivatePort", 0), one.get("IP", ""), one.get("PublicPort", 0), one.get("Type", "")),
    )
    runs: dict[tuple[str, str], list[list[int]]] = {}
    single = []
    for one in ordered:
        address, inside, outside, kind = one.get("IP", ""), one["PrivatePort"], one.get("PublicPort", 0), one["Type"]
        if address and outside != inside:
            single.append(f"{bracketed(address)}:{outside}->{inside}/{kind}")
            continue
        run = runs.setdefault((address, kind), [])
        if run and run[-1][1] in (inside, inside - 1):
            run[-1][1] = inside
        else:
            run.append([inside, inside])
    joined = []
    for (address, kind), run in runs.items():
        for first, last in run:
            text = str(first) if first == last else f"{first}-{last}"
            joined.append(f"{bracketed(address)}:{text}->{text}/{kind}" if address else f"{text}/{kind}")
    return ", ".join(joined + single)


def bracketed(address: str) -> str:
    """As it stands before a port."""
    return f"[{address}]" if ":" in address else address


def label(pairs: Mapping[str, str] | None) -> Callable[[str], str]:
    """What ``{{.Label "key"}}`` asks."""
    return lambda key: (pairs or {}).get(key, "")


def labels(pairs: Mapping[str, str] | None) -> str:
    return ",".join(f"{key}={value}" for key, value in sorted((pairs or {}).items()))


def seconds_of(stamp: str) -> float:
    """RFC 3339 text (nanoseconds and all) as seconds since 1970."""
    from datetime import datetime

    plain = re.sub(r"(\.\d{6})\d+", r"\1", stamp.replace("Z", "+00:00"))
    return datetime.fromisoformat(plain).timestamp()


def rfc3339(seconds: float) -> str:
    """``2026-01-02T03:04:05Z``, in the local zone."""
    from datetime import datetime

    return datetime.fromtimestamp(seconds).astimezone().isoformat(timespec="seconds").replace("+00:00", "Z")


def rfc3339_nano(nanoseconds: int) -> str:
    """``2026-01-02T03:04:05.000000006Z``, in the local zone."""
    whole = rfc3339(nanoseconds // 10**9)
    return f"{whole[:19]}.{nanoseconds % 10**9:09d}{whole[19:]}"


def reformatted(stamp: str) -> str:
    """A time of building as ``version`` shows it: ``Fri May 30 12:07:14 2025``."""
    from datetime import datetime

    try:
        return datetime.fromisoformat(stamp.replace("Z", "+00:00")).strftime("%a %b %e %H:%M:%S %Y")
    except ValueError:
        return stamp


def go_time(stamp: str) -> str:
    """RFC 3339 text as Go prints a time: ``2026-01-02 03:04:05.000000006 +0000 UTC``, in the zone it is given in."""
    match = re.fullmatch(r"(\S{10})T(\S{8})(\.\d+)?(Z|([+-]\d\d):?(\d\d))", stamp)
    if not match:
        return stamp
    fraction = (match[3] or "").rstrip("0").rstrip(".")
    offset = "+0000" if match[4] == "Z" else match[5] + match[6]
    return f"{match[1]} {match[2]}{fraction} {offset} {'UTC' if offset == '+0000' else offset}"


def local_time(seconds: float) -> str:
    """``2026-01-02 03:04:05 +0000 UTC``, as Docker prints times."""
    from datetime import datetime

    moment = datetime.fromtimestamp(seconds).astimezone()
    return moment.strftime("%Y-%m-%d %H:%M:%S %z %Z")


def naturally(text: str) -> list[Any]:
    """A key for sorting: ``host2`` before ``host10``."""
    return [(0, int(part), "") if part.isdigit() else (1, 0, part) for part in re.findall(r"\d+|\D+", text)]
