"""Calls: questions within a session, several at once, each with one answer or a stream of them. Either side asks.

    ask(verb, body)  --Call 7-->  answer(verb, body) yields ...
         yields      <--Reply 7, more--
                     <--Reply 7--         the last one; or the error

Rules
    1. Who answers is at most ``WINDOW`` replies ahead of who reads: the asker says ``more`` as it reads.
    2. Who asks and loses interest says ``enough``; then nobody replies any more.
    3. When the session ends, every question ends with ``Unavailable``, and every answer is cancelled.

What it does not do: know verbs, or carry messages (``send`` is given).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing, suppress
from itertools import count
from typing import Any

import msgspec

from fairlead import errors
from fairlead.core.session import Call, Reply
from fairlead.errors import FairleadError, Internal, Unavailable

WINDOW = 64
MORE, ENOUGH = "more", "enough"

Send = Callable[[msgspec.Struct], Awaitable[None]]
Answer = Callable[[str, msgspec.Raw], AsyncIterator[Any]]
"""(verb, body) -> what is to be replied, each as JSON can have it."""
ENDED = "the session with the swarm has ended"


class Calls:
    """Of one session; ``tasks`` ends with it."""

    def __init__(self, send: Send, answer: Answer, tasks: asyncio.TaskGroup) -> None:
        self._send, self._answer, self._tasks = send, answer, tasks
        self._numbers = count(1)
        self._asked: dict[int, asyncio.Queue[Reply]] = {}
        self._answering: dict[int, tuple[asyncio.Task[None], asyncio.Semaphore]] = {}
        self._over = False

    # -- asking --------------------------------------------------------------------------------------------

    async def ask(self, verb: str, body: Any = None) -> AsyncIterator[msgspec.Raw]:
        """The answers, in order, as JSON. Raises what the other side raised, and ``Unavailable``."""
        if self._over:
            raise Unavailable(ENDED)
        number = next(self._numbers)
        replies = self._asked[number] = asyncio.Queue()
        raw = body if isinstance(body, msgspec.Raw) else msgspec.Raw(msgspec.json.encode(body))
        read, reply = 0, None
        try:
            await self._send(Call(number, verb, raw))
            while reply is None or reply.more:
                reply = await replies.get()
                if reply.error:
                    raise raised(reply)
                if reply.more:
                    yield reply.body
                    read += 1
                    if read % (WINDOW // 2) == 0:
                        await self._send(Call(number, MORE))
        finally:
            del self._asked[number]
            if (reply is None or reply.more) and not self._over:
                with suppress(Unavailable):
                    await self._send(Call(number, ENOUGH))

    async def one(self, verb: str, body: Any = None) -> msgspec.Raw:
        """The answer to a question that has one."""
        async with aclosing(self.ask(verb, body)) as replies:  # type: ignore[type-var]
            async for reply in replies:
                return reply
        raise Internal(f"no answer to {verb}")

    # -- hearing -------------------------------------------------------------------------------------------

    def hear(self, message: Call | Reply) -> None:
        """What the other side said."""
        if isinstance(message, Reply):
            if message.number in self._asked:
                self._asked[message.number].put_nowait(message)
            return
        answering = self._answering.get(message.number)
        if message.verb == MORE:
            for _ in range(WINDOW // 2 if answering else 0):
                answering[1].release()  # type: ignore[index]
        elif message.verb == ENOUGH:
            if answering:
                answering[0].cancel()
        elif answering is None:
            window = asyncio.Semaphore(WINDOW)
            task = self._tasks.create_task(self._reply(message, window))
            task.add_done_callback(lambda _: self._answering.pop(message.number))
            self._answering[message.number] = task, window

    async def _reply(self, call: Call, window: asyncio.Semaphore) -> None:
        try:
            async with aclosing(self._answer(call.verb, call.body)) as answers:  # type: ignore[type-var]
                async for body in answers:
                    await window.acquire()
                    raw = body if isinstance(body, msgspec.Raw) else msgspec.Raw(msgspec.json.encode(body))
                    await self._send(Reply(call.number, raw, more=True))
            await self._send(Reply(call.number))
        except FairleadError as error:
            with suppress(Unavailable):
                await self._send(Reply(call.number, error=type(error).__name__, message=error.message))

    def end(self) -> None:
        """The session is over."""
        self._over = True
        for number, replies in self._asked.items():
            replies.put_nowait(Reply(number, error="Unavailable", message=ENDED))


def raised(reply: Reply) -> FairleadError:
    kind = getattr(errors, reply.error, None)
    known = isinstance(kind, type) and issubclass(kind, FairleadError)
    return (kind if known else FairleadError)(reply.message)  # type: ignore[misc]
