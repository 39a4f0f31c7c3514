"""Requests of every route, and bytes that are none, at the API's own socket; behind it the engine on paper.

What must be true: an answer comes; nothing is an "internal error"; nothing is logged with a traceback; no task of the
engine dies; what is refused leaves no record and no device.
"""

from __future__ import annotations

import asyncio
import atexit
import re
import signal
from types import SimpleNamespace
from typing import Any
from urllib.parse import quote, urlencode

from fuzz.mutate import Dice, written
from fuzz.paperapi import IMAGE, paper_api
from fuzz.targets import target

ANEW = 2000
"""inputs after which the engine on paper is made anew, so that what was created does not pile up"""
PATIENT, HASTY = 4.0, 0.01
"""seconds to wait for an answer that must come, and for one that may go on for ever"""
STREAMS = re.compile(r"/(events|logs|wait|stats|attach|attach/ws|session|exec/[^/]*/start|top)(\?|$)")

NAMES = (
    "c1",
    "c2",
    "c3",
    "net1",
    "net2",
    "vol1",
    "bridge",
    "host",
    "none",
    "busybox",
    "busybox:latest",
    IMAGE,
    IMAGE[7:19],
    "nobody",
)
QUERY = {
    "name": "c1",
    "filters": '{"name":["a"]}',
    "all": "1",
    "size": "1",
    "limit": "3",
    "t": "0",
    "signal": "9",
    "v": "1",
    "force": "true",
    "since": "1700000000",
    "until": "1700000001.5",
    "stdout": "1",
    "stderr": "1",
    "tail": "5",
    "timestamps": "1",
    "follow": "0",
    "stream": "0",
    "one-shot": "1",
    "h": "24",
    "w": "80",
    "condition": "next-exit",
    "path": "/etc",
    "repo": "x/y",
    "tag": "v1",
    "fromImage": "nowhere/x",
    "fromSrc": "-",
    "verbose": "1",
    "scope": "local",
    "ps_args": "aux",
    "noprune": "1",
    "quiet": "1",
    "container": "c1",
    "platform": "linux/amd64",
    "changes": "CMD x",
    "detachKeys": "ctrl-p",
    "dangling": "true",
    "buildargs": '{"A":"b"}',
    "labels": '{"a":"b"}',
    "from": "c1",
    "to": "c2:80",
    "names": "busybox",
    "term": "x",
    "link": "1",
    "noOverwriteDirNonDir": "1",
    "copyUIDGID": "1",
    "type": "container",
    "manifests": "1",
}
CONTAINER = {
    "Image": "busybox",
    "Cmd": ["sh", "-c", "x"],
    "Env": ["A=b"],
    "Hostname": "h",
    "Domainname": "d",
    "User": "1:2",
    "Tty": False,
    "ExposedPorts": {"80/tcp": {}, "53-54/udp": {}},
    "Labels": {"a": "b"},
    "Volumes": {"/v": {}},
    "WorkingDir": "/",
    "StopSignal": "9",
    "StopTimeout": 1,
    "Entrypoint": ["x"],
    "MacAddress": "02:42:ac:11:00:02",
    "Healthcheck": {"Test": ["CMD", "x"], "Interval": 1000000},
    "HostConfig": {
        "NetworkMode": "net1",
        "PortBindings": {"80/tcp": [{"HostIp": "", "HostPort": "8080"}]},
        "PublishAllPorts": False,
        "RestartPolicy": {"Name": "on-failure", "MaximumRetryCount": 2},
        "Binds": ["vol1:/data:ro"],
        "Memory": 1 << 26,
        "NanoCpus": 10**9,
        "Links": ["c1:db"],
        "ExtraHosts": ["a:10.0.0.1"],
        "Dns": ["8.8.8.8"],
        "DnsSearch": ["x"],
        "DnsOptions": ["ndots:2"],
        "CapAdd": ["ALL"],
        "Mounts": [{"Type": "volume", "Source": "vol1", "Target": "/m", "VolumeOptions": {"NoCopy": True}}],
        "Tmpfs": {"/t": "size=1m"},
        "LogConfig": {"Type": "json-file", "Config": {"max-size": "1m"}},
        "Ulimits": [{"Name": "nofile", "Soft": 1, "Hard": 2}],
        "Sysctls": {"net.ipv4.ip_forward": "1"},
        "Devices": [{"PathOnHost": "/dev/null", "PathInContainer": "/dev/x", "CgroupPermissions": "r"}],
        "VolumesFrom": ["c1:ro"],
        "PidMode": "",
        "IpcMode": "",
        "UsernsMode": "",
        "CgroupnsMode": "",
        "SecurityOpt": ["no-new-privileges"],
        "CpusetCpus": "0",
        "BlkioWeight": 10,
        "OomScoreAdj": 1,
        "ShmSize": 1 << 20,
        "Init": True,
        "ReadonlyRootfs": True,
        "GroupAdd": ["1"],
        "AutoRemove": False,
        "Privileged": False,
        "Annotations": {"a": "b"},
    },
    "NetworkingConfig": {
        "EndpointsConfig": {
            "net1": {
                "Aliases": ["www"],
                "IPAMConfig": {"IPv4Address": "172.18.0.9"},
                "MacAddress": "",
                "GwPriority": 1,
                "DriverOpts": {"a": "b"},
                "Links": ["c2:x"],
            }
        }
    },
}
NETWORK = {
    "Name": "net2",
    "Driver": "bridge",
    "Internal": False,
    "EnableIPv6": True,
    "Attachable": True,
    "Labels": {"a": "b"},
    "Scope": "local",
    "Options": {
        "com.docker.network.bridge.name": "br9",
        "com.docker.network.driver.mtu": "1400",
        "com.docker.network.bridge.enable_icc": "false",
        "com.docker.network.bridge.gateway_mode_ipv4": "routed",
        "com.docker.network.bridge.host_binding_ipv4": "127.0.0.1",
        "parent": "eth0.9",
    },
    "IPAM": {
        "Driver": "default",
        "Config": [
            {
                "Subnet": "10.9.0.0/16",
                "IPRange": "10.9.4.0/24",
                "Gateway": "10.9.0.1",
                "AuxiliaryAddresses": {"a": "10.9.0.5"},
            },
            {"Subnet": "fd99::/64"},
        ],
        "Options": {},
    },
    "ConfigFrom": {"Network": ""},
    "ConfigOnly": False,
    "Ingress": False,
}
BODIES: tuple[tuple[str, Any], ...] = (
    ("/containers/create", CONTAINER),
    ("/networks/create", NETWORK),
    ("/connect", {"Container": "c1", "EndpointConfig": CONTAINER["NetworkingConfig"]["EndpointsConfig"]["net1"]}),  # type: ignore[index]
    ("/disconnect", {"Container": "c1", "Force": True}),
    (
        "/exec",
        {
            "Cmd": ["x"],
            "AttachStdout": True,
            "Tty": False,
            "Env": ["A=b"],
            "User": "1",
            "WorkingDir": "/",
            "DetachKeys": "ctrl-p,q",
            "Privileged": False,
        },
    ),
    ("/start", {"Detach": True, "Tty": False, "ConsoleSize": [24, 80]}),
    ("/update", {"Memory": 1 << 26, "RestartPolicy": {"Name": "always"}, "CpuShares": 2}),
    ("/volumes/create", {"Name": "vol2", "Driver": "local", "DriverOpts": {"type": "tmpfs"}, "Labels": {"a": "b"}}),
    ("/auth", {"username": "u", "password": "p", "serveraddress": "nowhere"}),
    ("/commit", {"Cmd": ["x"], "Labels": {"a": "b"}}),
    ("", {"Name": "x"}),
)
NAMES_IN_BODIES = tuple(CONTAINER["HostConfig"]) + tuple(CONTAINER) + tuple(NETWORK)  # type: ignore[arg-type]
METHODS = ("GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH", "get", "\u00e9")


