"""A real HAProxy, told by the engine while requests pass: tasks come, go and move, and no request is lost.

Everything is on the loopback device of a network namespace of its own: tasks are 127.0.1.x, all on port 8080.
"""

import asyncio
import io
import os
import re
import shutil
import ssl
import tarfile
import tempfile
from collections import Counter
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest

from fairlead.core import proxyconfig, webmesh
from fairlead.core.container import Config, Container, State
from fairlead.core.model import Endpoint, ServicePart
from fairlead.core.session import Assign
from fairlead.core.swarmspec import FileSpec, Secret
from fairlead.engine.webmesh import SERVICE, WebMesh
from fairlead.host import proxyimage
from lane.certificates import certificate
from lane.pretend import PretendHost

pytestmark = [
    pytest.mark.kernel,
    pytest.mark.skipif(os.geteuid() != 0, reason="namespaces need root"),
    pytest.mark.skipif(not shutil.which("haproxy", path="/usr/sbin:/usr/bin"), reason="Debian's package haproxy"),
]


TLS = ("8080=https://red.example.com/;tls=red",)
KEY, ACCEPTED = "dGhlIHNhbXBsZSBub25jZQ==", "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
"""of RFC 6455, section 1.3"""


class Catalog:
    def __init__(self) -> None:
        config = Config(labels={SERVICE: webmesh.NAME})
        self.proxy = Container(id="p", name="p", created="", config=config, state=State(status="running"))

    def __iter__(self) -> Iterable[Container]:
        return iter([self.proxy])


class Endpoints:
    def of_sandbox(self, sandbox: str) -> list[Endpoint]:
        return [Endpoint(id="e", network="net", container="p", sandbox="p", name="p")]


class Task:
    """Answers with its name, or with a WebSocket's handshake and then an echo."""

    def __init__(self, number: int, pause: float = 0.0) -> None:
        self.name, self.address, self.pause, self.asked = f"t{number}", f"127.0.1.{number}", pause, Counter[str]()
        self.rude, self.proto = False, Counter[str]()

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                headers = dict(line.lower().split(": ", 1) for line in head.splitlines()[1:] if ": " in line)
                if headers.get("upgrade") == "websocket":
                    head = "HTTP/1.1 101 Switched|Upgrade: websocket|Connection: Upgrade|Sec-WebSocket-Accept: "
                    writer.write(f"{head}{ACCEPTED}||".replace("|", "\r\n").encode())
                    while data := await reader.read(99):
                        writer.write(self.name.encode() + b":" + data)
                    break
                self.asked[headers.get("x-forwarded-for", "")] += 1
                self.proto[headers.get("x-forwarded-proto", "")] += 1
                await asyncio.sleep(self.pause)
                if self.rude:
                    break
                body = self.name.encode()
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))
                if headers.get("connection") == "close":
                    break
        writer.close()

    @asynccontextmanager
    async def __call__(self, tls: ssl.SSLContext | None = None) -> AsyncIterator["Task"]:
        server = await asyncio.start_server(self.answer, self.address, 8080, ssl=tls)
        try:
            yield self
        finally:
            server.close()


class Proxy:
    def __init__(self, root: Path) -> None:
        self.web = WebMesh(Catalog(), Endpoints(), lambda pid: f"{root}{proxyconfig.SOCKET}")  # type: ignore[arg-type]

    async def tell(self, *tasks: tuple[Task, bool], routes: tuple[str, ...] = ("8080=red.example.com/",)) -> None:
        """These tasks are there, serving or not, and no other."""
        named = {task.name for task, _ in tasks}
        for endpoint in set(self.web._tasks) - named:
            self.web.note("net", endpoint, None, "", "")
        for task, serving in tasks:
            part = ServicePart(service="red", name="red", task=task.name, serving=serving, routes=routes)
            self.web.note("net", task.name, part, task.address, "")
        await self.web.ready("p")

    async def follows(self, task: str) -> bool:
        """Whether whoever told of that task would be thanked now."""
        await self.web._sync(self.web._proxies()[0])
        return self.web._follows(self.web._proxies()[0], task)

    async def ask(
        self,
        *headers: str,
        host: str = "red.example.com",
        path: str = "/",
        method: str = "GET",
        tls: ssl.SSLContext | None = None,
    ) -> tuple[int, str, str]:
        """Status, headers, body."""
        name = host if tls else None
        reader, writer = await asyncio.open_connection("127.0.0.1", 443 if tls else 80, ssl=tls, server_hostname=name)
        words = [f"{method} {path} HTTP/1.1", f"Host: {host}", "Connection: close", *headers]
        writer.write("\r\n".join([*words, "", ""]).encode())
        head, _, body = (await asyncio.wait_for(reader.read(), 5)).decode().partition("\r\n\r\n")
        writer.close()
        return int(head.split()[1]), head, body


