"""The way in: versions, headers, unknown paths, errors."""

from __future__ import annotations

import pytest

from .conftest import Client


async def test_ping_tells_what_clients_negotiate_with(client: Client) -> None:
    for method, text in (("GET", "OK"), ("HEAD", "")):
        answer = await client.ask(method, "/_ping")
        assert (answer.status, answer.text) == (200, text)
        assert answer.headers["Api-Version"] == "1.51"
        assert answer.headers["Docker-Experimental"] == "false"
        assert answer.headers["Ostype"] == "linux"
        assert answer.headers["Swarm"] == "inactive"
        assert answer.headers["Cache-Control"] == "no-cache, no-store, must-revalidate"
        assert answer.headers["Content-Type"] == "text/plain; charset=utf-8"


@pytest.mark.parametrize(
    ("path", "status", "text"),
    [
        ("/v1.51/networks", 200, None),
        ("/networks", 200, None),
        ("/v1.24/networks", 200, None),
        ("/v1.51/networks/", 200, None),
        ("/v1.60/_ping", 400, "client version 1.60 is too new. Maximum supported API version is 1.51"),
        ("/v1.51.1/networks", 400, "client version 1.51.1 is too new. Maximum supported API version is 1.51"),
        ("/v2.0/networks", 400, "client version 2.0 is too new. Maximum supported API version is 1.51"),
        ("/v99999999999/networks", 400, "client version 99999999999 is too new. Maximum supported API version is 1.51"),
        ("/nosuch", 404, "page not found"),
        ("/v1.51", 404, "page not found"),
        ("/vx/networks", 404, "page not found"),
        ("/", 404, "page not found"),
    ],
)
async def test_versions_and_paths(client: Client, path: str, status: int, text: str | None) -> None:
    answer = await client.ask("GET", path)
    assert answer.status == status
    if text is not None:
        assert answer.json == {"message": text}


@pytest.mark.parametrize("given", ["1.12", "1", "0.1"])
async def test_old_clients_are_told_in_plain_text(client: Client, given: str) -> None:
    answer = await client.ask("GET", f"/v{given}/networks")
    assert answer.status == 400
    assert answer.headers["Content-Type"] == "text/plain; charset=utf-8"
    assert answer.text == (
        f"client version {given} is too old. Minimum supported API version is 1.24,"
        " please upgrade your client to a newer version\n"
    )


async def test_wrong_methods_are_unknown_pages(client: Client) -> None:
    for method, path in (("PUT", "/networks"), ("HEAD", "/networks"), ("POST", "/containers/json")):
        assert (await client.ask(method, path)).status == 404
    assert (await client.ask("OPTIONS", "/networks")).status == 200


async def test_a_fault_of_ours_is_500_without_a_traceback(client: Client) -> None:
    client.engine.networks.networks = lambda: 1 / 0
    answer = await client.ask("GET", "/networks")
    assert answer.status == 500
    assert "ZeroDivision" not in answer.text
    assert answer.json == {"message": "internal error; the engine's log has the details"}
