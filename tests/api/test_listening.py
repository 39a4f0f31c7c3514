"""Sockets: who may open them, what is in their place."""

from __future__ import annotations

import asyncio
import os
import socket
import stat
import tempfile
from pathlib import Path

import pytest

from fairlead.api import server
from fairlead.errors import Conflict, Invalid
from fairlead.settings import Settings

from .fake_engine import fake_engine


async def test_a_unix_socket_is_for_root_and_its_group() -> None:
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "deeper" / "s"
        app = server.create_app(fake_engine(), Settings(data_root=name))
        async with server.serve(app, [server.Listener(f"unix://{path}", group=str(os.getgid()))]):
            assert stat.S_IMODE(path.stat().st_mode) == 0o660
        assert not path.exists()


def test_a_group_has_the_number_that_etc_group_gives_it() -> None:
    known = [line.split(":") for line in Path("/etc/group").read_text().splitlines()]
    assert [server._group(name) for name, _, number, *_ in known[:3]] == [int(number) for _, _, number, *_ in known[:3]]
    assert server._group("nobody-called-a-group-so") is None


async def test_a_dead_socket_is_replaced_and_a_living_one_is_not() -> None:
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "s"
        with socket.socket(socket.AF_UNIX) as dead:
            dead.bind(str(path))
        listeners = [server.Listener(f"unix://{path}")]
        async with server.serve(server.create_app(fake_engine(), Settings(data_root=name)), listeners):
            with pytest.raises(Conflict, match="another engine listens there"):
                async with server.serve(server.create_app(fake_engine(), Settings(data_root=name)), listeners):
                    pass
            assert path.exists()


async def test_a_taken_port_is_named() -> None:
    with tempfile.TemporaryDirectory() as name:
        app = server.create_app(fake_engine(), Settings(data_root=name))
        async with server.serve(app, [server.Listener("tcp://127.0.0.1:0")]) as (address,):
            second = server.create_app(fake_engine(), Settings(data_root=name))
            with pytest.raises(Conflict, match=address):
                async with server.serve(second, [server.Listener(address)]):
                    pass


async def test_an_unknown_scheme_is_refused() -> None:
    with tempfile.TemporaryDirectory() as name:
        app = server.create_app(fake_engine(), Settings(data_root=name))
        with pytest.raises(Invalid, match="invalid protocol"):
            async with server.serve(app, [server.Listener("npipe://x")]):
                pass


async def test_sockets_of_systemd(monkeypatch: pytest.MonkeyPatch) -> None:
    with tempfile.TemporaryDirectory() as name:
        app = server.create_app(fake_engine(), Settings(data_root=name))
        with pytest.raises(Conflict, match="make sure the service was started by systemd"):
            async with server.serve(app, [server.Listener("fd://")]):
                pass
        path = f"{name}/s"
        opened = socket.socket(socket.AF_UNIX)
        opened.bind(path)
        opened.listen()
        monkeypatch.setattr(server, "FIRST_HANDED", opened.detach())
        monkeypatch.setenv("LISTEN_FDS", "1")
        monkeypatch.setenv("LISTEN_PID", str(os.getpid()))
        app = server.create_app(fake_engine(), Settings(data_root=name))
        async with server.serve(app, [server.Listener("fd://")]):
            reader, writer = await asyncio.open_unix_connection(path)
            writer.write(b"GET /_ping HTTP/1.1\r\nHost: d\r\n\r\n")
            assert await reader.readline() == b"HTTP/1.1 200 OK\r\n"
            writer.close()
