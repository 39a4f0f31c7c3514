"""Devices, addresses and what happens on the wire when they come and go."""

import errno
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

import pytest

from fairlead.core.wanted import Address, Link, Namespace, Plan, Route, Skeleton, Sysctl, Wanted, difference
from fairlead.errors import Conflict, FairleadError, Internal, Invalid, Unsupported
from fairlead.host import announcing, links, making, removing, routing, sysctls
from fairlead.host.linux import LinuxHost
from fairlead.host.netlink import Netlink, Refused, Request
from fairlead.host.netns import socket_in
from fairlead.host.removing import Leaving
from lane.pretend import PretendHost, eventually

pytestmark = pytest.mark.kernel

BRIDGE: Plan = (
    Link(name="br0", kind="bridge", mac="02:00:00:00:00:01"),
    Address(link="br0", address="10.0.0.1/24"),
    Address(link="br0", address="fd00::1/64"),
)


def endpoint(number: int, address: int = 0) -> Plan:
    """A sandbox on the bridge; ``address`` is the last byte of its address, ``number`` of its MAC."""
    ns, last = f"s{number}", address or number
    return (
        Namespace(name=ns),
        Link(
            name=f"veth{number}",
            kind="veth",
            master="br0",
            peer="eth0",
            peer_ns=ns,
            peer_mac=f"02:42:0a:00:00:{number:02x}",
        ),
        Address(ns=ns, link="eth0", address=f"10.0.0.{last}/24"),
        Address(ns=ns, link="eth0", address=f"fd00::{last}/64"),
        Route(ns=ns, destination="0.0.0.0/0", gateway="10.0.0.1", link="eth0"),
    )


@pytest.fixture
def host(pretend_host: PretendHost) -> LinuxHost:
    return pretend_host.open()


