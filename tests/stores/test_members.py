"""Managers' etcd: founded, joined, moved to other addresses, left, recovered. Real etcd on pretend machines."""

import asyncio
import datetime
import os
import signal
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from fairlead.errors import Conflict, Unavailable
from fairlead.lab.keyvalue import program
from fairlead.lab.topology import one_cable
from fairlead.lab.world import World
from fairlead.store.etcd import EtcdStore
from fairlead.store.http import Servers
from fairlead.swarm import ca, members
from fairlead.swarm.members import Members, Place

NOW = datetime.datetime.now(datetime.UTC)
NODES = ("anna", "bert", "carl")


class Manager:
    """A machine with its member of etcd."""

    def __init__(
        self, world: World, name: str, root: ca.Authority, role: str = "manager", at: datetime.datetime = NOW
    ) -> None:
        self.machine, self.name = world[name], name
        base = self.machine.folder / "swarm"
        self.place = Place(base / "etcd", base / "run", base / "certificates")
        for folder in (self.place.run, self.place.certificates):
            folder.mkdir(parents=True, exist_ok=True)
        key, request = ca.new_request()
        certificate = root.issue(request, ca.Identity(name, role, "cluster"), at)
        for file, text in (("ca.crt", root.certificate), ("node.crt", certificate), ("node.key", key)):
            (self.place.certificates / file).write_bytes(text)
        self.certificate, self._key = certificate, key
        self.revokes()
        self.hosts = base / "hosts"
        self.hosts.write_text("")
        self.machine.run("mount", "--bind", str(self.hosts), "/etc/hosts")
        self.process: subprocess.Popen[bytes] | None = None
        self.servers = Servers(["etcd"], socket=self.place.run / members.SOCKET)
        self.members, self.store = Members(self.servers), EtcdStore(self.servers)

    def revokes(self, *others: bytes) -> None:
        """These certificates are good no more."""
        serials = {serial for one in others for serial in ca.serials(one)}
        (self.place.certificates / members.REVOKED).write_bytes(
            ca.revocations(serials, self.certificate, self._key, NOW)
        )

    def asks(self, other: "Manager", keys: Path | None = None) -> str:
        """What the other's port for members answers to who shows these certificates (our own)."""
        keys = keys or self.place.certificates
        return self.machine.run(
            *("curl", "-s", "--http1.1", "-m", "5", "--cacert", str(other.place.certificates / "ca.crt")),
            *("--cert", str(keys / "node.crt"), "--key", str(keys / "node.key")),
            f"https://{other.name}:{members.PORT}/version",
            check=False,
        ).stdout

    def knows(self, addresses: dict[str, str]) -> None:
        self.hosts.write_text(members.hosts(addresses))

    def start(self, *others: str, recover: bool = False) -> None:
        members.clear(self.place)
        etcd, *words = members.command(self.name, self.place, "0.0.0.0", others, recover=recover)
        command = ["env", "-C", str(self.place.run), program(etcd), *words]
        self.process = self.machine.start(*command, log="etcd")

    def kill(self) -> None:
        """It leads a session of its own."""
        assert self.process
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(10)

    async def answers(self) -> None:
        async with asyncio.timeout(30):
            while True:
                try:
                    await self.store.get("any")
                    return
                except Unavailable:
                    await asyncio.sleep(0.05)


@pytest.fixture
def world() -> Iterator[World]:
    with World(one_cable(*NODES, "mallory")) as made:
        yield made


@pytest.fixture
async def managers(world: World) -> AsyncIterator[dict[str, Manager]]:
    root = ca.Authority.found(NOW)
    made = {name: Manager(world, name, root) for name in NODES}
    yield made
    for one in made.values():
        await one.servers.close()


def addresses(managers: dict[str, Manager]) -> dict[str, str]:
    return {name: one.machine.address4 for name, one in managers.items()}


async def grown(managers: dict[str, Manager]) -> None:
    """All three are members, one after the other."""
    for one in managers.values():
        one.knows(addresses(managers))
    first = managers["anna"]
    first.start()
    await first.answers()
    for name in NODES[1:]:
        others = [member.node for member in await first.members.list()]
        id = await first.members.add(name)
        managers[name].start(*others)
        await first.members.promote(id)
        await managers[name].answers()