class Stage:
    """The engine on paper, its loop, and how many inputs it has had."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.count = 0
        self.api: SimpleNamespace
        self._leave: asyncio.Event
        self._life: asyncio.Task[None] | None = None
        self.anew()

    def anew(self) -> None:
        signal.setitimer(signal.ITIMER_REAL, 0)
        if self._life is not None:
            self._leave.set()
            self.loop.run_until_complete(self._life)
        ready: asyncio.Future[SimpleNamespace] = self.loop.create_future()
        self._leave = asyncio.Event()
        self._life = self.loop.create_task(self._live(ready))
        self.loop.run_until_complete(asyncio.wait({ready, self._life}, return_when=asyncio.FIRST_COMPLETED))
        self.api = ready.result() if ready.done() else self._life.result()  # type: ignore[assignment]
        for name in ("c1", "c2", "c3"):
            self.say(*packed("POST", f"/containers/create?name={name}", {}, written({"Image": "busybox"})))
        self.say(*packed("POST", "/networks/create", {}, written({"Name": "net1"})))
        self.say(*packed("POST", "/volumes/create", {}, written({"Name": "vol1"})))
        self.say(*packed("POST", "/containers/c1/start", {}, b""))

    def end(self) -> None:
        """The engine on paper ends, and takes its folder along."""
        if self._life is not None:
            self._leave.set()
            self.loop.run_until_complete(asyncio.wait({self._life}, timeout=PATIENT))
        self.loop.close()

    async def _live(self, ready: asyncio.Future[SimpleNamespace]) -> None:
        async with paper_api() as api:
            ready.set_result(api)
            await self._leave.wait()

    def say(self, data: bytes, streams: bool) -> bytes:
        """Send bytes on a new connection; everything that comes back (of a stream: what comes at once)."""
        return self.loop.run_until_complete(self._say(data, HASTY if streams else PATIENT, streams))

    async def _say(self, data: bytes, patience: float, streams: bool) -> bytes:
        reader, writer = await asyncio.open_unix_connection(self.api.socket)
        said = b""
        try:
            writer.write(data)
            if not streams:
                writer.write_eof()
            async with asyncio.timeout(patience):
                while piece := await reader.read(1 << 16):
                    said += piece
        except ConnectionError:
            pass
        except TimeoutError:
            assert streams, f"no end of the answer within {patience} s; so far: {said[:300]!r}"
        finally:
            writer.close()
        return said

    def state(self) -> tuple[Any, ...]:
        """What a refusal must not change: which records there are, and which objects on the machine."""
        build = self.api.build
        return frozenset(build.store._entries), frozenset(build.host.things)

    def check(self) -> None:
        complaints, self.api.complaints.heard = self.api.complaints.heard, []
        if complaints:
            raise complaints[0]
        if self._life is not None and self._life.done():
            self._life.result()
            raise AssertionError("the engine ended")


_stage: list[Stage] = []


def stage() -> Stage:
    if not _stage:
        _stage.append(Stage())
        atexit.register(_stage[0].end)
    return _stage[0]


def packed(method: str, path: str, headers: dict[str, str], body: bytes, chunked: bool = False) -> tuple[bytes, bool]:
    """A request as bytes, and whether its answer may be a stream."""
    lines = [f"{method} {path} HTTP/1.1", "Host: d", "Connection: close"]
    kept = {"Content-Type": "application/json"} if body else {}
    if chunked:
        kept["Transfer-Encoding"] = "chunked"
        body = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in (body[:7], body[7:]) if part) + b"0\r\n\r\n"
    elif body:
        kept["Content-Length"] = str(len(body))
    lines += [f"{name}: {value}" for name, value in (kept | headers).items()]
    head = "\r\n".join(lines).encode("utf-8", "surrogatepass") + b"\r\n\r\n"
    return head + body, bool(STREAMS.search(path))


def request(dice: Dice) -> tuple[bytes, bool]:
    method, path = dice.choice(stage().api.paths)
    method = "GET" if method == "*" else method
    if dice.random() < 0.03:
        method = dice.choice(METHODS)

    def name(match: re.Match[str]) -> str:
        text = dice.choice(NAMES)
        return quote(
            dice.scribbled(text) if dice.random() < 0.15 else text,
            safe=":/" if dice.random() < 0.5 else "",
            errors="replace",
        )

    where = re.sub(r"\{\w+(:[^}]*)?\}", name, path)
    if dice.random() < 0.3:
        version = dice.choice(("1.24", "1.40", "1.43", "1.44", "1.51", "1.99", "1.1", "2", dice.junk()))
        where = f"/v{quote(version, errors='replace')}{where}"
    query = {}
    for key in dice.sample(list(QUERY), dice.choice((0, 0, 1, 2, 4))):
        text = QUERY[key]
        query[key] = dice.scribbled(text) if dice.random() < 0.5 else text
    if query:
        where += "?" + urlencode(query, errors="replace")
    body = b""
    if method in ("POST", "PUT") and dice.random() < 0.9:
        tree = next(body for end, body in BODIES if path.endswith(end)) if dice.random() < 0.95 else dice.anything()
        tree = dice.spoilt(tree, NAMES_IN_BODIES, 0.06)
        if isinstance(tree, dict) and dice.random() < 0.5:
            tree = {key: tree[key] for key in dice.sample(list(tree), min(len(tree), 5))} | {"Image": "busybox"}
        body = written(tree)
        body = dice.mangled(body) if dice.random() < 0.05 else body
    headers = {}
    if dice.random() < 0.1:
        headers[
            dice.choice(
                (
                    "Content-Type",
                    "X-Registry-Auth",
                    "X-Registry-Config",
                    "Expect",
                    "Upgrade",
                    "Accept",
                    "Content-Length",
                    "Transfer-Encoding",
                )
            )
        ] = re.sub(r"[\r\n\0]", "", dice.junk()) or "x"
    return packed(method, where, headers, body, dice.random() < 0.2)


@target("api request", 12, request)
def requested(given: tuple[bytes, bool]) -> None:
    data, streams = given
    it = stage()
    it.count += 1
    if it.count % ANEW == 0:
        it.anew()
    before = it.state()
    answer = it.say(data, streams)
    it.check()
    status = re.match(rb"HTTP/1\.[01] (\d{3}) ", answer)
    assert status or not answer or streams, answer[:200]
    assert b"internal error; the engine's log" not in answer, answer[:500]
    line = data.partition(b"\r\n")[0]
    if status and status[1] >= b"400" and not re.search(rb"/(start|restart|prune)[? ]|DELETE", line):
        after = it.state()
        assert after == before, (
            f"refused with {status[1]!r}, and changed: {[a ^ b for a, b in zip(after, before, strict=True)]}"
        )


def raw(dice: Dice) -> tuple[bytes, bool]:
    data, _ = request(dice)
    return (dice.mangled(data, data) if dice.random() < 0.8 else dice.randbytes(dice.randrange(200))), True


@target("api bytes", 3, raw)
def said(given: tuple[bytes, bool]) -> None:
    """Bytes that may be no HTTP: the engine lives, and answers the next request."""
    it = stage()
    it.say(*given)
    it.check()
    answer = it.say(b"GET /_ping HTTP/1.1\r\nHost: d\r\nConnection: close\r\n\r\n", False)
    assert answer.startswith(b"HTTP/1.1 200 OK"), answer[:200]
