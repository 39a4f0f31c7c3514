"""Stories: what happens in a cluster, told in plain text. ``GOLDEN=write`` tells them anew; read the difference.

A story (``golden/gossip/*.txt``) is blocks of wishes, a line ``----``, and what then came to pass: each
change of opinion with those who changed it, first and last, in seconds since the story began.

    nodes 5               n0 to n4 join through n0          run 10            ten seconds pass
    crash n1  start n1    without a word; empty-handed      leave n1          with a word
    cut n0 n1             those from the others             heal
    have n1 red           n1 has the network                put n1 red e 10.0.0.2    delete n1 red e
    say n1 n2 alive 7     a packet to n1 says so of n2      loss 0.05         from now on
    show n1 red           rows that stand, and for whom     settle            until all agree, with how long it took
"""

import os
import random
from collections.abc import Callable
from pathlib import Path

import pytest

from fairlead.core.effects import Address
from fairlead.core.gossip import Gossip
from fairlead.core.members import Changed, NameTaken
from fairlead.core.swim import Departed
from fairlead.core.swimwire import Alive, Dead, Message, Suspect, encode
from fairlead.core.tables import NETWORKS, RowChanged, Tables
from lane.virtual import World

STORIES = Path(__file__).parent / "golden" / "gossip"


class Teller:
    """A world that hears wishes and says what came of them."""

    def __init__(self) -> None:
        self.world = World(seed=1)

    def tell(self, wishes: list[str]) -> str:
        self.world.facts.clear()
        lines = [line for wish in wishes for line in self._do(*wish.split())]
        return "\n".join([*self._facts(), *lines]) or "nothing"

    def _do(self, verb: str, *words: str) -> list[str]:
        world = self.world
        tables: dict[str, Callable[..., object]] = {"have": Tables.join_network, "delete": Tables.delete}
        match verb, words:
            case "nodes", (count,):
                for name in world.names(int(count)):
                    world.add(name)
                world.join_all()
            case "run", (seconds,):
                world.run(world.now + float(seconds))
            case "start", (name,):
                world.add(name)
                world.join(name, [next(other for other in world.running() if other != name)])
            case (("crash" | "leave"), (name,)):
                getattr(world, verb)(name)
            case "cut", _:
                world.cut([name for name in world.nodes if name not in words], words)
            case "heal", ():
                world.heal()
            case "loss", (share,):
                world.loss = float(share)
            case "have", (name, network):
                world.tables(name, tables[verb], network)  # type: ignore[arg-type]
            case "put", (name, network, key, value):
                world.tables(name, Tables.put, network, "endpoints", key, value.encode())
            case "delete", (name, network, key):
                world.tables(name, Tables.delete, network, "endpoints", key)
            case "forget", (name, network):
                world.tables(name, Tables.leave_network, network)
            case "say", (to, about, what, incarnation):
                self._say(to, about, what, int(incarnation))
            case "show", (name, network):
                machine = world.nodes[name].machine
                assert isinstance(machine, Gossip)
                rows = machine.tables.standing(network, "endpoints")
                shown = [f"{row.key}={(row.value or b'').decode()}@{row.owner}" for row in rows]
                return [f"{name} shows {' '.join(shown) or 'nothing'}"]
            case "settle", ():
                return [f"settled after {world.run_until(world.complete, 120):.2f} s"]
            case _:
                raise ValueError(f"no such wish: {verb} {words}")
        return []

    def _say(self, to: str, about: str, what: str, incarnation: int) -> None:
        address = self.world.nodes[about].address
        said: dict[str, Message] = {
            "alive": Alive(incarnation, about, address),
            "elsewhere": Alive(incarnation, about, Address("192.0.2.66", 7946)),
            "suspect": Suspect(incarnation, about, next(n for n in self.world.nodes if n not in (to, about))),
            "dead": Dead(incarnation, about, next(n for n in self.world.nodes if n not in (to, about))),
        }
        self.world.inject(to, encode(said[what]), Address("192.0.2.66", 9999))

    def _facts(self) -> list[str]:
        seen: dict[str, list[tuple[float, str]]] = {}
        for when, name, fact in self.world.facts:
            seen.setdefault(_words(fact), []).append((when, name))
        return [
            f"{_span([when for when, _ in at])}  {words}, to {_names([name for _, name in at], self.world)}"
            for words, at in seen.items()
            if words
        ]


def _words(fact: object) -> str:
    match fact:
        case Changed(member, None):
            return f"{member.name} is new"
        case Changed(member, before) if before == member.state:
            return f"{member.name} has changed"
        case Changed(member, _):
            return f"{member.name} is {member.state.name.lower()}"
        case NameTaken(member, address):
            return f"{member.name} is also used by {address}"
        case RowChanged(row, stands) if row.table == NETWORKS:
            return f"{row.owner} {'has' if stands else 'has no longer'} {row.key}"
        case RowChanged(row, stands):
            what = f"is {(row.value or b'').decode()}" if stands else "does not stand"
            return f"{row.key} of {row.owner} in {row.network} {what}"
        case Departed():
            return "it has left"
    return ""


def _span(times: list[float]) -> str:
    first, last = min(times), max(times)
    return f"{first:7.2f}" if last - first < 0.005 else f"{first:7.2f} to {last:.2f}"


def _names(names: list[str], world: World) -> str:
    if len(set(names)) == len(world.running()):
        return "everybody"
    return " ".join(sorted(set(names), key=lambda name: int(name[1:])))


def retold(text: str) -> str:
    """The story with what really came to pass."""
    teller = Teller()
    told = []
    for block in text.strip().split("\n\n"):
        wishes, bar, _ = block.partition("----")
        if not bar:
            told.append(block)
            continue
        lines = wishes.strip().splitlines()
        told.append("\n".join([*lines, "----", teller.tell([line for line in lines if not line.startswith("#")])]))
    return "\n\n".join(told) + "\n"


@pytest.mark.parametrize("path", sorted(STORIES.glob("*.txt")), ids=lambda path: path.stem)
def test_story(path: Path) -> None:
    text = retold(path.read_text())
    if os.environ.get("GOLDEN") == "write":
        path.write_text(text)
    assert text == path.read_text()


def test_a_story_comes_out_the_same_every_time() -> None:
    random.seed(5)  # no dice but the story's own
    story = "nodes 9\nrun 5\ncrash n4\nloss 0.2\nrun 20\n----\n"
    assert retold(story) == retold(story)
