"""The resolver's door: what it holds, what it leaves. That questions come in by it: test_resolver."""

import os
import socket

import pytest

from fairlead.core import bpf as lines
from fairlead.errors import Internal
from fairlead.host import bpf, steering
from fairlead.host.netns import HERE
from lane.pretend import PretendHost

pytestmark = pytest.mark.kernel
ADDRESS, PORT = "127.0.0.11", 53


def held() -> int:
    return len(os.listdir("/proc/self/fd"))


def refused() -> bool:
    with socket.socket() as client:
        client.settimeout(5)
        return client.connect_ex((ADDRESS, PORT)) != 0


def test_a_closed_door_leaves_nothing(pretend_host: PretendHost) -> None:
    before = held()
    for _ in range(3):
        door = steering.open_door(HERE, ADDRESS, PORT)
        assert not refused()
        door.close()
        assert refused() and held() == before


def test_a_door_that_could_not_be_opened_leaves_nothing(
    pretend_host: PretendHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*words: int) -> int:
        raise OSError("no")

    before = held()
    for step in ("attach", "load", "put", "make_map"):
        with monkeypatch.context() as patch, pytest.raises(OSError):
            patch.setattr(bpf, step, refuse)
            steering.open_door(HERE, ADDRESS, PORT)
        assert held() == before


def test_what_the_verifier_has_against_a_program_is_told() -> None:
    with pytest.raises(Internal, match="R0 !read_ok"):
        bpf.load(bpf.PROGRAM_SK_LOOKUP, bpf.AT_SK_LOOKUP, lines.assemble(lines.leave()))
