"""The engine's side of the resolver: say what should be served, and it is, whoever dies when.

    open(sandbox, names)    one round trip: names known, sockets open -> ports
    set_names / unname / forget
    keep()                  for the daemon's TaskGroup: start it, restart it, tell it everything again

The client remembers everything it was told to want, as the engine's other
parts do. A fresh connection (first, after the resolver's death, after ours)
begins with "state": everything at once. The resolver keeps what is the same, so
saying too much costs nothing, and nothing can be forgotten.

    daemon returns:  client.adopt(sandboxes, names); the running resolver is told
    resolver dies:   keep() starts another, at the same ports if they are free

Rules
    1. A call returns after the resolver serves it. ``Unavailable`` after
       ``PATIENCE`` seconds without one: the wish is noted and will be told.
    2. Ports are remembered from the first answer on and wished for again, so
       the redirect inside a sandbox stays true across a resolver's death.
       ``moved`` is called for a sandbox whose ports changed all the same.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any, NamedTuple

import msgspec

from fairlead.errors import FairleadError, Internal, Invalid, Unavailable

PATIENCE = 5.0
_AGAIN = 0.02
_LIMIT = 64 << 20


class SandboxNames(msgspec.Struct, frozen=True, kw_only=True):
    """What the resolver has to know of one sandbox."""

    id: str
    namespace: str
    """path of its network namespace"""
    upstreams: tuple[tuple[str, str], ...] = ()
    """(address, ``sandbox`` | ``host``), in order; see ``hostsfile.resolv_conf``"""
    search: tuple[str, ...] = ()
    options: tuple[str, ...] = ()
    forward: bool = True
    """False when all its networks are internal: nothing is forwarded, ever"""
    networks: tuple[str, ...] = ()
    """ids, in the order in which a name is looked for"""
    links: dict[str, dict[str, str]] = {}
    """network id -> alias -> name of the target on that network"""
    port_udp: int = 0
    port_tcp: int = 0
    """wished ports; 0: any"""


class EndpointNames(msgspec.Struct, frozen=True, kw_only=True):
    """What one endpoint is called on one network. The first name is told by reverse lookups."""

    network: str
    name: str
    """of the network"""
    endpoint: str
    names: tuple[str, ...]
    ipv4: str = ""
    ipv6: str = ""
    container: str = ""


class Ports(NamedTuple):
    """Where the resolver listens on 127.0.0.11 within a sandbox."""

    udp: int
    tcp: int


def command(path: str) -> list[str]:
    """The command that runs a resolver with its control socket at ``path``."""
    return [sys.executable, "-m", "fairlead", "resolver", "--socket", path]


class ResolverClient:
    """One connection to the resolver, and everything it should know."""

    def __init__(
        self,
        path: str,
        start: Callable[[], Awaitable[object]] | None = None,
        moved: Callable[[str, Ports], Awaitable[None]] | None = None,
    ) -> None:
        self._path = path
        self._start = start
        self._moved = moved
        self._sandboxes: dict[str, SandboxNames] = {}
        self._names: dict[tuple[str, str], EndpointNames] = {}
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        self._turn = asyncio.Lock()
        self._lost = asyncio.Event()
        self._lost.set()

    # -- wishes ------------------------------------------------------------------------------

    def adopt(self, sandboxes: Iterable[SandboxNames], names: Iterable[EndpointNames]) -> None:
        """Note what should be served, without telling yet (after a restart, before ``connect``)."""
        self._sandboxes.update((sandbox.id, sandbox) for sandbox in sandboxes)
        self._names.update(((name.network, name.endpoint), name) for name in names)

    async def open(self, sandbox: SandboxNames, names: Sequence[EndpointNames] = ()) -> Ports:
        """Serve a sandbox (or serve it differently), its endpoints' names with it; where it listens.

        Refused (the namespace is gone, an upstream makes no sense): nothing of this call is remembered.
        """
        old = self._sandboxes.get(sandbox.id)
        if old is not None and not sandbox.port_udp:
            sandbox = msgspec.structs.replace(sandbox, port_udp=old.port_udp, port_tcp=old.port_tcp)
        before = {(name.network, name.endpoint): self._names.get((name.network, name.endpoint)) for name in names}
        self.adopt((sandbox,), names)
        try:
            *_, answer = await self._say(*map(_names_line, names), _sandbox_line(sandbox))
        except Invalid:
            self._restore(sandbox.id, old, before)
            raise
        return self._learn(sandbox.id, answer)

    async def forget(self, sandbox: str) -> None:
        """The sandbox is gone."""
        self._sandboxes.pop(sandbox, None)
        await self._say({"do": "forget", "id": sandbox})

    async def set_names(self, *names: EndpointNames) -> None:
        """Upsert endpoints' names; on return they resolve."""
        self.adopt((), names)
        await self._say(*map(_names_line, names))

    async def unname(self, network: str, endpoint: str) -> None:
        """An endpoint left a network; on return its names do not resolve there any more."""
        self._names.pop((network, endpoint), None)
        await self._say({"do": "unname", "network": network, "endpoint": endpoint})

    async def statistics(self) -> dict[str, Any]:
        return (await self._say({"do": "statistics"}))[0]

    def ports(self, sandbox: str) -> Ports | None:
        """Where it listens, as far as we were told."""
        known = self._sandboxes.get(sandbox)
        return Ports(known.port_udp, known.port_tcp) if known and known.port_udp else None

    async def exit(self) -> None:
        """Make the resolver end (uninstalling, tests); containers lose their names with it."""
        await self._say({"do": "exit"})
        await self.close()

    # -- the connection -----------------------------------------------------------------------

    async def connect(self) -> None:
        """Reach the resolver, starting one if nobody answers, and tell it everything."""
        async with self._turn:
            if self._streams is None:
                await self._connect()

    async def keep(self) -> None:
        """Until cancelled: notice that the resolver is gone, have another one, tell it everything."""
        while True:
            await self._lost.wait()
            try:
                await self.connect()
            except FairleadError:
                await asyncio.sleep(_AGAIN * 10)

    async def close(self) -> None:
        """Leave; the resolver goes on."""
        self._hang_up()

    async def _connect(self) -> None:
        started, deadline = False, asyncio.get_running_loop().time() + PATIENCE
        while True:
            try:
                self._streams = await _dial(self._path, self._ended)
                break
            except OSError as error:
                if self._start is not None and not started:
                    started = True
                    await self._start()
                if asyncio.get_running_loop().time() > deadline:
                    raise Unavailable(f"the resolver at {self._path} does not answer: {error}") from error
                await asyncio.sleep(_AGAIN)
        self._lost.clear()
        state = {
            "do": "state",
            "sandboxes": [msgspec.to_builtins(sandbox) for sandbox in self._sandboxes.values()],
            "names": [msgspec.to_builtins(name) for name in self._names.values()],
        }
        answer = (await self._exchange(state))[0]
        if not answer.get("ok"):
            self._hang_up()
            raise Internal(f"the resolver refused its state: {answer.get('error')}")
        for id_, ports in answer["sandboxes"].items():
            before = self.ports(id_)
            now = self._learn(id_, ports)
            if self._moved is not None and before is not None and before != now:
                await self._moved(id_, now)

    async def _say(self, *lines: dict[str, Any]) -> list[dict[str, Any]]:
        """Send lines in one go; their answers. Over a fresh connection when the old one turns out dead."""
        if not lines:
            return []
        async with self._turn:
            for attempt in (1, 2):
                if self._streams is None:
                    await self._connect()
                try:
                    answers = await self._exchange(*lines)
                    break
                except Unavailable:
                    if attempt == 2:
                        raise
        for answer in answers:
            if not answer.get("ok"):
                raise Invalid(str(answer.get("error")))
        return answers

    async def _exchange(self, *lines: dict[str, Any]) -> list[dict[str, Any]]:
        assert self._streams is not None
        reader, writer = self._streams
        try:
            writer.write(b"".join(json.dumps(line).encode() + b"\n" for line in lines))
            async with asyncio.timeout(PATIENCE):
                await writer.drain()
                return [json.loads(await reader.readuntil(b"\n")) for _ in lines]
        except (OSError, EOFError, TimeoutError) as error:
            self._hang_up()
            raise Unavailable(f"the resolver at {self._path} went away: {error}") from error
        except BaseException:
            # Cancelled with answers under way: the connection is of no use to the next caller.
            self._hang_up()
            raise

    def _ended(self, reader: asyncio.StreamReader) -> None:
        """The other side of a connection is gone; ``keep`` sees to it if it is the one we use."""
        if self._streams is not None and self._streams[0] is reader:
            self._hang_up()

    def _hang_up(self) -> None:
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None
        self._lost.set()

    def _learn(self, id_: str, answer: dict[str, Any]) -> Ports:
        ports = Ports(answer["port_udp"], answer["port_tcp"])
        known = self._sandboxes.get(id_)
        if known is not None:
            self._sandboxes[id_] = msgspec.structs.replace(known, port_udp=ports.udp, port_tcp=ports.tcp)
        return ports

    def _restore(self, id_: str, old: SandboxNames | None, before: dict[tuple[str, str], EndpointNames | None]) -> None:
        if old is None:
            self._sandboxes.pop(id_, None)
        else:
            self._sandboxes[id_] = old
        for key, name in before.items():
            if name is None:
                self._names.pop(key, None)
            else:
                self._names[key] = name


class _Reader(asyncio.StreamReader):
    """A reader that says when the stream ended, although nobody is reading."""

    def __init__(self, ended: Callable[[asyncio.StreamReader], None]) -> None:
        super().__init__(limit=_LIMIT)
        self._ended = ended

    def feed_eof(self) -> None:
        super().feed_eof()
        self._ended(self)


async def _dial(
    path: str, ended: Callable[[asyncio.StreamReader], None]
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    loop = asyncio.get_running_loop()
    reader = _Reader(ended)
    protocol = asyncio.StreamReaderProtocol(reader)
    transport, _ = await loop.create_unix_connection(lambda: protocol, path)
    return reader, asyncio.StreamWriter(transport, protocol, reader, loop)


def _sandbox_line(sandbox: SandboxNames) -> dict[str, Any]:
    return {"do": "sandbox", **msgspec.to_builtins(sandbox)}


def _names_line(names: EndpointNames) -> dict[str, Any]:
    return {"do": "names", **msgspec.to_builtins(names)}
