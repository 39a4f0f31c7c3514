"""What goes over the wire to a cluster store: never twice what may not be, never in the clear what must not be."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from fairlead.errors import Unavailable
from fairlead.store.base import ANY
from fairlead.store.consul import ConsulStore
from fairlead.store.etcd import EtcdStore
from fairlead.store.http import Servers
from fairlead.store.opening import open_store
from fairlead.store.zookeeper import Access, ZookeeperStore
from lane.certificates import certificate


@asynccontextmanager
async def listening(answer: Callable[[bytes], bytes]) -> AsyncIterator[tuple[str, list[bytes]]]:
    """A server that says ``answer(what it got)`` and hangs up; its place, and what it got."""
    got: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        got.append(await reader.read(65536))
        writer.write(answer(got[-1]))
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}", got


def nothing(_: bytes) -> bytes:
    return b""


def json(text: str, status: str = "200 OK") -> Callable[[bytes], bytes]:
    return lambda _: f"HTTP/1.1 {status}\r\nContent-Length: {len(text)}\r\nConnection: close\r\n\r\n{text}".encode()


@pytest.mark.parametrize("version", [7, ANY])
@pytest.mark.parametrize("kind", [ConsulStore, EtcdStore])
async def test_a_write_is_sent_once(kind: type[ConsulStore | EtcdStore], version: int) -> None:
    async with listening(nothing) as (one, first), listening(nothing) as (two, second):
        store = kind(Servers([one, two]))
        for write in (store.put_if("k", b"v", version), store.delete_if("k", version)):
            with pytest.raises(Unavailable):
                await write
            assert len(first) + len(second) == 1
            first.clear(), second.clear()
        await store.close()


async def test_reading_goes_on_to_the_next_server() -> None:
    empty = json('{"header":{"revision":"3"}}')
    async with listening(nothing) as (one, first), listening(empty) as (two, second):
        store = EtcdStore(Servers([one, "127.0.0.1:1", two]))
        assert await store.get("k") is None
        assert first and len(second) == 1
        first.clear()
        assert await store.get("k") is None
        assert not first, "who answered last is asked first"
        await store.close()


async def test_a_write_goes_on_where_nobody_got_it() -> None:
    done = json('{"header":{"revision":"3"},"succeeded":true}')
    async with listening(done) as (place, got):
        store = EtcdStore(Servers(["127.0.0.1:1", place]))
        assert await store.put_if("k", b"v", 7) == 3
        assert len(got) == 1
        await store.close()


@pytest.mark.parametrize("text", ["<html>", '{"kvs":[{"key":"!!","mod_revision":"x"}]}', '{"kvs":7}', ""])
async def test_what_is_no_store_is_told_so(text: str) -> None:
    async with listening(json(text)) as (place, _):
        for store in (EtcdStore(Servers([place])), ConsulStore(Servers([place]))):
            with pytest.raises(Unavailable, match=r"this is no (etcd|Consul)"):
                await store.get("k")
            await store.close()


@pytest.mark.parametrize("kind", ["etcd", "consul", "zk"])
async def test_with_certificates_nothing_is_said_in_the_clear(kind: str, tmp_path: Path) -> None:
    ca = certificate(tmp_path, "ca")
    options = {"kv.cacertfile": ca[0]}
    async with listening(nothing) as (place, got):
        store = open_store(kind, [place], "network", "somebody", "secret", options)
        asking = asyncio.ensure_future(store.get("k"))
        while not got:
            await asyncio.wait([asking], timeout=0.01)
        asking.cancel()
        await asyncio.wait([asking])
        await store.close()
        assert all(hello.startswith(b"\x16\x03") for hello in got), "a TLS handshake"


async def test_a_store_with_another_name_is_not_believed(tmp_path: Path) -> None:
    ca = certificate(tmp_path, "ca")
    for name, address, issuer in (("other", "127.0.0.2", ca), ("stranger", "127.0.0.1", None)):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*certificate(tmp_path, name, issuer, address))
        server = await asyncio.start_server(lambda *_: None, "127.0.0.1", 0, ssl=context)
        async with server:
            place = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
            store = open_store("etcd", [place], "", "", "", {"kv.cacertfile": ca[0]})
            with pytest.raises(Unavailable, match="its certificate is not trusted"):
                await store.get("k")
            await store.close()


async def test_zookeeper_believes_no_stranger_either(tmp_path: Path) -> None:
    got = asyncio.Event()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate(tmp_path, "other", certificate(tmp_path, "ca"), "127.0.0.2"))

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if await reader.read(1):
            got.set()
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context) as server:
        place = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
        store = ZookeeperStore(Access([place], ca=str(tmp_path / "ca.pem")), "/x")
        with pytest.raises(Unavailable):
            await store.get("k")
        assert not got.is_set()
        await store.close()