def listening(host: LinuxHost, ns: str) -> socket.socket:
    wire = socket_in(host.namespace_path(ns), socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
    wire.settimeout(2)
    return wire


def announcement(frame: bytes, mac: str) -> str:
    """What kind of announcement of this MAC the frame is, "" for none."""
    if frame[6:12] != bytes.fromhex(mac):
        return ""
    if frame[12:14] == b"\x86\xdd":
        return "NA" if frame[54] == 136 else ""
    return "ARP" if frame[12:14] == b"\x08\x06" and frame[28:32] == frame[38:42] else ""


def clear(host: LinuxHost, *plans: Sequence[Wanted]) -> None:
    for plan in reversed(plans):
        host.remove(plan)
    host.settle()


def test_containers_reach_each_other_and_their_gateway(pretend_host: PretendHost, host: LinuxHost) -> None:
    plans = (BRIDGE, endpoint(2), endpoint(3))
    for plan in plans:
        host.make(plan)
    for target in ("10.0.0.1", "10.0.0.3", "fd00::3"):
        pretend_host.run("ping", "-c1", "-W2", target, ns="s2")
    clear(host, *plans)


def test_a_new_holder_of_an_address_announces_itself(pretend_host: PretendHost, host: LinuxHost) -> None:
    host.make(BRIDGE)
    host.make(endpoint(2))
    for round_ in range(3):
        first, second = endpoint(10 + round_, 9), endpoint(20 + round_, 9)
        host.make(first)
        for target in ("10.0.0.9", "fd00::9"):
            pretend_host.run("ping", "-c1", "-W2", target, ns="s2")
        host.remove(first)
        host.make(second)

        def known(mac: str = f"02:42:0a:00:00:{20 + round_:02x}") -> bool:
            lines = pretend_host.run("ip", "neigh", ns="s2").splitlines()
            return all(mac in line for line in lines if line.split()[0] in ("10.0.0.9", "fd00::9"))

        eventually(known)
        host.remove(second)
    clear(host, BRIDGE, endpoint(2))


def test_the_announcement_is_not_lost_while_the_bridge_learns_of_the_carrier(
    host: LinuxHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Asking for a device delivers pending news of its carrier: asked before eth0 is up, the port is closed."""
    host.make((*BRIDGE, *endpoint(2)))
    plain = Netlink.do

    def do(netlink: Netlink, requests: Sequence[Request]) -> dict[int, Refused]:
        refused = plain(netlink, requests)
        if netlink is host._doors[""].netlink:
            netlink.ask([links.find("veth9")])
        return refused

    monkeypatch.setattr(Netlink, "do", do)
    with listening(host, "s2") as wire:
        host.make(endpoint(9))
        heard: set[str] = set()
        while heard < {"ARP", "NA"}:
            heard.add(announcement(wire.recv(2048), "02420a000009"))
    monkeypatch.undo()
    clear(host, BRIDGE, endpoint(2), endpoint(9))


def test_each_address_is_announced_once_and_nobody_waits_for_it(
    host: LinuxHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every port of the bridge receives an announcement: the caller must not pay for all of them, nor for two."""
    host.make((*BRIDGE, *endpoint(2)))
    go, send = threading.Event(), announcing._announce
    monkeypatch.setattr(announcing, "_announce", lambda path, link: go.wait(30) and send(path, link))
    with listening(host, "s2") as wire:
        host.make(endpoint(9))
        go.set()
        host.settle()
        wire.settimeout(0)
        heard = []
        with suppress(BlockingIOError):
            while True:
                heard.append(announcement(wire.recv(2048), "02420a000009"))
    assert sorted(filter(None, heard)) == ["ARP", "NA"]
    clear(host, BRIDGE, endpoint(2), endpoint(9))


def test_one_endpoint_more_is_five_messages_to_the_kernel_however_many_there_are(
    host: LinuxHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    host.make(BRIDGE)
    sent: list[list[int]] = []
    send = Netlink._send

    def note(netlink: Netlink, chunk: Sequence[Request], acknowledge: bool = True) -> int:
        kinds = [request.kind for request in chunk]
        if [kinds] != sent[-1:]:  # waiting for the carrier may take several questions
            sent.append(kinds)
        return send(netlink, chunk, acknowledge)

    monkeypatch.setattr(announcing, "_announce", lambda path, link: None)
    monkeypatch.setattr(Netlink, "_send", note)
    told = []
    for number in range(2, 14):
        host.make((endpoint(number)[0],))
        sent.clear()
        host.make(endpoint(number)[1:])
        told.append(list(sent))
    port, address, route = links.RTM_NEWLINK, routing.RTM_NEWADDR, routing.RTM_NEWROUTE
    asked = [links.RTM_GETLINK, links.RTM_GETLINK]
    assert told[-1] == [asked, [port, port], [port], [address, address, port, route], asked]
    assert told[1:] == [told[-1]] * 11
    clear(host, BRIDGE, *(endpoint(number) for number in range(2, 14)))


def test_the_folder_of_settings_is_looked_for_once_a_namespace(
    pretend_host: PretendHost, host: LinuxHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every namespace has one of that name, and the kernel tries them all."""
    looked: list[str] = []
    plain = os.open

    def note(path: str, *arguments: int, **more: int | None) -> int:
        looked.extend([str(path)] if str(path).startswith("/proc/sys/") else [])
        return plain(path, *arguments, **more)  # type: ignore[arg-type]

    host.make(BRIDGE)
    monkeypatch.setattr(os, "open", note)
    for number in (2, 3, 4):
        host.make(endpoint(number))
        for ns, device in (("", f"veth{number}"), (f"s{number}", "eth0")):
            path = f"net/ipv6/conf/{device}"
            host.make([Sysctl(ns=ns, path=f"{path}/{name}", value="0") for name in ("accept_ra", "accept_redirects")])
    assert looked == ["/proc/sys/net/ipv6/conf"] * 4, "the host's, and that of each sandbox"
    for name in ("accept_ra", "accept_redirects"):
        assert pretend_host.run("cat", f"/proc/sys/net/ipv6/conf/eth0/{name}", ns="s3").strip() == "0"
    clear(host, BRIDGE, *(endpoint(number) for number in (2, 3, 4)))


def test_a_removed_endpoint_is_cut_off_before_its_device_is_gone(pretend_host: PretendHost, host: LinuxHost) -> None:
    host.make(BRIDGE)
    host.make(endpoint(2))
    pretend_host.run("ping", "-c1", "-W2", "10.0.0.2")
    held, go = threading.Event(), threading.Event()
    delete = host._remover.__class__.__dict__["_run"]

    def slow(remover: object) -> None:
        held.set()
        go.wait(10)
        delete(remover)

    host._remover._run = slow.__get__(host._remover)  # type: ignore[method-assign]
    host.remove([endpoint(2)[1]])
    assert held.wait(5)
    assert "state disabled" in pretend_host.run("ip", "-d", "link", "show", "veth2")
    go.set()
    clear(host, BRIDGE, endpoint(2))


def test_many_removed_at_once_are_gone(pretend_host: PretendHost, host: LinuxHost) -> None:
    plans = [BRIDGE, *(endpoint(number) for number in range(2, 12))]
    host.make([item for plan in plans for item in plan])
    host.remove([item for plan in plans for item in plan])
    host.settle()
    assert host.look() == ()


def test_another_engine_finds_everything(pretend_host: PretendHost, host: LinuxHost) -> None:
    plan = (*BRIDGE, *endpoint(2))
    host.make(plan)
    again = pretend_host.open()
    assert difference(plan, again.look(plan)) == ((), ())
    clear(again, plan)


def test_numbers_taken_by_others_are_no_hindrance(pretend_host: PretendHost, host: LinuxHost) -> None:
    host.make(BRIDGE)
    number = host._doors[""]._next_index
    for taken in range(number, number + 8):
        pretend_host.run("ip", "link", "add", f"other{taken - number}", "index", str(taken), "type", "bridge")
    before = pretend_host.run("ip", "link", "show", "other0")
    host.make(endpoint(2))
    assert difference(endpoint(2), host.look(endpoint(2)))[0] == ()
    assert pretend_host.run("ip", "link", "show", "other0") == before
    assert not host.is_ours("other0") and not host.is_ours("other1")
    for taken in range(8):
        pretend_host.run("ip", "link", "delete", f"other{taken}")
    clear(host, BRIDGE, endpoint(2))


def test_a_veth_never_lands_on_a_bridge_that_took_our_bridges_number(
    pretend_host: PretendHost, host: LinuxHost
) -> None:
    """Bridge and port in one plan: were they one batch, the port would be enslaved by a number that is another's."""
    host.make([Link(name="br9", kind="bridge")])
    host.remove([Link(name="br9", kind="bridge")])
    host.settle()
    number = host._doors[""]._next_index
    pretend_host.run("ip", "link", "add", "foreign", "index", str(number), "type", "bridge")
    host.make((*BRIDGE, *endpoint(2)))
    assert "master br0" in pretend_host.run("ip", "link", "show", "veth2")
    pretend_host.run("ip", "link", "delete", "foreign")
    clear(host, BRIDGE, endpoint(2))


def test_the_name_within_the_sandbox_may_be_taken(pretend_host: PretendHost, host: LinuxHost) -> None:
    host.make((*BRIDGE, *endpoint(2)))
    with pytest.raises(Conflict, match="eth0 exists already in namespace s2"):
        host.make([Link(name="veth8", kind="veth", peer="eth0", peer_ns="s2")])
    assert not host.link_exists("veth8")
    clear(host, BRIDGE, endpoint(2))


def test_a_container_cannot_make_us_take_its_device_for_ours(pretend_host: PretendHost, host: LinuxHost) -> None:
    host.make((*BRIDGE, *endpoint(2)))
    pretend_host.run("ip", "link", "add", "mine", "type", "bridge", ns="s2")
    pretend_host.run("ip", "address", "add", "10.0.0.77/24", "dev", "eth0", ns="s2")
    pretend_host.run("ip", "route", "add", "10.77.0.0/24", "dev", "eth0", ns="s2")
    plan = (*BRIDGE, *endpoint(2))
    assert difference(plan, host.look(plan)) == ((), ())
    clear(host, BRIDGE, endpoint(2))


def test_what_the_kernel_lacks_is_named(host: LinuxHost) -> None:
    with pytest.raises(Unsupported, match="no nonsense devices"):
        host.make([Link(name="x0", kind="nonsense")])
    with pytest.raises(Unsupported, match="no option sparkle"):
        host.make([Link(name="br0", kind="bridge", options=(("sparkle", "1"),))])
    with pytest.raises(Unsupported, match="net/ipv4/conf/eth9/arp_notify"):
        host.make([Sysctl(path="net/ipv4/conf/eth9/arp_notify", value="1")])
    assert host.look() == ()


def test_a_refusal_gives_the_kernels_own_words(host: LinuxHost) -> None:
    host.make(BRIDGE)
    with pytest.raises(Internal, match=r"route destination=10\.2\.0\.0/24.*gateway"):
        host.make([Route(destination="10.2.0.0/24", gateway="192.0.2.1", link="br0")])
    clear(host, BRIDGE)


def test_what_was_put_on_a_standing_device_is_taken_off_again(pretend_host: PretendHost, host: LinuxHost) -> None:
    host.make(BRIDGE)
    before = pretend_host.run("ip", "address", "show", "br0"), pretend_host.run("ip", "route")
    with pytest.raises(Internal, match="gateway"):
        host.make(
            [
                Address(link="br0", address="10.5.0.1/24"),
                Route(destination="10.6.0.0/24", gateway="10.5.0.2", link="br0"),
                Route(destination="10.2.0.0/24", gateway="192.0.2.1", link="br0"),
            ]
        )
    assert (pretend_host.run("ip", "address", "show", "br0"), pretend_host.run("ip", "route")) == before
    clear(host, BRIDGE)


def test_a_device_that_took_the_name_meanwhile_stays(host: LinuxHost) -> None:
    other = Link(name="br1", kind="bridge")
    host.make([*BRIDGE, other])
    found = host._find("br1")
    assert found
    host._remover.begin([Leaving("", "br0", found.index, frozenset({("", "br0")}))])
    host.settle()
    assert host.link_exists("br0") and host.link_exists("br1")
    clear(host, [*BRIDGE, other])


def test_the_routes_of_a_device_that_goes_are_nobodys(host: LinuxHost, monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel takes some 20 ms; who makes a network with the same subnet meanwhile was refused for its sake."""
    host.make(BRIDGE)
    before, go, delete = host.routes(), threading.Event(), removing._delete
    assert "br0" in [link for _, link in before]
    monkeypatch.setattr(removing, "_delete", lambda *words: go.wait() and delete(*words))
    host.remove(BRIDGE)
    try:
        assert host._find("br0"), "it is still there"
        assert "br0" not in [link for _, link in host.routes()]
    finally:
        go.set()
    host.settle()


def test_who_was_on_a_bridge_is_forgotten_with_it(host: LinuxHost) -> None:
    host.make((*BRIDGE, *endpoint(2)))
    assert "br0" in host._announcer._macs
    clear(host, BRIDGE, endpoint(2))
    assert not host._announcer._macs


def test_a_route_of_somebody_else_is_a_conflict(pretend_host: PretendHost, host: LinuxHost) -> None:
    pretend_host.run("ip", "route", "add", "10.2.0.0/24", "dev", "lo")
    host.make(BRIDGE)
    with pytest.raises(Conflict, match=r"10\.2\.0\.0/24"):
        host.make([Route(destination="10.2.0.0/24", link="br0")])
    assert "dev lo" in pretend_host.run("ip", "route", "show", "10.2.0.0/24")
    clear(host, BRIDGE)


def test_the_route_that_came_with_an_address_is_missed_and_made_again(
    pretend_host: PretendHost, host: LinuxHost
) -> None:
    host.make(BRIDGE)

    def routes() -> str:
        shown = pretend_host.run("ip", "route") + pretend_host.run("ip", "-6", "route", "show", "fd00::/64")
        return shown.replace("linkdown ", "")

    before = routes()
    assert difference(BRIDGE, host.look(BRIDGE)) == ((), ())
    pretend_host.run("ip", "route", "delete", "10.0.0.0/24")
    pretend_host.run("ip", "-6", "route", "delete", "fd00::/64")
    lost, _ = difference(BRIDGE, host.look(BRIDGE))
    assert lost == BRIDGE[1:]
    host.make(lost)
    assert routes() == before
    assert difference(BRIDGE, host.look(BRIDGE)) == ((), ())
    pretend_host.run("ip", "link", "set", "br0", "down")
    host.make(difference(BRIDGE, host.look(BRIDGE))[0])
    assert difference(BRIDGE, host.look(BRIDGE)) == ((), ())
    host.remove(BRIDGE)
    host.settle()
    assert "10.0.0.0" not in pretend_host.run("ip", "route")


def test_a_route_of_somebody_else_in_its_place_is_a_conflict(pretend_host: PretendHost, host: LinuxHost) -> None:
    host.make(BRIDGE)
    pretend_host.run("ip", "route", "replace", "10.0.0.0/24", "dev", "lo")
    lost, _ = difference(BRIDGE, host.look(BRIDGE))
    with pytest.raises(Conflict, match=r"a route to 10\.0\.0\.0/24 exists already"):
        host.make(lost)
    pretend_host.run("ip", "route", "delete", "10.0.0.0/24", "dev", "lo")
    host.make(lost)
    host.remove(BRIDGE)


def test_no_device_is_up_before_the_guards_stand(
    pretend_host: PretendHost, host: LinuxHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    states: list[str] = []

    def refuse(*_: object, **__: object) -> None:
        states.append(pretend_host.run("ip", "-o", "link", "show", "up"))
        raise Internal("no firewall today")

    monkeypatch.setattr(making.nft, "apply", refuse)
    plan = (*BRIDGE, *endpoint(2), Skeleton(text="chain guard { type filter hook input priority 0; }"))
    with pytest.raises(Internal, match="no firewall today"):
        host.make(plan)
    host.settle()
    assert "veth2" not in states[0] and "br0" not in states[0]
    assert host.look() == ()


def test_settings_are_made_while_the_device_is_down(
    pretend_host: PretendHost, host: LinuxHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An address that IPv6 gives itself at the moment a device comes up would stay for good."""
    plan = (*BRIDGE, *endpoint(2), Sysctl(path="net/ipv6/conf/veth2/disable_ipv6", value="1"))
    host.make(plan)
    assert "inet6" not in pretend_host.run("ip", "address", "show", "veth2")
    clear(host, plan)


def test_one_plan_is_few_system_calls(host: LinuxHost, monkeypatch: pytest.MonkeyPatch) -> None:
    host.make((*BRIDGE, Namespace(name="s2")))
    sends = []
    send = Netlink._send

    def counted(netlink: Netlink, chunk: Sequence[Request], acknowledge: bool = True) -> int:
        sends.append(len(chunk))
        return send(netlink, chunk, acknowledge)

    monkeypatch.setattr(Netlink, "_send", counted)
    host.make(endpoint(2))
    assert len(sends) <= 7
    clear(host, BRIDGE, endpoint(2))


def test_the_thread_is_where_it_was(pretend_host: PretendHost, host: LinuxHost) -> None:
    before = os.stat("/proc/thread-self/ns/net").st_ino
    plan = (*BRIDGE, *endpoint(2))
    host.make(plan)
    host.look(plan)
    with pytest.raises(FairleadError):
        host.make([Address(ns="nowhere", link="eth0", address="10.0.0.1/24")])
    clear(host, plan)
    assert os.stat("/proc/thread-self/ns/net").st_ino == before


def test_killed_between_two_answers_nothing_of_ours_is_without_mark(pretend_host: PretendHost) -> None:
    """The kernel works a batch off within one system call: the device is born and marked, or not born."""
    script = """
import os, signal, sys
from fairlead.core.wanted import Link, Namespace
from fairlead.host import links, netlink
from fairlead.host.linux import LinuxHost
host = LinuxHost(sys.argv[1])
host.make([Namespace(name="s2"), Link(name="br0", kind="bridge")])
plain = netlink.Netlink._send
def send(self, chunk, acknowledge=True):
    first = plain(self, chunk, acknowledge)
    if chunk[0].kind == links.RTM_NEWLINK:
        os.kill(os.getpid(), signal.SIGKILL)
    return first
netlink.Netlink._send = send
host.make([Link(name="veth2", kind="veth", master="br0", peer="eth0", peer_ns="s2", owner="endpoint 2")])
"""
    done = subprocess.run([sys.executable, "-c", script, str(pretend_host.root)], check=False)
    assert done.returncode == -signal.SIGKILL
    host = pretend_host.open()
    found = {item.key: item for item in host.look()}
    assert found[Link(name="veth2", kind="veth").key].owner == "endpoint 2"
    plan = (*BRIDGE, *endpoint(2))
    host.make(plan)
    assert difference(plan, host.look(plan)) == ((), ())
    clear(host, plan)


@pytest.mark.parametrize("path", ["kernel/core_pattern", "net/../kernel/core_pattern", "vm/swappiness"])
def test_only_network_settings_are_ours_to_set(host: LinuxHost, path: str) -> None:
    with pytest.raises(Invalid, match="no network setting"):
        host.make([Sysctl(path=path, value="x")])


def test_a_setting_that_is_so_already_needs_no_writing(host: LinuxHost, monkeypatch: pytest.MonkeyPatch) -> None:
    def read_only(path: str, flags: int, of: Callable[[str, int], int] = os.open) -> int:
        if flags & os.O_ACCMODE == os.O_RDONLY:
            return of(path, flags)
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    current = host.look([Sysctl(path="net/ipv4/ip_forward", value="?")])[0]
    assert isinstance(current, Sysctl)
    with monkeypatch.context() as patch:
        patch.setattr(sysctls.os, "open", read_only)
        sysctls.write(current)
        with pytest.raises(Internal, match="Read-only"):
            sysctls.write(Sysctl(path="net/ipv4/ip_forward", value="7"))


def test_without_br_netfilter_no_frame_is_asked_about(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(sysctls, "_ROOT", f"{tmp_path}/")
    off = Sysctl(path="net/bridge/bridge-nf-call-iptables", value="0")
    sysctls.write(off)
    assert sysctls.read(off) == off
    for missing in (Sysctl(path=off.path, value="1"), Sysctl(path="net/ipv6/conf/br0/disable_ipv6", value="0")):
        assert sysctls.read(missing) is None
        with pytest.raises(Unsupported):
            sysctls.write(missing)


def test_a_made_endpoint_carries_packets_at_once(pretend_host: PretendHost) -> None:
    """No packet sent after ``make`` is dropped for want of a carrier that the kernel has not noticed yet."""
    host = pretend_host.open()
    host.make(BRIDGE)
    for number in range(2, 12):
        host.make(endpoint(number))
        states = [pretend_host.run("ip", "-o", "link", "show", name) for name in ("br0", f"veth{number}")]
        assert all("state UP" in line for line in states)
        host.remove(endpoint(number))
    host.remove(BRIDGE)


def test_a_group_is_given_at_birth_and_put_back_in_place(pretend_host: PretendHost) -> None:
    """In place also on a device that an engine made which gave it none."""
    host, plan = pretend_host.open(), (Link(name="br-x", kind="bridge", group=77),)
    host.make(plan)
    born = pretend_host.run("ip", "-o", "link", "show", "group", "77")
    assert "br-x" in born and difference(plan, host.look(plan)) == ((), ())
    pretend_host.run("ip", "link", "set", "br-x", "group", "default")
    made, gone = difference(plan, host.look(plan))
    assert (made, gone) == (plan, ())
    host.make(made)
    assert pretend_host.run("ip", "-o", "link", "show", "group", "77").split(":")[0] == born.split(":")[0]
    host.remove(plan)
