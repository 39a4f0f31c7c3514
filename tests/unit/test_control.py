"""What people may change in a swarm, on paper: a store in memory, no nodes."""

import asyncio
import contextlib
import datetime
from collections.abc import AsyncIterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from fairlead.core import tokens
from fairlead.core.cluster import (
    Attachment,
    Description,
    Loan,
    Manager,
    Node,
    NodeSpec,
    Service,
    Task,
    TaskStatus,
)
from fairlead.core.cluster import (
    State as TaskState,
)
from fairlead.core.model import Ipam, NetworkRequest, Subnet
from fairlead.core.remotes import VNI
from fairlead.core.service import (
    ContainerSpec,
    EndpointSpec,
    FileTarget,
    Global,
    Mode,
    NetworkAttachment,
    Replicated,
    ReplicatedJob,
    SecretReference,
    ServicePort,
    ServiceSpec,
    TaskSpec,
)
from fairlead.core.sharednetworks import ingress_request
from fairlead.core.swarmspec import CaConfig, Cluster, ClusterSpec, Encryption, FileSpec, Trust
from fairlead.errors import Conflict, FairleadError, Forbidden, Invalid, NotFound, Unavailable, Unsupported
from fairlead.store.base import Entry
from fairlead.store.memory import MemoryStore
from fairlead.swarm.ca import Authority
from fairlead.swarm.control import Control
from fairlead.swarm.state import State
from lane.certificates import certificate
from unit.jumping import in_jumping_time

BUSYBOX = ContainerSpec(image="busybox")


def web(name: str = "web", container: ContainerSpec = BUSYBOX, **spec: object) -> ServiceSpec:
    networks = spec.pop("on", ())
    template = TaskSpec(container_spec=container, networks=tuple(NetworkAttachment(one) for one in networks) or None)  # type: ignore[attr-defined]
    return ServiceSpec(name=name, task_template=template, **spec)  # type: ignore[arg-type]


def published(*ports: int, mode: str = "ingress") -> EndpointSpec:
    return EndpointSpec(ports=tuple(ServicePort("", "tcp", 80, port, mode) for port in ports))


class Deaf(State):
    """One who hears late: who decides from an old memory must be caught when he writes."""

    deaf = False

    async def current(self, within: float | None = None) -> None:
        if not self.deaf:
            await super().current(within)

    def hear_no_more(self) -> None:
        self._mark = -1


class Office:
    """A manager's control, and the state behind it."""

    def __init__(self, ledger: MemoryStore, first: int = 0) -> None:
        self.now = 1_800_000_000_000_000_000
        self.dice = count(first)
        self.state = Deaf(ledger)
        self.pauses = 0
        self.manages = True
        self.control = Control(
            *(self.state, lambda: self.now, lambda n: next(self.dice) * 7 % n, self.local, self.pause),
            manages=lambda: self.manages,
        )

    def local(self, ref: str) -> bool:
        return ref == "mine"

    async def pause(self, seconds: float) -> None:
        self.pauses += 1
        self.now += int(seconds * 10**9)
        await asyncio.sleep(0)

    async def put(self, *things: object) -> None:
        await self.state.commit(things)  # type: ignore[arg-type]

    def only(self) -> Service:
        (service,) = self.control.services()
        return service


@contextlib.asynccontextmanager
async def opened(ledger: MemoryStore | None = None, first: int = 0) -> AsyncIterator[Office]:
    office = Office(ledger or MemoryStore(), first)
    await office.state.load()
    async with asyncio.TaskGroup() as group:
        hearing = group.create_task(office.state.run())
        office.state.deaf = bool(first)
        yield office
        hearing.cancel()


@pytest.fixture
async def office() -> AsyncIterator[Office]:
    async with opened() as office:
        await office.put(Cluster("c1", Trust("root", "key"), worker="w", manager="m"))
        yield office


# -- services --------------------------------------------------------------------------------------------------------


