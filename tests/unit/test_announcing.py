"""The frames by which a new holder of an address tells where it is, byte by byte; and who is waited for."""

import pytest

from fairlead.host import announcing
from fairlead.host.announcing import Announcer, frame

MAC = bytes.fromhex("92b1a2f3c213")


def test_ipv4_is_a_question_for_the_own_address() -> None:
    """As the kernel itself sends it (recorded)."""
    assert frame(MAC, "10.91.0.202/16").hex() == (
        "ffffffffffff92b1a2f3c2130806" + "000108000604000192b1a2f3c2130a5b00ca0000000000000a5b00ca"
    )


def test_ipv6_is_an_advertisement_that_overrides() -> None:
    said = frame(MAC, "fd00::9/64")
    assert said[:14].hex() == "333300000001" + MAC.hex() + "86dd"
    header, message = said[14:54], said[54:]
    assert header.hex() == "60000000" + "0020" + "3a" + "ff" + f"fd{0:026x}" + f"{9:04x}" + f"ff02{0:026x}" + "01"
    assert message[0] == 136
    assert message[4:].hex() == "20000000" + header[8:24].hex() + "0201" + MAC.hex()
    # Whoever sums up addresses, length, protocol and message, the checksum included, gets all ones.
    words = header[8:] + (32).to_bytes(4, "big") + (58).to_bytes(4, "big") + message
    total = sum(int.from_bytes(words[at : at + 2], "big") for at in range(0, len(words), 2))
    assert total % 0xFFFF == 0


def test_only_an_address_that_had_another_mac_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    monkeypatch.setattr(announcing, "_announce", lambda path, link: said.append(f"{path}/{link}"))
    announcer = Announcer(lambda name: f"/netns/{name}")
    for where, address, mac, moves in (
        ("br-red", "10.0.0.2", "02:00:00:00:00:02", False),
        ("br-red", "10.0.0.2", "02:00:00:00:00:02", False),
        ("br-blue", "10.0.0.2", "02:00:00:00:00:03", False),
        ("br-red", "10.0.0.2", "02:00:00:00:00:04", True),
        ("br-red", "10.0.0.2", "02:00:00:00:00:04", False),
    ):
        assert announcer.moves(where, address, mac) == moves, (where, mac)
    announcer.announce("s1", "eth0", moved=True)
    assert said == ["/netns/s1/eth0"]


def test_what_it_remembers_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(announcing, "_REMEMBERED", 2)
    announcer = Announcer(str)
    for last in (1, 2, 3):
        announcer.moves("br0", f"10.0.0.{last}", "old")
    assert [announcer.moves("br0", f"10.0.0.{last}", "new") for last in (3, 2, 1)] == [True, True, False]


def test_a_bridge_that_is_gone_is_not_remembered() -> None:
    announcer = Announcer(str)
    announcer.moves("br0", "10.0.0.1", "old")
    announcer.moves("br1", "10.0.0.1", "old")
    announcer.forget("br0")
    assert [announcer.moves(where, "10.0.0.1", "new") for where in ("br0", "br1")] == [False, True]
    announcer.forget("br0")
    announcer.forget("br1")
    assert not announcer._macs, "networks come and go for years"
