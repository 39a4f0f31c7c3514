"""The soak itself: rounds of random moves, each round ending with nothing left.

    round     MOVES random moves; after each what it touched is compared, now and then everything
    empty     all is removed; the machine must be as it was before the first round; memory is looked at

In the first ``STORM`` rounds the daemon itself is killed, too; after that it lives to the end, so that one process is
watched for long. The seed decides everything but the ids. On failure: the seed, the last moves, the difference.

    python -m soak.run --minutes 120 --seed 1 --log FILE
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections import defaultdict, deque
from collections.abc import Callable

from lane.engines import Engine, Fairlead
from lane.images import import_images
from lane.machine import Lan
from robustness.conftest import warm_up
from robustness.footprint import footprint
from soak import checks, growth, mischief
from soak.moves import MOVES
from soak.player import Broken, Player

ROUND = 120
"""moves of one round"""
STORM = 12
"""rounds in which the daemon is hurt"""
EVERY = 15
"""moves between two looks at everything"""


class Soak:
    """One run. ``say`` gets a line after every round."""

    def __init__(self, engine: Engine, seed: int, say: Callable[[str], None] = print, moves: int = ROUND) -> None:
        self.player, self.seed, self.say, self.round_moves = Player(engine, seed, MOVES), seed, say, moves
        self.engine, self.rounds = engine, 0
        self.last: deque[str] = deque(maxlen=80)
        self.samples: list[growth.Sample] = []
        self.durations: list[dict[str, list[float]]] = []
        """of each round: move -> seconds"""
        self.begun = time.monotonic()

    def prepare(self) -> None:
        import_images(self.engine.docker, self.engine.base, ("busybox",))
        import_images(self.engine.docker, self.engine.base, ("nginx",))
        warm_up(self.engine)
        self.engine.docker("rmi nginx")
        self.engine.docker("run -d --name warm busybox sleep 1000")
        self.engine.docker("exec warm true")
        self.engine.docker("rm -f warm")
        self.untouched = left(self.engine)

    def round(self) -> None:
        """Raises ``Broken`` with all that is needed to see it again."""
        try:
            for number in range(self.round_moves):
                self.last.append(f"{self.player.count} ...")
                told = self.player.move(without=() if self.rounds < STORM else mischief.STORMY)
                self.last[-1] = f"{self.player.count} {told}"
                if number % EVERY == EVERY - 1:
                    self.look()
            self.look()
            self.player.clear()
            self.empty()
        except Exception as error:
            story = "\n  ".join(self.last)
            raise Broken(f"seed {self.seed}, round {self.rounds}, the last moves:\n  {story}\n{error}") from error
        self.measure()
        self.rounds += 1

    def look(self) -> None:
        for check in (checks.exact, checks.reach, checks.ports, checks.healthy):
            check(self.player)

    def empty(self) -> None:
        def differs() -> str:
            now = left(self.engine)
            return "; ".join(
                f"{key}: lost {_less(self.untouched[key], now[key])}, too many {_less(now[key], self.untouched[key])}"
                for key in now
                if now[key] != self.untouched[key]
            )

        checks.settle(differs)
        checks.healthy(self.player)

    def measure(self) -> None:
        growth.rest(mischief.parts(self.player)["daemon"])
        parts = {name: growth.part(pid) for name, pid in mischief.parts(self.player).items()}
        tracked = int(self.engine.machine.inside("cat /proc/sys/net/netfilter/nf_conntrack_count").out or 0)
        elapsed = time.monotonic() - self.begun
        self.samples.append(growth.Sample(self.player.count, elapsed, parts, tracked))
        spent: dict[str, list[float]] = defaultdict(list)
        for name, seconds in self.player.spent:
            spent[name].append(seconds)
        self.player.spent.clear()
        self.durations.append(spent)
        shown = " ".join(
            f"{name} {one.memory / 1024:.1f} MiB {one.descriptors} fd {one.processor:.0f} s cpu"
            for name, one in parts.items()
        )
        self.say(f"round {self.rounds}: {self.player.count} moves, {elapsed:.0f} s; {shown}; {tracked} flows")

    def verdict(self) -> list[str]:
        return growth.judge(self.samples)

    def report(self) -> str:
        """Percentiles of every move, first half of the calm rounds against the second."""
        calm = self.durations[STORM:] or self.durations
        halves = calm[: len(calm) // 2] or calm, calm[len(calm) // 2 :]
        rows = [f"{'move':<20} {'count':>6} {'p50 ms':>10} {'later':>10} {'p95 ms':>10} {'later':>10}"]
        for name in sorted(MOVES):
            early, late = ([s for spent in half for s in spent.get(name, ())] for half in halves)
            total = sum(len(spent.get(name, ())) for spent in self.durations)
            figures = [at(half, share) for share in (0.5, 0.95) for half in (early, late)]
            rows.append(f"{name:<20} {total:>6} " + " ".join(f"{figure * 1000:>10.1f}" for figure in figures))
        for name in ("daemon", "resolver", "relay"):
            for life in growth.lives(self.samples, name):
                if len(life) >= growth.ENOUGH:
                    slope = growth.line((moves, now.memory) for moves, now in life)
                    first, final = life[0][1], life[-1][1]
                    rows.append(
                        f"{name}: {len(life)} samples over {life[-1][0] - life[0][0]} moves: {first.memory} to "
                        f"{final.memory} KiB, {slope:+.0f} KiB per 1000 moves; {first.descriptors} to "
                        f"{final.descriptors} descriptors; cost of a move times {growth.slower(life):.2f}"
                    )
        return "\n".join(rows)


def at(values: list[float], share: float) -> float:
    """The value below which that share of them lies; 0 of none."""
    if len(values) < 2:
        return statistics.fmean(values) if values else 0.0
    return statistics.quantiles(values, n=100, method="inclusive")[round(share * 100) - 1]


def left(engine: Engine) -> dict[str, list[str]]:
    """What is on the machine: the footprint, and every file of the engine's folders (logs and images' own aside)."""
    found = {key: _flat(value) for key, value in footprint(engine).items()}
    files = []
    for folder in ("data", "exec"):
        for path in (engine.base / folder).glob("**/*"):
            name = str(path.relative_to(engine.base))
            if not name.startswith(("data/images/", "data/layers/", "data/overlay")):
                files.append(name)
    found["files"] = sorted(files)
    return found


def _flat(value: object) -> list[str]:
    return [f"{name} x{count}" for name, count in value.items()] if isinstance(value, dict) else list(value)  # type: ignore


def _less(these: list[str], those: list[str]) -> list[str]:
    rest = list(those)
    return [one for one in these if one not in rest or rest.remove(one)][:12]


def main() -> int:
    parser = argparse.ArgumentParser(prog="soak")
    parser.add_argument("--minutes", type=float, default=120)
    parser.add_argument("--seed", type=int, default=1)
    asked = parser.parse_args()
    lan, engine = Lan("192.168.93"), None
    try:
        engine = Fairlead(lan, 21)
        engine.start()
        soak = Soak(engine, asked.seed, lambda text: print(text, flush=True))
        soak.prepare()
        try:
            while time.monotonic() - soak.begun < asked.minutes * 60:
                soak.round()
        except Broken as error:
            print(f"{error}\n\nThe daemon's last words:\n{engine.log.read_text(errors='replace')[-3000:]}", flush=True)
            return 1
        finally:
            print(soak.report(), flush=True)
        wrong = soak.verdict()
        print("\n".join(wrong) or f"Nothing grew in {soak.player.count} moves.", flush=True)
        return bool(wrong)
    finally:
        if engine is not None:
            engine.close()
        lan.close()


if __name__ == "__main__":
    sys.exit(main())
