"""The DHCP client as a machine: stories in virtual time with a server of a few lines, and what strangers may say."""

import itertools
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field

from hypothesis import given, settings
from hypothesis import strategies as st

from fairlead.core import dhcpwire as wire
from fairlead.core.dhcp import Client, Effect, Got, Lost, Phase, Send

MAC = "02:42:ac:11:00:02"
MASK = {1: b"\xff\xff\xff\x00"}


def packed(address: str) -> bytes:
    return bytes(int(part) for part in address.split("."))


def answer(kind: int, xid: int, address: str = "0.0.0.0", mac: str = MAC, **more: dict[int, bytes]) -> bytes:
    """A server's message; ``options`` as they travel."""
    options = {53: bytes((kind,)), **more.get("options", {})}
    body = b"".join(bytes((code, len(value))) + value for code, value in options.items()) + b"\xff"
    head = struct.pack(">BBBBIHH4s4s4s4s16s64s128s", 2, 1, 6, 0, xid, 0, 0, b"", packed(address), b"", b"",
                       bytes.fromhex(mac.replace(":", "")), b"", b"")  # fmt: skip
    return head + b"\x63\x82\x53\x63" + body


def asked(send: Send) -> tuple[int, int, dict[int, bytes], str]:
    """(kind, transaction, options, address it holds) of what the client said."""
    message = send.message
    options, at = {}, 240
    while message[at] != 255:
        options[message[at]] = message[at + 2 : at + 2 + message[at + 1]]
        at += 2 + message[at + 1]
    held = ".".join(map(str, message[12:16]))
    return options[53][0], int.from_bytes(message[4:8]), options, held


@dataclass
class Server:
    """Lends ``address`` for ``seconds``; refuses when told to, and keeps silent when it is gone."""

    name: str = "10.0.0.1"
    address: str = "10.0.0.50"
    seconds: int = 3600
    refuses: bool = False
    gone: bool = False
    heard: list[int] = field(default_factory=list)

    def hears(self, send: Send) -> bytes | None:
        kind, xid, options, held = asked(send)
        self.heard.append(kind)
        if self.gone or (send.destination not in (wire.EVERYBODY, self.name)) or kind == wire.RELEASE:
            return None
        lent = {**MASK, 54: packed(self.name), 51: self.seconds.to_bytes(4), 3: packed(self.name)}
        if kind == wire.DISCOVER:
            return answer(wire.OFFER, xid, self.address, options=lent)
        wish = ".".join(map(str, options[50])) if 50 in options else held
        if self.refuses or wish != self.address:
            return answer(wire.NAK, xid, options={54: packed(self.name)})
        return answer(wire.ACK, xid, self.address, options=lent)


class Story:
    """A client and a server on one wire; time jumps from one alarm to the next."""

    def __init__(self, server: Server, prefer: str = "") -> None:
        dice = itertools.cycle((0.5, 0.25, 0.75, 0.125))
        self.client, self.server, self.now = Client(MAC, "web", lambda: next(dice), prefer), server, 1000.0
        self.sent: list[tuple[float, Send]] = []
        self.told: list[Got | Lost] = []

    def follow(self, effects: list[Effect]) -> None:
        waiting = list(effects)
        while waiting:
            effect = waiting.pop(0)
            if not isinstance(effect, Send):
                self.told.append(effect)
                continue
            self.sent.append((self.now, effect))
            reply = self.server.hears(effect)
            if reply is not None:
                waiting += self.client.heard(reply, self.now)

    def start(self) -> "Story":
        self.follow(self.client.start(self.now))
        return self

    def until(self, end: float) -> None:
        while self.client.wake_at is not None and self.client.wake_at <= end:
            self.now = max(self.now, self.client.wake_at)
            assert len(self.sent) < 10_000, "a storm"
            self.follow(self.client.due(self.now))
        self.now = end

    def kinds(self) -> list[int]:
        return [asked(send)[0] for _, send in self.sent]


