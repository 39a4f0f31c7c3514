"""Whose office is struck when the managers' etcd has elected: the leader's who gives no sign, and nobody else's."""

import asyncio
from typing import Any

import pytest

from fairlead.errors import FairleadError, Forbidden, Unavailable
from fairlead.store.memory import MemoryStore
from fairlead.swarm.leader import KEY
from fairlead.swarm.presence import PREFIX, strike
from fairlead.swarm.succession import LOOK, PATIENCE, SIGN, WAIT, Succession
from unit.jumping import in_jumping_time

SOON = LOOK + PATIENCE + SIGN + 0.5
"""seconds in which all is done, once etcd has elected"""


class Etcd:
    """``away``: no majority answers: at once, or (``hangs``) ever."""

    def __init__(self) -> None:
        self.now, self.away, self.hangs = 7, False, False

    async def term(self) -> int:
        if self.hangs:
            await asyncio.sleep(3600)
        if self.away:
            raise Unavailable("no leader")
        return self.now


class Town:
    """m1 looks; m2 leads; w1 is in session with m2, w2 with m3."""

    def __init__(self) -> None:
        self.ledger, self.etcd = MemoryStore(), Etcd()
        self.trouble: dict[str, FairleadError | None] = {}
        """manager -> what becomes of who asks it; None: nothing, for ever"""
        self.asked: list[str] = []

    async def sign(self, address: str) -> str:
        self.asked.append(address)
        if address in self.trouble:
            if (problem := self.trouble[address]) is None:
                await asyncio.sleep(3600)
            else:
                raise problem
        return "here"

    async def begins(self) -> "asyncio.Task[None]":
        await self.ledger.put_if(KEY, b"m2")
        for node, manager in (("w1", "m2"), ("m2", "m2"), ("w2", "m3")):
            await self.ledger.put_if(PREFIX + node, manager.encode())
        looks = Succession(self.ledger, self.etcd, lambda: {"m2": "at m2", "m3": "at m3"}, self.sign)
        running = asyncio.ensure_future(looks.run())
        await asyncio.sleep(2.5 * LOOK)
        assert not self.asked, "as long as nothing happens, nobody is asked"
        return running

    async def office(self) -> str:
        entry = await self.ledger.get(KEY)
        return entry.value.decode() if entry else ""

    async def sessions(self) -> dict[str, str]:
        return {entry.key.removeprefix(PREFIX): entry.value.decode() for entry in await self.ledger.list(PREFIX)}


@pytest.mark.parametrize("hangs", [False, True], ids=["refuses", "hangs"])
@pytest.mark.parametrize("away", [0.0, 1.4, 6.0])
@pytest.mark.parametrize("dead", [None, Unavailable("no route to host")], ids=["silence", "no route"])
def test_a_leader_that_went_with_etcd_s_is_struck_and_so_are_its_sessions(
    away: float, hangs: bool, dead: FairleadError | None
) -> None:
    async def tell() -> None:
        town = Town()
        running = await town.begins()
        town.trouble["at m2"] = dead
        town.etcd.away, town.etcd.hangs = True, hangs
        await asyncio.sleep(away)
        town.etcd.away = town.etcd.hangs = False
        town.etcd.now += 1
        await asyncio.sleep(SOON)
        assert (await town.office(), await town.sessions()) == ("", {"w2": "m3"})
        running.cancel()

    in_jumping_time(tell())


def test_a_leader_that_gives_a_sign_stays() -> None:
    async def tell() -> None:
        town = Town()
        running = await town.begins()
        town.trouble |= {"at m2": Forbidden("that is another root"), "at m3": None}
        town.etcd.now += 1
        await asyncio.sleep(SOON)
        assert set(town.asked) == {"at m2", "at m3"}
        assert (await town.office(), len(await town.sessions())) == ("m2", 3), "a refusal is a sign; m3 does not lead"
        town.trouble["at m2"] = None
        await asyncio.sleep(60)
        assert await town.office() == "m2" and not running.done(), "what the last election was about is past"
        running.cancel()

    in_jumping_time(tell())


def test_nobody_is_struck_while_etcd_has_not_elected() -> None:
    """A machine that is busy, and so are we: leases are there for that."""

    async def tell() -> None:
        town = Town()
        running = await town.begins()
        town.trouble["at m2"] = None
        for _ in range(5):
            town.etcd.hangs = True
            await asyncio.sleep(1.7)
            town.etcd.hangs = False
            await asyncio.sleep(WAIT + SOON)
        assert "at m2" in town.asked and await town.office() == "m2"
        running.cancel()

    in_jumping_time(tell())


def test_who_begins_to_look_takes_no_election_for_a_new_one() -> None:
    async def tell() -> None:
        town = Town()
        town.etcd.away = True
        town.trouble["at m2"] = None
        await town.ledger.put_if(KEY, b"m2")
        looks = Succession(town.ledger, town.etcd, lambda: {"m2": "at m2"}, town.sign)
        running = asyncio.ensure_future(looks.run())
        await asyncio.sleep(10)
        town.etcd.away = False
        await asyncio.sleep(SOON)
        assert await town.office() == "m2"
        running.cancel()

    in_jumping_time(tell())


class Moving(MemoryStore):
    """A node goes to another manager while somebody decides about it."""

    async def commit(self, *parts: Any) -> int:
        if not any(write.value for write in parts[0]) and (await self.get(f"{PREFIX}w1")):
            await self.put_if(f"{PREFIX}w1", b"m3", (await self.list(f"{PREFIX}w1"))[0].version)
            self.commit = super().commit  # type: ignore[method-assign]
        return await super().commit(*parts)


async def test_a_node_that_went_elsewhere_meanwhile_is_there() -> None:
    ledger = Moving()
    for node in ("w1", "w2"):
        await ledger.put_if(PREFIX + node, b"m2")
    await strike(ledger, "m2")
    assert [(entry.key, entry.value) for entry in await ledger.list(PREFIX)] == [(f"{PREFIX}w1", b"m3")]
