"""The HTTP mesh on paper: labels, who has which name, and what HAProxy is told, told apart and told again."""

import re

import pytest

from fairlead.core import webmesh
from fairlead.core.model import ServicePart
from fairlead.core.serving import Backend
from fairlead.core.webmesh import Server, Told
from fairlead.errors import Invalid

UCP = "com.docker.ucp.mesh.http"


def task(number: int, *routes: str, service: str = "red", serving: bool = True) -> Backend:
    part = ServicePart(service=service, name=service, task=f"t{number}", serving=serving, routes=routes)
    return Backend(part, f"10.0.1.{number}")


class Haproxy:
    """As much of it as the commands speak of."""

    def __init__(self) -> None:
        self.maps: dict[str, dict[str, str]] = {webmesh.ROUTES: {}, webmesh.LEDGER: {}}
        self.servers: dict[str, dict[str, Server]] = {}
        self.sticky: set[str] = set()
        self.busy: set[str] = set()
        """servers with requests under way"""

    def told(self) -> Told:
        return Told(dict(self.maps[webmesh.ROUTES]), dict(self.maps[webmesh.LEDGER]), self._servers())

    def _servers(self) -> dict[str, dict[str, Server]]:
        return {place: dict(there) for place, there in self.servers.items() if there}

    def hear(self, *tasks: Backend) -> list[str]:
        commands = webmesh.difference(webmesh.wanted(tasks), self.told())
        before, after = self._led(), {place for place in webmesh.wanted(tasks).routes if self._wanted(tasks, place)}
        for command in commands:
            for each in command.split("; "):
                self.do(each.split())
            self.hold(before & after)
        self.find()
        return commands

    def find(self) -> None:
        """Checks have passed."""
        for there in self.servers.values():
            there.update({name: server._replace(up=server.serving) for name, server in there.items()})

    def hold(self, served: set[str]) -> None:
        """At no moment does a route lead to a backend without a server, nor one that is and will be served, to one
        where nobody answers."""
        for place in self.maps[webmesh.ROUTES].values():
            assert self.servers.get(place), f"{place} has nobody"
        assert served <= self._led(), "nobody serves meanwhile"

    def _led(self) -> set[str]:
        return {route for route in self.maps[webmesh.ROUTES] if self.answers(route)}

    def _wanted(self, tasks: tuple[Backend, ...], place: str) -> bool:
        web = webmesh.wanted(tasks)
        return any(server.serving for server in web.servers[web.routes[place]].values())

    def do(self, words: list[str]) -> None:
        match words:
            case ["add", "map", name, key, value]:
                assert key not in self.maps[name]
                self.maps[name][key] = value
            case ["set", "map", name, key, value]:
                assert key in self.maps[name]
                self.maps[name][key] = value
            case ["del", "map", name, key]:
                del self.maps[name][key]
            case ["add", "server", name, address, "check", *_]:
                place, _, task = name.partition("/")
                assert task not in self.servers.setdefault(place, {})
                self.servers[place][task] = Server(address, serving=False)
            case ["enable", "server", name] | ["set", "server", name, "state", "ready"]:
                self._state(name, serving=True)
            case ["set", "server", name, "state", "maint"]:
                self._state(name, serving=False)
            case ["del", "server", name] if name not in self.busy:
                place, _, task = name.partition("/")
                assert not self.servers[place].pop(task).serving
            case ["enable" | "disable" as verb, "dynamic-cookie", "backend", place]:
                (self.sticky.add if verb == "enable" else self.sticky.discard)(place)

    def _state(self, name: str, *, serving: bool) -> None:
        place, _, task = name.partition("/")
        self.servers[place][task] = self.servers[place][task]._replace(serving=serving, up=False)

    def answers(self, place: str) -> set[str]:
        """Addresses that a request for this host name and path may go to."""
        fits = [route for route in self.maps[webmesh.ROUTES] if place.startswith(route)]
        backend = self.maps[webmesh.ROUTES][max(fits, key=len)] if fits else ""
        return {server.address for server in self.servers.get(backend, {}).values() if server.serving and server.up}


@pytest.mark.parametrize(
    ("value", "route"),
    [
        ("8080=http://red.example.com", "8080=red.example.com/"),
        ("8080=http://RED.Example.com:80/API/v1", "8080=red.example.com/API/v1"),
        ("80=https://a.b/", "80=a.b/"),
        ("external_route=http://a.b/x,internal_port=8080,sticky_sessions=id", "8080=a.b/x;sticky"),
        ("8080=http://a.b,sticky_sessions=id", "8080=a.b/;sticky"),
    ],
)
def test_labels_say_which_names_lead_where(value: str, route: str) -> None:
    assert webmesh.routes({UCP: value, "other": "x"}) == (route,)
    assert webmesh.ROUTE.fullmatch(route)


def test_a_service_may_have_several_names() -> None:
    labels = {"fairlead.http": "80=http://a.b", "fairlead.http.1": "81=http://c.d", "fairlead.httpx": "not ours"}
    assert webmesh.routes(labels) == ("80=a.b/", "81=c.d/")


@pytest.mark.parametrize(
    "value",
    ["", "8080", "http://a.b", "x=http://a.b", "0=http://a.b", "70000=http://a.b", "80=ftp://a.b", "80=http://a b",
     "80=http://a.b/;del map x", "80=http://a.b/x\nshutdown", "80=http://-a.b", "80=http://a.b/ü"],
)  # fmt: skip
def test_what_makes_no_sense_is_refused_before_it_is_said_to_haproxy(value: str) -> None:
    with pytest.raises(Invalid, match=re.escape(UCP)):
        webmesh.routes({UCP: value})


