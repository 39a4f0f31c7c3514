"""Envelopes: how messages are wrapped for the road, and read from a stream that comes in pieces.

    packet   [label] seal( [crc] [compress] message or compound )
    stream   [label] seal-with-length( [compress] message )       the answer carries no label of its own

    Envelope(seal, label).packet(payload)     bytes for a datagram
                         .open_packet(data)   its messages
                         .stream(payload)     bytes for a stream: a question
                         .answer(payload)     the same for the answer
                         .reader(asking)      takes the pieces of the other side's stream

A label keeps clusters apart that share a network; it is no secret, but the seal is bound to it.

Rules
    1. With a seal, what is not sealed is refused, whole.
    2. A label that is not ours is refused, so is a missing one.
    3. A stream is at most ``LARGEST_STREAM`` bytes, sealed, squeezed or plain; the reader keeps no more.
    4. Reading a stream in pieces costs about as much as reading it at once.
"""

from __future__ import annotations

import zlib
from contextlib import suppress

from fairlead.core import sealing, swimwire
from fairlead.core.packing import Malformed, Reader, Short
from fairlead.core.sealing import Keyring, Seal
from fairlead.core.swimwire import COMPRESS, CRC, ENCRYPT, LABEL, PUSH_PULL, USER, Known, Message, PushPull, User

LARGEST_STREAM = 8 << 20
"""Room for some 50,000 nodes in a push-pull."""
MOST_NODES = 100_000
LARGEST_USER_STATE = 1 << 20
_WRAP = 5
"""Type byte and length around a sealed stream."""


class Envelope:
    """The wrapping of one cluster. ``squeeze``: compress streams (packets are read compressed, never written so)."""

    def __init__(self, seal: Seal | None = None, label: str = "", squeeze: bool = False) -> None:
        self._seal = seal
        self._label = label.encode()
        self._squeeze = squeeze
        if len(self._label) > 255:
            raise Malformed("a label has at most 255 bytes")
        self.overhead = (2 + len(self._label) if label else 0) + (sealing.OVERHEAD if seal else 0) + _WRAP
        """What wrapping adds to a packet, at most."""

    @property
    def ring(self) -> Keyring | None:
        """The keys; None without a seal."""
        return self._seal.ring if self._seal else None

    def packet(self, payload: bytes, crc: bool = False) -> bytes:
        """A payload as a datagram. ``crc`` only for those who speak protocol 5."""
        if crc:
            payload = bytes((CRC,)) + zlib.crc32(payload).to_bytes(4, "big") + payload
        return self._head() + (self._seal.close(payload, self._label) if self._seal else payload)

    def open_packet(self, data: bytes) -> list[Message]:
        """The messages of a datagram; ``Malformed`` when it is not of this cluster or no message at all."""
        payload = data[self._past_label(data) :]
        if self._seal:
            payload = self._seal.open(payload, self._label)
        if payload[:1] == bytes((CRC,)):
            if zlib.crc32(payload[5:]) != int.from_bytes(payload[1:5], "big"):
                raise Malformed("damaged on the way")
            payload = payload[5:]
        return swimwire.decode(payload)

    def stream(self, payload: bytes) -> bytes:
        """A payload as the whole of what we say on a stream that we opened."""
        return self._head() + self.answer(payload)

    def answer(self, payload: bytes) -> bytes:
        """The same on a stream that somebody else opened."""
        if self._squeeze:
            payload = swimwire.compress(payload)
        if not self._seal:
            return payload
        wrap = bytes((ENCRYPT,)) + (len(payload) + sealing.OVERHEAD).to_bytes(4, "big")
        return wrap + self._seal.close(payload, wrap + self._label)

    def reader(self, asking: bool) -> StreamReader:
        """For the other side's bytes. ``asking``: we opened the stream and read the answer."""
        return StreamReader(self._seal, b"" if asking else self._head(), self._label)

    def _head(self) -> bytes:
        return bytes((LABEL, len(self._label))) + self._label if self._label else b""

    def _past_label(self, data: bytes) -> int:
        head = self._head()
        if not data.startswith(head) or (not head and data[:1] == bytes((LABEL,))):
            raise Malformed("a label of another cluster")
        return len(head)


