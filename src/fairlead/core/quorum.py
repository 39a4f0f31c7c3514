"""The arithmetic of managers: how many may be lost, and what a step would make of it.

    members   1  2  3  4  5  6  7
    majority  1  2  2  3  3  4  4       decisions need as many
    may fail  0  0  1  1  2  2  3

(Raft: Ongaro and Ousterhout, "In Search of an Understandable Consensus Algorithm", 2014.)
"""

from __future__ import annotations


def majority(members: int) -> int:
    return members // 2 + 1


def may_fail(members: int) -> int:
    return members - majority(members)


def refusal(members: int, reachable: int, leaving: str, *, leaver_reachable: bool) -> str:
    """Why a manager cannot go without the swarm losing its majority; "" when it can.

    ``members`` and ``reachable`` count it too. The last manager is not refused here: with it the swarm ends.
    """
    left, up = members - 1, reachable - int(leaver_reachable)
    if not left or up >= majority(left):
        return ""
    return (
        f"{leaving} cannot go: of the {left} managers that would be left, {up} can be reached, and {majority(left)} "
        f"are needed to decide anything; bring {majority(left) - up} more back first"
    )