async def test_a_service_is_what_was_asked_and_is_found_by_id_name_and_beginning(office: Office) -> None:
    id = await office.control.create_service(web())
    service = office.control.service("web")
    assert (service.id, service.spec, service.created, service.job) == (id, web(), office.now, None)
    assert office.control.service(id) is service and office.control.service(id[:9]) is service
    with pytest.raises(NotFound, match="service nope not found"):
        office.control.service("nope")
    with pytest.raises(NotFound):
        office.control.service("")


async def test_one_of_several_is_not_guessed(office: Office) -> None:
    await office.put(Service("aa1", web("one")), Service("aa2", web("two")))
    with pytest.raises(Invalid, match=r"service aa is ambiguous \(2 matches found\)"):
        office.control.service("aa")


async def test_a_name_is_taken_once(office: Office) -> None:
    await office.control.create_service(web())
    with pytest.raises(Conflict, match="AlreadyExists desc = name conflicts with an existing object: service web"):
        await office.control.create_service(web())
    named = await office.control.create_service(web(""))
    assert office.control.service(named).spec.name


async def test_two_managers_at_once_and_one_name() -> None:
    ledger = MemoryStore()
    async with opened(ledger) as mine, opened(ledger, 1) as yours:
        await mine.control.create_service(web())
        with pytest.raises(Conflict, match="already exists"):
            await yours.control.create_service(web()), "who had not heard of it when he decided"
        assert yours.pauses and len(yours.control.services()) == 1


async def test_networks_are_kept_by_id(office: Office) -> None:
    network = await office.control.create_network(NetworkRequest("net", driver="overlay"))
    await office.control.create_service(web(on=("net", "host")))
    assert [one.target for one in office.only().spec.attachments] == [network.id, "host"]


@pytest.mark.parametrize(
    ("target", "kind", "words"),
    [
        ("nowhere", FairleadError, "^network nowhere not found$"),
        ("none", NotFound, "could not find the corresponding predefined swarm network: network none not found"),
        ("mine", Forbidden, "The network mine cannot be used with services. Only networks scoped to the swarm"),
        ("ingress", Invalid, 'Service cannot be explicitly attached to the ingress network "ingress"'),
    ],
)
async def test_a_network_that_no_service_can_be_on(
    office: Office, target: str, kind: type[FairleadError], words: str
) -> None:
    await office.control.create_network(ingress_request())
    with pytest.raises(kind, match=words):
        await office.control.create_service(web(on=(target,)))
    assert not office.control.services()


async def test_what_is_published_needs_ingress(office: Office) -> None:
    with pytest.raises(Invalid, match="FailedPrecondition desc = service needs ingress network, but no ingress"):
        await office.control.create_service(web(endpoint_spec=published(80)))
    await office.control.create_service(web(endpoint_spec=published(80, mode="host")))


async def test_a_published_port_is_one_service_s(office: Office) -> None:
    await office.control.create_network(ingress_request())
    id = await office.control.create_service(web(endpoint_spec=published(8080)))
    with pytest.raises(Invalid, match=rf"port '8080' is already in use by service 'web' \({id}\) as an ingress port"):
        await office.control.create_service(web("two", endpoint_spec=published(8080)))
    with pytest.raises(Invalid, match="already in use"):
        await office.control.create_service(web("two", endpoint_spec=published(8080, mode="host")))
    await office.control.create_service(web("two", endpoint_spec=published(9090, mode="host")))
    await office.control.create_service(web("three", endpoint_spec=published(9090, mode="host")))
    with pytest.raises(Invalid, match=r"already in use by service '(two|three)' .* as a host-published port"):
        await office.control.create_service(web("four", endpoint_spec=published(9090)))
    with pytest.raises(Invalid, match="already in use"):
        await office.control.update_service(
            "two", office.control.service("two").version, web("two", endpoint_spec=published(8080))
        )
    one = office.control.service("web")
    await office.control.update_service("web", one.version, web(endpoint_spec=published(8080, 8081)))


async def test_a_port_that_the_leader_chose_is_taken_too(office: Office) -> None:
    await office.control.create_network(ingress_request())
    await office.put(Service("s1", web(endpoint_spec=published(0)), ports=published(30000).ports or ()))
    with pytest.raises(Invalid, match="port '30000' is already in use"):
        await office.control.create_service(web("two", endpoint_spec=published(30000)))


