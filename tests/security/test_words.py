"""What people write into requests is data: never part of a command, a path or a log."""

import base64
import json
import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

import pytest

from lane.machine import eventually
from scenarios.lab import Lab
from security.attack import listen

pytestmark = pytest.mark.lab
NAP = "busybox sleep 1000"
PASSWORD = "correct-horse-battery"


def evil_words(place: Path) -> list[str]:
    return [
        f"$(touch {place})", f"`touch {place}`", f"x;touch {place}", f"x\ntouch {place}", f"x|touch {place}",
        'x" } ; delete table inet fairlead', "../../../../../../tmp/x", "x\0y", "-x", "%s%n", "x" * 300,
    ]  # fmt: skip


@pytest.mark.proves(
    "CVE-2026-32241",
    guard=("core/bridgeoptions.py", "if value and not is_device_name(value):", "if False:"),
)
def test_words_stay_words(lab: Lab) -> None:
    """Every field that ends in a device, a rule, a file or a program's arguments."""
    place = lab.engine.base / "pwned"
    http = lab.engine.http()
    rules = lab.host.must("nft -s list table inet fairlead").out
    for number, words in enumerate(evil_words(place)):
        bridge = {"Name": f"n{number}", "Options": {"com.docker.network.bridge.name": words}}
        parent = {"Name": f"m{number}", "Driver": "macvlan", "Options": {"parent": words}}
        labelled = {"Name": f"l{number}", "Labels": {words: words}, "Options": {"x": words}}
        for body in (bridge, parent, labelled, {"Name": words}):
            answer = http.call("POST", "/networks/create", body)
            assert answer.status in (201, 400, 403, 404, 409, 500), (body, answer.data)
            assert b"internal error" not in answer.data, (body, answer.data)
            assert answer.status == 400 or body is not bridge or words == "-x", (body, answer.data)
        config = {
            "Image": "busybox", "Cmd": ["true"], "Hostname": words, "Domainname": words, "Labels": {words: words},
            "HostConfig": {"ExtraHosts": [f"{words}:1.2.3.4"], "Dns": [words], "DnsSearch": [words]},
            "NetworkingConfig": {"EndpointsConfig": {"bridge": {"Aliases": [words], "DriverOpts": {words: words}}}},
        }  # fmt: skip
        answer = http.call("POST", f"/containers/create?name=c{number}", config)
        if answer.status == 201:
            http.call("POST", f"/containers/c{number}/start")
    assert not place.exists()
    assert lab.host.must("nft -s list table inet fairlead").out.count("chain") == rules.count("chain")
    assert lab.engine.answers()
    for network in http.call("GET", "/networks").json:  # type: ignore[union-attr]
        http.call("DELETE", f"/networks/{network['Id']}")


@pytest.mark.proves(
    "CVE-2021-20206",
    guard=("core/validate.py", 'if not NAME.fullmatch(name.removeprefix("/")):', "if False:"),
)
def test_a_name_is_no_path(lab: Lab) -> None:
    http = lab.engine.http()
    for name in ("../x", "..", ".", "a/b", "/../../etc", "a\0b", "a\nb"):
        for driver in ("Driver", "IPAM"):
            body = {"Name": "n", "Driver": name} if driver == "Driver" else {"Name": "n", "IPAM": {"Driver": name}}
            assert http.call("POST", "/networks/create", body).status in (400, 404), (driver, name)
        answer = http.call("POST", f"/containers/create?name={quote(name, safe='')}", {"Image": "busybox"})
        assert answer.status == 400, ("container", name, answer.data)
        assert http.call("POST", "/volumes/create", {"Name": name}).status == 400, ("volume", name)
        assert http.call("POST", "/volumes/create", {"Name": "v", "Driver": name}).status in (400, 404), name


