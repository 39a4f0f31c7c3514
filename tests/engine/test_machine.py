"""The host's own part: forwarding when it is needed, and only for containers where we turned it on."""

from pathlib import Path

import pytest
from paper import Paper

from fairlead.core.wanted import Skeleton, Sysctl
from fairlead.engine.kernel import Kernel
from fairlead.engine.machine import OWNER, SWITCHES, Machine, Wishes
from fairlead.host.fake import FakeHost


def forwarded(kernel: Kernel) -> list[str]:
    return [item.path for item in kernel.wanted(OWNER) if isinstance(item, Sysctl)]


def confined(kernel: Kernel) -> list[int]:
    text = next(item.text for item in kernel.wanted(OWNER) if isinstance(item, Skeleton))
    return [family for family in (4, 6) if f" meta nfproto ipv{family} counter drop" in text]


def machine(tmp_path: Path, boot: str = "boot", **before: str) -> tuple[Kernel, Machine]:
    host = FakeHost()
    for family, path in SWITCHES.items():
        host.put(Sysctl(path=path, value=before.get(f"v{family}", "0")))
    kernel = Kernel(host)
    return kernel, Machine(kernel, host, tmp_path / "note", boot, Wishes())


async def test_ipv6_is_forwarded_from_the_first_network_that_needs_it(paper: Paper) -> None:
    assert forwarded(paper.kernel) == ["net/ipv4/ip_forward"]
    await paper.network("four")
    assert forwarded(paper.kernel) == ["net/ipv4/ip_forward"]
    await paper.network("six", ipv6=True)
    assert "net/ipv6/conf/all/forwarding" in forwarded(paper.kernel)
    await paper.controller.remove("six")
    assert "net/ipv6/conf/all/forwarding" in forwarded(paper.kernel), "who relies on it by now, nobody knows"


@pytest.mark.parametrize("before, expected", [({}, [4, 6]), ({"v4": "1"}, [6]), ({"v4": "1", "v6": "1"}, [])])
def test_what_was_forwarded_before_us_is_left_alone(
    tmp_path: Path, before: dict[str, str], expected: list[int]
) -> None:
    kernel, it = machine(tmp_path, **before)
    it.ready()
    assert confined(kernel) == expected


def test_a_restart_knows_what_it_turned_on_and_a_reboot_begins_anew(tmp_path: Path) -> None:
    machine(tmp_path)[1].ready()
    kernel, again = machine(tmp_path, v4="1", v6="1")
    again.ready()
    assert confined(kernel) == [4, 6]
    kernel, rebooted = machine(tmp_path, boot="another", v4="1", v6="1")
    rebooted.ready()
    assert confined(kernel) == []


def test_what_an_engine_before_us_left_standing_is_only_noted(tmp_path: Path) -> None:
    kernel, first = machine(tmp_path)
    first.resume()
    assert not first.stood
    assert kernel.drift() == ((), ()), "nothing was there, so it was made"
    returned = Kernel(kernel._host)
    again = Machine(returned, kernel._host, tmp_path / "note", "boot", Wishes())
    kernel._host.make = None  # whoever makes anything fails
    again.resume()
    assert again.stood
    assert returned.wanted() == kernel.wanted()
