"""Namespaces: kept by a bind mount, made and removed without a trace in this process."""

import os
import socket
import subprocess
import threading
from pathlib import Path

import pytest

from fairlead.core.wanted import Link, Namespace
from fairlead.errors import Internal
from fairlead.host import doors, netns
from fairlead.host.linux import LinuxHost
from fairlead.host.netns import HERE, Namespaces, inside, socket_in
from lane.pretend import PretendHost, eventually

pytestmark = pytest.mark.kernel


def mounts(root: Path) -> list[str]:
    return [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines() if str(root) in line]


def test_lo_is_up_and_alone_in_it(pretend_host: PretendHost) -> None:
    host = pretend_host.open()
    host.make([Namespace(name="s1")])
    shown = pretend_host.run("ip", "-o", "link", ns="s1").splitlines()
    assert len(shown) == 1 and "lo: <LOOPBACK,UP" in shown[0]
    assert "127.0.0.1/8" in pretend_host.run("ip", "address", ns="s1")
    host.remove([Namespace(name="s1")])


def test_nothing_is_left_in_the_file_system(pretend_host: PretendHost) -> None:
    host = pretend_host.open()
    host.make([Namespace(name=f"s{number}") for number in range(5)])
    assert len(mounts(pretend_host.root)) >= 5
    host.remove([Namespace(name=f"s{number}") for number in range(5)])
    host.close()
    pretend_host._opened.clear()
    assert mounts(pretend_host.root) == []
    os.rmdir(pretend_host.root / "netns")


def test_a_removed_namespace_is_really_gone(pretend_host: PretendHost) -> None:
    """No socket of ours keeps it: what was in it goes, and with it the far ends."""
    host = pretend_host.open()
    host.make([Namespace(name="s1"), Link(name="veth1", kind="veth", peer="eth0", peer_ns="s1")])
    host.look()
    host._doors["s1"].nft.listing()
    host.remove([Namespace(name="s1")])
    eventually(lambda: not host.link_exists("veth1"))


def test_a_copy_of_our_mounts_does_not_keep_a_namespace(pretend_host: PretendHost) -> None:
    """A container's mount namespace begins as a copy of ours, and follows our unmounting."""
    host = pretend_host.open()
    host.make([Namespace(name="s1"), Link(name="veth1", kind="veth", peer="eth0", peer_ns="s1")])
    holder = subprocess.Popen(
        ["unshare", "--mount", "--propagation", "slave", "cat"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert holder.stdin and holder.stdout
        holder.stdin.write("ready\n")
        holder.stdin.flush()
        assert holder.stdout.readline() == "ready\n"
        host.remove([Namespace(name="s1")])
        eventually(lambda: not host.link_exists("veth1"))
    finally:
        holder.communicate()


def test_a_leftover_file_is_no_namespace_and_no_hindrance(pretend_host: PretendHost) -> None:
    (pretend_host.root / "netns").mkdir()
    (pretend_host.root / "netns" / "s1").touch()
    host = pretend_host.open()
    assert host.look([Namespace(name="s1")]) == ()
    host.make([Namespace(name="s1")])
    assert host.look() == (Namespace(name="s1"),)
    host.remove([Namespace(name="s1")])


@pytest.mark.parametrize("name", ["", "..", "a/b", ".hidden"])
def test_a_name_stays_within_the_directory(pretend_host: PretendHost, name: str) -> None:
    with pytest.raises(Internal, match="no name"):
        pretend_host.open().make([Namespace(name=name)])


def test_a_failure_while_making_leaves_nothing(pretend_host: PretendHost, monkeypatch: pytest.MonkeyPatch) -> None:
    host = pretend_host.open()

    def fail() -> None:
        raise OSError("lo will not come up")

    monkeypatch.setattr(doors, "_open_with_lo", fail)
    with pytest.raises(Internal, match="lo will not"):
        host.make([Namespace(name="s1")])
    assert not (pretend_host.root / "netns" / "s1").exists()


def test_a_visit_ends_where_it_began_even_after_an_error(pretend_host: PretendHost) -> None:
    host = pretend_host.open()
    host.make([Namespace(name="s1")])
    here = os.stat(HERE).st_ino
    with pytest.raises(ZeroDivisionError), inside(host.namespace_path("s1")):
        assert os.stat(HERE).st_ino != here
        raise ZeroDivisionError
    assert os.stat(HERE).st_ino == here
    with pytest.raises(Internal, match="no network namespace"), inside(host.namespace_path("s2")):
        raise AssertionError("there is no s2")
    assert os.stat(HERE).st_ino == here
    host.remove([Namespace(name="s1")])


def test_a_socket_in_a_namespace_stays_there(pretend_host: PretendHost) -> None:
    host = pretend_host.open()
    host.make([Namespace(name="s1")])
    here = socket_in(host.namespace_path("s1"), socket.AF_INET, socket.SOCK_STREAM)
    here.bind(("127.0.0.1", 0))
    assert f":{here.getsockname()[1]} " not in pretend_host.run("ss", "-Htan")
    here.listen()
    assert f":{here.getsockname()[1]} " in pretend_host.run("ss", "-Htlan", ns="s1")
    here.close()
    host.remove([Namespace(name="s1")])


def test_it_does_not_matter_which_thread_asks(pretend_host: PretendHost) -> None:
    host = pretend_host.open()
    found: list[bool] = []

    def elsewhere() -> None:
        netns._call("unshare", netns.CLONE_NEWNET)
        host.make([Link(name="br0", kind="bridge")])
        found.append(host.link_exists("br0"))

    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()
    assert found == [True]
    assert "br0" in pretend_host.run("ip", "link")
    host.remove([Link(name="br0", kind="bridge")])


def test_doors_are_few_however_many_namespaces(pretend_host: PretendHost, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doors, "KEPT", 4)
    host = pretend_host.open()
    plan = [Namespace(name=f"s{number}") for number in range(10)]
    before = len(os.listdir("/proc/self/fd"))
    host.make(plan)
    assert set(host.look(plan)) == set(plan)
    hosts_own = 3  # for words and for elements of nftables, and for xfrm
    assert len(os.listdir("/proc/self/fd")) <= before + 4 * 2 + hosts_own
    host.remove(plan)


def test_directories_that_are_shared_already_are_left_alone(pretend_host: PretendHost) -> None:
    first, second = Namespaces(pretend_host.root / "netns"), Namespaces(pretend_host.root / "netns")
    first._prepare()
    before = mounts(pretend_host.root)
    second._prepare()
    assert mounts(pretend_host.root) == before
    second.close()
    assert isinstance(pretend_host.open(), LinuxHost)
