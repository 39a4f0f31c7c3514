"""The HTTP mesh on paper: labels, who has which name, and what HAProxy is told, told apart and told again."""

import re

import pytest
from msgspec.structs import replace

from fairlead.core import proxywords, serving, webmesh
from fairlead.core.model import ServicePart
from fairlead.core.proxyconfig import BACKENDS, LEDGER, ROUTES
from fairlead.core.proxywords import Told
from fairlead.core.service import ServicePort
from fairlead.core.serving import ROUTE, Backend
from fairlead.core.webmesh import TERMINATED, File, Server, Web
from fairlead.errors import Invalid

UCP = "com.docker.ucp.mesh.http"


def task(number: int, *routes: str, service: str = "red", serving: bool = True) -> Backend:
    part = ServicePart(service=service, name=service, task=f"t{number}", serving=serving, routes=routes)
    return Backend(part, f"10.0.1.{number}")


class Haproxy:
    """As much of it as the commands speak of."""

    def __init__(self) -> None:
        self.maps: dict[str, dict[str, str]] = {ROUTES: {}, LEDGER: {}}
        self.servers: dict[str, dict[str, Server]] = {}
        self.sticky: set[str] = set()
        self.busy: set[str] = set()
        """servers with requests under way"""
        self.deaf: set[str] = set()
        """tasks that do not listen yet"""
        self.pems: dict[str, str] = {}
        self.used: list[str] = []
        self.begun: tuple[str, str] | None = None

    def told(self) -> Told:
        """As it says it, in its own words."""
        maps = ["".join(f"0x55d {key} {value}\n" for key, value in one.items()) for one in self.maps.values()]
        state = "".join(
            f"4 {place} 1 {task} {server.address.rpartition(':')[0].strip('[]')} {2 if server.up else 0}"
            f" {0 if server.serving else 1} 1 1 0 6 3 2 {6 if server.checked else 2} 0 0 0 -"
            f" {server.address.rpartition(':')[2]} - 0 0 - - 0\n"
            for place, there in self.servers.items()
            for task, server in there.items()
        )
        begun = f"# transaction\n*{self.begun[0]}\n" if self.begun else ""
        used = "".join(f"{host}:{line} {host}\n" for line, host in enumerate(self.used, 1))
        return proxywords.read(*maps, f"1\n# be_id\n{state}", begun + "# filename\n" + "\n".join(self.pems), used)

    def hear(self, *tasks: Backend, secrets: dict[str, File] | None = None) -> list[str]:
        web = webmesh.wanted(tasks, secrets or {})
        commands = proxywords.difference(web, self.told())
        before, after = self._led(), {place for place in web.routes if self._wanted(web, place)}
        for command in commands:
            line, _, payload = command.partition("\n")
            for each in line.split("; "):
                self.do(each.split(), payload)
            self.hold(before & after)
        self.find()
        for command in proxywords.difference(web, self.told()):
            if command.startswith("disable health"):  # those that were found now
                self.do(command.split(), "")
        return commands

    def find(self) -> None:
        """Checks have passed."""
        for there in self.servers.values():
            for name, server in there.items():
                there[name] = server._replace(up=server.serving and name not in self.deaf)

    def hold(self, served: set[str]) -> None:
        """At no moment does a route lead to a backend without a server, nor one that is and will be served, to one
        where nobody answers."""
        for place in self.maps[ROUTES].values():
            assert self.servers.get(place) or place == TERMINATED or "://" in place, place
        assert served <= self._led(), "nobody serves meanwhile"
        up = {task for there in self.servers.values() for task, server in there.items() if server.up}
        assert not up & self.deaf, "nobody has found them"

    def _led(self) -> set[str]:
        return {route for route in self.maps[ROUTES] if self.answers(route)}

    def _wanted(self, web: Web, place: str) -> bool:
        key = web.routes[place]
        return not isinstance(key, str) and any(server.serving for server in web.servers[key].values())

    def do(self, words: list[str], payload: str) -> None:
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
                self._state(name, serving=True, up=True)  # as HAProxy says it, until it looked
            case ["enable" | "disable" as verb, "health", name]:
                place, _, task = name.partition("/")
                self.servers[place][task] = self.servers[place][task]._replace(checked=verb == "enable")
            case ["set", "server", name, "health", "down"]:
                self._state(name, serving=True)
            case ["set", "server", name, "state", "maint"]:
                self._state(name, serving=False)
            case ["del", "server", name] if name not in self.busy:
                place, _, task = name.partition("/")
                assert not self.servers[place].pop(task).serving
            case ["enable" | "disable" as verb, "dynamic-cookie", "backend", place]:
                (self.sticky.add if verb == "enable" else self.sticky.discard)(place)

            case ["new", "ssl", "cert", host]:
                assert host not in self.pems
                self.pems[host] = ""
            case ["set", "ssl", "cert", host, "<<"] if payload.startswith("-----BEGIN"):
                assert payload.endswith("\n") and "\n\n" not in payload and not self.begun and host in self.pems
                self.begun = host, payload
            case ["abort", "ssl", "cert", host]:
                self.begun = self.begun if self.begun and self.begun[0] != host else None
            case ["commit", "ssl", "cert", host] if self.begun and "KEY" in self.begun[1]:
                assert self.begun[0] == host
                self.pems[host], self.begun = self.begun[1], None
            case ["add", "ssl", "crt-list", _, "<<"]:
                (line,) = payload.splitlines()
                host, host = line.split()
                if self.pems[host]:
                    self.used.append(host)
            case ["del", "ssl", "crt-list", _, entry]:
                host, _, line = entry.partition(":")
                assert self.used[int(line) - 1] == host
                self.used[int(line) - 1] = "-"
            case ["del", "ssl", "cert", host]:
                assert host not in self.used
                del self.pems[host]

    def _state(self, name: str, *, serving: bool, up: bool = False) -> None:
        place, _, task = name.partition("/")
        self.servers[place][task] = self.servers[place][task]._replace(serving=serving, up=up)

    def answers(self, place: str) -> set[str]:
        """Addresses that a request for this host name and path may go to."""
        place = webmesh.url(place)
        fits = [route for route in self.maps[ROUTES] if place.startswith(route)]
        backend = self.maps[ROUTES][max(fits, key=len)] if fits else ""
        return {server.address for server in self.servers.get(backend, {}).values() if server.serving and server.up}


