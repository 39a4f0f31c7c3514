"""What is explained, and diagnosed, is what happens: real containers, real names, a real neighbour."""

import json
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlencode

import pytest

from lane.engines import Engine, Fairlead, clean
from lane.machine import Result, eventually
from scenarios.lab import Lab

pytestmark = pytest.mark.lab

SERVE = "sh -c 'httpd -p 80 -h /www; httpd -f -p 81 -h /www'"


def fairlead(lab: Lab, words: str) -> Result:
    """Type a command of ours on the host."""
    return lab.host([sys.executable, "-m", "fairlead", "-H", f"unix://{lab.engine.socket}", *words.split()])


@pytest.fixture(scope="module")
def town(lan: object, engine: Engine) -> Iterator[Lab]:
    """Containers of every kind, each serving a page at 80 and 81."""
    if not isinstance(engine, Fairlead):
        pytest.skip("only ours explains")
    lab = Lab(lan, engine)  # type: ignore[arg-type]
    lab.docker("network create RED")
    lab.docker("network create BLUE")
    lab.docker("network create --internal DEEP")
    lab.docker("network create -o com.docker.network.bridge.enable_icc=false APART")
    lab.docker("network create -o com.docker.network.bridge.gateway_mode_ipv4=routed OPEN")
    lab.docker("network create -o com.docker.network.bridge.gateway_mode_ipv4=isolated --internal ALONE")
    lab.docker("network create --ipv6 --subnet fd00:7::/64 SIX")
    for name, options in {
        "web": "--net RED -p 8080:80 -p 127.0.0.1:8081:81",
        "db": "--net RED --network-alias store",
        "api": "--net BLUE",
        "vault": "--net DEEP",
        "safe": "--net DEEP",
        "one": "--net APART",
        "two": "--net APART -p 8090:80",
        "site": "--net OPEN -p 80",
        "alone": "--net ALONE",
        "alone2": "--net ALONE",
        "six": "--net SIX -p 8086:80",
        "seven": "--net SIX",
        "left": "",
        "right": "",
        "nobody": "--net none",
        "side": "--net container:db",
    }.items():
        lab.run(
            f"-d --name {name} {options} busybox sleep 1000"
            if name == "side"
            else f"-d --name {name} {options} busybox {SERVE}"
        )
    lab.run("-d --name house --net host busybox sleep 1000")
    eventually(lambda: lab.inside("web", "timeout 1 wget -q -O- http://127.0.0.1:81/").code == 0, "the pages")
    yield lab
    clean(engine)


CONTAINERS = ("web", "db", "api", "vault", "one", "site", "alone", "six", "left", "nobody", "side")
TARGETS = (
    "web:80", "web:81", "web:8080", "db:80", "store:80", "api:80", "vault:80", "safe:80", "two:80", "site:80",
    "site:81", "alone2:80", "six:80", "seven:80", "left:80", "right:80", "host:8080", "host:8081", "host:8090",
    "127.0.0.1:80",
)  # fmt: skip


def explained(lab: Lab, source: str, target: str, family: str = "") -> tuple[bool, dict]:
    """Whether a page would come, as ``explain`` has it: it arrives as typed, where somebody serves that port."""
    query = urlencode({"from": source, "to": target, "family": family, "check": 1})
    answer = lab.engine.http().call("GET", f"/fairlead/explain?{query}").json
    assert isinstance(answer, dict) and not answer["Differs"], answer
    last = answer["Hops"][-1]["Says"]
    serves = answer["Place"].startswith("container ") and any(f"port {port} tcp" in last for port in (80, 81))
    return answer["Works"] and serves, answer


def page(lab: Lab, container: str, target: str) -> bool:
    """Whether a page does come."""
    return lab.inside(container, f"timeout 1 wget -q -O- http://{target}/").code == 0


@pytest.mark.parametrize("source", CONTAINERS)
def test_from_containers(town: Lab, source: str) -> None:
    calls = [target for target in TARGETS if (source, target[:4]) != ("side", "127.")]  # its loopback is db's
    called = [target.replace("host:", f"{town.host.address}:") for target in calls]
    with ThreadPoolExecutor(8) as at_once:
        pages = list(at_once.map(lambda target: page(town, source, target), called))
    said = [explained(town, source, target) for target in calls]
    wrong = [
        f"{source} -> {target}: explained {expected} ({answer['Verdict']})"
        for target, (expected, answer), real in zip(calls, said, pages, strict=True)
        if expected != real
    ]
    assert not wrong, "\n".join(wrong)


