"""The shell around gossip: sockets and a clock, nothing else.

    datagrams -> machine.receive          Datagram -> sendto
    streams   -> machine.asked            Call     -> connect, write, read one answer -> machine.answered
    the loop's clock -> machine.wake      tell     -> the listener

    async with open_gossip(machine, bind, listener) as node:
        node.join([Address("10.0.0.2", 7946)])
        ...
        await node.leave()

What it decides: how many streams may be open at once, and how long one may take. All else is the
machine's (``core.gossip``). On the way out every socket is closed and every task ended; a node that
did not ``leave`` is taken for failed by the others, and comes back by itself when it is started again.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager, suppress
from typing import cast

from fairlead.core.effects import Address, Call, Datagram, Effects
from fairlead.core.gossip import Gossip
from fairlead.core.packing import Malformed
from fairlead.core.swim import Departed
from fairlead.core.swimwire import Message
from fairlead.errors import Conflict

MOST_STREAMS = 64
"""Streams that others may have open with us at once; more are closed as they come."""
STREAM_TIME = 10.0
GOODBYE = 3.0
"""How long leaving may take."""
_PIECE = 1 << 16


class GossipNode(asyncio.DatagramProtocol):
    """One machine on one address. Made by ``open_gossip``."""

    def __init__(self, machine: Gossip, listener: Callable[[object], None], tasks: asyncio.TaskGroup) -> None:
        self.machine = machine
        self._listener = listener
        self._tasks = tasks
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.DatagramTransport | None = None
        self._alarm: asyncio.TimerHandle | None = None
        self._departed = asyncio.Event()
        self._open = 0

    # -- what others ask of us ------------------------------------------------------------------------------------

    def start(self) -> None:
        """Begin to probe."""
        self._do(self.machine.start(self._loop.time()))

    def join(self, seeds: Iterable[Address]) -> None:
        """Find the cluster through these. They are tried again whenever nobody lives there."""
        self._do(self.machine.join(seeds, self._loop.time()))

    def change_tags(self, tags: dict[str, str]) -> None:
        """Tell everybody our new tags."""
        self._do(self.machine.change_tags(tags, self._loop.time()))

    def do(self, step: Callable[[float], Effects]) -> None:
        """Any other wish: ``step`` gets the time and calls the machine."""
        self._do(step(self._loop.time()))

    async def leave(self) -> None:
        """Go of our own will; returns when the others know, or after ``GOODBYE`` seconds."""
        self._do(self.machine.leave(self._loop.time()))
        with suppress(TimeoutError):
            await asyncio.wait_for(self._departed.wait(), GOODBYE)

    # -- effects --------------------------------------------------------------------------------------------------

    def _do(self, effects: Effects) -> None:
        for item in effects.send:
            if isinstance(item, Datagram):
                self._send(item)
            elif self._transport:
                self._tasks.create_task(self._call(item))
        for fact in effects.tell:
            if isinstance(fact, Departed):
                self._departed.set()
            self._listener(fact)
        if self._alarm:
            self._alarm.cancel()
        if self._transport and effects.wake_at < float("inf"):
            self._alarm = self._loop.call_at(effects.wake_at, self._wake)

    def _send(self, datagram: Datagram) -> None:
        if self._transport and not self._transport.is_closing():
            with suppress(OSError, ValueError):  # an address of the other family, a network that is down: lost
                self._transport.sendto(datagram.data, datagram.to)

    def _wake(self) -> None:
        self._do(self.machine.wake(self._loop.time()))

    # -- datagrams ------------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        self._do(self.machine.receive(data, Address(addr[0], addr[1]), self._loop.time()))

    def error_received(self, exc: Exception) -> None:
        """A port that nobody listens on; the probe will notice by itself."""

    def close(self) -> None:
        """No more datagrams, calls or alarms, whatever is still said to us: the last answers come after this."""
        if self._alarm:
            self._alarm.cancel()
        if self._transport:
            self._transport.close()
            self._transport = None

    # -- streams --------------------------------------------------------------------------------------------------

    async def _call(self, call: Call) -> None:
        answer = None
        with suppress(TimeoutError, OSError, Malformed):
            async with asyncio.timeout(call.timeout):
                reader, writer = await asyncio.open_connection(call.to.ip, call.to.port)
                try:
                    writer.write(call.data)
                    await writer.drain()
                    if call.ticket:
                        answer = await self._read(reader, asking=True)
                finally:
                    writer.close()
        if call.ticket:
            self._do(self.machine.answered(call.ticket, answer, self._loop.time()))

    async def accept(self, listening: socket.socket) -> None:
        """Take streams until cancelled."""
        while True:
            try:
                stream, peer = await self._loop.sock_accept(listening)
            except OSError:  # out of descriptors: the others will ask again
                await asyncio.sleep(0.1)
                continue
            if self._open >= MOST_STREAMS:
                stream.close()
                continue
            self._open += 1
            self._tasks.create_task(self._serve(stream, Address(peer[0], peer[1])))

    async def _serve(self, stream: socket.socket, peer: Address) -> None:
        writer = None
        try:
            async with asyncio.timeout(STREAM_TIME):
                reader, writer = await asyncio.open_connection(sock=stream)
                message = await self._read(reader, asking=False)
                if message is not None:
                    answer, effects = self.machine.asked(message, peer, self._loop.time())
                    self._do(effects)
                    writer.write(answer)
                    await writer.drain()
        except Malformed:
            self._do(self.machine.refused(self._loop.time()))
        except (TimeoutError, OSError):
            pass  # the other side asks again
        finally:
            self._open -= 1
            (writer or stream).close()

    async def _read(self, reader: asyncio.StreamReader, asking: bool) -> Message | None:
        parser = self.machine.swim.envelope.reader(asking)
        while piece := await reader.read(_PIECE):
            if message := parser.feed(piece):
                return message
        return None


def _bound(kind: socket.SocketKind, bind: Address) -> socket.socket:
    family = socket.AF_INET6 if ":" in bind.ip else socket.AF_INET
    sock = socket.socket(family, kind)
    try:
        sock.setblocking(False)
        if kind == socket.SOCK_STREAM:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(bind)
        if kind == socket.SOCK_STREAM:
            sock.listen(128)
    except OSError as error:
        sock.close()
        what = "tcp" if kind == socket.SOCK_STREAM else "udp"
        words = "bind: " + (error.strerror or str(error)).lower()
        raise Conflict(f"gossip cannot listen: listen {what} {bind}: {words}") from error
    return sock


@asynccontextmanager
async def open_gossip(machine: Gossip, bind: Address, listener: Callable[[object], None]) -> AsyncIterator[GossipNode]:
    """A node that listens on ``bind`` while the block lasts. ``listener`` gets every fact; it must not wait.

    Raises ``Conflict`` when the address cannot be had; nothing is left behind then."""
    with _bound(socket.SOCK_STREAM, bind) as streams, _bound(socket.SOCK_DGRAM, bind) as datagrams:
        async with asyncio.TaskGroup() as tasks:
            node = GossipNode(machine, listener, tasks)
            await asyncio.get_running_loop().create_datagram_endpoint(lambda: node, sock=datagrams)
            accepting = tasks.create_task(node.accept(streams))
            try:
                node.start()
                yield node
            finally:
                node.close()
                accepting.cancel()
