"""Each name that was typed gets its turn: what is done to one does not depend on how it went with another."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from fairlead.cli.client import Refused


class Gone(Exception):
    """What was to be removed by force is not there: worth a line, not a failure."""


def each(
    names: tuple[str, ...],
    action: Callable[[str], Any],
    failed: str = "",
    said: Callable[[str, Any], str] | None = None,
) -> int:
    """Do it to every name; each success prints one line, each refusal too, and the exit code tells of any."""
    bad = []
    for name in names:
        try:
            answer = action(name)
            print(said(name, answer) if said else name)
        except Gone as remark:
            if str(remark):
                print(f"Error response from daemon: {remark}", file=sys.stderr)
        except Refused as problem:
            bad.append(name)
            print(f"Error response from daemon: {problem.message}", file=sys.stderr)
    if bad and failed:
        print(f"Error: failed to {failed} containers: {', '.join(bad)}", file=sys.stderr)
    return 1 if bad else 0