def test_from_containers_by_ipv6(town: Lab) -> None:
    for source, target in (("six", "seven:80"), ("six", "db:80"), ("db", "six:80")):
        said, answer = explained(town, source, target, "6")
        address = town.docker.field(
            target.split(":")[0], "range .NetworkSettings.Networks}}{{.GlobalIPv6Address}}{{end"
        )
        happens = bool(address) and page(town, source, f"[{address}]:80")
        assert said == happens, answer


def test_from_the_host_and_from_outside(town: Lab) -> None:
    addresses = {
        name: town.docker.field(name, "range .NetworkSettings.Networks}}{{.IPAddress}}{{end")
        for name in CONTAINERS[:-2]
    }
    for name, address in addresses.items():
        town.outside(f"ip route replace {address}/32 via {town.host.address}")
        said, answer = explained(town, "host", f"{name}:80")
        assert said == town.host.reaches(address, 80), ("host", name, answer)
        said, answer = explained(town, "world", f"{name}:80")
        assert said == town.outside.reaches(address, 80), ("world", name, answer)
        town.outside(f"ip route del {address}/32")
    for port in (8080, 8081, 8090, 8086):
        for source, here in (("host", town.host), ("world", town.outside), ("house", town.host)):
            called = town.host.address if source == "world" else "127.0.0.1"
            said, answer = explained(town, source, f"host:{port}")
            assert said == here.reaches(called, port), (source, port, answer)
    assert explained(town, "host", "[::1]:8080")[0] == town.host.reaches("::1", 8080)
    assert explained(town, "host", "[::1]:8086")[0] == town.host.reaches("::1", 8086)


def test_the_doctor_tells_what_was_put_right(town: Lab) -> None:
    assert fairlead(town, "doctor").code == 0
    town.host.must("nft delete table inet fairlead")
    plug = next(line.split("@")[0] for line in town.host.links() if line.startswith("veth"))
    town.host.must(f"ip link del {plug}")
    eventually(lambda: f"link  {plug}" in fairlead(town, "doctor"), "the repair is told")
    eventually(lambda: fairlead(town, "doctor").code == 0, "all is well again")
    told = fairlead(town, "doctor")
    assert "all is well" in told and "put right lately" in told and "skeleton" in told
    assert json.loads(fairlead(town, "doctor --json").out)["Healthy"] is True


def test_the_doctor_finds_what_is_not_put_right(town: Lab) -> None:
    """A setting changes without a message: nobody repairs it before the next round, so the doctor sees it first."""
    device = next(line for line in town.host.links() if line.startswith("br-"))
    place = f"net/ipv4/conf/{device}/route_localnet"
    town.host.must(f"sysctl -q -w {place}=0")
    found = fairlead(town, "doctor")
    assert found.code == 1 and place in found and "different" in found, found
    town.host.must(f"sysctl -q -w {place}=1")
    assert fairlead(town, "doctor").code == 0


def test_a_plan_leaves_nothing(town: Lab) -> None:
    before = (town.host.must("nft list ruleset").out, town.host.links(), town.docker("network ls").out)
    planned = fairlead(town, "plan network create --internal --subnet 10.77.0.0/24 NEW")
    assert "address=10.77.0.1/24" in planned and planned.code == 0
    volumes = town.docker("volume ls -q").lines
    planned = fairlead(town, "plan run --net RED -p 8085:80 -v things:/x --name new busybox")
    assert "tcp . 8085" in planned and planned.code == 0, planned
    refused = fairlead(town, "plan run -p 8080:80 busybox")
    assert refused.code == 1 and "port is already allocated" in refused
    assert before == (town.host.must("nft list ruleset").out, town.host.links(), town.docker("network ls").out)
    assert town.docker("volume ls -q").lines == volumes and "new" not in town.docker("ps -a").out
    assert "address link" in fairlead(town, "plan RED")