@pytest.fixture
async def root() -> AsyncIterator[Path]:
    """The image's file system, unpacked at a short path."""
    with tempfile.TemporaryDirectory(prefix="hm") as folder:
        tar = await proxyimage.root(proxyconfig.files())
        with tarfile.open(fileobj=io.BytesIO(tar)) as archive:
            archive.extractall(folder)
        yield Path(folder)


@pytest.fixture
async def proxy(pretend_host: PretendHost, root: Path) -> AsyncIterator[Proxy]:
    """HAProxy as the image has it, with nothing but what is in there."""
    process = await asyncio.create_subprocess_exec("chroot", str(root), *webmesh.COMMAND)
    try:
        yield Proxy(root)
    finally:
        process.terminate()
        await process.wait()


async def test_names_lead_to_tasks_and_tasks_see_who_asks(proxy: Proxy) -> None:
    async with Task(2)() as two:
        await proxy.tell((two, True), routes=("8080=red.example.com/", "8080=any.example.com/api"))
        assert (await proxy.ask())[::2] == (200, "t2")
        assert (await proxy.ask(host="RED.example.com:8000", path="/x?y"))[0] == 200
        assert (await proxy.ask(host="any.example.com", path="/api/1"))[0] == 200
        assert (await proxy.ask(host="any.example.com"))[0] == 404
        assert (await proxy.ask(host="white.example.com"))[0] == 404
        assert set(two.asked) == {"127.0.0.1"}


async def test_no_request_is_lost_while_tasks_come_and_go(proxy: Proxy) -> None:
    async with Task(2, 0.01)() as two, Task(3, 0.01)() as three, Task(4, 0.01)() as four:
        await proxy.tell((two, True))
        done, answers = asyncio.Event(), Counter[str]()

        async def client() -> None:
            while not done.is_set():
                status, _, body = await proxy.ask()
                answers[body if status == 200 else f"status {status}"] += 1

        async with asyncio.TaskGroup() as group:
            for _ in range(6):
                group.create_task(client())
            for _ in range(5):
                await proxy.tell((two, True), (three, True))
                await proxy.tell((two, False), (three, True))
                await proxy.tell((three, True), (four, True))
                await proxy.tell((three, False), (four, True))
                await proxy.tell((four, True), (two, True))
                await proxy.tell((four, False), (two, True))
                await proxy.tell((two, True))
            done.set()
        assert set(answers) == {"t2", "t3", "t4"}


async def test_nobody_waits_for_a_task_that_does_not_listen_yet(proxy: Proxy) -> None:
    """Not even when all others leave in the same moment: who leaves goes on until somebody takes its place."""
    async with Task(2)() as two:
        await proxy.tell((two, True))
        three = Task(3)
        waiting = asyncio.ensure_future(proxy.tell((two, False), (three, True)))
        for _ in range(20):
            assert (await proxy.ask())[::2] == (200, "t2")
            await asyncio.sleep(0.01)
        assert not await asyncio.wait_for(proxy.follows("t3"), 5)
        async with three():
            await waiting
            assert await proxy.follows("t3") and await proxy.follows("t2")
            assert {(await proxy.ask())[2] for _ in range(4)} == {"t3"}


async def test_what_was_refused_without_a_word_is_asked_of_another(proxy: Proxy) -> None:
    """But never what may have been done: a POST."""
    async with Task(2)() as two, Task(3)() as three:
        await proxy.tell((two, True), (three, True))
        three.rude = True
        assert {(await proxy.ask())[::2] for _ in range(6)} == {(200, "t2")}
        assert {(await proxy.ask(method="POST"))[0] for _ in range(2)} == {200, 502}


async def test_a_websocket_goes_on_while_its_task_serves_no_more(proxy: Proxy) -> None:
    async with Task(2)() as two, Task(3)() as three:
        await proxy.tell((two, True))
        reader, writer = await asyncio.open_connection("127.0.0.1", 80)
        head = "GET / HTTP/1.1|Host: red.example.com|Upgrade: websocket|Connection: Upgrade|Sec-WebSocket-Key: "
        writer.write(f"{head}{KEY}||".replace("|", "\r\n").encode())
        assert b"101" in await reader.readuntil(b"\r\n\r\n")
        await proxy.tell((two, False), (three, True))
        writer.write(b"still there?")
        assert await asyncio.wait_for(reader.read(99), 5) == b"t2:still there?"
        assert (await proxy.ask())[2] == "t3"
        writer.close()


