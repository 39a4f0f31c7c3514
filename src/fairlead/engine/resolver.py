"""The resolver: one process that answers every container's DNS, whether the engine lives or not.

    container --127.0.0.11:53--> (led there by a program of the kernel's) --> our socket *in that sandbox*
        known, asked before   dictionary on the datagram's bytes          -> answer, ~7 µs
        known                 core.names, core.dnswire, into the dictionary -> answer
        unknown               engine.forwarder, or SERVFAIL where nothing may leave

Each sandbox has its own door (``host.steering``): a UDP and a TCP socket, opened inside its namespace, so who
asks is known by the socket and cannot be forged; nothing listens on the host. Answers over UDP leave by a raw
socket as whole packets, from the port that was asked.

The quick way: the key is everything in the datagram but its id (flags, question
in the client's own spelling, EDNS), the value everything in the answer but its
id. An answer that must rotate (an alias shared by several) is kept as a ring of
records from which a window is cut. A change of names clears the dictionaries of
the sandboxes that share the network: there is no moment with an old answer
after a change was acknowledged.

Rules
    1. One thread, one epoll loop; ``BURST`` datagrams of one sandbox (``datagrams``), then the next.
    2. A dictionary holds at most ``REMEMBERED`` answers to queries of at most
       ``LONG`` bytes: a client that varies its questions cannot fill our memory.
    3. The engine's death changes nothing. It comes back with ``STATE``, which
       replaces all names at once and keeps every socket that is still wanted.
    4. A sandbox's door belongs to one namespace: it is opened anew when the
       path leads to another one.

Without an engine nothing is learnt: names of containers that died meanwhile
still resolve until it is back.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

from fairlead.core import dnswire
from fairlead.core.dnswire import BadQuery, Query
from fairlead.core.names import Names
from fairlead.core.protocol import Protocol
from fairlead.engine import control
from fairlead.engine.datagrams import Batch, Envelope
from fairlead.engine.dnstcp import Listener
from fairlead.engine.forwarder import Forwarder, OpenSocket, Upstream
from fairlead.engine.loop import Loop
from fairlead.errors import FairleadError, Invalid

ADDRESS, PORT = "127.0.0.11", 53
BURST = 64
PROBE = 16
SEVERAL = 3
"""Datagrams at once for which a handful is cheaper than one at a time."""
REMEMBERED = 2048
LONG = 300
_RECEIVE_BUFFER = 1 << 20
STATE = "doors"
"""The word that says everything. It was "state" when the engine led questions to our ports by nftables: a resolver
of that kind does not know this word, and gives way."""

Place = tuple[str, int, int]
"""(path, device, inode) of a namespace"""


class Door(Protocol):
    """Where a namespace's questions come in, and answers go out (``host.steering``); its sockets do not block."""

    udp: socket.socket
    tcp: socket.socket
    out: socket.socket
    """takes whole packets"""

    def close(self) -> None: ...


OpenDoor = Callable[[str, str, int], Door]
"""(path of the namespace, address, port) -> the door that stands for them"""


class Sandbox:
    """One sandbox as the resolver serves it."""

    def __init__(self, id_: str) -> None:
        self.id = id_
        self.namespace = ""
        self.place: Place | None = None
        self.upstreams: Sequence[Upstream] = ()
        self.forward = False
        self.qualified_only = False
        """``ndots`` was set above 0: single labels are not for the world"""
        self.outstanding = 0
        self.answers: dict[bytes, bytes] = {}
        self.rings: dict[bytes, _Ring] = {}
        self.foreign: dict[bytes, Query] = {}
        """queries known to be somebody else's to answer, read already"""
        self.door: Door | None = None
        self.tcp: Listener | None = None

    def forget_answers(self) -> None:
        self.answers.clear()
        self.rings.clear()
        self.foreign.clear()

    def make_room(self) -> None:
        """Keep what is remembered within bounds; what is asked often comes back by itself."""
        if len(self.answers) + len(self.rings) + len(self.foreign) >= REMEMBERED:
            self.forget_answers()


