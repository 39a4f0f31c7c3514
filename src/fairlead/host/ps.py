"""ps: the processes of a container as a table, for ``docker top``.

With ``-ef``, the default, we read /proc ourselves: eight columns, no program.
Other arguments are ps's affair: it lists the whole machine, we keep the rows of
the container, found by the column ``PID``.
"""

from __future__ import annotations

import os
import pwd
import shutil
import time
from collections.abc import Collection, Sequence
from contextlib import suppress
from pathlib import Path

from fairlead.errors import FairleadError, Unsupported
from fairlead.host.programs import run

TITLES = ["UID", "PID", "PPID", "C", "STIME", "TTY", "TIME", "CMD"]
_TICKS = os.sysconf("SC_CLK_TCK")
_PTS = range(136, 144)


async def table(pids: Sequence[int], arguments: str) -> tuple[list[str], list[list[str]]]:
    """Titles and rows. ``arguments`` as one text, split at blanks, as the API takes it."""
    words = arguments.split() or ["-ef"]
    if words == ["-ef"]:
        rows = [row for pid in sorted(pids) if (row := _row(pid))]
        return list(TITLES), rows
    if shutil.which("ps") is None:
        raise Unsupported("ps is not installed on this machine: only the default columns can be shown")
    done = await run(["ps", *words])
    if done.code:
        raise FairleadError(f"ps: {done.words.partition(chr(10))[0] or f'exit status {done.code}'}")
    return parse(done.out.decode(errors="replace"), pids)


def parse(text: str, pids: Collection[int]) -> tuple[list[str], list[list[str]]]:
    """The rows of ``pids`` in what ps printed; the last column takes the rest of a line."""
    lines = text.splitlines()
    titles = lines[0].split() if lines else []
    if "PID" not in titles:
        raise FairleadError("Couldn't find PID field in ps output")
    place = titles.index("PID")
    rows = []
    for line in lines[1:]:
        fields = line.split(None, len(titles) - 1)
        if len(fields) > place and fields[place].isdigit() and int(fields[place]) in pids:
            rows.append(fields)
    return titles, rows


def _row(pid: int) -> list[str]:
    """One process; empty when it is gone."""
    try:
        place = Path(f"/proc/{pid}")
        head, _, rest = place.joinpath("stat").read_text(errors="replace").rpartition(")")
        words = place.joinpath("cmdline").read_bytes().rstrip(b"\0").replace(b"\0", b" ").decode(errors="replace")
        owner = place.stat().st_uid
        up = float(Path("/proc/uptime").read_text().split()[0])
    except OSError:
        return []
    fields = rest.split()
    used = (int(fields[11]) + int(fields[12])) / _TICKS
    age = up - int(fields[19]) / _TICKS
    return [
        _name(owner),
        str(pid),
        fields[1],
        str(int(100 * used / age) if age > 0 else 0),
        _began(time.time() - age),
        _terminal(int(fields[4])),
        f"{int(used) // 3600:02}:{int(used) // 60 % 60:02}:{int(used) % 60:02}",
        words or f"[{head.partition('(')[2]}]",
    ]


def _name(uid: int) -> str:
    with suppress(KeyError):
        return pwd.getpwuid(uid).pw_name
    return str(uid)


def _began(when: float) -> str:
    """``14:05`` today, ``Feb07`` this year, the year before that."""
    then, now = time.localtime(when), time.localtime()
    if then[:3] == now[:3]:
        return time.strftime("%H:%M", then)
    return time.strftime("%b%d" if then.tm_year == now.tm_year else "%Y", then)


def _terminal(device: int) -> str:
    return f"pts/{os.minor(device)}" if os.major(device) in _PTS else "?"
