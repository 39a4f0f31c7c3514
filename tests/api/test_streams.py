"""What streams out: logs with frames and times, events as they happen, waiting, stats."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest

from fairlead.api import hijack
from fairlead.core.loglines import LogLine
from fairlead.core.usage import Machine, Usage
from fairlead.engine.stats import Reading, Sample

from .conftest import Client

LINES = (LogLine(1, 10**18, b"out\n"), LogLine(2, 10**18 + 5, b"err\n"))
STAMPS = (b"2001-09-09T01:46:40.000000000Z ", b"2001-09-09T01:46:40.000000005Z ")


async def make(client: Client, **config: Any) -> str:
    answer = await client.ask("POST", "/containers/create?name=ra", {"Image": "busybox", **config})
    return str(answer.json["Id"])


def say(client: Client, seen: list[Any]) -> None:
    async def lines() -> AsyncIterator[LogLine]:
        for line in LINES:
            yield line

    def read(container: Any, wishes: Any) -> AsyncIterator[LogLine]:
        seen.append(wishes)
        return lines()

    client.engine.logs.read = read


@pytest.mark.parametrize(
    ("tty", "version", "kind"),
    [
        (False, "1.51", "application/vnd.docker.multiplexed-stream"),
        (False, "1.41", "application/vnd.docker.raw-stream"),
        (True, "1.51", "application/vnd.docker.raw-stream"),
    ],
)
@pytest.mark.parametrize("timestamps", [0, 1])
async def test_logs(client: Client, tty: bool, version: str, kind: str, timestamps: int) -> None:
    await make(client, Tty=tty)
    say(client, [])
    answer = await client.ask("GET", f"/v{version}/containers/ra/logs?stdout=1&stderr=1&timestamps={timestamps}")
    texts = [stamp * timestamps + line.text for stamp, line in zip(STAMPS, LINES, strict=True)]
    frames = texts if tty else [hijack.frame(line.stream, text) for line, text in zip(LINES, texts, strict=True)]
    assert answer.text.encode() == b"".join(frames)
    assert answer.headers["Content-Type"] == kind
    assert answer.headers["Api-Version"] == "1.51"


async def test_what_of_the_log_is_wanted(client: Client) -> None:
    await make(client)
    seen: list[Any] = []
    say(client, seen)
    await client.ask("GET", "/containers/ra/logs?stdout=1&tail=5&since=10.5&until=2001-09-09T01:46:40Z&follow=1")
    await client.ask("GET", "/containers/ra/logs?stderr=1&tail=all")
    first, second = (msgspec.structs.asdict(wishes) for wishes in seen)
    assert first == dict(stdout=True, stderr=False, since=10_500_000_000, until=10**18, tail=5, follow=True)
    assert second == dict(stdout=False, stderr=True, since=0, until=0, tail=-1, follow=False)


async def test_events_arrive_while_they_happen_and_leaving_is_noticed(client: Client) -> None:
    events = client.engine.events
    reader, writer = await client.connect()
    writer.write(b'GET /events?filters={"type":["network"]} HTTP/1.1\r\nHost: d\r\n\r\n')
    await reader.readuntil(b"\r\n\r\n")
    events.publish("container", "start", "c" * 64, {"name": "web"})
    events.publish("network", "create", "n" * 64, {"name": "red", "type": "bridge"})
    size = int(await reader.readline(), 16)
    event = json.loads(await reader.readexactly(size))
    assert event["Actor"] == {"ID": "n" * 64, "Attributes": {"name": "red", "type": "bridge"}}
    assert (event["Type"], event["Action"], event["scope"]) == ("network", "create", "local")
    assert event["timeNano"] // 10**9 == event["time"]
    assert events.listeners == 1
    writer.close()
    async with asyncio.timeout(5):
        while events.listeners:
            await asyncio.sleep(0.01)


async def test_old_clients_find_a_container_event_in_the_old_fields(client: Client) -> None:
    client.engine.events.publish("container", "die", "c" * 64, {"image": "busybox", "name": "web"})
    answer = await client.ask("GET", "/events?since=0&until=1000000000.5&filters=" + '{"container":["web"]}')
    event = json.loads(answer.text)
    assert (event["status"], event["id"], event["from"]) == ("die", "c" * 64, "busybox")


async def test_an_end_alone_asks_for_what_was(client: Client) -> None:
    """``docker compose events --until 1s``."""
    client.engine.events.publish("network", "create", "n" * 64)
    answer = await client.ask("GET", "/events?until=1000000000.5")
    assert [json.loads(line)["Action"] for line in answer.text.splitlines()] == ["create"]


async def test_wait_answers_its_head_before_the_end(client: Client) -> None:
    """``docker run`` starts the container only when it has the head of wait's answer."""
    await make(client)
    reader, writer = await client.connect()
    writer.write(b"POST /containers/ra/wait?condition=next-exit HTTP/1.1\r\nHost: d\r\n\r\n")
    head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 5)
    assert head.startswith(b"HTTP/1.1 200 OK")
    await client.ask("POST", "/containers/ra/start")
    await client.ask("POST", "/containers/ra/kill")
    await reader.readline()
    assert json.loads(await reader.readline()) == {"StatusCode": 137}
    writer.close()


async def test_one_look_at_the_use(client: Client) -> None:
    await make(client)
    usage = Usage(version=2, cpu=5, memory=100, memory_detail={"anon": 1}, pids=3)
    now = Reading(time=10**18, usage=usage, machine=Machine(cpu=9, online=2, memory=1000))

    async def read(ref: str, one_shot: bool) -> Sample:
        return Sample(now, Reading())

    client.engine.stats.read = read
    shown = (await client.ask("GET", "/containers/ra/stats?stream=0&one-shot=1")).json
    assert (shown["name"], shown["read"], shown["preread"]) == ("/ra", "2001-09-09T01:46:40Z", "0001-01-01T00:00:00Z")
    assert shown["memory_stats"] == {"usage": 100, "stats": {"anon": 1}, "limit": 1000}
    assert shown["cpu_stats"]["system_cpu_usage"] == 9
    assert "system_cpu_usage" not in shown["precpu_stats"]
    assert shown["pids_stats"] == {"current": 3}


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("", 'invalid resize height "": invalid syntax'),
        ("?h=x&w=1", 'invalid resize height "x": invalid syntax'),
        ("?h=1&w=-1", 'invalid resize width "-1": invalid syntax'),
        ("?h=1&w=99999999999", 'invalid resize width "99999999999": value out of range'),
    ],
)
async def test_sizes(client: Client, query: str, words: str) -> None:
    answer = await client.ask("POST", f"/containers/ra/resize{query}")
    assert (answer.status, answer.json) == (400, {"message": words})
