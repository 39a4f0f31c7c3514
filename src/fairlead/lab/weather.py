"""Weather: what goes wrong between machines, as one nftables table of the underlay's switches.

    one --x-- lan --- two        partition: frames between the two are dropped, by port and by address
    one --%-- lan                loss: a share of the frames to and from one, at random
    one --~-- lan                delay: frames to one wait (netem; not every kernel has it)

Rules
    1. The weather is written down whole (``Weather``) and put in force whole, in one
       transaction; ``Weather()`` is a clear sky.
    2. A partition holds across routers too: hence the addresses besides the ports.

What it does not do: touch the machines. They cannot tell it from a broken cable.
"""

from __future__ import annotations

import itertools

import msgspec
from msgspec.structs import replace

from fairlead.errors import Invalid, NotFound, Unsupported
from fairlead.lab.topology import UNDERLAY, Topology
from fairlead.lab.world import World

BOOK = "weather.json"


class Weather(msgspec.Struct, frozen=True):
    """``cuts``: pairs of machines that do not hear each other; ``loss``: machine -> per mille; ``delay``: -> ms."""

    cuts: tuple[tuple[str, str], ...] = ()
    loss: dict[str, int] = {}
    delay: dict[str, int] = {}

    def parted(self, left: str, right: str) -> Weather:
        """The same, and two groups of machines (names with commas between) no longer hear each other."""
        pairs = {tuple(sorted((a, b))) for a, b in itertools.product(left.split(","), right.split(","))}
        if same := [a for a, b in pairs if a == b]:
            raise Invalid(f"{same[0]} cannot be parted from itself")
        cuts = tuple(sorted({*self.cuts, *((a, b) for a, b in pairs)}))
        return replace(self, cuts=cuts)


def rules(weather: Weather, topology: Topology) -> str:
    """The weather as text for ``nft -f``."""
    lines = ["table bridge lab", "delete table bridge lab"]
    if not (weather.cuts or weather.loss):
        return "\n".join(lines)
    lines += ["table bridge lab {", "chain forward {", "type filter hook forward priority 0"]
    for one, other in weather.cuts:
        for a, b in ((one, other), (other, one)):
            for port, far in itertools.product(topology.ports(a).values(), topology.ports(b).values()):
                lines.append(f'meta iifname "{port}" meta oifname "{far}" drop')
            for version, family in ((4, "ip"), (6, "ip6")):
                sources, targets = _addresses(topology, a, version), _addresses(topology, b, version)
                if sources and targets:
                    lines.append(f"{family} saddr {{ {sources} }} {family} daddr {{ {targets} }} drop")
    for node, share in weather.loss.items():
        for port in topology.ports(node).values():
            for way in ("iifname", "oifname"):
                lines.append(f'meta {way} "{port}" numgen random mod 1000 <= {share - 1} drop')
    return "\n".join([*lines, "}", "}"])


def _addresses(topology: Topology, node: str, version: int) -> str:
    found = [topology.address(node, wire, version) for wire in topology.wires_of(node)]
    return ", ".join(address for address in found if address)


def outlook(world: World) -> Weather:
    """The weather in force in a kept world."""
    try:
        return msgspec.json.decode((world.folder / BOOK).read_bytes(), type=Weather)
    except FileNotFoundError:
        return Weather()


def change(world: World, weather: Weather) -> None:
    """Put weather in force, and write it down. ``Unsupported``: the kernel has no netem, and a delay is asked for."""
    for node in {*weather.loss, *weather.delay, *itertools.chain(*weather.cuts)}:
        if node not in world.topology.nodes:
            raise NotFound(f"no such machine: {node} (there are {', '.join(world.topology.nodes)})")
    before = outlook(world)
    for node in {*before.delay, *weather.delay}:
        if before.delay.get(node) != weather.delay.get(node):
            _wait(world, node, weather.delay.get(node, 0))
    world.type_in(UNDERLAY, ["nft", "-f", "-"], rules(weather, world.topology))
    (world.folder / BOOK).write_bytes(msgspec.json.encode(weather))


def again(world: World, node: str) -> None:
    """A machine was switched off and on, its cables are new: frames to it wait as before."""
    if milliseconds := outlook(world).delay.get(node):
        _wait(world, node, milliseconds)


def _wait(world: World, node: str, milliseconds: int) -> None:
    """Let frames to a machine wait."""
    for port in world.topology.ports(node).values():
        words = ["tc", "qdisc", "replace", "dev", port, "root", "netem", "delay", f"{milliseconds}ms"]
        if not milliseconds:
            words = ["tc", "qdisc", "del", "dev", port, "root"]
        done = world.type_in(UNDERLAY, words, check=False)
        if done.returncode and milliseconds:
            said = done.stderr.strip().splitlines()
            raise Unsupported(f"delay needs the kernel's netem (module sch_netem), and it says: {' '.join(said)}")
