"""What the resolver is told: news only."""

from collections.abc import Callable

import msgspec
import pytest

from fairlead.engine.controlclient import Line
from fairlead.engine.resolverclient import EndpointNames, ResolverClient, SandboxNames
from fairlead.errors import Invalid

BOX = SandboxNames(id="s1", namespace="/netns/s1", networks=("red", "blue"))
RED = EndpointNames(network="red", name="RED", endpoint="e1", names=("web",), ipv4="10.0.0.2")
BLUE = EndpointNames(network="blue", name="BLUE", endpoint="e2", names=("web",), ipv4="10.1.0.2")


class Ear:
    """A resolver that listens."""

    def __init__(self) -> None:
        self.heard: list[tuple[str, str]] = []
        self.refuses = False

    async def say(self, *lines: Line, meanwhile: Callable[[], None] | None = None) -> list[Line]:
        self.heard = [(line["do"], line.get("network", "")) for line in lines]
        if meanwhile:
            meanwhile()
        if self.refuses:
            return [{"ok": False, "error": "no"} for _ in lines]
        return [{"ok": True} for _ in lines]


@pytest.fixture
def ear() -> Ear:
    return Ear()


@pytest.fixture
def client(ear: Ear) -> ResolverClient:
    client = ResolverClient("/nowhere")
    client._control = ear  # type: ignore[assignment]
    return client


async def test_names_are_told_once_and_again_when_they_change(client: ResolverClient, ear: Ear) -> None:
    """A name that is told makes every sandbox on its network forget the answers it has ready."""
    await client.open(BOX, [RED])
    assert ear.heard == [("names", "red"), ("sandbox", "")]
    await client.open(BOX, [RED, BLUE])
    assert ear.heard == [("names", "blue"), ("sandbox", "")]
    await client.open(BOX, [msgspec.structs.replace(RED, names=("www",)), BLUE])
    assert ear.heard == [("names", "red"), ("sandbox", "")]


async def test_what_was_refused_is_news_the_next_time(client: ResolverClient, ear: Ear) -> None:
    ear.refuses = True
    with pytest.raises(Invalid):
        await client.open(BOX, [RED])
    ear.refuses = False
    await client.open(BOX, [RED])
    assert ear.heard == [("names", "red"), ("sandbox", "")]


async def test_what_left_is_told_in_the_same_breath(client: ResolverClient, ear: Ear) -> None:
    await client.open(BOX, [RED, BLUE])
    await client.open(BOX, [BLUE], [("red", "e1")])
    assert ear.heard == [("unname", "red"), ("sandbox", "")]
    assert [name["endpoint"] for name in client._state()["names"]] == ["e2"]
    ear.refuses = True
    with pytest.raises(Invalid):
        await client.open(BOX, [], [("blue", "e2")])
    assert [name["endpoint"] for name in client._state()["names"]] == ["e2"], "a refused change is none"
    ear.refuses = False
    await client.forget("s1", [("blue", "e2")])
    assert ear.heard == [("unname", "blue"), ("forget", "")]
    assert not client._state()["names"]
