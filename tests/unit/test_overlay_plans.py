"""The overlay driver's plans as text: over an IPv4 and over an IPv6 underlay."""

import msgspec
import pytest

from fairlead.core.model import Endpoint, Ipam, Network, NetworkRequest, Remote, Subnet
from fairlead.core.remotes import MTU, VNI
from fairlead.core.wanted import Link
from fairlead.engine.drivers.base import Facts
from fairlead.engine.drivers.overlay import Overlay
from fairlead.errors import Invalid, Unsupported
from lane.golden import as_text, same_as

RED = Network(
    id="3f2a91c0ffee".ljust(64, "0"),
    name="RED",
    created="",
    driver="overlay",
    scope="global",
    ipv6=True,
    ipam=Ipam(config=(Subnet(subnet="10.9.0.0/24"), Subnet(subnet="fd09::/64"))),
    options={VNI: "4097"},
)
HERE = Endpoint(
    id="77b01de".ljust(64, "0"), network=RED.id, container="c0ffee", sandbox="c0ffee", name="web", interface="eth0",
    device="veth77b01de", ipv4="10.9.0.2/24", ipv6="fd09::2/64", mac="02:42:0a:09:00:02",
)  # fmt: skip
THERE = Remote(
    id="e" * 64, network=RED.id, node="n2", host="two", vtep="192.168.77.12", name="db", mac="02:42:0a:09:00:03",
    ipv4="10.9.0.3/24", ipv6="fd09::3/64",
)  # fmt: skip


@pytest.mark.parametrize(("underlay", "vtep"), [("four", "192.168.77.11"), ("six", "fd77:77::b")])
def test_plans(underlay: str, vtep: str) -> None:
    driver, facts = Overlay(), Facts(vtep=vtep, underlay_mtu=1500)
    parts = {
        "path": driver.path(RED, facts),
        "endpoint": driver.endpoint(RED, HERE, facts),
        "another host": driver.vtep(RED, THERE.vtep, facts),
        "its endpoint": driver.remote(RED, THERE, facts),
    }
    same_as(
        f"tests/unit/golden/overlay-{underlay}.txt",
        "\n\n".join(f"{part}\n{as_text(plan)}" for part, plan in parts.items()) + "\n",
    )


@pytest.mark.proves("moby#45635", guard=("engine/drivers/overlay.py", '"port": str(port)', '"port": str(PORT)'))
def test_an_encrypted_network_is_guarded_before_it_is_there() -> None:
    plan = Overlay().path(
        msgspec.structs.replace(RED, options={**RED.options, "encrypted": ""}), Facts(vtep="10.0.0.1")
    )
    assert [str(item) for item in plan[:2]] == [
        "element map=sealed item=4790 . 4097",
        "element map=overlays item=4790 . 4097",
    ]
    (tunnel,) = [item for item in plan if isinstance(item, Link) and item.kind == "vxlan"]
    assert ("port", "4790") in tunnel.options


@pytest.mark.parametrize("vtep", ["192.168.77.11", "fd77:77::b"])
@pytest.mark.parametrize("underlay", [1400, 1498, 1499, 1500, 9000])
def test_the_largest_packet_just_fits(vtep: str, underlay: int) -> None:
    """ESP (RFC 4303, 4106): 8 bytes of header, 8 of nonce, text padded with its 2 last bytes to fours, 16 of tag."""
    network = msgspec.structs.replace(RED, options={**RED.options, "encrypted": ""})
    plan = Overlay().path(network, Facts(vtep=vtep, underlay_mtu=underlay))
    (mtu,) = {item.mtu for item in plan if isinstance(item, Link)}

    def wrapped(size: int) -> int:
        return (40 if ":" in vtep else 20) + 8 + 8 + -(-(8 + 8 + 14 + size + 2) // 4) * 4 + 16

    assert wrapped(mtu) <= underlay < wrapped(mtu + 1)


def test_without_containers_there_is_nothing() -> None:
    assert Overlay().network(RED, Facts()) == ()


def test_what_cannot_be_kept_is_refused() -> None:
    driver = Overlay()
    driver.check(NetworkRequest(name="RED", driver="overlay", options={MTU: "1280"}, ipv6=True), Facts())
    with pytest.raises(Unsupported, match="need the engine's firewall"):
        driver.check(NetworkRequest(name="RED", driver="overlay"), Facts(firewall=False))
    with pytest.raises(Invalid, match="is no MTU"):
        driver.check(NetworkRequest(name="RED", driver="overlay", options={MTU: "1279"}, ipv6=True), Facts())
