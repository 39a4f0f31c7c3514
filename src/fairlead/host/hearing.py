"""Both mouths of a program: what it says on stdout and stderr, line by line, in the order in which it was said.

    ear = Ear()
    process = await command.start(words, stdout=ear.out, stderr=ear.error)
    async for line, complaint in ear.lines(): ...

Promise: what was written to stderr before a line of stdout is told before it, also when both lie there when we look.
Lines end with a line feed or, as progress bars do, with a carriage return; without either at ``LARGEST`` bytes or the
end. Nobody listens: the program waits.
"""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress

from fairlead.host.programs import readable

LARGEST = 1 << 16
_END = re.compile(rb"\r\n|\r|\n")


class Ear:
    """Two pipes. ``out`` and ``error`` are the program's ends, ours no longer once ``lines`` has begun."""

    def __init__(self) -> None:
        self._error_in, self.error = os.pipe2(os.O_CLOEXEC)
        self._out_in, self.out = os.pipe2(os.O_CLOEXEC)
        self._open = [self._error_in, self._out_in]
        self._begun = {fd: b"" for fd in self._open}
        for fd in self._open:
            os.set_blocking(fd, False)

    async def lines(self) -> AsyncIterator[tuple[str, bool]]:
        """Each line, and whether it came on stderr."""
        os.close(self.out)
        os.close(self.error)
        self.out = self.error = -1
        try:
            while self._open:
                await self._something()
                # Looked at last, told first: what was written to stderr before a line of stdout is there by now.
                said = list(self._read(self._out_in))
                complaints = list(self._read(self._error_in))
                for line in complaints:
                    yield line.decode(errors="replace"), True
                for line in said:
                    yield line.decode(errors="replace"), False
        finally:
            self.close()

    def close(self) -> None:
        """Let go of every end that is still ours."""
        for fd in (*self._open, self.out, self.error):
            if fd >= 0:
                os.close(fd)
        self._open, self.out, self.error = [], -1, -1

    async def _something(self) -> None:
        waiting = [asyncio.ensure_future(readable(fd)) for fd in self._open]
        try:
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for each in waiting:
                each.cancel()
            await asyncio.gather(*waiting, return_exceptions=True)

    def _read(self, fd: int) -> Iterator[bytes]:
        """The lines that are whole now."""
        if fd not in self._open:
            return
        with suppress(BlockingIOError):
            more = os.read(fd, LARGEST)
            if not more:
                self._open.remove(fd)
                os.close(fd)
            text, start, whole = self._begun[fd] + more, 0, list[bytes]()
            for end in _END.finditer(text):
                whole.append(text[start : end.end()])
                start = end.end()
            self._begun[fd] = text[start:]
            if not more:
                whole.append(self._begun[fd])
            if len(self._begun[fd]) >= LARGEST:
                whole.append(self._begun[fd])
                self._begun[fd] = b""
            yield from (line for line in whole if line)
