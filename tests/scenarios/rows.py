"""The 149 rows of the labs, what proves each of them, and the page that tells (docs/scenarios.md).

    tests/data/scenarios.tsv   the rows: what is typed, what must be seen, what dockerd 28.5.2 does
    @rows("S006", "S007")      on a test: when it passes, these rows work
    LATER                      rows that no test claims yet, each with its reason
    ELSEWHERE                  rows that another lane proves
    NOTES                      rows that work with a remark

The page is written from a run (``pytest tests/scenarios --write-scenarios``), never by hand; ``test_report`` checks it
against the tests without running them, and a full run checks it against what really passed.
"""

import csv
from pathlib import Path
from typing import NamedTuple

import pytest

TESTS = Path(__file__).parent.parent
TABLE = TESTS / "data" / "scenarios.tsv"
PAGE = TESTS.parent / "docs" / "scenarios.md"
README = TESTS.parent / "README.md"
BEGIN, END = "<!-- what works: written by the scenario lane -->", "<!-- that was what works -->"
COMPARED_WITH = "dockerd 28.5.2"

VLAN = "works (full-kernel lane: it needs 802.1q)"
CLUSTER = "works (cluster lane: either client, with etcd, Consul and ZooKeeper)"
TOO = "also in the cluster lane: either client, with etcd, Consul and ZooKeeper"
SWARM = "works (swarm lane: either client)"
NOT_OURS = "not the engine's: "
LATER = {
    "S059": "not yet: needs Open vSwitch in the kernel; the engine's part is the same as S058",
    "S102": NOT_OURS + "third-party daemons; their engine options are S097 to S101",
    "S149": NOT_OURS + "provisioning of hosts",
}
ELSEWHERE = {
    **dict.fromkeys(("S095", "S096"), VLAN),
    **{f"S{n}": SWARM for n in (*range(103, 133), 148)},
    "S131": "works (swarm lane: either client; ESP on the wire in the full-kernel lane)",
    **{f"S{n}": CLUSTER for n in range(133, 147)},
}
"""Rows that only tests of other lanes claim."""
NOTES = {
    "S061": "the lab's engine was older; today's refuses",
    "S083": "the lab's engine was older; today's resolves",
    "S091": TOO,
    "S100": f"containers only on a network that is open, as in Docker 28; GRE in the full-kernel lane; {TOO}",
    "S147": TOO,
}


class Row(NamedTuple):
    id: str
    section: str
    typed: str
    seen: str
    docker: str


def all_rows() -> list[Row]:
    with TABLE.open(newline="") as file:
        lines = csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE)
        next(lines)
        return [Row(*line) for line in lines]


def rows(*ids: str) -> pytest.MarkDecorator:
    """This test proves these rows."""
    return pytest.mark.rows(*ids)


def page(status: dict[str, str]) -> str:
    """docs/scenarios.md from row -> status (``works``, or why not)."""
    works = sum(text.startswith("works") for text in status.values())
    one_host = sum(row.id <= "S101" for row in all_rows())
    lines = [
        "# What works: the labs, row by row",
        "",
        "Written by the scenario lane (`pytest tests/scenarios --write-scenarios`), which types each row with the",
        f"stock `docker` client, against {COMPARED_WITH} first (to prove the lane) and against Fairlead. Do not edit.",
        "",
        f"{works} of {len(status)} rows work; {one_host} of them concern one host.",
    ]
    section = ""
    for row in all_rows():
        if row.section != section:
            section = row.section
            header = ["# ", "typed", "must be seen", f"on {COMPARED_WITH}", "Fairlead"]
            lines += ["", f"## {section}", "", line_of(header), line_of(["---"] * len(header))]
        lines.append(line_of([row.id, f"`{row.typed}`", row.seen, row.docker, status[row.id]]))
    return "\n".join(lines) + "\n"


def summary(status: dict[str, str]) -> str:
    """The README's table: how many rows of each part of the labs work."""
    parts: dict[str, list[bool]] = {}
    for row in all_rows():
        parts.setdefault(row.section, []).append(status[row.id].startswith("works"))
    lines = [line_of(["what people learn", "steps", "work"]), line_of(["---"] * 3)]
    lines += [line_of([part, str(len(found)), str(sum(found))]) for part, found in parts.items()]
    everything = [each for found in parts.values() for each in found]
    lines.append(line_of(["all of it", str(len(everything)), str(sum(everything))]))
    return "\n".join(lines)


def in_readme(status: dict[str, str]) -> str:
    """The README with its table as it should be."""
    before, _, rest = README.read_text().partition(BEGIN)
    return f"{before}{BEGIN}\n{summary(status)}\n{END}{rest.partition(END)[2]}"


def line_of(cells: list[str]) -> str:
    return "| " + " | ".join(cell.strip().replace("|", "\\|") for cell in cells) + " |"


def written_status() -> dict[str, str]:
    """Row -> status as docs/scenarios.md says it now."""
    found = {}
    for line in PAGE.read_text().splitlines() if PAGE.exists() else []:
        if line.startswith("| S"):
            cells = [cell.strip() for cell in line.replace("\\|", "\0").strip("|").split("|")]
            found[cells[0]] = cells[-1].replace("\0", "|")
    return found
