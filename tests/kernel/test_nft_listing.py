"""A listing that fails says nothing: a table is not taken for gone, nor for one without elements."""

from collections.abc import Callable, Iterator

import pytest

from fairlead.core.wanted import Element, Skeleton
from fairlead.errors import Internal
from fairlead.host import nft
from lane.pretend import PretendHost

pytestmark = pytest.mark.kernel
BUSY = "netlink: Error: cache initialization failed: No buffer space available"
SKELETON = Skeleton(text="set networks { type ifname; }")
ELEMENT = Element(map="networks", item="br-1")
PLAN = (SKELETON, ELEMENT)


class Failing:
    """A context of libnftables that fails now and then."""

    def __init__(self, context: nft.libnftables.Context, fails: Callable[[int], bool]) -> None:
        self._context, self._fails, self._asked = context, fails, 0

    def run(self, words: str, flags: int = 0) -> tuple[int, str, str]:
        self._asked += 1
        return (1, "", BUSY) if self._fails(self._asked) else self._context.run(words, flags)


def way(fails: Callable[[int], bool]) -> nft.Nft:
    found = nft.Nft("", lively=True)
    found._context = Failing(found._context, fails)  # type: ignore[assignment]
    return found


@pytest.fixture
def made(pretend_host: PretendHost) -> Iterator[None]:
    host = pretend_host.open()
    host.make(PLAN)
    yield
    host.remove(PLAN)


@pytest.mark.usefixtures("made")
def test_it_is_asked_again() -> None:
    for place in (1, 2, 3):
        seen = nft.look(way(lambda asked, place=place: asked == place), "", SKELETON)  # type: ignore[misc]
        assert seen == (SKELETON, [ELEMENT])
    assert nft.stands(way(lambda asked: asked == 1), SKELETON)


@pytest.mark.usefixtures("made")
def test_and_nothing_is_concluded_when_it_goes_on_failing() -> None:
    for ask in (lambda nft_: nft.look(nft_, "", SKELETON), lambda nft_: nft.apply(nft_, SKELETON, ())):
        with pytest.raises(Internal, match="cannot list table inet fairlead: nftables: netlink: Error: cache init"):
            ask(way(lambda asked: True))
    assert nft.look(way(lambda asked: False), "", SKELETON) == (SKELETON, [ELEMENT])
    assert way(lambda asked: False).output("list table inet nobody") == ""
