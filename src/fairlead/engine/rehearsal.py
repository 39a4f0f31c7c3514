"""Rehearsal: what a network or a container would want of the kernel, with every check made and nothing else.

    network create …   Controller.settle (checks, pools) -> its driver's plan
    run …              Creation.draft (checks, merge)    -> Attachments.rehearse (addresses, ports) -> the stack's plan

It is the road of the real thing up to its first deed, not a copy of it: what is
refused here is refused there, in the same words. Ids are made up, so devices are
called otherwise when it is done for real; addresses and ports are those that
would be chosen now.

What it leaves behind: nothing, not even a promise of an address.
"""

from __future__ import annotations

from fairlead.core.container import Config, HostConfig
from fairlead.core.model import EndpointSettings, NetworkRequest
from fairlead.core.wanted import Plan, owned
from fairlead.engine.attachments import Attachments, mode_of
from fairlead.engine.controller import Controller
from fairlead.engine.creation import Creation
from fairlead.engine.hostfiles import HostFiles
from fairlead.engine.sandboxes import Sandboxes


class Rehearsal:
    """Plans of what is not there."""

    def __init__(
        self,
        controller: Controller,
        creation: Creation,
        attachments: Attachments,
        sandboxes: Sandboxes,
        files: HostFiles,
    ) -> None:
        self._controller, self._creation = controller, creation
        self._attachments, self._sandboxes, self._files = attachments, sandboxes, files

    def network(self, request: NetworkRequest) -> Plan:
        """What ``network create`` would make; raises what it would raise."""
        network = self._controller.settle(request)
        return owned(self._controller.whole(network), f"network {network.name}")

    async def container(
        self, name: str, config: Config, host: HostConfig, networks: dict[str, EndpointSettings]
    ) -> tuple[Plan, list[str]]:
        """What ``run`` would make for its networks, files last, and warnings; raises what create and start would."""
        container, _, warnings = self._creation.draft(name, config, host, networks)
        title = f"container {container.name}"
        if mode_of(container) == "container":
            other = await self._creation.sandbox(container)
            return (), [
                *warnings,
                f"it lives in the network stack of container {other.container[:12]}: nothing to make",
            ]
        stack = self._attachments.rehearse(container)
        warnings = [*warnings, *map(_lent, (n.name for n, _ in stack.attached if n.ipam.driver != "default"))]
        return owned((*self._sandboxes.plan(stack), *self._files.plan(container, stack)), title), warnings


def _lent(network: str) -> str:
    return f"its address on {network} is lent by the LAN when it starts: not even the DHCP server knows it now"