async def test_managers_join_one_after_the_other(managers: dict[str, Manager]) -> None:
    await grown(managers)
    await managers["carl"].store.put_if("k", b"v")
    entry = await managers["anna"].store.get("k")
    assert entry and entry.value == b"v"
    listed = await managers["bert"].members.list()
    assert sorted((member.node, member.learner) for member in listed) == [(name, False) for name in NODES]


async def test_there_is_another_term_when_who_led_is_gone_and_none_without_a_majority(
    managers: dict[str, Manager],
) -> None:
    await grown(managers)
    anna, bert, carl = (managers[name] for name in NODES)
    before = await anna.members.term()
    assert {await one.members.term() for one in (anna, bert, carl)} == {before}, "nothing happened meanwhile"

    async def another() -> bool:
        with suppress(Conflict, Unavailable):
            return await bert.members.term() > before
        return False

    anna.kill()
    async with asyncio.timeout(30):
        while not await another():
            await asyncio.sleep(0.05)
    carl.kill()
    async with asyncio.timeout(30):
        with pytest.raises((Conflict, Unavailable)):
            while True:
                await bert.members.term()


async def test_all_addresses_change_at_once(managers: dict[str, Manager]) -> None:
    await grown(managers)
    await managers["anna"].store.put_if("k", b"v")
    moved = {}
    for number, (name, one) in enumerate(managers.items()):
        old, new = one.machine.address4, f"{one.machine.address4.rpartition('.')[0]}.{200 + number}"
        one.machine.run("ip", "address", "delete", f"{old}/24", "dev", "eth0")
        one.machine.run("ip", "address", "add", f"{new}/24", "dev", "eth0")
        moved[name] = new
    for one in managers.values():
        one.knows(moved)
    for one in managers.values():
        await one.answers()
    await managers["bert"].store.put_if("k", b"after")
    entry = await managers["carl"].store.get("k")
    assert entry and entry.value == b"after"


async def test_one_that_left_is_not_waited_for(managers: dict[str, Manager]) -> None:
    await grown(managers)
    listed = await managers["anna"].members.list()
    carl = next(member for member in listed if member.node == "carl")
    await managers["anna"].members.remove(carl.id)
    managers["carl"].kill()
    managers["bert"].kill()
    managers["bert"].start()
    await managers["anna"].answers()
    await managers["bert"].answers()
    assert sorted(member.node for member in await managers["bert"].members.list()) == ["anna", "bert"]


async def test_what_one_knows_recovers_the_swarm(managers: dict[str, Manager]) -> None:
    await grown(managers)
    await managers["anna"].store.put_if("k", b"kept")
    for number in range(3):  # a member writes down that something holds with what comes after it
        await managers["anna"].store.put_if("later", str(number).encode())
        await managers["bert"].store.get("later")
    for one in managers.values():
        one.kill()
    managers["bert"].start()
    with pytest.raises(Unavailable):
        await managers["bert"].store.put_if("k", b"alone")
    managers["bert"].kill()
    managers["bert"].start(recover=True)
    await managers["bert"].answers()
    assert [member.node for member in await managers["bert"].members.list()] == ["bert"]
    entry = await managers["bert"].store.get("k")
    assert entry and entry.value == b"kept"


@pytest.mark.proves(
    "swarm-certificates", guard=("swarm/members.py", 'f"--peer-crl-file={keys / REVOKED}",', 'f"--name={node}",')
)
@pytest.mark.parametrize("who", ["worker", "stranger", "expired", "revoked"])
async def test_only_managers_of_this_cluster_are_believed(world: World, who: str) -> None:
    """A worker's certificate, a manager's of another cluster, one that is over, one that was taken back."""
    root = ca.Authority.found(NOW)
    anna = Manager(world, "anna", root)
    mallory = Manager(
        world,
        "mallory",
        root if who != "stranger" else ca.Authority.found(NOW),
        "worker" if who == "worker" else "manager",
        NOW - (ca.NODE_LIFE + ca.BACKDATED if who == "expired" else ca.BACKDATED),
    )
    where = {"anna": anna.machine.address4, "mallory": mallory.machine.address4}
    for one in (anna, mallory):
        one.knows(where)
    anna.start()
    await anna.answers()
    if who == "revoked":
        assert "etcdserver" in mallory.asks(anna)
        anna.revokes(mallory.certificate)
    assert not mallory.asks(anna)
    good = mallory.asks(anna, anna.place.certificates)
    assert "etcdserver" in good, "the same question, asked with a manager's certificate"
    for one in (anna, mallory):
        await one.servers.close()
