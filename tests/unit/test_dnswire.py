"""DNS messages: round trips, hostile bytes, and every refusal a server owes its clients."""

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairlead.core import dnswire
from fairlead.core.dnswire import BadQuery, Malformed, Message, Question, Record

labels = st.binary(min_size=1, max_size=20)
names = st.lists(labels, max_size=8).map(lambda parts: b"".join(bytes((len(p),)) + p for p in parts) + b"\0")
numbers = st.integers(0, 65535)
records = st.builds(Record, names, numbers, numbers, st.integers(0, 2**32 - 1), st.binary(max_size=40))
messages = st.builds(
    Message,
    numbers,
    numbers,
    st.lists(st.builds(Question, names, numbers, numbers), max_size=2).map(tuple),
    *(st.lists(records, max_size=3).map(tuple) for _ in range(3)),
)


@given(messages)
def test_what_is_built_is_parsed_back(message: Message) -> None:
    assert dnswire.parse(dnswire.build(message)) == message


@given(st.binary(max_size=200))
def test_any_bytes_are_a_message_or_malformed(data: bytes) -> None:
    for read in (dnswire.parse, dnswire.read_query, lambda data: dnswire.check_answer(data, b"\1a\0\0\1\0\1")):
        with suppress(Malformed):
            read(data)


@given(messages, st.data())
def test_a_damaged_message_never_crashes(message: Message, data: st.DataObject) -> None:
    raw = bytearray(dnswire.build(message))
    for _ in range(data.draw(st.integers(1, 4))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.sampled_from((0, 1, 12, 0x3F, 0x40, 0xC0, 0xFF)))
    cut = bytes(raw[: data.draw(st.integers(0, len(raw)))])
    question = message.questions[0].name + b"\0\1\0\1" if message.questions else b"\0\0\1\0\1"
    for read in (dnswire.parse, dnswire.read_query, lambda data: dnswire.check_answer(data, question)):
        with suppress(Malformed):
            read(cut)


@given(st.lists(st.binary(max_size=30), max_size=60), st.integers(512, 4096), st.booleans())
def test_a_reply_never_exceeds_its_limit_and_says_when_it_was_cut(parts: list[bytes], limit: int, edns: bool) -> None:
    query = dnswire.read_query(dnswire.query("web", size=limit if edns else 0))
    answer = dnswire.reply(query, 0, [dnswire.record(1, part) for part in parts], limit)
    message = dnswire.parse(answer)
    assert len(answer) <= limit
    assert [record.data for record in message.answers] == parts[: len(message.answers)]
    assert bool(message.flags & dnswire.TC) == (len(message.answers) < len(parts))
    assert (message.additionals != ()) == edns


def test_a_pointer_that_does_not_lead_backwards_is_refused() -> None:
    for data in (b"\xc0\x00", b"\1a\xc0\x00", b"\xc0\x02\xc0\x00", b"\xc0\x05", b"\xc0"):
        with pytest.raises(Malformed):
            dnswire.read_name(data, 0)
    assert dnswire.read_name(b"\1a\0\1b\xc0\0", 3) == (b"\1b\1a\0", 7)


def test_a_name_is_at_most_255_bytes_even_by_pointers() -> None:
    block = b"".join(b"\x3f" + b"x" * 63 for _ in range(3)) + b"\0"
    with pytest.raises(Malformed):
        dnswire.read_name(block + b"\x3f" + b"y" * 63 + b"\xc0\0", len(block))


def test_the_client_gets_its_own_spelling_back() -> None:
    query = dnswire.read_query(dnswire.query("WeB.ReD"))
    assert query.name == "web.red"
    answer = dnswire.parse(dnswire.reply(query, 0, [dnswire.record(dnswire.A, bytes(4))]))
    assert answer.questions[0].name == answer.answers[0].name == b"\3WeB\3ReD\0"


def test_a_dot_within_a_label_is_no_separator() -> None:
    packet = dnswire.build(Message(questions=(Question(b"\7web.red\0", 1),)))
    assert dnswire.read_query(packet).name == r"web\.red"


def refusal(packet: bytes) -> bytes:
    with pytest.raises(BadQuery) as caught:
        dnswire.read_query(packet)
    return caught.value.reply