class _Ring:
    """Answers that rotate: ``count`` of the records, each time beginning one later."""

    __slots__ = ("at", "head", "records", "size", "tail", "total", "window")

    def __init__(self, head: bytes, records: bytes, size: int, window: int, tail: bytes) -> None:
        self.head, self.tail, self.size, self.window = head, tail, size, window
        self.total, self.records = len(records), records + records
        self.at = 0

    def next(self) -> bytes:
        at = self.at
        self.at = (at + self.size) % self.total
        return self.head + self.records[at : at + self.window] + self.tail


class Resolver:
    """All sandboxes, all names, one loop."""

    def __init__(self, loop: Loop, open_socket: OpenSocket, open_door: OpenDoor) -> None:
        self._loop = loop
        self._open_door = open_door
        self._envelope = Envelope(ADDRESS, PORT)
        self._forwarder = Forwarder(loop, open_socket)
        self._names = Names()
        self._batch = Batch(BURST, dnswire.LARGEST_UDP, self._envelope)
        self._sandboxes: dict[str, Sandbox] = {}
        self._remembering: set[str] = set()
        """ids of those that may remember answers: among two hundred that share a network few ask, and all are told"""
        self.slow = 0

    def deeds(self) -> dict[str, Callable[[dict[str, Any]], dict[str, Any] | None]]:
        """The control protocol: word -> deed."""
        return {
            "sandbox": self.sandbox,
            "forget": self.forget,
            "names": self.names,
            "unname": self.unname,
            STATE: self.state,
            "statistics": self.statistics,
        }

    # -- what the engine says -----------------------------------------------------------------

    def sandbox(self, said: dict[str, Any]) -> None:
        """Serve a sandbox, or serve it differently."""
        id_, forward, upstreams = str(said["id"]), bool(said.get("forward", False)), _upstreams(said)
        box = self._sandboxes.get(id_) or Sandbox(id_)
        place = _place(str(said["namespace"]))
        if box.place != place:
            self._open(box, place)
        if (box.forward, tuple(box.upstreams)) != (forward, upstreams):
            self._forwarder.close(id_)
        box.forward, box.upstreams = forward, upstreams
        box.qualified_only = _dots(said.get("options") or ()) > 0
        self._sandboxes[id_] = box
        self._names.sandbox(id_, said.get("networks") or (), said.get("links"))
        box.forget_answers()

    def forget(self, said: dict[str, Any]) -> None:
        """Stop serving a sandbox; an unknown one is fine."""
        box = self._sandboxes.pop(said["id"], None)
        self._remembering.discard(said["id"])
        self._names.forget(said["id"])
        if box is not None:
            self._close(box)

    def names(self, said: dict[str, Any]) -> None:
        """Upsert an endpoint's names on a network; ``name`` is the network's."""
        _put(self._names, said)
        self._changed(said["network"])

    def unname(self, said: dict[str, Any]) -> None:
        self._names.drop(said["network"], said["endpoint"])
        self._changed(said["network"])

    def state(self, said: dict[str, Any]) -> dict[str, Any]:
        """Replace everything. Sandboxes that cannot be served are told in ``failed`` and do not hold up the others."""
        fresh = Names()
        for entry in said.get("names") or ():
            _put(fresh, entry)
        wanted = {str(entry["id"]): entry for entry in said.get("sandboxes") or ()}
        for id_ in [id_ for id_ in self._sandboxes if id_ not in wanted]:
            self.forget({"id": id_})
        self._names = fresh
        failed = {}
        for id_, entry in wanted.items():
            try:
                self.sandbox(entry)
            except (FairleadError, OSError) as error:
                self.forget({"id": id_})
                failed[id_] = str(error)
        return {"failed": failed}

    def statistics(self, said: dict[str, Any]) -> dict[str, Any]:
        """Numbers for people and tests."""
        tcp = sum(len(box.tcp) for box in self._sandboxes.values() if box.tcp)
        remembered = sum(len(box.answers) + len(box.rings) + len(box.foreign) for box in self._sandboxes.values())
        more = {"pid": os.getpid(), "slow": self.slow, "tcp": tcp, "remembered": remembered}
        return {**self._names.counts(), **self._forwarder.statistics(), **more}

    def _changed(self, network: str) -> None:
        for id_ in self._remembering & self._names.sharing(network):
            self._remembering.discard(id_)
            if id_ in self._sandboxes:
                self._sandboxes[id_].forget_answers()

    # -- sockets ----------------------------------------------------------------------------------

    def _open(self, box: Sandbox, place: Place) -> None:
        """A door in the namespace; the old one goes only when it stands."""
        door = self._open_door(place[0], ADDRESS, PORT)
        self._close(box)
        box.namespace, box.place, box.door = place[0], place, door
        with suppress(OSError):
            door.udp.setsockopt(socket.SOL_SOCKET, getattr(socket, "SO_RCVBUFFORCE", 33), _RECEIVE_BUFFER)
        box.tcp = Listener(self._loop, door.tcp, lambda packet, write: self._answer_stream(box, packet, write))
        self._loop.watch(door.udp, self._quick(box, door))

    def _close(self, box: Sandbox) -> None:
        self._forwarder.close(box.id)
        if box.tcp is not None:
            box.tcp.close()
        if box.door is not None:
            self._loop.unwatch(box.door.udp)
            box.door.close()
        box.door = box.tcp = box.place = None
        box.forget_answers()

    # -- what containers ask ----------------------------------------------------------------------

    def _quick(self, box: Sandbox, door: Door) -> Callable[[], None]:
        """The hot path. Everything it touches is a local name.

        A client that asks one question at a time is read one datagram a wake-up, and only every ``PROBE``-th time we
        look whether more wait by now. While several do, they come and go by the handful.
        """
        receive, send, find, slow = door.udp.recvfrom, door.out.sendto, box.answers.get, self._datagram
        around, udp, out = self._envelope.around, door.udp.fileno(), door.out.fileno()
        singles = 0

        def ready() -> None:
            nonlocal singles
            if singles == PROBE:
                if self._handful(box, udp, out) < SEVERAL:
                    singles = 0
                return
            singles += 1
            try:
                packet, client = receive(dnswire.LARGEST_UDP)
                answer = find(packet[2:])
                if answer is not None:
                    send(around(packet[:2] + answer, client), client)
                else:
                    slow(box, packet, client)
            except OSError:
                return  # Nothing to read after all, or no room to send: the client asks again.

        return ready

    def _handful(self, box: Sandbox, udp: int, out: int) -> int:
        """Answer what waits, ``BURST`` at most; how many there were."""
        batch, find = self._batch, box.answers.get
        slots, lengths, write, say, room = batch.slots, batch.lengths, batch.write, batch.size, batch.room
        count, first = batch.receive(udp, BURST), 0
        for slot in range(count):
            start = slot * room
            answer = find(slots[start + 2 : start + lengths[slot]])
            if answer is not None:
                size = len(answer) + 2
                write[start + 2 : start + size] = answer
                say(slot, size)
                continue
            if first < slot:
                batch.send(out, first, slot)
            first = slot + 1
            self._datagram(box, slots[start : start + lengths[slot]], batch.sender(slot))
        if first < count:
            batch.send(out, first, count)
        return count

    def _datagram(self, box: Sandbox, packet: bytes, client: Any) -> None:
        ring = box.rings.get(packet[2:])
        if ring is not None:
            self._send(box, packet[:2] + ring.next(), client)
            return
        foreign = box.foreign.get(packet[2:])
        if foreign is not None:
            self._forward(box, foreign, packet, client)
            return
        self.slow += 1
        try:
            query = dnswire.read_query(packet)
        except BadQuery as bad:
            if bad.reply:
                self._send(box, bad.reply, client)
            return
        records = self._look(box, query)
        short = len(packet) <= LONG
        if records is None:
            if short:
                self._make_room(box)
                box.foreign[packet[2:]] = query
            self._forward(box, query, packet, client)
            return
        answer = dnswire.reply(query, records[0], records[1], query.size)
        self._send(box, answer, client)
        if short and records[0] == dnswire.NOERROR:
            self._make_room(box)
            _remember(box, packet[2:], query, records[1], answer)

    def _make_room(self, box: Sandbox) -> None:
        """Something is about to be remembered."""
        box.make_room()
        self._remembering.add(box.id)

    def _forward(self, box: Sandbox, query: Query, packet: bytes, client: Any) -> None:
        self._forwarder.ask(box, query, packet, query.size, lambda answer: self._send(box, answer, client))

    def _answer_stream(self, box: Sandbox, packet: bytes, write: Callable[[bytes], None]) -> None:
        self.slow += 1
        try:
            query = dnswire.read_query(packet)
        except BadQuery as bad:
            if bad.reply:
                write(bad.reply)
            return
        records = self._look(box, query)
        if records is None:
            self._forwarder.ask_stream(box, query, packet, write)
        else:
            turn = self.slow % len(records[1]) if records[1] else 0
            write(dnswire.reply(query, records[0], records[1][turn:] + records[1][:turn]))

    def _look(self, box: Sandbox, query: Query) -> tuple[int, list[bytes]] | None:
        """(rcode, records) when the answer is ours to give; None when somebody else has to be asked."""
        if query.klass != dnswire.IN:
            return dnswire.REFUSED, []
        found = self._names.find(box.id, query.name, query.type)
        if found is not None:
            return dnswire.NOERROR, [dnswire.record(type_, data) for type_, data in found]
        if not box.forward:
            return dnswire.SERVFAIL, []
        if box.qualified_only and "." not in query.name and query.type in (dnswire.A, dnswire.AAAA):
            return dnswire.NXDOMAIN, []
        return None

    def _send(self, box: Sandbox, answer: bytes, client: Any) -> None:
        if box.door is not None:
            with suppress(OSError):
                box.door.out.sendto(self._envelope.around(answer, client), client)