@contextmanager
def plain_registry(lab: Lab) -> Iterator[list[bytes]]:
    """A server at outside:5000 that speaks no TLS; what it was sent first."""
    said: list[bytes] = []
    with listen(lab.outside, 5000, kind=socket.SOCK_STREAM) as sock:

        def serve() -> None:
            while True:
                try:
                    peer, _ = sock.accept()
                except OSError:
                    return
                with peer:
                    peer.settimeout(2)
                    try:
                        said.append(peer.recv(4096))
                        peer.sendall(b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n")
                    except OSError:
                        continue
                    if said[-1] == b"over":
                        return

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield said
        finally:
            lab.outside.connect(lab.outside.address, 5000).sendall(b"over")
            thread.join()


@pytest.mark.proves(
    "CVE-2014-5277",
    guard=(
        "host/registry.py",
        "insecure = _LOOPBACK.fullmatch(ref.domain) or ref.domain in self._insecure",
        "insecure = True",
    ),
)
def test_a_registry_without_tls_is_not_spoken_to(lab: Lab) -> None:
    with plain_registry(lab) as said:
        refused = lab.docker.attempt(f"pull {lab.outside.address}:5000/x", timeout=30)
        assert refused.code != 0
        assert said and all(words[:1] == b"\x16" for words in said), said


@pytest.mark.proves(
    "CVE-2026-41184",
    guard=(
        "host/registry.py",
        '        return [f"{flag}={place.name}"]\n',
        '        __import__("logging").getLogger("x").warning("%s", entry)\n        return [f"{flag}={place.name}"]\n',
    ),
)
def test_credentials_are_told_nobody(lab: Lab) -> None:
    """Not the log, not the events, not whoever lists processes, and no file stays."""
    http = lab.engine.http()
    given = {"username": "joe", "password": PASSWORD, "serveraddress": f"{lab.outside.address}:5000"}
    header = base64.urlsafe_b64encode(json.dumps(given).encode()).decode()
    secrets = [PASSWORD, base64.b64encode(f"joe:{PASSWORD}".encode()).decode(), header]
    seen: list[str] = []
    over = threading.Event()

    def look() -> None:
        while not over.wait(0.005):
            for pid in lab.engine.processes():
                try:
                    seen.append(Path(f"/proc/{pid}/cmdline").read_text())
                except OSError:
                    continue

    watcher = threading.Thread(target=look)
    watcher.start()
    with plain_registry(lab):
        name = quote(f"{lab.outside.address}:5000/x", safe="")
        http.request("POST", f"/images/create?fromImage={name}&tag=1", headers={"X-Registry-Auth": header})
        http.getresponse().read()
        http.call("POST", "/auth", given)
    over.set()
    watcher.join()
    assert any("skopeo" in words for words in seen)
    told = "".join(seen) + lab.engine.log.read_text() + lab.docker("events --since 1h --until 0s").out
    assert not [secret for secret in secrets if secret in told]
    done = lab.host(["grep", "-rlE", "|".join(secrets), str(lab.engine.base / "data"), str(lab.engine.base / "exec")])
    assert done.out == ""


@pytest.mark.proves(
    "CVE-2018-15664",
    guard=(
        "host/rooted.py",
        'RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS)\n    name = os.fsencode(path) or b"."',
        '0)\n    name = os.fsencode(path.lstrip("/")) or b"."',
    ),
)
def test_cp_follows_no_link_out_of_the_container(lab: Lab, tmp_path: Path) -> None:
    """Also not when the container changes the link while we look."""
    host = lab.engine.base / "treasure"
    host.mkdir(mode=0o755)
    (host / "gold").write_text("gold")
    swap = f"mkdir -p /safe; while :; do rm -rf /x; ln -s {host} /x; rm -f /x; cp -r /safe /x; done"
    lab.run(f"-d --name still busybox sh -c 'ln -s {host} /x; sleep 1000'")
    lab.docker(["run", "-d", "--name", "racer", "busybox", "sh", "-c", swap])
    eventually(lambda: lab.inside("still", "test -L /x").code == 0, "the link")
    (tmp_path / "evil").write_text("evil")
    for name, times in (("still", 2), ("racer", 25)):
        for _ in range(times):
            lab.docker.attempt(["cp", str(tmp_path / "evil"), f"{name}:/x/evil"])
            lab.docker.attempt(["cp", f"{name}:/x/gold", str(tmp_path / "got")])
            assert not (host / "evil").exists() and not (tmp_path / "got").exists()
    assert os.listdir(host) == ["gold"]