def test_names_lead_to_tasks() -> None:
    proxy = Haproxy()
    proxy.hear(task(2, "8080=red.example.com/"), task(3, "8080=red.example.com/"), task(4, "80=a.b/", service="a"))
    assert proxy.answers("red.example.com/x") == {"10.0.1.2:8080", "10.0.1.3:8080"}
    assert proxy.answers("a.b/") == {"10.0.1.4:80"} and proxy.answers("c.d/") == set()
    assert proxy.hear(task(2, "8080=red.example.com/"), task(3, "8080=red.example.com/"),
                      task(4, "80=a.b/", service="a")) == [], "said once"  # fmt: skip


def test_a_task_that_serves_no_more_gets_nothing_new_and_leaves_with_its_row() -> None:
    proxy = Haproxy()
    two, three = task(2, "80=a.b/"), task(3, "80=a.b/")
    proxy.hear(two, three)
    assert proxy.hear(task(2, "80=a.b/", serving=False), three) == ["set server b0/t2 state maint"]
    proxy.busy = {"b0/t2"}
    assert proxy.hear(three) and proxy.told().servers["b0"].keys() == {"t2", "t3"}, "its last request goes on"
    proxy.busy = set()
    assert proxy.hear(three) and proxy.answers("a.b/") == {"10.0.1.3:80"}
    assert proxy.hear(three, task(5, "80=a.b/", serving=False)) == [], "who does not serve yet is not there"


@pytest.mark.parametrize("old", [(1, 2), (5, 6)])
def test_who_takes_a_place_is_there_before_it_is_left(old: tuple[int, int]) -> None:
    """Whichever comes first by name, and though one turn hears of all at once."""
    proxy = Haproxy()
    proxy.hear(*(task(number, "80=a.b/") for number in old))
    now = [*(task(number, "80=a.b/", serving=False) for number in old), task(3, "80=a.b/"), task(4, "80=a.b/")]
    assert [command.split()[0] for command in proxy.hear(*now)] == ["add", "enable", "enable"] * 2
    assert not webmesh.finished(webmesh.wanted(now), proxy.told())
    assert proxy.hear(*now) == [f"set server b0/t{number} state maint" for number in old]
    assert webmesh.finished(webmesh.wanted(now), proxy.told()) and len(proxy.answers("a.b/")) == 2


def test_haproxy_follows_when_it_has_met_the_task_or_left_it_alone() -> None:
    def told(*servers: Server) -> Told:
        return Told({}, {}, {"b0": {"t2": servers[0]}, "b1": {"t2": servers[-1], "t3": Server("")}})

    for server, serves, leaves in (
        (Server("", serving=True, up=True), True, False),
        (Server("", serving=True, up=False), False, False),
        (Server("", serving=False, up=False), False, True),
    ):
        assert (webmesh.follows(told(server), "t2", True), webmesh.follows(told(server), "t2", False)) == (
            serves,
            leaves,
        )
    both = told(Server("", serving=True, up=True), Server("", serving=False))
    assert not webmesh.follows(both, "t2", True) and not webmesh.follows(both, "t2", False)
    assert webmesh.follows(Told({}, {}, {}), "t2", False) and not webmesh.follows(Told({}, {}, {}), "t2", True)


def test_services_come_and_go_and_the_place_of_one_is_another_ones_when_it_is_empty() -> None:
    proxy = Haproxy()
    proxy.hear(task(2, "80=a.b/", service="a"), task(3, "80=c.d/", service="c"))
    proxy.busy = {"b0/t2"}
    proxy.hear(task(3, "80=c.d/", service="c"), task(4, "80=e.f/", service="e"))
    assert proxy.answers("a.b/") == set() and proxy.maps[webmesh.LEDGER]["e:80"] == "b2", "the old one still has guests"
    proxy.busy = set()
    proxy.hear(task(3, "80=c.d/", service="c"), task(4, "80=e.f/", service="e"))
    proxy.hear(task(3, "80=c.d/", service="c"), task(4, "80=e.f/", service="e"))
    assert "a:80" not in proxy.maps[webmesh.LEDGER]
    proxy.hear(task(3, "80=c.d/", service="c"), task(4, "80=e.f/", service="e"), task(5, "80=g.h/", service="g"))
    assert proxy.maps[webmesh.LEDGER]["g:80"] == "b0"


def test_a_name_of_two_services_is_the_firsts_and_the_longest_path_wins() -> None:
    proxy = Haproxy()
    one, other = task(2, "80=a.b/", service="a"), task(3, "80=a.b/", service="b")
    proxy.hear(one, other, task(4, "80=a.b/api", service="c"))
    assert proxy.answers("a.b/") == {"10.0.1.2:80"} and proxy.answers("a.b/api/x") == {"10.0.1.4:80"}
    proxy.hear(other)
    assert proxy.answers("a.b/") == {"10.0.1.3:80"}


def test_stickiness_is_a_service_s_own() -> None:
    proxy = Haproxy()
    proxy.hear(task(2, "80=a.b/;sticky", service="a"), task(3, "80=c.d/", service="c"))
    assert proxy.sticky == {proxy.maps[webmesh.LEDGER]["a:80:sticky"]}