async def test_secrets_and_configs_must_be_there(office: Office) -> None:
    def using(id: str, name: str) -> ServiceSpec:
        reference = SecretReference(FileTarget("x"), id, name)
        return web(container=replace(BUSYBOX, secrets=(reference,)))

    id = await office.control.create_secret(FileSpec("s1", data=b"x"))
    with pytest.raises(Invalid, match="secret not found: s2"):
        await office.control.create_service(using(id, "s2"))
    with pytest.raises(Invalid, match="secret not found: s1"):
        await office.control.create_service(using("other", "s1"))
    await office.control.create_service(using(id, "s1"))
    with pytest.raises(Invalid, match="secret 's1' is in use by the following service: web"):
        await office.control.remove_secret("s1")
    await office.control.remove_service("web")
    await office.control.remove_secret("s1")


async def test_certificates_are_looked_at_before_haproxy_is_to_show_them(office: Office, tmp_path: Path) -> None:
    cert, key = (Path(file).read_bytes() for file in certificate(tmp_path, "a"))
    _, other = (Path(file).read_bytes() for file in certificate(tmp_path, "b"))
    files = {"both": cert + key, "reversed": key + cert, "cert": cert, "key": key, "wrong": cert + other, "no": b"x"}
    for name, data in {**files, "long": cert + key + b"#" * (24 << 10)}.items():
        await office.control.create_secret(FileSpec(name, data=data))

    def shop(words: str) -> ServiceSpec:
        return web(labels={"fairlead.http": f"80=https://a.b,certificate={words}"})

    for words, why in (
        ("missing", "secret not found: missing"),
        ("cert", "secret cert has no private key"),
        ("no", "secret no has no certificate"),
        ("wrong", "secret wrong: the private key is not that"),
        ("long", "more than 24 KiB"),
    ):
        with pytest.raises(Invalid, match=why):
            await office.control.create_service(shop(words))
    id = await office.control.create_service(shop("cert,key=key"))
    for name in ("cert", "key"):
        with pytest.raises(Invalid, match=f"secret '{name}' is in use by the following service: web"):
            await office.control.remove_secret(name)
    for words in ("both", "reversed"):
        await office.control.update_service(id, office.control.service(id).version, shop(words))
    await office.control.remove_secret("cert")


async def test_a_secret_cannot_go_while_a_service_that_needs_it_is_written() -> None:
    ledger = MemoryStore()
    async with opened(ledger) as mine, opened(ledger, 1) as yours:
        id = await mine.control.create_secret(FileSpec("s1", data=b"x"))
        await yours.pause(0)
        reference = SecretReference(FileTarget("x"), id, "s1")
        while id not in yours.state.secrets:
            await asyncio.sleep(0)
        await mine.control.remove_secret("s1")
        with pytest.raises(Invalid, match="secret not found"):
            await yours.control.create_service(web(container=replace(BUSYBOX, secrets=(reference,))))


async def test_nor_while_a_service_begins_to_need_it() -> None:
    ledger = MemoryStore()
    async with opened(ledger) as mine, opened(ledger, 1) as yours:
        id = await mine.control.create_secret(FileSpec("s1", data=b"x"))
        await mine.control.create_service(web())
        while not yours.state.services:
            await asyncio.sleep(0)
        await mine.control.remove_secret("s1")
        needs = replace(BUSYBOX, secrets=(SecretReference(FileTarget("x"), id, "s1"),))
        with pytest.raises(Invalid, match="secret not found"):
            await yours.control.update_service("web", yours.only().version, web(container=needs))


