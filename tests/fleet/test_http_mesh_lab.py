"""UCP's lab of the HTTP routing mesh: RED and WHITE behind one port of every node, told apart by name.

Enabling it is a click in UCP; here it is ``fairlead mesh http enable``, whichever client types the rest.
"""

import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from fleet.askers import ASKING, asked
from fleet.hosts import SLOW, Fleet
from lane.certificates import certificate
from lane.client import path_of
from lane.machine import eventually, run, strain
from scenarios.rows import rows

HOSTS = ("manager1", "worker1", "worker2")
IMAGES = ("busybox",)
DEMO = """
mkdir -p /tmp/cgi-bin; echo "$TITLE" > /tmp/index.html
printf '#!/bin/sh\\nprintf "\\\\n$HTTP_X_FORWARDED_FOR"\\n' > /tmp/cgi-bin/who; chmod +x /tmp/cgi-bin/who
exec httpd -f -p 8080 -h /tmp
"""
"""What the lab's image is for: a web server on 8080 that says its title."""
BLUE = """\
defaults
    mode http
    timeout connect 3s
    timeout client 9s
    timeout server 9s
frontend blue
    bind :8443 ssl crt /run/secrets/blue
    http-request return status 200 content-type text/plain string BLUE
"""
RATE = 200
"""requests per second; fewer on a machine that has more to do than processors"""
ENOUGH = 20
"""requests that must have been made while a deed lasted"""

pytestmark = pytest.mark.skipif(not shutil.which("haproxy", path="/usr/sbin:/usr/bin"), reason="Debian's haproxy")


@pytest.fixture(scope="module")
def mesh(hosts: Fleet, balances_or_not: bool) -> Fleet:
    """A swarm with the HTTP mesh on port 80."""
    if not balances_or_not:
        pytest.skip("dockerd has no HTTP mesh")
    hosts.swarm(1)
    fairlead(hosts, "mesh http enable --port 80 --https 443")
    hosts["manager1"].converged("ucp-hrm", len(HOSTS))
    return hosts


@pytest.fixture
def measured(client: str) -> None:
    """The test counts requests for as long as it takes: once is enough, whoever types."""
    if client != path_of("docker"):
        pytest.skip("measured with the stock client")


def fairlead(hosts: Fleet, command: str) -> str:
    """Type Fairlead's own command on the manager."""
    docker = hosts["manager1"].docker
    before, docker.binary = docker.binary, path_of("fairlead")
    try:
        return docker(command, timeout=SLOW).out
    except AssertionError as error:
        raise AssertionError(f"{error}\n{hosts['manager1'].engine.log.read_text()[-4000:]}") from None
    finally:
        docker.binary = before


def create(hosts: Fleet, name: str, scale: int, port: int) -> None:
    label = f"com.docker.ucp.mesh.http=8080=http://{name.lower()}.example.com"
    words = f"--name {name} --replicas {scale} -p {port}:8080 --network ucp-hrm --label {label} -e TITLE={name}"
    words += " -d --stop-grace-period 2s"
    hosts["manager1"].docker([*f"service create {words} busybox sh -c".split(), DEMO], timeout=SLOW)
    hosts["manager1"].converged(name, scale)


def asked_for(hosts: Fleet, name: str, path: str = "/") -> dict[str, str]:
    """Host -> what the world gets from its port 80 when it asks for that name."""
    words = ["curl", "-s", "-m", "5", "-H", f"Host: {name}"]
    return {host: hosts.outside([*words, f"http://{found.address}{path}"]).out for host, found in hosts.items()}


@rows("S148")
def test_the_lab(mesh: Fleet) -> None:
    first = mesh["manager1"]
    assert mesh["worker1"].networks()["ucp-hrm"][1:] == ["overlay", "swarm"]
    create(mesh, "RED", 3, 5000)
    create(mesh, "WHITE", 2, 5001)
    for name in ("RED", "WHITE"):
        eventually(lambda name=name: set(asked_for(mesh, f"{name.lower()}.example.com").values()) == {name}, name)
    assert set(asked_for(mesh, "blue.example.com").values()) == {"no service has this name and path"}
    assert set(asked_for(mesh, "red.example.com", "/cgi-bin/who").values()) == {mesh.outside.address}, (
        "who asks is known"
    )
    assert "red.example.com/" in fairlead(mesh, "mesh http ls")
    assert first.docker.json("service inspect RED")[0]["Spec"]["Labels"] == {  # type: ignore[index]
        "com.docker.ucp.mesh.http": "8080=http://red.example.com"
    }