def rcode(packet: bytes) -> int:
    reply = refusal(packet)
    assert reply[:2] == packet[:2] and reply[2] & 0x80
    return reply[3] & 15


def test_refusals() -> None:
    good = dnswire.query("web", id_=0x1234)
    assert rcode(good[:2] + b"\x10" + good[3:]) == dnswire.NOTIMP  # opcode status
    assert rcode(good[:2] + b"\x28" + good[3:]) == dnswire.NOTIMP  # opcode update
    assert rcode(good[:4] + b"\0\2" + good[6:]) == dnswire.FORMERR  # two questions
    assert rcode(good[:4] + b"\0\0" + good[6:]) == dnswire.FORMERR  # none
    assert rcode(good[:-1]) == dnswire.FORMERR  # cut
    assert rcode(good[:12] + b"\xc0\x0c\0\1\0\1") == dnswire.FORMERR  # a loop
    two = Message(7, 0, (Question(b"\0", 1),), additionals=(Record(b"\0", dnswire.OPT, 1232, 0, b""),) * 2)
    assert rcode(dnswire.build(two)) == dnswire.FORMERR


def test_silence_for_what_is_no_query() -> None:
    assert refusal(b"\0" * 11) == b""
    assert refusal(dnswire.reply(dnswire.read_query(dnswire.query("web")))) == b""


def test_edns() -> None:
    query = dnswire.read_query(dnswire.query("web", size=1400))
    assert (query.edns, query.size) == (True, 1400)
    assert dnswire.read_query(dnswire.query("web", size=100)).size == 512
    assert dnswire.read_query(dnswire.query("web", size=65000)).size == 4096
    wants = Message(7, 0, (Question(b"\0", 1),), additionals=(Record(b"\0", dnswire.OPT, 1232, 0x8000, b""),))
    option = dnswire.parse(dnswire.reply(dnswire.read_query(dnswire.build(wants)))).additionals[0]
    assert (option.type, option.klass, option.ttl) == (dnswire.OPT, dnswire.OUR_SIZE, 0x8000)
    future = Message(7, 0, (Question(b"\0", 1),), additionals=(Record(b"\0", dnswire.OPT, 1232, 0x10000, b""),))
    assert dnswire.parse(refusal(dnswire.build(future))).additionals[0].ttl == 0x01000000  # BADVERS


def answer_to(name: str, *records: Record, flags: int = 0x8180) -> tuple[bytes, bytes]:
    question = Question(dnswire.wire(name), 1)
    data = dnswire.build(Message(9, flags, (question,), records))
    return data, question.name + b"\0\1\0\1"


def test_an_answer_must_be_to_the_question() -> None:
    data, question = answer_to("example.com", Record(dnswire.wire("example.com"), 1, 1, 60, bytes(4)))
    assert dnswire.check_answer(data, question) == dnswire.NOERROR
    assert dnswire.check_answer(data, question.upper()) == dnswire.NOERROR
    for bad in (question.replace(b"com", b"org"), question[:-3] + b"\x1c\0\1"):
        with pytest.raises(Malformed):
            dnswire.check_answer(data, bad)
    with pytest.raises(Malformed):
        dnswire.check_answer(dnswire.query("example.com"), question)  # an echo is no answer


def test_an_answer_with_a_record_beyond_its_end_is_malformed_unless_it_says_so() -> None:
    data, question = answer_to("a.b", Record(dnswire.wire("a.b"), 1, 1, 60, b"abcd"))
    with pytest.raises(Malformed):
        dnswire.check_answer(data[:-1], question)
    cut = data[:2] + bytes((data[2] | 2,)) + data[3:-1]
    assert dnswire.check_answer(cut, question) == dnswire.NOERROR


def test_an_error_may_come_without_question() -> None:
    assert dnswire.check_answer(b"\0\1\x81\x81" + bytes(8), b"\1a\0\0\1\0\1") == dnswire.FORMERR
    with pytest.raises(Malformed):
        dnswire.check_answer(b"\0\1\x81\x80" + bytes(8), b"\1a\0\0\1\0\1")


def test_names_that_cannot_be_told() -> None:
    for name in ("a..b", "x" * 64, ".".join(["x" * 60] * 5)):
        with pytest.raises(Malformed):
            dnswire.wire(name)
    assert dnswire.wire("") == b"\0"