async def test_an_update_keeps_what_was_and_a_rollback_takes_it_back(office: Office) -> None:
    await office.control.create_service(web(mode=Mode(replicated=Replicated(2))))
    first = office.only()
    office.now += 5
    await office.control.update_service("web", first.version, web(mode=Mode(replicated=Replicated(3))))
    second = office.only()
    assert (second.previous, second.created, second.updated) == (first.spec, first.created, office.now)
    await office.control.update_service("web", second.version, second.spec, back=True)
    third = office.only()
    assert (third.spec, third.previous) == (first.spec, second.spec)
    assert third.update is not None and third.update.state == "rollback_started"
    assert third.update.message == "manually requested rollback"
    await office.control.update_service("web", third.version, third.spec)
    assert office.only().update is None


async def test_without_a_past_there_is_no_way_back(office: Office) -> None:
    id = await office.control.create_service(web())
    with pytest.raises(Invalid, match=f"FailedPrecondition desc = service {id} does not have a previous spec"):
        await office.control.update_service("web", office.only().version, web(), back=True)


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        (web("other"), "renaming services is not supported"),
        (web(mode=Mode(everywhere=Global())), "service mode change is not allowed"),
    ],
)
async def test_what_an_update_cannot_change(office: Office, spec: ServiceSpec, words: str) -> None:
    await office.control.create_service(web())
    with pytest.raises(Unsupported, match=f"Unimplemented desc = {words}"):
        await office.control.update_service("web", office.only().version, spec)


async def test_who_saw_an_old_version_changes_nothing(office: Office) -> None:
    await office.control.create_service(web())
    old = office.only()
    await office.control.update_service("web", old.version, web(labels={"a": "1"}))
    with pytest.raises(FairleadError, match="Unknown desc = update out of sequence") as caught:
        await office.control.update_service("web", old.version, web(labels={"a": "2"}))
    assert (caught.value.status, office.only().spec.labels) == (500, {"a": "1"})


async def test_two_managers_update_at_once_and_one_loses() -> None:
    ledger = MemoryStore()
    async with opened(ledger) as mine, opened(ledger, 1) as yours:
        await mine.control.create_service(web())
        while not yours.state.services:
            await asyncio.sleep(0)
        version = mine.only().version
        await mine.control.update_service("web", version, web(labels={"a": "1"}))
        with pytest.raises(FairleadError, match="update out of sequence"):
            await yours.control.update_service("web", version, web(labels={"a": "2"}))


async def test_a_job_runs_anew_with_every_change(office: Office) -> None:
    job = web(mode=Mode(replicated_job=ReplicatedJob(1, 1)))
    await office.control.create_service(job)
    assert (office.only().job.iteration, office.only().job.last_execution) == (0, office.now)  # type: ignore[union-attr]
    office.now += 5
    await office.control.update_service("web", office.only().version, replace(job, labels={"a": "b"}))
    assert (office.only().job.iteration, office.only().job.last_execution) == (1, office.now)  # type: ignore[union-attr]


def test_without_a_majority_nothing_is_written_and_people_hear_of_it_soon() -> None:
    class Away(MemoryStore):
        away = False

        async def commit(self, *given: Any) -> int:
            if self.away:
                raise Unavailable("no majority")
            return await super().commit(*given)

        async def get(self, key: str) -> Entry | None:
            if self.away:
                raise Unavailable("no majority")
            return await super().get(key)

    async def tell() -> None:
        ledger, clock = Away(), asyncio.get_running_loop().time
        took = []
        async with opened(ledger) as office:
            await office.put(Cluster("c1", Trust("root", "key"), worker="w", manager="m"))
            await office.control.create_service(web())
            ledger.away = True
            asyncio.get_running_loop().call_later(8, setattr, ledger, "away", False)
            await office.control.create_service(web("second"))
            ledger.away = True
            for number in range(3):
                begun = clock()
                with pytest.raises(Unavailable, match="The swarm does not have a leader"):
                    await office.control.create_service(web(f"other{number}"))
                took.append(round(clock() - begun))
            assert {service.spec.name for service in office.control.services()} == {"web", "second"}
        assert took == [10, 2, 2]

    in_jumping_time(tell())