def _remember(box: Sandbox, key: bytes, query: Query, records: list[bytes], answer: bytes) -> None:
    """Keep an answer for the quick way: as it is, or as a ring when it should rotate."""
    if len(records) < 2 or len({len(record) for record in records}) > 1:
        box.answers[key] = answer[2:]
        return
    size, start = len(records[0]), 12 + len(query.question)
    window = int.from_bytes(answer[6:8], "big") * size
    ring = _Ring(answer[2:start], b"".join(records), size, window, answer[start + window :])
    ring.next()
    box.rings[key] = ring


def _put(names: Names, said: dict[str, Any]) -> None:
    names.put(
        str(said["network"]),
        str(said.get("name") or ""),
        str(said["endpoint"]),
        [str(name) for name in said.get("names") or ()],
        str(said.get("ipv4") or ""),
        str(said.get("ipv6") or ""),
        [str(port) for port in said.get("ports") or ()],
    )


def _upstreams(said: dict[str, Any]) -> tuple[Upstream, ...]:
    """The sandbox's servers. Ours, asked from inside, would ask us for ever: left out."""
    found = tuple((str(address), str(place)) for address, place in said.get("upstreams") or ())
    for address, place in found:
        bare = address.partition("%")[0]
        try:
            socket.inet_pton(socket.AF_INET6 if ":" in bare else socket.AF_INET, bare)
        except OSError:
            raise Invalid(f"bad nameserver address {address}") from None
        if place not in ("sandbox", "host"):
            raise Invalid(f"an upstream is asked from the sandbox or the host, not from {place!r}")
    return tuple(upstream for upstream in found if upstream != (ADDRESS, "sandbox"))


def _dots(options: Sequence[str]) -> int:
    """The value of the last usable ``ndots`` option, 0 without one."""
    for option in reversed(options):
        name, _, value = option.partition(":")
        if name == "ndots" and value.isdecimal():
            return int(value)
    return 0


def _place(path: str) -> Place:
    try:
        found = os.stat(path)
    except OSError:
        raise Invalid(f"there is no network namespace at {path}") from None
    return path, found.st_dev, found.st_ino


def main(words: Sequence[str], open_socket: OpenSocket, open_door: OpenDoor) -> int:
    """``fairlead resolver --socket PATH``; exit codes as in ``control.run``."""
    return control.run("resolver", words, lambda loop: Resolver(loop, open_socket, open_door).deeds())