def test_discover_offer_request_ack() -> None:
    story = Story(Server(), prefer="10.0.0.50").start()
    assert story.kinds() == [wire.DISCOVER, wire.REQUEST]
    (got,) = story.told
    assert isinstance(got, Got) and got.lease.address == "10.0.0.50/24" and got.lease.gateway == "10.0.0.1"
    first, second = (asked(send)[2] for _, send in story.sent)
    assert first[50] == packed("10.0.0.50") and first[12] == b"web" and first[61] == b"\x01\x02\x42\xac\x11\x00\x02"
    assert second[54] == packed("10.0.0.1"), "the other servers hear that their offers were not taken"
    assert asked(story.sent[0][1])[1] == asked(story.sent[1][1])[1], "one transaction"


def test_it_is_prolonged_from_its_own_address_when_half_is_over() -> None:
    story = Story(Server()).start()
    story.until(1000 + 3600 * 5)
    times = [when for when, _ in story.sent[2:]]
    assert times and all(3600 * 0.46 < later - earlier <= 1800 for earlier, later in itertools.pairwise(times))
    for _, send in story.sent[2:]:
        assert (send.source, send.destination) == ("10.0.0.50", "10.0.0.1")
        assert 54 not in asked(send)[2] and 50 not in asked(send)[2], "RFC 2131, table 5"
    assert all(isinstance(item, Got) for item in story.told)


def test_a_silent_server_then_another_one() -> None:
    story = Story(Server()).start()
    story.server.gone = True
    story.until(1000 + 3600 * 0.874)
    assert {send.destination for _, send in story.sent[2:]} == {"10.0.0.1"}
    assert len(story.sent[2:]) < 10, "half of what is left, and not more often than every minute"
    story.server = Server(name="10.0.0.2")
    story.until(1000 + 3600 * 0.9)
    assert isinstance(story.told[-1], Got) and story.told[-1].lease.server == "10.0.0.2", "any server may prolong it"


def test_it_runs_out_and_is_asked_for_again() -> None:
    story = Story(Server()).start()
    story.server.gone = True
    story.until(1000 + 3599)
    assert [type(item) for item in story.told] == [Got] and story.client.lease is not None
    story.until(1000 + 3600)
    lost = story.told[-1]
    assert isinstance(lost, Lost) and "ran out" in lost.why and story.client.lease is None
    assert asked(story.sent[-1][1])[2][50] == packed("10.0.0.50"), "the same address first"
    story.server.gone = False
    story.until(1000 + 3800)
    assert isinstance(story.told[-1], Got)


def test_a_refusal_ends_it_at_once() -> None:
    story = Story(Server()).start()
    story.server.refuses = True
    story.until(1000 + 1801)
    assert isinstance(story.told[-1], Lost) and "refused" in story.told[-1].why


def test_who_offers_and_refuses_is_not_stormed() -> None:
    story = Story(Server(refuses=True)).start()
    story.until(1000 + 3600)
    assert not story.told and len(story.sent) < 150, len(story.sent)


def test_silence_is_asked_ever_more_rarely() -> None:
    story = Story(Server(gone=True)).start()
    story.until(1000 + 600)
    times = [when for when, _ in story.sent]
    gaps = [later - earlier for earlier, later in itertools.pairwise(times)]
    assert 1.5 <= gaps[0] <= 2.5 and all(48 <= gap <= 80 for gap in gaps[6:])
    assert len({asked(send)[1] for _, send in story.sent}) == 1


def test_an_offer_that_is_not_kept_is_given_up() -> None:
    story = Story(Server())
    (discover,) = story.client.start(story.now)
    offer = story.server.hears(discover)  # type: ignore[arg-type]
    assert offer is not None
    story.server.gone = True
    story.follow(story.client.heard(offer, story.now))
    story.until(1000 + 60)
    assert story.kinds()[:3] == [wire.REQUEST] * 3 and story.kinds()[3] == wire.DISCOVER