async def test_who_asks_after_it_was_done_elsewhere_sees_it() -> None:
    ledger = MemoryStore()
    async with opened(ledger) as mine, opened(ledger) as yours:
        for number in range(10):
            await mine.control.create_service(web(f"web{number}"))
            await yours.control.remove_service(f"web{number}")
            await mine.control.current()
            assert not mine.control.services()


# -- nodes -----------------------------------------------------------------------------------------------------------


def node(id: str, role: str = "manager", state: str = "ready", reached: bool = True) -> Node:
    manager = Manager(reachability="reachable" if reached else "unreachable") if role == "manager" else None
    return Node(id, NodeSpec(role=role), Description(hostname=f"host-{id}"), state=state, manager=manager)


async def test_a_node_is_called_by_its_host_s_name(office: Office) -> None:
    await office.put(node("n1"))
    assert office.control.node("host-n1").id == "n1"
    with pytest.raises(NotFound, match="node self not found"):
        office.control.node("self")


async def test_a_node_is_told_what_to_be(office: Office) -> None:
    await office.put(node("n1"))
    spec = NodeSpec("fred", {"zone": "east"}, "manager", "drain")
    await office.control.update_node("n1", office.control.node("n1").version, spec)
    assert (office.control.node("n1").spec, office.control.node("n1").state) == (spec, "ready")
    with pytest.raises(FairleadError, match="update out of sequence"):
        await office.control.update_node("n1", 1, spec)


async def test_what_a_node_tells_of_itself_makes_nobodys_change_late(office: Office) -> None:
    await office.put(node("n1"))
    seen = office.control.node("n1").version
    await office.put(replace(office.control.node("n1"), message="hello"))
    await office.control.update_node("n1", seen, NodeSpec("fred", {}, "manager", "drain"))
    for late in (seen, seen + 1, office.control.node("n1").version + 1):
        with pytest.raises(FairleadError, match="update out of sequence"):
            await office.control.update_node("n1", late, NodeSpec("anna", {}, "manager", "active"))
    await office.control.update_node("n1", office.control.node("n1").version, NodeSpec("anna", {}, "manager", "active"))


@pytest.mark.parametrize(
    ("spec", "words"),
    [(NodeSpec(role="king"), 'invalid Role: "king"'), (NodeSpec(availability="no"), 'invalid Availability: "no"')],
)
async def test_what_a_node_cannot_be(office: Office, spec: NodeSpec, words: str) -> None:
    await office.put(node("n1"))
    with pytest.raises(Invalid, match=words):
        await office.control.update_node("n1", office.control.node("n1").version, spec)


async def demote(office: Office, id: str) -> None:
    await office.control.update_node(id, office.control.node(id).version, NodeSpec(role="worker"))


async def test_the_last_manager_stays(office: Office) -> None:
    await office.put(node("n1"), node("n2", "worker"))
    with pytest.raises(Invalid, match="attempting to demote the last manager of the swarm"):
        await demote(office, "n1")


async def test_a_demotion_that_would_lose_the_majority_is_refused_with_the_arithmetic(office: Office) -> None:
    await office.put(node("n1"), node("n2"), node("n3", reached=False))
    with pytest.raises(
        Invalid, match=r"loss of quorum: host-n1 cannot go: of the 2 managers .* 1 can be reached, and 2"
    ):
        await demote(office, "n1")
    await demote(office, "n3")
    await demote(office, "n2")


async def test_who_was_demoted_says_so_at_once_whatever_it_waits_for(office: Office) -> None:
    """Not after ten seconds, and not that a leader is missing: only this node will be none."""
    office.manages = False
    with pytest.raises(Unavailable, match="not a swarm manager"):
        await office.control.current()
    with pytest.raises(Unavailable, match="not a swarm manager"):
        await office.control.create_service(web())
    office.manages = True
    office.state.hear_no_more()
    async with asyncio.timeout(5):
        waiting = asyncio.create_task(office.control.current())
        await asyncio.sleep(0)
        office.manages = False
        office.state.release()
        with pytest.raises(Unavailable, match="not a swarm manager"):
            await waiting