@pytest.mark.parametrize(
    ("value", "route"),
    [
        ("8080=http://red.example.com", "8080=red.example.com/"),
        ("8080=http://RED.Example.com:80/API/v1", "8080=red.example.com/API/v1"),
        ("80=https://a.b/", "80=sni://a.b/"),
        ("external_route=http://a.b/x,internal_port=8080,sticky_sessions=id", "8080=a.b/x;sticky"),
        ("8080=http://a.b,sticky_sessions=id", "8080=a.b/;sticky"),
        ("8080=https://a.b,certificate=red", "8080=https://a.b/;tls=red"),
        (
            "8080=https://A.b/x,certificate=red,key=red.key,sticky_sessions=",
            "8080=https://a.b/x;sticky;tls=red,red.key",
        ),
        ("8443=https://a.b", "8443=sni://a.b/"),
        ("external_route=sni://a.b,internal_port=8443", "8443=sni://a.b/"),
        ("external_route=http://a.b,redirect=https://a.b", "0=a.b/;to=https://a.b/"),
        ("https://a.b,certificate=red,redirect=http://c.d:81/x", "0=https://a.b/;tls=red;to=http://c.d:81/x"),
        ("80=http://", "80=http://"),
        ("external_route=sni://,internal_port=443", "443=sni://"),
    ],
)
def test_labels_say_which_names_lead_where(value: str, route: str) -> None:
    assert webmesh.routes({UCP: value, "other": "x"}) == (route,)
    assert ROUTE.fullmatch(route)


def test_a_service_may_have_several_names() -> None:
    labels = {"fairlead.http": "80=http://a.b", "fairlead.http.1": "81=http://c.d", "fairlead.httpx": "not ours"}
    assert webmesh.routes(labels) == ("80=a.b/", "81=c.d/")
    assert webmesh.routes({UCP: "80=http://a.b,81=https://c.d"}) == ("80=a.b/", "81=sni://c.d/")


def test_the_only_published_port_need_not_be_named() -> None:
    one, other = ServicePort(target_port=80, published_port=8000), ServicePort(target_port=81)
    label = {UCP + ".web": "external_route=http://a.b"}
    assert webmesh.routes(label, (one, one)) == ("80=a.b/",)
    for ports in ((), (one, other)):
        with pytest.raises(Invalid):
            webmesh.routes(label, ports)
    named = {UCP: "https://a.b,certificate=x,key=y", "other": "z"}
    assert (webmesh.certificates(named), webmesh.secrets(named)) == ({"x,y"}, {"x", "y"})
    assert webmesh.secrets({UCP: "nonsense"}) == set()


