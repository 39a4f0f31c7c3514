"""A gossip node that is closed: what is said to it afterwards begins nothing."""

import random

from fairlead.core.effects import Address, Call, Effects
from fairlead.core.gossip import Gossip, Me
from fairlead.core.members import SwimConfig
from fairlead.swarm.gossip import open_gossip
from gossip.stock import free_port


async def test_nobody_is_called_when_it_is_over() -> None:
    here = Address("127.0.0.1", free_port())
    async with open_gossip(Gossip(Me("one", here), SwimConfig(), random.Random(1)), here, lambda fact: None) as node:
        pass
    late = Effects((Call(here, b"hello", ticket=1, timeout=1.0),), wake_at=1e9)
    node.do(lambda now: late)  # was: a task group that is finished, and a coroutine that nobody awaits
    assert node._alarm is None or node._alarm.cancelled()
