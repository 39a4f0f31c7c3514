"""Host files: a container's /etc/hosts, /etc/hostname and /etc/resolv.conf, written where it finds them.

    <data root>/containers/<id>/hosts       bind-mounted into the container; replaced in place
                              /hosts.ours   what we last wrote: the difference is the user's own edits, and is kept

The text comes from ``core.hostsfile``; here is only when, where and from what.
Written before the process starts and whenever its networks or links change.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec

from fairlead.core import hostsfile
from fairlead.core.container import Container
from fairlead.core.model import Lease
from fairlead.core.wanted import File, Plan
from fairlead.engine.links import Links
from fairlead.engine.sandboxes import Resolving, Stack
from fairlead.host.base import Host

_CHUNK = 1 << 16
NAMES = ("hosts", "hostname", "resolv.conf")
STUB = "127.0.0.53"
BEHIND_THE_STUB = Path("/run/systemd/resolve/resolv.conf")


class NameSettings(msgspec.Struct, frozen=True, kw_only=True):
    """The engine's own defaults for containers that say nothing."""

    dns: tuple[str, ...] = ()
    search: tuple[str, ...] = ()
    options: tuple[str, ...] = ()
    gateways: tuple[str, ...] = ()
    """what ``host-gateway`` means when the user fixed it; else the default bridge's gateway"""


class HostFiles:
    """The three files of every container."""

    def __init__(
        self,
        root: Path,
        host: Host,
        links: Links,
        settings: NameSettings,
        gateways: Callable[[], tuple[str, ...]],
        etc: Path = Path("/etc"),
    ) -> None:
        self._root = root
        self._host = host
        self._links = links
        self._settings = settings
        self._gateways = gateways
        self._etc = etc

    def paths(self, container_id: str) -> dict[str, Path]:
        """File name -> path on the host."""
        return {name: self._root / container_id / name for name in NAMES}

    def resolving(self, container: Container) -> Resolving:
        """Where the resolver asks for names that are not ours; raises on a ``--dns`` that is no address."""
        found = self._resolution(container, "names")
        given = bool(container.host.dns or self._settings.dns)
        return Resolving(found.upstreams, found.search, found.options, given)

    def write(self, container: Container, stack: Stack) -> None:
        """All three, as the container's networks are now."""
        texts = self._texts(container, stack).items()
        if news := [file for name, text in texts for file in self._news(container.id, name, text)]:
            self._host.make(news)

    def plan(self, container: Container, stack: Stack) -> Plan:
        """The files that ``write`` would write for a new container."""
        paths, texts = self.paths(container.id), self._texts(container, stack)
        return tuple(File(path=str(paths[name]), content=text) for name, text in texts.items())

    def _texts(self, container: Container, stack: Stack) -> dict[str, str]:
        mode = stack.sandbox.mode
        names = any(endpoint.names for endpoint in stack.endpoints)
        resolution = self._resolution(
            container, "host" if mode == "host" else "names" if names else "plain", stack.lent
        )
        return {
            "hosts": self._hosts_of_host(container) if mode == "host" else self._hosts(container, stack),
            "hostname": hostsfile.hostname(container.config.hostname),
            "resolv.conf": resolution.text,
        }

    def linking_to(self, target: Container) -> list[Container]:
        """Running containers whose hosts files name ``target``."""
        return self._links.linking_to(target)

    # -- inside -------------------------------------------------------------------------------

    def _news(self, container_id: str, name: str, text: str) -> Iterator[File]:
        path = f"{self._root}/{container_id}/{name}"
        ours = f"{path}.ours"
        before = _text(ours)
        if before == text and os.path.exists(path):
            return  # as we wrote it, or as the user changed it since
        current = _text(path)
        now = text if before is None or current is None else hostsfile.carry_over(current, before, text)
        yield File(path=path, content=now)
        yield File(path=ours, content=text, mode=0o600)

    def _hosts(self, container: Container, stack: Stack) -> str:
        own = [a for e in stack.endpoints if not e.way_out for a in (e.address4, e.address6)]
        config = container.config
        return hostsfile.hosts(
            own, config.hostname, config.domainname, [*self._extra(container), *self._linked(container)]
        )

    def _hosts_of_host(self, container: Container) -> str:
        text = _text(self._etc / "hosts") or hostsfile.hosts()
        return text + "".join(f"{address}\t{names}\n" for address, names in self._extra(container))

    def _extra(self, container: Container) -> tuple[hostsfile.Line, ...]:
        return hostsfile.extra_hosts(container.host.extra_hosts or (), self._settings.gateways or self._gateways())

    def _linked(self, container: Container) -> Iterator[hostsfile.Line]:
        for alias, target, endpoint in self._links.standing(container):
            yield hostsfile.link_line(endpoint.address4, alias, target.config.hostname, target.name)

    def _resolution(self, container: Container, mode: str, lent: Lease | None = None) -> hostsfile.Resolution:
        host, settings = container.host, self._settings
        return hostsfile.resolv_conf(
            self._host_resolv_conf(),
            mode,
            host.dns or settings.dns,
            host.dns_search or settings.search or (lent.search if lent else ()),
            host.dns_options or settings.options,
        )

    def _host_resolv_conf(self) -> hostsfile.ResolvConf:
        path = self._etc / "resolv.conf"
        found = hostsfile.parse_resolv_conf(_text(path) or "", str(path))
        if found.servers == (STUB,) and (text := _text(BEHIND_THE_STUB)):
            return hostsfile.parse_resolv_conf(text, str(BEHIND_THE_STUB))
        return found


def _text(path: str | Path) -> str | None:
    try:
        file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:  # a file of the io module asks the kernel four times more, and five times as often if it is one of text
        text = b""
        while piece := os.read(file, _CHUNK):
            text += piece
            if len(piece) < _CHUNK:
                break
        return text.decode(errors="replace")
    except OSError:
        return None
    finally:
        os.close(file)