@contextmanager
def watched(hosts: Fleet, port: int, *names: str) -> Iterator[None]:
    """Requests for these names come in by every host; none may be lost."""
    places = [f"{name}.example.com@{host.address}" for name in names for host in hosts.values()]
    rate = str(RATE / strain())
    with asked(["nsenter", f"--net={hosts.outside.network}", *ASKING, rate, str(port), *places]) as found:
        yield
    (counts,) = found
    print(f"{port}: {counts.asked} requests, {counts.rate:.0f} a second, {counts.lost} lost")
    assert counts.lost == 0, f"{counts.lost} of {counts.asked} lost: {counts.first}"
    assert counts.asked > ENOUGH


def updated(hosts: Fleet, words: str) -> None:
    """Type an update, and wait until it is done."""
    first, name = hosts["manager1"], words.split()[-1]
    first(f"service update -d {words}")
    state = f"service inspect -f {{{{.UpdateStatus.State}}}} {name}"
    eventually(lambda: first.docker(state).out == "completed", f"{words} is done", SLOW)


def test_no_request_is_lost_while_services_change(mesh: Fleet, measured: None) -> None:
    first = mesh["manager1"]
    with watched(mesh, 80, "red", "white"):
        updated(mesh, "--force --update-parallelism 2 --update-delay 0s --update-monitor 1s RED")
        first("service scale -d WHITE=5")
        first.converged("WHITE", 5)
        updated(mesh, "--force --update-parallelism 2 RED")
        first("service scale -d WHITE=1")
        first.converged("WHITE", 1)
        updated(mesh, "--force --update-parallelism 3 --update-order start-first RED")


def test_no_request_is_lost_while_haproxy_is_exchanged(mesh: Fleet, measured: None) -> None:
    with watched(mesh, 80, "red"):
        updated(mesh, "--force --update-monitor 1s ucp-hrm")


def test_a_name_is_changed_while_its_tasks_run(mesh: Fleet) -> None:
    first, before = mesh["manager1"], mesh["manager1"].placed("WHITE")
    first("service update -d --label-add fairlead.http=8080=http://snow.example.com/ WHITE")
    eventually(lambda: set(asked_for(mesh, "snow.example.com").values()) == {"WHITE"}, "snow")
    first("service update -d --label-rm fairlead.http WHITE")
    eventually(lambda: "WHITE" not in asked_for(mesh, "snow.example.com").values(), "no snow")
    assert first.placed("WHITE") == before


# -- HTTPS ------------------------------------------------------------------------------------------------------------