class StreamReader:
    """Pieces of a stream in, one message out."""

    def __init__(self, seal: Seal | None, head: bytes, label: bytes) -> None:
        self._seal = seal
        self._head = head
        self._label = label
        self._held = bytearray()
        self._plain = not seal
        self._wanted = 1
        """Do not look again before this many bytes are there."""
        self._reading: _Body | None = None

    def feed(self, piece: bytes) -> Message | None:
        """The message once it is complete, else None. ``Malformed`` when it never will be."""
        self._held += piece
        if len(self._held) > LARGEST_STREAM:
            raise Malformed(f"a stream of more than {LARGEST_STREAM} bytes")
        if len(self._held) < self._wanted:
            return None
        try:
            return self._read()
        except Short:
            return None

    def _read(self) -> Message:
        if self._head:
            self._unlabel()
        elif self._held[0] == LABEL:
            raise Malformed("a label of another cluster")
        if not self._plain:
            self._unseal()
        if self._reading is None:
            self._reading = _Body(self._held)
        return self._reading.message()

    def _unlabel(self) -> None:
        if not self._held.startswith(self._head[: len(self._held)]):
            raise Malformed("a label of another cluster")
        if len(self._held) <= len(self._head):
            raise Short("the label comes first")
        del self._held[: len(self._head)]
        self._head = b""

    def _unseal(self) -> None:
        assert self._seal
        if self._held[0] != ENCRYPT:
            raise Malformed("a stream that is not sealed")
        if len(self._held) < _WRAP:
            raise Short("the length comes first")
        length = int.from_bytes(self._held[1:_WRAP], "big")
        if length > LARGEST_STREAM - _WRAP:
            raise Malformed(f"a stream of more than {LARGEST_STREAM} bytes")
        self._wanted = _WRAP + length
        if len(self._held) < self._wanted:
            raise Short("sealed messages are opened whole")
        bound = bytes(self._held[:_WRAP]) + self._label
        self._held = bytearray(self._seal.open(bytes(self._held[_WRAP : self._wanted]), bound))
        self._plain = True


class _Body:
    """The unsealed part of a stream, ``held``; of a long message it keeps only what is not read yet."""

    def __init__(self, held: bytearray, squeezed: bool = False) -> None:
        self._held = held
        self._squeezed = squeezed
        self._join = False
        self._left = -1
        self._user_state = 0
        self._nodes: list[Known] = []

    def message(self) -> Message:
        """The message; ``Short`` while there is too little of it."""
        if not self._held:
            raise Short("nothing there yet")
        kind = self._held[0]
        if kind == PUSH_PULL:
            return self._push_pull()
        reader = Reader(bytes(self._held), 1)
        fields = reader.value()
        if kind == COMPRESS and not self._squeezed:
            text = swimwire.squeezed_text(fields, LARGEST_STREAM)
            return _Body(bytearray(text), squeezed=True).message()
        if kind == USER:
            return User(reader.take(swimwire.number(fields, "UserMsgLen", LARGEST_STREAM)))
        return swimwire.decode_one(bytes(self._held[: reader.at]))

    def _push_pull(self) -> PushPull:
        reader = Reader(bytes(self._held), 1)
        try:
            if self._left < 0:
                fields = reader.value()
                self._left = swimwire.number(fields, "Nodes", MOST_NODES)
                self._user_state = swimwire.number(fields, "UserStateLen", LARGEST_USER_STATE)
                self._join = fields.get(b"Join") is True
            while self._left:
                self._take_node(reader.value())
                self._left -= 1
            return PushPull(self._join, tuple(self._nodes), reader.take(self._user_state))
        finally:
            del self._held[1 : reader.at]

    def _take_node(self, fields: object) -> None:
        with suppress(Malformed):  # one line that makes no sense does not spoil the others
            self._nodes.append(swimwire.known_of(fields))
