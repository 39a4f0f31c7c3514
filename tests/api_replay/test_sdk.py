"""docker-py, the SDK of the Python world: networks, containers, exec, logs, events, an attached socket."""

import threading
import time
from collections.abc import Iterator
from typing import Any

import docker
import pytest
from docker.errors import APIError, NotFound
from docker.types import EndpointConfig, IPAMConfig, IPAMPool
from docker.utils.socket import frames_iter

from lane.engines import Engine, clean
from lane.images import PAGE
from lane.machine import eventually

pytestmark = pytest.mark.lab


@pytest.fixture
def client(engine: Engine) -> Iterator[docker.DockerClient]:
    client = docker.DockerClient(base_url=f"unix://{engine.socket}")
    yield client
    client.close()
    clean(engine)


def test_networks(client: docker.DockerClient) -> None:
    ipam = IPAMConfig(pool_configs=[IPAMPool(subnet="10.88.0.0/24", gateway="10.88.0.254")])
    network = client.networks.create("sdk", driver="bridge", ipam=ipam, labels={"a": "b"}, options={})
    assert network.attrs["IPAM"]["Config"] == [{"Subnet": "10.88.0.0/24", "Gateway": "10.88.0.254"}]
    assert [one.name for one in client.networks.list(filters={"label": "a=b"})] == ["sdk"]
    assert client.networks.list(names=["nosuch"]) == []
    container = client.containers.run("busybox", "sleep 1000", detach=True, name="one")
    network.connect(container, ipv4_address="10.88.0.7", aliases=["seven"])
    network.reload()
    assert network.containers == [container]
    container.reload()
    mine = container.attrs["NetworkSettings"]["Networks"]["sdk"]
    assert mine["IPAddress"] == "10.88.0.7" and "seven" in mine["Aliases"]
    other = client.containers.run(
        "busybox",
        "sleep 1000",
        detach=True,
        network="sdk",
        networking_config={"sdk": EndpointConfig("1.44", aliases=["other"])},
    )
    assert other.exec_run("ping -c1 -W1 seven").exit_code == 0
    assert container.exec_run("ping -c1 -W1 other").exit_code == 0
    with pytest.raises(APIError) as refused:
        network.remove()
    assert refused.value.status_code == 403
    network.disconnect(container)
    network.disconnect(other, force=True)
    network.remove()
    with pytest.raises(NotFound):
        client.networks.get("sdk")


def test_containers(engine: Engine, client: docker.DockerClient) -> None:
    assert client.containers.run("busybox", ["echo", "hello"], remove=True) == b"hello\n"
    with pytest.raises(docker.errors.ContainerError) as failed:
        client.containers.run("busybox", ["sh", "-c", "echo oh >&2; exit 3"], remove=True)
    assert failed.value.exit_status == 3 and b"oh" in failed.value.stderr
    web = client.containers.run("nginx", detach=True, ports={"80/tcp": ("127.0.0.1", 18181)}, labels={"kind": "web"})
    assert engine.machine.page("127.0.0.1", 18181) == PAGE
    web.reload()
    assert web.ports == {"80/tcp": [{"HostIp": "127.0.0.1", "HostPort": "18181"}]}
    assert [one.id for one in client.containers.list(filters={"label": "kind=web"})] == [web.id]
    web.pause()
    web.reload()
    assert web.status == "paused"
    web.unpause()
    web.rename("renamed")
    assert client.containers.get("renamed").id == web.id
    assert web.top()["Processes"]
    assert web.stats(stream=False)["memory_stats"]
    web.stop(timeout=0)
    assert web.wait()["StatusCode"] == 137
    web.remove()
    with pytest.raises(NotFound):
        client.containers.get("renamed")


def test_exec_streams_and_codes(client: docker.DockerClient) -> None:
    one = client.containers.run("busybox", "sleep 1000", detach=True)
    code, (out, err) = one.exec_run(["sh", "-c", "echo out; echo err >&2; exit 4"], demux=True)
    assert (code, out, err) == (4, b"out\n", b"err\n")
    _, stream = one.exec_run(["sh", "-c", "for i in 1 2 3; do echo $i; done"], stream=True)
    assert b"".join(stream) == b"1\n2\n3\n"
    _, found = one.exec_run("env", environment={"A": "b"}, workdir="/tmp", user="nobody")
    assert b"A=b" in found
    _, sock = one.exec_run("cat", socket=True, stdin=True)
    sock._sock.sendall(b"through the socket\n")
    sock._sock.shutdown(1)
    assert b"".join(data for _, data in frames_iter(sock, tty=False)) == b"through the socket\n"


