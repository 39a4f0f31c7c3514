"""What every driver promises (``engine.drivers.base``), whatever kind of network it makes."""

import pytest
from msgspec.structs import replace

from fairlead.core import rules
from fairlead.core.model import Endpoint, Ipam, Network, NetworkRequest, PortBinding, Subnet
from fairlead.core.wanted import HOST, Element, Link, Namespace, Plan, Skeleton, difference
from fairlead.engine.drivers.base import Driver, Facts
from fairlead.engine.drivers.bridge import Bridge
from fairlead.engine.drivers.host import Host
from fairlead.engine.drivers.none import Null
from fairlead.host.fake import FakeHost

DRIVERS: list[Driver] = [Bridge(), Host(), Null()]

every_driver = pytest.mark.parametrize("driver", DRIVERS, ids=lambda driver: driver.name)


def network(driver: Driver, number: int = 1) -> Network:
    pools = (
        Subnet(subnet=f"10.{number}.0.0/24", gateway=f"10.{number}.0.1"),
        Subnet(subnet=f"fd00:{number}::/64", gateway=f"fd00:{number}::1"),
    )
    id = f"{number:012x}".ljust(64, "0")
    return Network(id=id, name=f"n{number}", created="", driver=driver.name, ipv6=True, ipam=Ipam(config=pools))


def endpoint(on: Network, number: int = 2, sandbox: str = "c0ffee", interface: str = "eth0") -> Endpoint:
    net = on.ipam.config[0].subnet.split(".")[1]
    return Endpoint(
        id=f"{number:07x}".ljust(64, "0"),
        network=on.id,
        container=sandbox,
        sandbox=sandbox,
        name=f"c{number}",
        interface=interface,
        device=f"veth{number:07x}",
        ipv4=f"10.{net}.0.{number}/24",
        ipv6=f"fd00:{net}::{number}/64",
        mac=f"02:00:00:00:00:{number:02x}",
        bindings=(PortBinding(80, "tcp", "0.0.0.0", 8000 + number), PortBinding(80, "tcp", "::", 8000 + number)),
    )


def whole(driver: Driver, on: Network, *endpoints: Endpoint) -> Plan:
    plan = driver.network(on, Facts())
    for one in endpoints:
        plan += driver.endpoint(on, one, Facts()) + driver.publish(on, one, Facts())
    return plan


@every_driver
def test_asked_again_it_says_the_same(driver: Driver) -> None:
    """A restart rebuilds everything by asking again; no other instance knows more."""
    on = network(driver)
    again = type(driver)()
    assert whole(driver, on, endpoint(on)) == whole(again, replace(on), endpoint(on))
    assert (driver.publishing(on), driver.attachment(on)) == (again.publishing(on), again.attachment(on))


@every_driver
def test_nothing_is_wanted_twice(driver: Driver) -> None:
    """Not by one network, not by two, not by two containers of one, not by one container on two."""
    first, second = network(driver, 1), network(driver, 2)
    plan = (
        *whole(driver, first, endpoint(first, 2), endpoint(first, 3, "decade")),
        *whole(driver, second, endpoint(second, 4, interface="eth1")),
    )
    assert len({item.key for item in plan}) == len(plan)


@every_driver
def test_an_endpoint_stays_in_its_sandbox_and_on_the_host(driver: Driver) -> None:
    on = network(driver)
    mine = endpoint(on)
    places = {item.ns for item in driver.endpoint(on, mine, Facts()) if not isinstance(item, Namespace)}  # type: ignore[attr-defined]
    assert places <= {HOST, mine.namespace}


@every_driver
def test_without_a_firewall_no_rule(driver: Driver) -> None:
    on, facts = network(driver), Facts(firewall=False)
    mine = endpoint(on)
    plan = (*driver.network(on, facts), *driver.endpoint(on, mine, facts), *driver.publish(on, mine, facts))
    assert not [item for item in plan if isinstance(item, Element | Skeleton)]


@every_driver
def test_guards_come_before_devices(driver: Driver) -> None:
    plan = driver.network(network(driver), Facts())
    links = [at for at, item in enumerate(plan) if isinstance(item, Link)]
    guards = [at for at, item in enumerate(plan) if isinstance(item, Element)]
    assert not links or max(guards) < min(links)


@every_driver
def test_the_device_is_in_the_plan(driver: Driver) -> None:
    on = network(driver)
    names = {item.name for item in driver.network(on, Facts()) if isinstance(item, Link)}
    assert names == ({driver.device(on)} - {""})


@every_driver
def test_a_host_takes_the_plan_and_gives_it_back(driver: Driver) -> None:
    on = network(driver)
    plan = (*rules.machine_plan(ipv6=True), Namespace(name=endpoint(on).namespace), *whole(driver, on, endpoint(on)))
    host = FakeHost()
    host.make(plan)
    assert difference(plan, host.look(plan)) == ((), ())
    host.remove(plan)


@every_driver
def test_a_request_is_checked_without_being_changed(driver: Driver) -> None:
    request = NetworkRequest(name="n", driver=driver.name)
    if driver.name == "bridge":
        driver.check(request, Facts())
    assert request == NetworkRequest(name="n", driver=driver.name)
