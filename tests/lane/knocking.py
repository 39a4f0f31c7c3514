"""Knocks at a manager's ports with somebody's credentials, and says what came of it.

usage: knocking.py FILE HOST      FILE: a node.json; one line of JSON: {"session": .., "manager": .., "members": ..}
       knocking.py FILE HOST hold      stays connected to the managers' store: "held", and when it is over, "cut"

"session": a worker's way in, "manager": what only managers may ask (both 2377), "members": the managers' store (2378).
"in", or why not.
"""

import asyncio
import json
import ssl
import sys
from pathlib import Path

import msgspec

from fairlead.core.cluster import Description
from fairlead.core.session import Hello, Relay
from fairlead.errors import FairleadError
from fairlead.swarm import gate
from fairlead.swarm.credentials import Credentials

MEMBERS = 2378


class Bold(Credentials):
    """Believes anybody."""

    def knows(self, who: object, address: str) -> bool:
        return True


async def told(address: str, message: Hello | Relay, keys: Credentials) -> str:
    try:
        await gate.ask(address, message, keys)
    except FairleadError as error:
        return error.message
    return "in"


async def members(host: str, keys: Credentials) -> str:
    try:
        async with asyncio.timeout(5):
            reader, writer = await asyncio.open_connection(
                host, MEMBERS, ssl=keys.client(), server_hostname=gate.SERVER
            )
            writer.write(b"GET /version HTTP/1.1\r\nHost: members\r\nConnection: close\r\n\r\n")
            answer = b""
            while b"etcdserver" not in answer and (piece := await reader.read(4096)):
                answer += piece
            writer.close()
    except (OSError, TimeoutError, ssl.SSLError) as error:
        return f"{type(error).__name__}: {error}"
    return "in" if b"etcdserver" in answer else f"nothing but {answer!r}"


async def hold(host: str, keys: Credentials) -> None:
    """It asks something every second: who says nothing for five is not kept."""
    reader, writer = await asyncio.open_connection(host, MEMBERS, ssl=keys.client(), server_hostname=gate.SERVER)
    said = ""
    while True:
        try:
            writer.write(b"GET /version HTTP/1.1\r\nHost: members\r\n\r\n")
            await reader.readuntil(b"etcdserver")
        except (OSError, asyncio.IncompleteReadError):
            break
        if not said:
            print(said := "held", flush=True)
        await asyncio.sleep(1)
    print("cut", flush=True)


async def main() -> None:
    keys = Bold.read(Path(sys.argv[1]))
    assert keys
    host = sys.argv[2]
    if sys.argv[3:] == ["hold"]:
        return await hold(host, keys)
    print(
        json.dumps(
            {
                "session": await told(f"{host}:{gate.PORT}", Hello(Description("knocks")), keys),
                "manager": await told(f"{host}:{gate.PORT}", Relay("nobody", "logs", msgspec.Raw(b"null")), keys),
                "members": await members(host, keys),
            }
        )
    )


if __name__ == "__main__":
    asyncio.run(main())