def test_logs(client: docker.DockerClient) -> None:
    script = "for i in 1 2 3 4 5; do echo line $i; done; echo bad >&2; read x; echo got $x"
    one = client.containers.run("busybox", ["sh", "-c", script], detach=True, stdin_open=True)
    eventually(lambda: b"bad" in one.logs(), "all lines")
    assert one.logs(stdout=True, stderr=False).splitlines()[0] == b"line 1"
    assert len(one.logs(tail=2).splitlines()) == 2
    assert one.logs(stderr=False).splitlines() == [f"line {number}".encode() for number in range(1, 6)]
    assert one.logs(stdout=False) == b"bad\n"
    stamped = one.logs(timestamps=True, tail=1).decode()
    assert stamped[4] == "-" and stamped.split(" ", 1)[0].endswith("Z")
    following = one.logs(stream=True, follow=True)
    sock = one.attach_socket(params={"stdin": 1, "stream": 1})
    sock._sock.sendall(b"ahoy\n")
    assert b"got ahoy\n" in b"".join(following)  # ends with the container
    assert one.wait()["StatusCode"] == 0


def test_attach(client: docker.DockerClient) -> None:
    one = client.containers.create("busybox", "cat", stdin_open=True)
    sock = one.attach_socket(params={"stdin": 1, "stdout": 1, "stderr": 1, "stream": 1})
    one.start()
    sock._sock.sendall(b"hello attach\n")
    kind, data = next(frames_iter(sock, tty=False))
    assert (kind, data) == (1, b"hello attach\n")
    sock._sock.shutdown(1)  # half-closed: its input ends, its output may still come
    sock._sock.close()
    terminal = client.containers.create("busybox", "cat", stdin_open=True, tty=True)
    sock = terminal.attach_socket(params={"stdin": 1, "stdout": 1, "stream": 1})
    terminal.start()
    terminal.resize(40, 100)
    sock._sock.sendall(b"raw\n")
    seen = b""
    while b"raw\r\nraw\r\n" not in seen:
        more = sock._sock.recv(4096)
        assert more, seen
        seen += more


def test_events(client: docker.DockerClient) -> None:
    seen: list[dict[str, Any]] = []
    stream = client.events(decode=True, filters={"type": ["container", "network"]})

    def listen() -> None:
        for event in stream:
            seen.append(event)
            if event["Action"] == "destroy" and event["Type"] == "network":
                return

    listener = threading.Thread(target=listen)
    listener.start()
    time.sleep(0.1)  # the stream has no beginning that could be waited for
    network = client.networks.create("told")
    client.containers.run("busybox", "true", network="told", remove=True)
    network.remove()
    listener.join(10)
    stream.close()
    assert not listener.is_alive()
    actions = [(event["Type"], event["Action"]) for event in seen]
    wanted = [("network", "create"), ("container", "create"), ("network", "connect"), ("container", "start")]
    wanted += [("container", "die"), ("container", "destroy"), ("network", "destroy")]
    positions = [actions.index(one) for one in wanted]
    assert positions == sorted(positions), actions


def test_the_engine_itself(client: docker.DockerClient) -> None:
    assert client.ping()
    assert client.version()["ApiVersion"]
    assert client.info()["Swarm"]["LocalNodeState"] == "inactive"
    assert any("busybox:latest" in image.tags for image in client.images.list())
    assert client.df()["Images"]
    volume = client.volumes.create("box")
    wrote = client.containers.run(
        "busybox", ["sh", "-c", "echo kept > /v/f"], volumes={"box": {"bind": "/v"}}, remove=True
    )
    assert wrote == b""
    read = client.containers.run("busybox", "cat /v/f", volumes={"box": {"bind": "/v", "mode": "ro"}}, remove=True)
    assert read == b"kept\n"
    volume.remove()


@pytest.mark.parametrize("version", ["1.24", "1.41", "1.44", "1.51"])
def test_older_clients(engine: Engine, version: str) -> None:
    old = docker.APIClient(base_url=f"unix://{engine.socket}", version=version)
    try:
        made = old.create_container("busybox", "true", name=f"old{version}")
        old.start(made["Id"])
        assert old.wait(made["Id"])["StatusCode"] == 0
        assert old.inspect_container(made["Id"])["State"]["ExitCode"] == 0
    finally:
        old.close()
        clean(engine)