class Papers:
    """Certificates and their keys, as files and as secrets of the swarm."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.ca = folder, certificate(folder, "ca")
        self.keys: list[str] = []

    def secret(self, hosts: Fleet, secret: str, name: str) -> None:
        """A certificate for ``name``, and its key."""
        cert, key = certificate(self.folder, secret, self.ca, f"127.0.0.1,DNS:{name}.example.com")
        whole = self.folder / f"{secret}-both.pem"
        whole.write_text(Path(cert).read_text() + Path(key).read_text())
        self.keys.append(Path(key).read_text().splitlines()[1])
        hosts["manager1"](f"secret create {secret} {whole}")

    def shown(self, hosts: Fleet, name: str) -> set[str]:
        """Which certificates the hosts show for that name: their organization."""
        words = f"openssl s_client -servername {name}.example.com -connect"
        told = [hosts.outside([*words.split(), f"{host.address}:443"]).everything for host in hosts.values()]
        return {(re.search(r"^subject=O = (\S+)", text, re.MULTILINE) or ["", "none"])[1] for text in told}


@pytest.fixture(scope="module")
def papers(mesh: Fleet, tmp_path_factory: pytest.TempPathFactory) -> Papers:
    """RED has the name red.example.com over HTTPS."""
    made = Papers(tmp_path_factory.mktemp("papers"))
    made.secret(mesh, "red-one", "red")
    mesh["manager1"](
        "service update -d --label-add fairlead.http=8080=https://red.example.com,certificate=red-one"
        " --label-add fairlead.http.old=http://old.example.com,redirect=https://red.example.com RED"
    )
    eventually(lambda: made.shown(mesh, "red") == {"red-one"}, "every host shows it")
    return made


def asked_safely(hosts: Fleet, papers: Papers, name: str) -> dict[str, str]:
    """Host -> what the world gets from its port 443, if it can believe it."""
    words = ["curl", "-sS", "-m", "5", "--cacert", papers.ca[0]]
    return {
        host: hosts.outside([*words, "--resolve", f"{name}:443:{found.address}", f"https://{name}/"]).everything
        for host, found in hosts.items()
    }


def test_https_by_a_certificate_from_a_secret(mesh: Fleet, papers: Papers) -> None:
    assert set(asked_safely(mesh, papers, "red.example.com").values()) == {"RED"}
    none = set(asked_safely(mesh, papers, "white.example.com").values())
    assert all("unrecognized name" in text for text in none), none
    assert "red-one" in fairlead(mesh, "mesh http ls")
    words = ["curl", "-s", "-o", "/dev/stdout", "-w", "%{redirect_url}", "-H", "Host: old.example.com"]
    for host in mesh.values():
        assert mesh.outside([*words, f"http://{host.address}/x?y=z"]).out == "https://red.example.com/x?y=z"
    mesh["manager1"].docker.refused("secret rm red-one", "secret 'red-one' is in use by the following service: RED")


def test_a_certificate_is_exchanged_while_requests_pass(mesh: Fleet, papers: Papers) -> None:
    first, before = mesh["manager1"], mesh["manager1"].placed("RED")
    proxies = first.placed("ucp-hrm")
    with watched(mesh, 443, "red"):
        for secret in ("red-two", "red-three"):
            papers.secret(mesh, secret, "red")
            label = f"fairlead.http=8080=https://red.example.com,certificate={secret}"
            first(f"service update -d --label-add {label} RED")
            eventually(lambda secret=secret: papers.shown(mesh, "red") == {secret}, f"every host shows {secret}")
        updated(mesh, "--force --update-parallelism 2 RED")
    assert set(asked_safely(mesh, papers, "red.example.com").values()) == {"RED"}
    assert before and first.placed("ucp-hrm") == proxies, "nobody was started anew for it"
    first("secret rm red-one red-two")


def test_what_is_no_certificate_is_refused(mesh: Fleet, papers: Papers) -> None:
    first = mesh["manager1"]
    words = "service update -d --label-add fairlead.http=8080=https://red.example.com,certificate="
    first.docker.refused(f"{words}nobody RED", "secret not found: nobody")
    first(f"secret create only-a-key {papers.folder / 'red-one-key.pem'}")
    first.docker.refused(f"{words}only-a-key RED", "secret only-a-key has no certificate")
    assert papers.shown(mesh, "red") == {"red-three"}


def test_tls_without_a_certificate_is_passed_on_unread(mesh: Fleet, papers: Papers) -> None:
    """BLUE ends TLS itself: with haproxy, of which each host has an image."""
    first = mesh["manager1"]
    for host in mesh.values():
        host("tag fairlead/http-mesh own-tls")
    papers.secret(mesh, "blue", "blue")
    config = papers.folder / "blue.cfg"
    config.write_text(BLUE)
    first(f"config create blue.cfg {config}")
    first(
        "service create -d --name BLUE --replicas 2 --network ucp-hrm --secret blue --config source=blue.cfg,target=/c"
        " --stop-signal USR1"
        " --label com.docker.ucp.mesh.http.443=external_route=sni://blue.example.com,internal_port=8443"
        " own-tls /haproxy -db -f /c"
    )
    first.converged("BLUE", 2)
    eventually(lambda: set(asked_safely(mesh, papers, "blue.example.com").values()) == {"BLUE"}, "BLUE")
    assert papers.shown(mesh, "blue") == {"blue"} and papers.shown(mesh, "red") == {"red-three"}
    with watched(mesh, 443, "blue", "red"):
        updated(mesh, "--force --update-monitor 1s BLUE")
    first("service rm BLUE")


def test_no_key_is_told_to_anybody(mesh: Fleet, papers: Papers) -> None:
    """Not in logs, process lists, on disks, or what doctor says."""
    for host in mesh.values():
        said = [host.engine.log.read_text(), run(["ps", "axww"]).everything]
        said += [host.docker(["logs", task]).everything for task in host.tasks("ucp-hrm")]
        said += [host.docker(f"inspect {task}").everything for task in host.tasks("ucp-hrm")]
        said.append(run([path_of("fairlead"), "-H", host.docker.host, "doctor"]).everything)
        for key in papers.keys:
            assert not any(key in text for text in said)
            found = run(["grep", "-rlF", "--", key, str(host.engine.base)], timeout=60).lines
            assert host.name == "manager1" or not found, found


def test_a_label_that_makes_no_sense_is_refused(mesh: Fleet) -> None:
    words = "service create --label com.docker.ucp.mesh.http=http://red.example.com --name odd busybox sleep 99"
    mesh["manager1"].docker.refused(words, "expected 8080=http://name.example.com")


def test_it_goes_when_nobody_is_on_it(mesh: Fleet) -> None:
    first = mesh["manager1"]
    first("service rm RED WHITE")
    first("secret rm red-three")
    fairlead(mesh, "mesh http disable")
    assert "ucp-hrm" not in first("service ls") and "ucp-hrm" not in first.networks()
    eventually(lambda: not any(host.tasks("ucp-hrm") for host in mesh.values()), "no HAProxy is left", SLOW)
