"""/exec: further processes in running containers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fairlead.api import hijack, http, web, wire
from fairlead.api.streams import content_type, size
from fairlead.api.wire import get, members
from fairlead.core import detach
from fairlead.core.container import Config
from fairlead.engine.execs import ExecConfig, ExecRecord
from fairlead.errors import FairleadError, Invalid

if TYPE_CHECKING:
    from fairlead.engine.engine import Engine

SIZE = tuple[int, int]


def routes(engine: Engine) -> list[web.Route]:
    here = Execs(engine)
    return [
        web.post("/containers/{id:.*}/exec", here.create),
        web.get("/exec/{id}/json", here.inspect),
        web.post("/exec/{id}/start", here.start),
        web.post("/exec/{id}/resize", here.resize),
    ]


class Execs:
    """The handlers over ``engine.execs``."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def create(self, request: web.Request) -> web.Response:
        given = members(await http.body(request, {}), "", "container.ExecCreateRequest")
        asked = _asked(given, http.version(request))
        try:
            detach.parse(asked.detach_keys)
        except Invalid as error:
            raise FairleadError(f"Invalid escape keys ({asked.detach_keys}) provided") from error
        id = await self._engine.execs.create(request.names["id"], asked)
        return http.answer({"Id": id}, 201)

    async def start(self, request: web.Request) -> web.Answer:
        """Detached: an ordinary answer. Attached: the connection becomes the process's streams."""
        given = members(await http.body(request, {}), "", "container.ExecStartRequest")
        record = self._engine.execs.get(request.names["id"])
        alone, tty = get(given, "Detach", bool, False), get(given, "Tty", bool, False)
        rows_columns = _size(given, tty and http.version(request) >= (1, 42))
        if alone:
            await self._engine.execs.start(record.id, detach=True, tty=tty, size=rows_columns)
            return http.nothing(200)
        self._engine.execs.check_container(record.id)
        # The head goes first and alone: docker-py would lose output that came together with it.
        async with hijack.hijacked(request, web.HEADERS, content_type(request, tty)) as stream:
            try:
                attached = await self._engine.execs.start(record.id, tty=tty, size=rows_columns)
            except FairleadError as error:
                words = f"{error.message}\r\n".encode()
                await stream.write(words if tty else hijack.frame(1, words))
                return web.Taken()
            if attached is not None:
                try:
                    stream.when_lost(attached.close)
                    await self._engine.streams.converse(attached, stream, hijack.frame)
                finally:
                    attached.close()
        return web.Taken()

    async def inspect(self, request: web.Request) -> web.Response:
        return http.answer(_shown(self._engine.execs.get(request.names["id"])))

    async def resize(self, request: web.Request) -> web.Response:
        rows, columns = size(request)
        await self._engine.execs.resize(request.names["id"], rows, columns)
        return http.nothing(200)


def _asked(given: dict[str, Any], version: tuple[int, int]) -> ExecConfig:
    like_config = wire.read(Config, {name: given[name] for name in given if name in ("cmd", "env", "user", "tty")})
    words = (*(like_config.cmd or ()), *(like_config.env or ()), like_config.user)
    if any("\0" in word for word in words):
        raise Invalid("invalid config: a NUL character cannot be passed to a process")
    return ExecConfig(
        cmd=like_config.cmd or (),
        user=like_config.user,
        privileged=get(given, "Privileged", bool, False),
        tty=like_config.tty,
        attach_stdin=get(given, "AttachStdin", bool, False),
        attach_stdout=get(given, "AttachStdout", bool, False),
        attach_stderr=get(given, "AttachStderr", bool, False),
        detach_keys=get(given, "DetachKeys", str, ""),
        env=like_config.env or (),
        working_dir=get(given, "WorkingDir", str, ""),
        size=_size(given, version >= (1, 42)),
    )


def _size(given: dict[str, Any], wanted: bool) -> tuple[int, int]:
    size: tuple[int, int] = get(given, "ConsoleSize", SIZE, (0, 0))
    return size if wanted else (0, 0)


def _shown(record: ExecRecord) -> dict[str, Any]:
    config = record.config
    process: dict[str, Any] = {
        "tty": config.tty,
        "entrypoint": config.cmd[0],
        "arguments": list(config.cmd[1:]),
        "privileged": config.privileged,
    }
    if config.user:
        process["user"] = config.user
    return {
        "ID": record.id,
        "Running": record.running,
        "ExitCode": record.exit_code,
        "ProcessConfig": process,
        "OpenStdin": config.attach_stdin,
        "OpenStderr": config.attach_stderr,
        "OpenStdout": config.attach_stdout,
        "CanRemove": False,
        "ContainerID": record.container,
        "DetachKeys": config.detach_keys,
        "Pid": record.pid,
    }