async def test_two_demotions_at_once_count_each_other() -> None:
    ledger = MemoryStore()
    async with opened(ledger) as mine, opened(ledger, 1) as yours:
        await mine.put(node("n1"), node("n2"))
        while len(yours.state.nodes) < 2:
            await asyncio.sleep(0)
        await demote(mine, "n1")
        with pytest.raises(Invalid, match="last manager"):
            await demote(yours, "n2")


async def test_who_may_be_forgotten(office: Office) -> None:
    await office.put(node("n1"), node("n2", "worker"), node("n3", "worker", "down"))
    with pytest.raises(Invalid, match=r"node n1 is a cluster manager .* It must be demoted to worker before removal"):
        await office.control.remove_node("n1", force=True)
    with pytest.raises(Invalid, match="node n2 is not down and can't be removed"):
        await office.control.remove_node("n2", force=False)
    await office.control.remove_node("n3", force=False)
    await office.control.remove_node("n2", force=True)
    assert [one.id for one in office.control.nodes()] == ["n1"]


# -- secrets and configs ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["-a", "a" * 65, "a/b", "a b", "a."])
async def test_names_of_secrets(office: Office, name: str) -> None:
    with pytest.raises(Invalid, match="invalid name, only 64"):
        await office.control.create_secret(FileSpec(name, data=b"x"))
    await office.control.create_secret(FileSpec("a" * 64, data=b"x"))


async def test_how_large_they_may_be(office: Office) -> None:
    with pytest.raises(Invalid, match="secret data must be larger than 0 and less than 512000 bytes"):
        await office.control.create_secret(FileSpec("a", data=b"x" * 512_000))
    with pytest.raises(Invalid, match="config data must be larger than 0 and less than 1024000 bytes"):
        await office.control.create_config(FileSpec("a"))
    await office.control.create_secret(FileSpec("a", data=b"x" * 511_999))
    await office.control.create_config(FileSpec("a", data=b"x" * 1_023_999))
    with pytest.raises(Conflict, match="AlreadyExists desc = secret a already exists"):
        await office.control.create_secret(FileSpec("a", data=b"x"))


async def test_only_their_labels_change(office: Office) -> None:
    await office.control.create_config(FileSpec("a", data=b"x"))
    version = office.control.config("a").version
    for spec in (FileSpec("b"), FileSpec("a", data=b"y")):
        with pytest.raises(Invalid, match="only updates to Labels are allowed"):
            await office.control.update_config("a", version, spec)
    await office.control.update_config("a", version, FileSpec("a", {"k": "v"}))
    assert office.control.config("a").spec == FileSpec("a", {"k": "v"}, b"x")


# -- networks --------------------------------------------------------------------------------------------------------


FAR = Ipam(config=(Subnet("10.99.0.0/24"),))


async def test_subnets_and_identifiers_are_given_in_turn(office: Office) -> None:
    ingress = await office.control.create_network(ingress_request())
    one = await office.control.create_network(NetworkRequest("one", driver="overlay", attachable=True))
    two = await office.control.create_network(NetworkRequest("two", driver="overlay", labels={"a": "b"}))
    assert [(n.spec.ipam.config[0].subnet, n.spec.ipam.config[0].gateway) for n in (ingress, one, two)] == [
        ("10.0.0.0/24", "10.0.0.1"),
        ("10.0.1.0/24", "10.0.1.1"),
        ("10.0.2.0/24", "10.0.2.1"),
    ]
    assert [n.spec.options[VNI] for n in (ingress, one, two)] == ["4096", "4097", "4098"]
    assert (one.spec.id, one.spec.scope, len(one.id), one.spec.attachable) == (one.id, "swarm", 25, True)
    assert one.spec.created == "2027-01-15T08:00:00.000000000Z"


async def test_they_are_cut_from_the_cluster_s_own_pools() -> None:
    async with opened() as office:
        await office.put(Cluster("c1", Trust("root", "key"), address_pools=("10.40.0.0/16",), subnet_size=26))
        one = await office.control.create_network(NetworkRequest("one", driver="overlay", ipv6=True))
        assert one.spec.ipam.config[0].subnet == "10.40.0.0/26"
        assert one.spec.ipam.config[1].subnet.startswith("fd")