def test_the_release_goes_to_the_server() -> None:
    story = Story(Server()).start()
    (send,) = story.client.stop()
    kind, _, options, held = asked(send)  # type: ignore[arg-type]
    assert (kind, held, options[54]) == (wire.RELEASE, "10.0.0.50", packed("10.0.0.1"))
    assert story.client.wake_at is None and story.client.stop() == []
    assert story.client.heard(answer(wire.NAK, 0), 2000.0) == []


def test_a_new_client_goes_on_with_the_lease_of_the_old() -> None:
    story = Story(Server()).start()
    lease = story.told[0].lease
    later = Story(Server())
    later.now = 1600.0
    later.follow(later.client.resume(lease, later.now))
    assert later.client.phase is Phase.BOUND and not later.sent
    later.until(1000 + 1900)
    assert later.kinds() == [wire.REQUEST] and isinstance(later.told[-1], Got)
    late = Story(Server())
    late.now = 1000 + 4000.0
    late.follow(late.client.resume(lease, late.now))
    assert [type(item) for item in late.told] == [Lost, Got], "it ran out while nobody looked"


def test_a_lease_for_ever_is_left_alone() -> None:
    story = Story(Server(seconds=0xFFFFFFFF)).start()
    assert story.client.wake_at is None and story.told[0].lease.seconds == 0


# -- strangers ------------------------------------------------------------------------------


def replies(client: Client, server: str = "10.0.0.1") -> Iterator[tuple[str, bytes]]:
    """Answers that must not be taken, to a client that is REQUESTING 10.0.0.50."""
    xid = client._xid
    lent = {**MASK, 54: packed(server), 51: (3600).to_bytes(4)}
    yield "another transaction", answer(wire.ACK, xid ^ 1, "10.0.0.50", options=lent)
    yield "another MAC", answer(wire.ACK, xid, "10.0.0.50", mac="02:42:ac:11:00:03", options=lent)
    yield "another address", answer(wire.ACK, xid, "10.0.0.51", options=lent)
    yield "a NAK of a stranger", answer(wire.NAK, xid, options={54: packed("10.0.0.99")})
    yield "no length of time", answer(wire.ACK, xid, "10.0.0.50", options={**MASK, 54: packed(server)})
    yield "too short a time", answer(wire.ACK, xid, "10.0.0.50", options={**lent, 51: (9).to_bytes(4)})
    yield "no server", answer(wire.ACK, xid, "10.0.0.50", options={**MASK, 51: lent[51]})
    yield "a server that is everybody", answer(wire.ACK, xid, "10.0.0.50", options={**lent, 54: b"\xff" * 4})
    yield "a request, echoed", b"\x01" + answer(wire.ACK, xid, "10.0.0.50", options=lent)[1:]


def test_strangers_are_not_believed() -> None:
    server = Server()
    story = Story(server)
    (discover,) = story.client.start(story.now)
    offer = server.hears(discover)  # type: ignore[arg-type]
    assert offer is not None
    story.client.heard(offer, story.now)
    for what, reply in replies(story.client):
        assert story.client.heard(reply, story.now) == [], what
        assert story.client.phase is Phase.REQUESTING, what


@settings(max_examples=300)
@given(st.lists(st.tuples(st.integers(0, 5), st.binary(max_size=400), st.floats(0, 5000)), max_size=30))
def test_whatever_is_heard_whenever_it_goes_on(said: list[tuple[int, bytes, float]]) -> None:
    """Noise, and options of noise in otherwise right answers: never an exception, and an alarm is always set."""
    story = Story(Server()).start()
    for how, noise, wait in said:
        story.until(story.now + wait)
        kind = how + 1
        xid = story.client._xid
        head = answer(kind, xid, "10.0.0.50", options={**MASK, 54: packed("10.0.0.1"), 51: b"\0\0\1\0"})
        payload = noise if how == 0 else head[:-1] + noise
        story.follow(story.client.heard(payload, story.now))
        assert story.client.wake_at is not None and story.client.wake_at < story.now + 1e10
    story.until(story.now + 10_000)
    assert story.client.lease is not None, "and with a good server it has an address in the end"
