"""Who may send into an overlay network: hosts that are on it, and nobody else.

node-1  web  ----- RED -----  db  node-2          outside, node-3: on the same wire, with frames made by hand
"""

import signal
import struct

import pytest

from cluster.town import Host, Town
from lane.machine import Place, eventually
from security.attack import frame, heard, listen, mac_of, say, throw

VXLAN, PORT = 4789, 7777
VNI = "com.docker.network.driver.overlay.vxlanid_list"


def place(host: Host, container: str = "") -> Place:
    """A host's network, or that of a container there."""
    found = Place(host.machine.pid, host.machine.address4)
    if container:
        found.network = f"/proc/{host.machine.pid}/root{host.docker.field(container, '.NetworkSettings.SandboxKey')}"
    return found


class Forger:
    """Knows everything about RED, and says it to node-1 as if db said it to web."""

    def __init__(self, town: Town) -> None:
        self.victim, self.peer, _ = town.hosts
        number = int(self.victim.network("RED")["Options"][VNI])
        self.web = self.victim.members("RED")["web"]
        self.listening = listen(place(self.victim, "web"), PORT)
        to = mac_of(place(self.victim, "web"), "eth0")
        inner = frame(b"\x02\x42\x0a\x0a\x0a\x63", to, self.web.rpartition(".")[0] + ".99", self.web, PORT, b"forged")
        self.packet = struct.pack("!BxxxI", 0x08, number << 8) + inner

    def arrives(self, attacker: Place) -> bool:
        """From the attacker's own address."""
        say(attacker, self.victim.machine.address4, VXLAN, self.packet)
        return heard(self.listening)[0] == b"forged"

    def arrives_as(self, attacker: Place, source: str, door: str = "eth0") -> bool:
        """From an address that is not the attacker's, to the victim's device ``door``."""
        to = mac_of(place(self.victim), door)
        throw(
            attacker,
            "eth0",
            frame(mac_of(attacker, "eth0"), to, source, self.victim.machine.address4, VXLAN, self.packet),
        )
        return heard(self.listening)[0] == b"forged"


@pytest.mark.proves(
    "GHSA-vwm3-crmr-xfxw",
    guard=(
        "core/rules.py",
        'counter drop comment "VXLAN for a network of ours from a host that is not on it"',
        'counter accept comment "VXLAN for a network of ours from a host that is not on it"',
    ),
)
def test_frames_of_a_host_that_is_not_on_the_network(town: Town) -> None:
    one, two, three = town.hosts
    one("network create -d overlay --subnet=10.10.10.0/24 RED")
    town.everywhere("RED")
    one("run -d --name web --net RED busybox sleep 1000")
    forger = Forger(town)
    outside = Place(town.world.outside.pid, town.world.outside.address4)
    strangers = (outside, place(three))
    assert not any(forger.arrives(each) for each in (*strangers, place(two))), "nobody else is on it"
    two("run -d --name db --net RED busybox sleep 1000")
    eventually(lambda: one.pings("web", "db"), "db")
    assert not any(forger.arrives(each) for each in strangers)
    # The frames are as they should be, and a network that is not encrypted believes the address they are from.
    assert forger.arrives(place(two)) and forger.arrives_as(outside, two.machine.address4)
    one.machine.stop_daemon(signal.SIGKILL)
    assert not any(forger.arrives(each) for each in strangers)
    town.world.start_engines([one.machine.name])
    assert not any(forger.arrives(each) for each in strangers)
    two("rm -f db")
    eventually(lambda: len(one.members("RED")) == 1, "db is gone")
    assert not forger.arrives(place(two)) and not forger.arrives_as(outside, two.machine.address4)
    forger.listening.close()


@pytest.mark.proves(
    "GHSA-vwm3-crmr-xfxw",
    guard=(
        "core/rules.py",
        'iifname @networks counter drop comment "VXLAN for a network of ours from a container"',
        'iifname @networks counter comment "VXLAN for a network of ours from a container"',
    ),
)
@pytest.mark.proves(
    "GHSA-vwm3-crmr-xfxw",
    guard=("core/rules.py", 'ip saddr @vteps4 meta iifkind != "bridge" notrack', "ip saddr @vteps4 notrack"),
)
@pytest.mark.proves(
    "GHSA-vwm3-crmr-xfxw",
    guard=(
        "core/rules.py",
        'iifname @internal counter drop comment "from a container of an internal one"',
        'iifname @internal counter comment "from a container of an internal one"',
    ),
)
def test_frames_of_a_container_in_the_name_of_another_host(town: Town) -> None:
    one, two, _ = town.hosts
    one("network create -d overlay --subnet=10.10.10.0/24 RED")
    town.everywhere("RED")
    one("run -d --name web --net RED busybox sleep 1000")
    two("run -d --name db --net RED busybox sleep 1000")
    one("run -d --name evil busybox sleep 1000")
    one("network create --internal -o com.docker.network.bridge.name=br-deep DEEP")
    one("run -d --name hidden --net DEEP busybox sleep 1000")
    eventually(lambda: one.pings("web", "db"), "db")
    forger = Forger(town)
    for setting in ("all", "docker0", "br-deep"):
        one.machine.run("sysctl", "-qw", f"net.ipv4.conf.{setting}.rp_filter=0")
    assert not forger.arrives_as(place(one, "evil"), two.machine.address4, "docker0")
    assert not forger.arrives_as(place(one, "hidden"), two.machine.address4, "br-deep")