@pytest.mark.parametrize(
    "value",
    ["", "8080", "http://a.b", "x=http://a.b", "0=http://a.b", "70000=http://a.b", "80=ftp://a.b", "80=http://a b",
     "80=http://a.b/;del map x", "80=http://a.b/x\nshutdown", "80=http://-a.b", "80=http://a.b/ü",
     "80=https:///x,certificate=red", "80=http://a.b,certificate=red", "80=sni://a.b,certificate=red",
     "80=https://a.b,certificate=r;ed", "80=https://a.b,certificate=r ed", "80=https://a.b,certifcate=red",
     "80=sni://a.b/x", "80=https://a.b/x", "80=sni://a.b,sticky_sessions=id", "http://a.b,redirect=sni://a.b",
     "http://a.b,redirect=", "80=https://,certificate=red", "80=http:///x"],
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
    assert not proxywords.finished(webmesh.wanted(now), proxy.told())
    assert proxy.hear(*now) == [f"set server b0/t{number} state maint" for number in old]
    assert proxywords.finished(webmesh.wanted(now), proxy.told()) and len(proxy.answers("a.b/")) == 2


def test_who_was_found_is_looked_at_no_more() -> None:
    proxy = Haproxy()
    proxy.deaf = {"t3"}
    proxy.hear(task(2, "80=a.b/"), task(3, "80=a.b/"))
    assert {name: server.checked for name, server in proxy.told().servers["b0"].items()} == {"t2": False, "t3": True}


def test_haproxy_follows_when_it_has_met_the_task_or_left_it_alone() -> None:
    def told(*servers: Server) -> Told:
        return Told({}, {}, {"b0": {"t2": servers[0]}, "b1": {"t2": servers[-1], "t3": Server("")}})

    for server, serves, leaves in (
        (Server("", serving=True, up=True), True, False),
        (Server("", serving=True, up=False), False, False),
        (Server("", serving=False, up=False), False, True),
    ):
        assert (proxywords.follows(told(server), "t2", True), proxywords.follows(told(server), "t2", False)) == (
            serves,
            leaves,
        )
    both = told(Server("", serving=True, up=True), Server("", serving=False))
    assert not proxywords.follows(both, "t2", True) and not proxywords.follows(both, "t2", False)
    assert proxywords.follows(Told({}, {}, {}), "t2", False) and not proxywords.follows(Told({}, {}, {}), "t2", True)


def test_services_come_and_go_and_the_place_of_one_is_another_ones_when_it_is_empty() -> None:
    proxy = Haproxy()
    proxy.hear(task(2, "80=a.b/", service="a"), task(3, "80=c.d/", service="c"))
    proxy.busy = {"b0/t2"}
    proxy.hear(task(3, "80=c.d/", service="c"), task(4, "80=e.f/", service="e"))
    assert proxy.answers("a.b/") == set() and proxy.maps[LEDGER]["e:80"] == "b2", "the old one still has guests"
    proxy.busy = set()
    proxy.hear(task(3, "80=c.d/", service="c"), task(4, "80=e.f/", service="e"))
    proxy.hear(task(3, "80=c.d/", service="c"), task(4, "80=e.f/", service="e"))
    assert "a:80" not in proxy.maps[LEDGER]
    proxy.hear(task(3, "80=c.d/", service="c"), task(4, "80=e.f/", service="e"), task(5, "80=g.h/", service="g"))
    assert proxy.maps[LEDGER]["g:80"] == "b0"


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
    assert proxy.sticky == {proxy.maps[LEDGER]["a:80:sticky"]}


PEM = b"-----BEGIN CERTIFICATE-----\r\nabc\r\n\r\n-----END CERTIFICATE-----"
KEY = b"-----BEGIN PRIVATE KEY-----\nsecret\n-----END PRIVATE KEY-----\n"


def files(red: str) -> dict[str, File]:
    return {"red": File(red, PEM), "red.key": File("k" + red, KEY)}


def test_a_certificate_comes_before_its_name_is_exchanged_and_goes() -> None:
    proxy, led = Haproxy(), task(2, "8080=https://a.b/;tls=red,red.key")
    commands = proxy.hear(led, secrets=files("1"))
    assert [proxywords.shown(one) for one in commands[:5]] == [
        "new ssl cert a.b", "set ssl cert a.b <<", "commit ssl cert a.b", "abort ssl cert a.b",
        "add ssl crt-list /etc/fairlead/certificates.list <<",
    ]  # fmt: skip
    assert not any("secret" in proxywords.shown(command) for command in commands)
    assert proxy.pems["a.b"].encode() == PEM.replace(b"\r\n\r\n", b"\n").replace(b"\r", b"") + b"\n" + KEY
    assert proxy.maps[ROUTES] == {"sni://a.b/": TERMINATED, "https://a.b/": "b0"} and proxy.used == ["a.b"]
    assert proxy.hear(led, secrets=files("1")) == [] == proxy.hear(led), "said once; unknown for now: it stays"
    commands = proxy.hear(led, secrets=files("2"))
    assert [one.split()[0] for one in map(proxywords.shown, commands)] == ["set", "commit", "abort", "set"]
    proxy.hear(task(2, "8080=a.b/"))
    assert not proxy.pems and proxy.used == ["-"] and proxy.maps[LEDGER].keys() == {"red:8080"}


def test_a_certificate_that_is_none_leaves_the_one_before_and_blocks_nobody() -> None:
    proxy, led = Haproxy(), task(2, "8080=https://a.b/;tls=red,red.key")
    proxy.hear(led, secrets=files("1"))
    before = proxy.pems["a.b"]
    proxy.hear(led, secrets={"red": File("2", b"nonsense"), "red.key": File("k2", b"")})
    other = task(3, "8080=https://c.d/;tls=blue", service="other")
    good = {"red": File("2", PEM), "red.key": File("k2", b""), "blue": File("b", PEM + b"\n" + KEY)}
    proxy.hear(led, other, secrets=good)
    assert proxy.pems["a.b"] == before == proxy.pems["c.d"] and proxy.used == ["a.b", "c.d"]
    proxy.begun = "x.y", "of an engine that was killed"
    proxy.hear(led, other, secrets={**good, "blue": File("c", PEM + b"\n" + KEY.replace(b"secret", b"other"))})
    assert proxy.begun is None and proxy.pems["c.d"] != before


def test_bytes_of_tls_are_passed_on_and_a_name_may_be_another_s() -> None:
    proxy = Haproxy()
    proxy.hear(
        task(2, "443=sni://a.b/"), task(3, "443=sni://", "80=http://", service="x"), task(4, "0=c.d/;to=https://a.b/x/")
    )
    assert proxy.maps[ROUTES]["sni://a.b/"] == "p0" and proxy.maps[ROUTES]["http://c.d/"] == "https://a.b/x"
    assert proxy.answers("sni://a.b/") == {"10.0.1.2:443"} and proxy.answers("sni://c.d/") == {"10.0.1.3:443"}
    assert proxy.answers("e.f/") == {"10.0.1.3:80"} and proxy.answers("c.d/") == set()


def test_a_name_moves_when_somebody_was_found_where_it_moves_to() -> None:
    """The port of a service is another with an update."""
    proxy = Haproxy()
    proxy.deaf = {"t1"}
    now = [task(1, "81=a.b/"), task(2, "80=a.b/")]
    proxy.hear(now[1])
    proxy.hear(*now)
    assert proxy.answers("a.b/") == {"10.0.1.2:80"} and not proxywords.finished(webmesh.wanted(now), proxy.told())
    proxy.deaf = set()
    proxy.find()
    proxy.hear(*now)
    assert proxy.answers("a.b/") == {"10.0.1.1:81"} and proxywords.finished(webmesh.wanted(now), proxy.told())


@pytest.mark.parametrize(
    ("before", "after", "seen"),
    [
        (("80=a.b/",), ("80=c.d/", "81=e.f/"), ("80=c.d/", "81=e.f/")),
        (("80=a.b/", "81=e.f/"), ("80=a.b/",), ("80=a.b/",)),
        (("80=a.b/",), (), ()),
        (("80=a.b/",), ("8000=a.b/",), ("80=a.b/",)),
    ],
)
def test_a_task_that_runs_has_new_names_but_no_other_port(
    before: tuple[str, ...], after: tuple[str, ...], seen: tuple[str, ...]
) -> None:
    own = ServicePart("s", "red", "t1", vip="10.0.1.9", serving=True, ports=("8080:80/tcp",), routes=before)
    new = ServicePart("s", "red", "t1", vip="10.0.1.8", weight=3, ports=("eth1@8080:80/tcp",), routes=after)
    wish = ServicePart("s", "red", "t1", "10.0.1.9", (), True, 3, ("eth1@8080:80/tcp",), "", "", seen)
    assert serving.relabelled(own, new) == wish
    assert serving.relabelled(own, replace(new, ports=("8080:8000/tcp",))).ports == own.ports


def test_what_a_task_expects_of_its_ports_stays_with_it() -> None:
    own = ServicePart("s", "red", "t1", ports=("8080:80/tcp;v2", "eth1@53:53/udp"))
    new = replace(own, ports=("10.1.2.3@8080:80/tcp", "53:53/udp"))
    assert serving.relabelled(own, new).ports == ("10.1.2.3@8080:80/tcp;v2", "53:53/udp")


def test_who_finds_no_place_is_named() -> None:
    tasks = [task(n, f"80=s{n}.example.com/", service=f"s{n:03}") for n in range(BACKENDS + 2)]
    proxy = Haproxy()
    proxy.hear(*tasks[:-1])
    web = webmesh.wanted(tasks, {})
    assert {key.service for key in proxywords.without_place(web, proxy.told())} == {
        tasks[-1].part.service,
        tasks[-2].part.service,
    }
    assert proxywords.without_place(webmesh.wanted(tasks[2:], {}), Told({}, {}, {})) == set()
