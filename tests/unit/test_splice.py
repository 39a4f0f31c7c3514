"""One direction of a relayed connection: what one side says last reaches the other, whenever its turn comes."""

import socket

import pytest

from fairlead.engine.splice import TURNS, _Way


class Source:
    """Gives its chunks, then the end."""

    def __init__(self, chunks: int) -> None:
        self.left = [b"x"] * chunks + [b""]

    def recv(self, most: int) -> bytes:
        return self.left.pop(0)


class Sink:
    """Takes everything; remembers whether it heard of the end."""

    def __init__(self) -> None:
        self.got, self.ended = b"", False

    def send(self, data: memoryview) -> int:
        self.got += bytes(data)
        return len(data)

    def shutdown(self, how: int) -> None:
        assert how == socket.SHUT_WR
        self.ended = True


@pytest.mark.parametrize("chunks", range(TURNS + 2))
def test_the_end_is_passed_on_in_whichever_turn_it_comes(chunks: int) -> None:
    source, sink = Source(chunks), Sink()
    way = _Way(source, sink)  # type: ignore[arg-type]
    way.move()
    if way.waiting or source.left:  # the kernel would ring again: there is something to write, or to read
        way.move()
    assert way.ended and sink.ended and sink.got == b"x" * chunks