@pytest.mark.parametrize(
    "two",
    [NetworkRequest("two", driver="overlay", options={VNI: "5000"}), NetworkRequest("two", driver="overlay", ipam=FAR)],
    ids=["the same subnet", "the same identifier"],
)
async def test_two_managers_make_a_network_at_once_and_each_has_its_own(two: NetworkRequest) -> None:
    ledger = MemoryStore()
    async with opened(ledger) as mine, opened(ledger, 1) as yours:
        await mine.put(Cluster("c1", Trust("root", "key")))
        while not yours.state.cluster:
            await asyncio.sleep(0)
        one = await mine.control.create_network(NetworkRequest("one", driver="overlay"))
        other = await yours.control.create_network(two)
        assert one.spec.ipam.config[0].subnet != other.spec.ipam.config[0].subnet
        assert one.spec.options[VNI] != other.spec.options[VNI] and yours.pauses


SUBNET = Ipam(config=(Subnet("10.9.0.0/24"),))


@pytest.mark.parametrize(
    ("request_", "status", "words"),
    [
        (NetworkRequest("taken", driver="overlay"), 409, "^network with name taken already exists"),
        (NetworkRequest("", driver="overlay"), 400, "^invalid name: name is empty"),
        (NetworkRequest("a b", driver="overlay"), 400, "name must be valid as a DNS name component"),
        (NetworkRequest("x" * 64, driver="overlay"), 400, "name must be 63 characters or fewer"),
        (NetworkRequest("i", driver="overlay", ingress=True), 409, r"ingress network \(\w{25}\) is already present"),
        (NetworkRequest("i", driver="overlay", ingress=True, attachable=True), 400, "cannot be attachable"),
        (NetworkRequest("i", driver="overlay", ipv4=False), 400, "^IPv4 cannot be disabled in a Swarm scoped network"),
        (NetworkRequest("i", driver="overlay", ipam=Ipam(driver="x")), 400, "error during lookup of plugin x"),
        (NetworkRequest("i", driver="overlay", ipam=SUBNET), 403, "overlaps 10.9.0.0/24 of network taken"),
        (NetworkRequest("i", driver="overlay", options={VNI: "x"}), 400, "is no identifier"),
        (NetworkRequest("i", driver="overlay", options={VNI: "4097"}), 403, "is network taken's"),
    ],
    ids=lambda one: one.name if isinstance(one, NetworkRequest) else str(one)[:20],
)
async def test_networks_that_cannot_be(office: Office, request_: NetworkRequest, status: int, words: str) -> None:
    await office.control.create_network(ingress_request())
    await office.control.create_network(NetworkRequest("taken", driver="overlay", ipam=SUBNET))
    with pytest.raises(FairleadError, match=words) as caught:
        await office.control.create_network(request_)
    assert caught.value.status == status and len(office.control.networks()) == 2


async def test_a_network_in_use_stays(office: Office) -> None:
    ingress = await office.control.create_network(ingress_request())
    net = await office.control.create_network(NetworkRequest("net", driver="overlay"))
    id = await office.control.create_service(web(on=("net",), endpoint_spec=published(80)))
    with pytest.raises(Invalid, match=f"FailedPrecondition desc = network {net.id} is in use by service {id}"):
        await office.control.remove_network("net")
    with pytest.raises(Invalid, match=f"ingress network cannot be removed because service {id} depends on it"):
        await office.control.remove_network(ingress.id)
    await office.control.remove_service("web")
    loan = Loan("e" * 64, "n1", net.id)
    await office.state.commit([loan])
    with pytest.raises(Invalid, match=f"network {net.id} is in use by task {loan.id}"):
        await office.control.remove_network("net")
    await office.state.commit(delete=[office.state.loans[loan.id]])
    await office.control.remove_network("net")
    await office.control.remove_network("ingress")
    with pytest.raises(NotFound, match="network net not found"):
        await office.control.remove_network("net")