async def test_a_sticky_service_s_client_finds_its_task_again(proxy: Proxy) -> None:
    async with Task(2)() as two, Task(3)() as three:
        await proxy.tell((two, True), (three, True), routes=("8080=red.example.com/;sticky",))
        _, head, first = await proxy.ask()
        cookie = re.search(rf"set-cookie: ({proxyconfig.COOKIE}=\w+)", head, re.IGNORECASE)
        assert cookie
        assert {(await proxy.ask(f"Cookie: {cookie[1]}"))[2] for _ in range(6)} == {first}
        other = two if first == "t3" else three
        await proxy.tell((other, True), routes=("8080=red.example.com/;sticky",))
        assert (await proxy.ask(f"Cookie: {cookie[1]}"))[::2] == (200, other.name), "who is gone is not waited for"


async def test_one_that_starts_anew_is_told_everything(proxy: Proxy) -> None:
    async with Task(2)() as two:
        await proxy.tell((two, True))
        for command in (f"clear map {proxyconfig.ROUTES}", "set server b0/t2 state maint"):
            await proxy.web._say(proxy.web._proxies()[0], command)
        assert (await proxy.ask())[0] == 404
        await proxy.web.ready("p")
        assert (await proxy.ask())[::2] == (200, "t2")


def secret(name: str, *files: str) -> Secret:
    data = b"".join(Path(file).read_bytes() for file in files)
    return Secret(f"id-{hash(data) % 999}", FileSpec(name, data=data))


def pair(folder: Path, name: str) -> tuple[str, str, str]:
    """Files: who signed it, a certificate, its key."""
    ca = certificate(folder, f"{name}-ca")
    return ca[0], *certificate(folder, name, ca)


def believing(ca: str) -> ssl.SSLContext:
    """A client that takes certificates of this one and no other, whatever they are for."""
    context = ssl.create_default_context(cafile=ca)
    context.check_hostname = False
    return context


async def test_a_certificate_is_exchanged_and_no_request_is_lost(
    proxy: Proxy, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    pairs = [pair(tmp_path, name) for name in ("a", "b")]
    both = ssl.create_default_context(cadata="".join(Path(ca).read_text() for ca, _, _ in pairs))
    both.check_hostname = False
    answers, done = Counter[str](), asyncio.Event()

    async def client() -> None:
        while not done.is_set():
            status, _, body = await proxy.ask(tls=both)
            answers[f"{status} {body}"] += 1

    async with Task(2)() as two:
        for ca, cert, key in pairs * 3:
            proxy.web.assigned(Assign(whole=True, secrets=(secret("red", cert, key),)))
            await proxy.tell((two, True), routes=TLS)
            assert (await proxy.ask(tls=believing(ca)))[::2] == (200, "t2")
            if not answers:
                async with asyncio.timeout(10):
                    group = [asyncio.create_task(client()) for _ in range(3)]
                    while not answers:
                        await asyncio.sleep(0.01)
        done.set()
        await asyncio.gather(*group)
        assert set(answers) == {"200 t2"} and set(two.proto) == {"https"}
        broken = Secret("x", FileSpec("red", data=b"-----BEGIN PRIVATE KEY-----\nTOPSECRET"))
        proxy.web.assigned(Assign(secrets=(broken,)))
        await proxy.tell((two, True), routes=TLS)
        assert (await proxy.ask(tls=believing(ca)))[0] == 200
        assert "set ssl cert red.example.com <<: unable to load" in caplog.text and "TOPSECRET" not in caplog.text
        proxy.web.assigned(Assign(whole=True))
        await proxy.tell((two, True), routes=TLS)
        assert (await proxy.ask(tls=believing(ca)))[0] == 200, "as long as no manager is found it goes on"
        await proxy.tell((two, True))
        with pytest.raises(ssl.SSLError, match="unrecognized"):
            await proxy.ask(tls=believing(ca))


async def test_a_long_chain_fits(proxy: Proxy, tmp_path: Path) -> None:
    ca, cert, key = pair(tmp_path, "a")
    chain = [cert, *[ca] * ((proxyconfig.LARGEST_PEM - 2000) // len(Path(ca).read_bytes()))]
    async with Task(2)() as two:
        proxy.web.assigned(Assign(whole=True, secrets=(secret("red", *chain, key),)))
        await proxy.tell((two, True), routes=TLS)
        assert (await proxy.ask(tls=believing(ca)))[0] == 200


async def test_tls_without_a_certificate_is_passed_on_by_name_and_http_is_sent_there(
    proxy: Proxy, tmp_path: Path
) -> None:
    ca, cert, key = pair(tmp_path, "a")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(cert, key)
    async with Task(2)(context) as two:
        await proxy.tell(
            (two, True), routes=("8080=sni://red.example.com/", "0=red.example.com/;to=https://red.example.com/")
        )
        assert (await proxy.ask(tls=believing(ca)))[::2] == (200, "t2")
        status, head, _ = await proxy.ask(path="/x?y=z")
        assert status == 307 and "location: https://red.example.com/x?y=z\r\n" in head
        with pytest.raises((ssl.SSLError, ConnectionError)):
            await proxy.ask(tls=believing(ca), host="blue.example.com")
