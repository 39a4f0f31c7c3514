"""The engine's side of the resolver: say what should be served, and it is, whoever dies when.

    open(sandbox, names)    one round trip: names known, the sandbox's door open
    set_names / unname / forget
    keep()                  for the daemon's TaskGroup: start it, restart it, tell it everything again

The client remembers everything it was told to want, as the engine's other
parts do. A fresh connection (first, after the resolver's death, after ours)
begins with "doors": everything at once. The resolver keeps what is the same, so
saying too much costs nothing, and nothing can be forgotten.

    daemon returns:  client.adopt(sandboxes, names); the running resolver is told
    resolver dies:   keep() starts another

Rules
    1. A call returns after the resolver serves it. ``Unavailable`` when there is
       none for seconds: the wish is noted and will be told.
    2. A refused ``open`` leaves the client wanting what it wanted before.
"""

import sys
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any, TypeVar

import msgspec

from fairlead.engine import controlclient
from fairlead.engine.controlclient import Afterwards, ControlClient, Line
from fairlead.errors import Invalid

Left = tuple[str, str]
"""(network, endpoint): what has no names there any more"""
K = TypeVar("K")
V = TypeVar("V")


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
    ports: tuple[str, ...] = ()
    """what it offers, as ``80/tcp``: for SRV questions"""


def command(path: str) -> list[str]:
    """The command that runs a resolver with its control socket at ``path``."""
    return controlclient.command("resolver", path)


class ResolverClient:
    """The resolver as the engine sees it, and everything it should know."""

    def __init__(
        self,
        path: str,
        start: Callable[[], Awaitable[object]] | None = None,
    ) -> None:
        self._sandboxes: dict[str, SandboxNames] = {}
        self._names: dict[tuple[str, str], EndpointNames] = {}
        self._control = ControlClient(path, self._state, self._told, start)
        self.connect = self._control.connect
        self.keep = self._control.keep
        self.close = self._control.close

    def adopt(self, sandboxes: Iterable[SandboxNames], names: Iterable[EndpointNames]) -> None:
        """Note what should be served, without telling yet (after a restart, before ``connect``)."""
        self._sandboxes.update((sandbox.id, sandbox) for sandbox in sandboxes)
        self._names.update(((name.network, name.endpoint), name) for name in names)

    async def open(
        self,
        sandbox: SandboxNames,
        names: Sequence[EndpointNames] = (),
        gone: Iterable[Left] = (),
        meanwhile: Callable[[], None] | None = None,
    ) -> None:
        """Serve a sandbox (or serve it differently), and names with it, and those of ``gone`` no more, in one round
        trip, ``meanwhile`` something else being done. Names that were told before are not told again:
        all who share their network would have to forget what they remember.

        ``Invalid`` when its namespace is gone or an upstream is no address.
        """
        old = self._sandboxes.get(sandbox.id)
        gone = tuple(gone)
        told = [(name.network, name.endpoint) for name in names]
        before = {key: self._names.get(key) for key in (*told, *gone)}
        self.adopt((sandbox,), names)
        for key in gone:
            self._names.pop(key, None)
        try:
            news = [name for name in names if name != before[name.network, name.endpoint]]
            lines = (*map(_names_line, news), *map(_unname_line, gone), _sandbox_line(sandbox))
            await self._say(*lines, meanwhile=meanwhile)
        except Invalid:
            _put_back(self._sandboxes, {sandbox.id: old})
            _put_back(self._names, before)
            raise

    async def forget(self, sandbox: str, gone: Iterable[Left] = ()) -> None:
        """The sandbox is gone, and with it these names."""
        gone = tuple(gone)
        self._sandboxes.pop(sandbox, None)
        for key in gone:
            self._names.pop(key, None)
        await self._say(*map(_unname_line, gone), {"do": "forget", "id": sandbox})

    async def set_names(self, *names: EndpointNames) -> None:
        """Upsert endpoints' names; on return they resolve."""
        self.adopt((), names)
        await self._say(*map(_names_line, names))

    async def unname(self, network: str, endpoint: str) -> None:
        """An endpoint left a network; on return its names do not resolve there any more."""
        self._names.pop((network, endpoint), None)
        await self._say(_unname_line((network, endpoint)))

    async def statistics(self) -> Line:
        return (await self._say({"do": "statistics"}))[0]

    async def exit(self) -> None:
        """Make the resolver end (uninstalling, tests); containers lose their names with it."""
        await self._say({"do": "exit"})
        await self.close()

    def _state(self) -> Line:
        return {
            "do": "doors",
            "sandboxes": [msgspec.to_builtins(sandbox) for sandbox in self._sandboxes.values()],
            "names": [msgspec.to_builtins(name) for name in self._names.values()],
        }

    def _told(self, answer: Line) -> list[Afterwards]:
        for id_, why in answer["failed"].items():
            print(f"fairlead: no names for the sandbox {id_}: {why}", file=sys.stderr, flush=True)
        return []

    async def _say(self, *lines: Line, meanwhile: Callable[[], None] | None = None) -> list[Line]:
        answers = await self._control.say(*lines, meanwhile=meanwhile)
        for answer in answers:
            if not answer.get("ok"):
                raise Invalid(str(answer.get("error")))
        return answers


def _put_back(into: dict[K, V], before: dict[K, V | None]) -> None:
    """Undo one call's changes, and only those: others may have come between."""
    for key, value in before.items():
        if value is None:
            into.pop(key, None)
        else:
            into[key] = value


def _sandbox_line(sandbox: SandboxNames) -> dict[str, Any]:
    return {"do": "sandbox", **msgspec.to_builtins(sandbox)}


def _names_line(names: EndpointNames) -> dict[str, Any]:
    return {"do": "names", **msgspec.to_builtins(names)}


def _unname_line(gone: Left) -> dict[str, Any]:
    network, endpoint = gone
    return {"do": "unname", "network": network, "endpoint": endpoint}