async def test_tasks_that_are_about_to_end_are_waited_for(office: Office) -> None:
    net = await office.control.create_network(NetworkRequest("net", driver="overlay"))
    held = (Attachment(net.id, ("10.0.1.5/24",)),)
    task = Task("t1", TaskSpec(), "gone", node="n1", desired=TaskState.REMOVE, networks=held)
    await office.put(node("n1", "worker"), replace(task, status=TaskStatus(TaskState.RUNNING)))
    with pytest.raises(Invalid, match=f"network {net.id} is in use by task t1"):
        await office.control.remove_network("net")
    assert office.pauses > 100
    async with asyncio.TaskGroup() as group:
        group.create_task(office.control.remove_network("net"))
        await asyncio.sleep(0)
        assert office.control.networks()
        await office.put(replace(office.state.tasks["t1"], status=TaskStatus(TaskState.SHUTDOWN)))
    assert not office.control.networks()


async def test_a_node_that_is_down_keeps_no_network(office: Office) -> None:
    net = await office.control.create_network(NetworkRequest("net", driver="overlay"))
    task = Task("t1", TaskSpec(), "gone", node="n1", networks=(Attachment(net.id),))
    await office.put(node("n1", "worker", "down"), replace(task, status=TaskStatus(TaskState.RUNNING)))
    await office.control.remove_network("net")


# -- the swarm -------------------------------------------------------------------------------------------------------


async def test_another_root_right_after_another(office: Office) -> None:
    """It waits for the one that is under way, its number being good still; nobody waits for a node that is away."""
    root = Authority.found(datetime.datetime.now(datetime.UTC))
    trust = Trust(root.certificate.decode(), root.key.decode())
    await office.put(replace(office.control.cluster(), trust=trust))
    digest = tokens.digest(trust.root.encode())
    await office.put(Node("n1", state="ready", root=digest), Node("n2", state="ready", root=digest))
    asked = [ClusterSpec(ca_config=CaConfig(force_rotate=number)) for number in (1, 2, 3)]
    await office.control.update_cluster(office.control.cluster().version, asked[0], False, False, False)
    first, pause = office.control.cluster(), office.control.pause

    async def over(seconds: float) -> None:
        await pause(seconds)
        cluster = office.control.cluster()
        if office.pauses == 3:
            await office.put(replace(cluster, trust=Trust(cluster.trust.next_root, cluster.trust.next_key)))

    office.control.pause = over
    await office.control.update_cluster(first.version, asked[1], False, False, False)
    second = office.control.cluster()
    assert second.trust.root == first.trust.next_root and second.trust.next_root not in ("", second.trust.root)
    await office.put(Node("n3", state="down", root=digest))
    told = office.pauses
    with pytest.raises(FairleadError, match="being exchanged already: wait for the nodes that are away"):
        await office.control.update_cluster(second.version, asked[2], False, False, False)
    assert office.pauses == told


async def test_tokens_and_keys_are_drawn_anew(office: Office) -> None:
    cluster = office.control.cluster()
    await office.control.update_cluster(cluster.version, cluster.spec, True, False, True)
    changed = office.control.cluster()
    assert (len(changed.worker), changed.manager, changed.unlock_key) == (25, "m", "")
    locked = ClusterSpec(encryption_config=Encryption(True))
    await office.control.update_cluster(changed.version, locked, False, True, False)
    first = office.control.cluster()
    assert first.unlock_key.startswith("SWMKEY-1-") and (first.worker, len(first.manager)) == (changed.worker, 25)
    await office.control.update_cluster(first.version, locked, False, False, False)
    assert office.control.cluster().unlock_key == first.unlock_key
    await office.control.update_cluster(office.control.cluster().version, locked, False, False, True)
    assert office.control.cluster().unlock_key != first.unlock_key
    with pytest.raises(FairleadError, match="update out of sequence"):
        await office.control.update_cluster(first.version, ClusterSpec(), False, False, False)
    await office.control.update_cluster(office.control.cluster().version, ClusterSpec(), False, False, False)
    assert office.control.cluster().unlock_key == ""
