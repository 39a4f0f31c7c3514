"""The doctor: each kind of trouble is found, a healthy machine has none, and work under way is none."""

import json
from collections.abc import Iterable
from pathlib import Path

import msgspec
import pytest
from paper import Paper

from fairlead.api.doctor import shown
from fairlead.cli import doctor as face
from fairlead.core.container import Container
from fairlead.core.findings import Finding
from fairlead.core.life import Belonging
from fairlead.core.model import PortRequest
from fairlead.core.wanted import Link, Plan, Wanted
from fairlead.engine.doctor import Doctor, Report, Witnesses
from fairlead.engine.drivers.bridge import Bridge
from fairlead.engine.naming import Naming
from fairlead.errors import Unavailable


class Clinic:
    """A network with two containers, and a doctor who takes no time between two looks."""

    def __init__(self, paper: Paper) -> None:
        self.paper = paper
        self.busy: set[str] = set()
        self.served: dict[str, int] = {"sandboxes": 2, "endpoints": 2}
        self.relay_is_gone = False
        self.swarm: list[Finding] = []
        self.containers: dict[str, Container] = {}
        self.doctor = Doctor(
            paper.kernel,
            paper.catalog,
            paper.controller,
            paper.endpoints,
            paper.attachments,
            paper.publisher,
            Naming(None, {"bridge": Bridge()}),  # type: ignore[arg-type]
            paper.files,
            paper.events,
            lambda id: id in self.busy,
            Witnesses(self.held, self.resolving, swarm=lambda: self.swarm),
            between=0,
        )

    async def held(self) -> set[str] | None:
        if self.relay_is_gone:
            raise Unavailable("nobody answers")
        return set(self.paper.relay.ports)

    async def resolving(self) -> dict[str, int]:
        return self.served

    async def examine(self) -> Report:
        return await self.doctor.examine()

    async def sees(self, *words: str) -> None:
        """Exactly one finding, which says all of these."""
        report = await self.examine()
        (finding,) = report.findings
        told = face.text(shown(report))
        assert all(word in told for word in words), told
        assert finding.owner and "1 thing differs" in told


@pytest.fixture
async def clinic(paper: Paper) -> Clinic:
    made = Clinic(paper)
    await paper.network("RED")
    for name, ports in (("web", (PortRequest(80, "tcp", "", 8080, 8080),)), ("db", ())):
        container = await paper.container(name, "RED", ports=ports)
        await paper.open(container)
        made.containers[name] = container
    return made


async def test_a_healthy_machine(clinic: Clinic) -> None:
    report = await clinic.examine()
    assert report.findings == () and report.looked > 20
    assert "all is well" in face.text(shown(report))


async def test_what_a_manager_says_of_its_swarm(clinic: Clinic) -> None:
    clinic.swarm.append(Finding("missing", "data key 1a2b3c4d on manager carl", "the swarm", "it does not answer"))
    await clinic.sees("missing", "on manager carl", "the swarm: it does not answer")


async def test_a_lost_device(clinic: Clinic) -> None:
    plug = next(i for i in clinic.paper.kernel.wanted() if isinstance(i, Link) and i.peer_ns.startswith("db"))
    clinic.paper.host.lose((plug,))
    told = face.text(shown(await clinic.examine()))
    assert f"missing    link name={plug.name}" in told and "container db" in told


async def test_something_different(clinic: Clinic) -> None:
    bridge = next(i for i in clinic.paper.kernel.wanted() if isinstance(i, Link) and i.kind == "bridge")
    clinic.paper.host.things[bridge.key] = Link(name=bridge.name, kind="bridge", mtu=900, mac=bridge.mac)
    await clinic.sees("different", "mtu=900", "network RED", "the switch of network RED")


async def test_a_stranger_that_looks_like_ours(clinic: Clinic) -> None:
    stranger = Link(name="br-stray", kind="bridge")
    clinic.paper.host.things[stranger.key] = stranger
    await clinic.sees("stray", "br-stray", "nobody")


async def test_an_address_held_twice(clinic: Clinic) -> None:
    web, db = (clinic.paper.attachments.endpoints(clinic.containers[name].id)[0] for name in ("web", "db"))
    twin = msgspec.structs.replace(db, ipv4=web.ipv4)
    clinic.paper.endpoints._members.put(twin)
    await clinic.sees("wrong", f"address {web.address4}", "web", "db")


async def test_a_port_published_twice(clinic: Clinic) -> None:
    web, db = (clinic.paper.attachments.endpoints(clinic.containers[name].id)[0] for name in ("web", "db"))
    clinic.paper.endpoints._records._known[db.id] = msgspec.structs.replace(db, bindings=web.bindings[:1])
    clinic.paper.relay.adopt(clinic.paper.publisher.relayed(clinic.paper.endpoints._records._known[db.id]))
    await clinic.sees("wrong", "port 0.0.0.0:8080/tcp")


async def test_a_lease_without_a_runner(clinic: Clinic) -> None:
    db = clinic.containers["db"]
    await clinic.paper.catalog.put(
        msgspec.structs.replace(db, state=msgspec.structs.replace(db.state, status="exited"))
    )
    await clinic.sees("wrong", "endpoint", "a lost lease")


async def test_a_runner_without_a_stack(clinic: Clinic) -> None:
    await clinic.paper.container("ghost", "RED")
    await clinic.sees("missing", "stack of ghost")


async def test_a_file_that_is_gone(clinic: Clinic) -> None:
    Path(clinic.paper.files.paths(clinic.containers["db"].id)["hosts"]).unlink()
    await clinic.sees("missing", "file hosts", "container db")


async def test_a_port_nobody_holds_and_one_too_many(clinic: Clinic) -> None:
    ports = dict(clinic.paper.relay.ports)
    clinic.paper.relay.ports.pop(next(iter(ports)))
    await clinic.sees("missing", "hold of", "any program could take it")
    clinic.paper.relay.ports.update(ports)
    clinic.paper.relay.ports["stray"] = next(iter(ports.values()))
    await clinic.sees("stray", "hold of stray")


async def test_a_relay_that_does_not_answer(clinic: Clinic) -> None:
    clinic.relay_is_gone = True
    await clinic.sees("wrong", "relay", "nobody answers")


async def test_a_resolver_that_forgot(clinic: Clinic) -> None:
    clinic.served = {"sandboxes": 2, "endpoints": 1}
    await clinic.sees("wrong", "resolver: endpoints", "it should serve 2")


async def test_what_is_under_way_is_no_illness(clinic: Clinic) -> None:
    ghost = await clinic.paper.container("ghost", "RED")
    clinic.busy.add(ghost.id)
    clinic.served = {}
    assert (await clinic.examine()).findings == ()


async def test_what_is_seen_once_only_is_no_illness(clinic: Clinic) -> None:
    answers = iter([{"sandboxes": 0, "endpoints": 0}, clinic.served])

    async def resolving() -> dict[str, int]:
        return next(answers)

    clinic.doctor._ask = clinic.doctor._ask._replace(resolving=resolving)
    assert (await clinic.examine()).findings == ()


async def test_wishes_that_change_while_looking_are_no_findings(clinic: Clinic) -> None:
    look, kernel = clinic.paper.host.look, clinic.paper.kernel

    def meanwhile(objects: Iterable[Wanted], gently: bool) -> Plan:
        found = look(objects, gently)
        kernel.want("late", (Link(name="br-late", kind="bridge"),))
        return found

    clinic.paper.host.look = meanwhile  # type: ignore[method-assign, assignment]
    assert (await clinic.examine()).findings == ()


async def test_a_process_in_another_namespace(clinic: Clinic, tmp_path: Path) -> None:
    """The mount that keeps the namespace was lost and made anew: the process is left behind in the old one."""
    import os

    db = clinic.containers["db"]
    state = msgspec.structs.replace(db.state, pid=os.getpid())
    await clinic.paper.catalog.put(msgspec.structs.replace(db, state=state))
    stack = clinic.paper.attachments.stack(db)
    assert stack is not None
    place = tmp_path / "another"
    place.touch()
    stack.sandbox = msgspec.structs.replace(stack.sandbox, path=str(place))
    await clinic.sees("different", "namespace of db", "restart it")


async def test_repairs_are_history(clinic: Clinic) -> None:
    details = {"deed": "made", "kind": "link", "object": "link  br-red", "count": "3", "why": "the switch"}
    clinic.paper.events.publish("fairlead", "repair", "network RED", details)
    report = await clinic.examine()
    assert report.findings == ()
    told = face.text(shown(report))
    assert "put right lately" in told and "made link  br-red and 2 more (network RED)" in told


async def test_what_a_container_left(clinic: Clinic) -> None:
    web = clinic.containers["web"].id
    gone, place = "f" * 64, "/data/layers/f/merged"
    left = [Belonging("mount", gone, place, False), Belonging("process", web, "conmon, process 7", True)]
    clinic.doctor._ask = clinic.doctor._ask._replace(belongings=lambda: left)
    await clinic.sees("stray", f"mount {place}", "its container is gone")
    clinic.busy.add(gone)
    assert not (await clinic.examine()).findings


async def test_the_page_shows_every_field(clinic: Clinic) -> None:
    """docs/doctor.md promises the shape of --json to programs."""
    plug = next(i for i in clinic.paper.kernel.wanted() if isinstance(i, Link) and i.peer_ns.startswith("db"))
    clinic.paper.host.lose((plug,))
    clinic.paper.events.publish("fairlead", "repair", "container db", {"deed": "made", "object": "link", "count": "1"})
    real = shown(await clinic.examine())
    page = (Path(__file__).parents[2] / "docs" / "doctor.md").read_text()
    told = json.loads(page.partition("```json\n")[2].partition("```")[0])
    assert told.keys() == real.keys()
    for part in ("Findings", "Repairs"):
        assert told[part][0].keys() == real[part][0].keys()
