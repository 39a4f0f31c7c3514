"""``run``, ``start``, ``attach`` and ``exec``: the commands that hand a container's streams to a person.

    run    create -> attach -> wait (armed) -> start -> stream -> exit code
    start  attach (with -a) -> start -> stream -> exit code
    exec   make an exec -> hijack its start -> stream -> exit code

Exit codes are Docker's: the container's own; 125 when the engine refused, 126
when the command cannot be executed, 127 when it was not found.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from typing import Any

from fairlead.cli import completing
from fairlead.cli import create as creation
from fairlead.cli.client import Client, Refused, path
from fairlead.cli.command import command, environment, many, option, switch
from fairlead.cli.each import each
from fairlead.cli.progress import Failed, tagged
from fairlead.cli.streams import Session, console, keys
from fairlead.errors import FairleadError, Invalid

detach_keys = option("--detach-keys", help="Keys that leave a terminal (default ctrl-p,ctrl-q).")


def exit_code(problem: FairleadError) -> int:
    """What ``run`` and ``start`` end with when the engine could not start the command."""
    if not isinstance(problem, Refused):
        return 125
    words = problem.message.lower()
    if "executable file not found" in words or "no such file or directory" in words:
        return 127
    if "permission denied" in words or "is a directory" in words:
        return 126
    return 125


def complain(client: Client, problem: FairleadError) -> int:
    """Say it as ``docker run`` does; returns the exit code."""
    said = "Error response from daemon: " if isinstance(problem, Refused) else ""
    program = client.typed.partition(" ")[0]
    hint = f"Run '{client.typed} --help' for more information"
    print(f"{program}: {said}{problem.message}\n\n{hint}", file=sys.stderr)
    return exit_code(problem)


def make(
    client: Client, flags: dict[str, Any], image: str, command: tuple[str, ...], *, detach: bool
) -> dict[str, Any]:
    """Create a container, pulling the image when it is missing; prints warnings. Returns the engine's answer."""
    wanted = creation.body(flags, image, command, detach=detach)
    wanted["HostConfig"]["ConsoleSize"] = console(flags["tty"])
    query = {"name": flags["name"], "platform": flags["platform"]}
    if flags["cidfile"] and os.path.exists(flags["cidfile"]):
        raise Invalid(
            f"container ID file found, make sure the other container isn't running or delete {flags['cidfile']}"
        )
    if flags["pull"] not in ("always", "missing", "never"):
        raise Invalid(f"""invalid pull option: '{flags["pull"]}': must be one of "always", "missing" or "never\"""")
    if flags["pull"] == "always":
        fetch(client, image, flags)
    try:
        made = client.call("POST", "/containers/create", query, wanted)
    except Refused as problem:
        if problem.status != 404 or "no such image" not in problem.message.lower() or flags["pull"] == "never":
            raise
        print(f"Unable to find image '{tagged(image)}' locally", file=sys.stderr)
        fetch(client, image, flags)
        made = client.call("POST", "/containers/create", query, wanted)
    for warning in made.get("Warnings") or []:
        print(f"WARNING: {warning}", file=sys.stderr)
    if flags["cidfile"]:
        with open(flags["cidfile"], "w") as file:
            file.write(made["Id"])
    return dict(made)


def fetch(client: Client, image: str, flags: dict[str, Any]) -> None:
    """Pull the image; what is told of it goes where it does not mix with the container's output."""
    from fairlead.cli.registry import fetch

    fetch(client, image, flags["platform"], quiet=flags["quiet"], out=sys.stderr)


def print_refusal(problem: FairleadError) -> None:
    """A refusal on standard error."""
    print(("Error response from daemon: " if isinstance(problem, Refused) else "") + problem.message, file=sys.stderr)


@command("[OPTIONS] IMAGE [COMMAND] [ARG...]", own_words=True, complete=completing.images)
@creation.options
@switch("-d", "--detach", help="Run in the background and print the id.")
@switch("--sig-proxy", default=True, help="Pass signals on to the process.")
@detach_keys
def run(client: Client, image: str, *words: str, detach: bool, sig_proxy: bool, **flags: Any) -> int:
    """Create a container and start it."""
    if not detach and flags["tty"] and flags["interactive"] and not sys.stdin.isatty():
        raise Invalid("the input device is not a TTY")
    try:
        made = make(client, flags, image, words, detach=detach)
        if detach:
            try:
                client.call("POST", path("containers", made["Id"], "start"))
            finally:
                print(made["Id"], flush=True)  # also when it did not start: it is there
            return 0
        return _run_attached(client, made["Id"], flags, sig_proxy)
    except (Refused, Invalid, Failed) as problem:
        return complain(client, problem)


def _run_attached(client: Client, container: str, flags: dict[str, Any], sig_proxy: bool) -> int:
    chosen = {stream.lower() for stream in flags["attach"]}
    stdin = flags["interactive"] and (not chosen or "stdin" in chosen)
    wire = client.hijack(
        path("containers", container, "attach"),
        {
            "stream": True,
            "stdin": stdin,
            "stdout": not chosen or "stdout" in chosen,
            "stderr": not chosen or "stderr" in chosen,
            "detachKeys": flags["detach_keys"],
        },
    )
    ended = Waiting(client, container, "removed" if flags["rm"] else "next-exit")
    client.call("POST", path("containers", container, "start"))
    session = Session(
        wire,
        tty=flags["tty"],
        stdin=stdin,
        detach=keys(flags["detach_keys"]),
        on_resize=resizer(client, "containers", container),
        on_signal=killer(client, container) if sig_proxy else None,
    )
    return 0 if session.run() else ended.result()


class Waiting:
    """``wait``, asked before the start, so that no exit is missed; the engine has it once the header is there."""

    def __init__(self, client: Client, container: str, condition: str) -> None:
        self._answer = client.stream("POST", path("containers", container, "wait"), {"condition": condition})

    def result(self) -> int:
        """The exit code, once there is one."""
        with self._answer:
            said = json.loads(self._answer.read() or b"{}")
        if (said.get("Error") or {}).get("Message"):
            print(f"Error waiting for container: {said['Error']['Message']}", file=sys.stderr)
            return 125
        return int(said.get("StatusCode", 125))


def resizer(client: Client, kind: str, name: str) -> Callable[[int, int], None]:
    """Tells the engine the size of our window."""
    return lambda rows, columns: client.call("POST", path(kind, name, "resize"), {"h": rows, "w": columns})


def killer(client: Client, container: str) -> Callable[[int], None]:
    """Passes a signal on to the container."""
    return lambda number: client.call("POST", path("containers", container, "kill"), {"signal": str(number)})


@command("[OPTIONS] IMAGE [COMMAND] [ARG...]", own_words=True, complete=completing.images)
@creation.options
def create(client: Client, image: str, *words: str, **flags: Any) -> int:
    """Create a container without starting it; prints its id."""
    try:
        print(make(client, flags, image, words, detach=False)["Id"])
        return 0
    except (Refused, Invalid, Failed) as problem:
        print_refusal(problem)
        return 1


@command("[OPTIONS] CONTAINER [CONTAINER...]", complete=completing.containers)
@switch("-a", "--attach", help="Attach to its output and pass signals on.")
@switch("-i", "--interactive", help="Attach to its input.")
@switch("--sig-proxy", default=True, help="Pass signals on to the process.")
@detach_keys
def start(client: Client, *containers: str, attach: bool, interactive: bool, sig_proxy: bool, detach_keys: str) -> int:
    """Start stopped containers."""
    if not (attach or interactive):
        return each(containers, lambda name: client.call("POST", path("containers", name, "start")), failed="start")
    if len(containers) > 1:
        raise Invalid("you cannot start and attach multiple containers at once")
    name = containers[0]
    ended = Waiting(client, name, "next-exit")
    session = attached(client, name, interactive, sig_proxy, detach_keys)
    client.call("POST", path("containers", name, "start"))
    return 0 if session.run() else ended.result()


def attached(client: Client, name: str, stdin: bool, sig_proxy: bool, detach: str) -> Session:
    """A session with a container that exists."""
    config = client.call("GET", path("containers", name, "json"))["Config"]
    query = {
        "stream": True,
        "stdin": stdin and config["OpenStdin"],
        "stdout": True,
        "stderr": True,
        "detachKeys": detach,
    }
    wire = client.hijack(path("containers", name, "attach"), query)
    return Session(
        wire,
        tty=config["Tty"],
        stdin=stdin and config["OpenStdin"],
        detach=keys(detach),
        on_resize=resizer(client, "containers", name),
        on_signal=killer(client, name) if sig_proxy else None,
    )


@command("[OPTIONS] CONTAINER", complete=completing.containers)
@switch("--no-stdin", help="Do not attach to its input.")
@switch("--sig-proxy", default=True, help="Pass signals on to the process.")
@detach_keys
def attach(client: Client, container: str, no_stdin: bool, sig_proxy: bool, detach_keys: str) -> int:
    """Attach to a running container."""
    state = client.call("GET", path("containers", container, "json"))["State"]
    for word, why in (
        ("Paused", "paused container, unpause it first"),
        ("Restarting", "restarting container, wait until it is running"),
    ):
        if state.get(word):
            raise Invalid(f"You cannot attach to a {why}")
    if not state["Running"]:
        raise Invalid("You cannot attach to a stopped container, start it first")
    ended = Waiting(client, container, "not-running")
    session = attached(client, container, not no_stdin, sig_proxy, detach_keys)
    if session.run():
        print("read escape sequence", file=sys.stderr)
        return 0
    return ended.result()


@command("[OPTIONS] CONTAINER COMMAND [ARG...]", own_words=True, complete=completing.containers)
@switch("-d", "--detach", help="Run it in the background.")
@switch("-i", "--interactive", help="Keep its input open.")
@switch("-t", "--tty", help="Give it a terminal.")
@switch("--privileged", help="Give it all capabilities.")
@many("-e", "--env", help="Environment variable.")
@many("--env-file", help="File of environment variables.")
@option("-u", "--user", help="User name or id, with :group.")
@option("-w", "--workdir", help="Working directory.")
@detach_keys
def execute(client: Client, container: str, *words: str, **flags: Any) -> int:
    """Run a command in a running container."""
    if flags["tty"] and flags["interactive"] and not flags["detach"] and not sys.stdin.isatty():
        raise Invalid("the input device is not a TTY")
    here = not flags["detach"]
    made = client.call(
        "POST",
        path("containers", container, "exec"),
        body={
            "User": flags["user"],
            "Privileged": flags["privileged"],
            "Tty": flags["tty"],
            "ConsoleSize": console(flags["tty"]),
            "AttachStdin": here and flags["interactive"],
            "AttachStdout": here,
            "AttachStderr": here,
            "DetachKeys": flags["detach_keys"],
            "Env": environment(flags["env_file"], flags["env"]),
            "WorkingDir": flags["workdir"],
            "Cmd": list(words),
        },
    )
    if not here:
        client.call("POST", path("exec", made["Id"], "start"), body={"Detach": True, "Tty": flags["tty"]})
        return 0
    size = {"ConsoleSize": console(True)} if flags["tty"] else {}
    wire = client.hijack(path("exec", made["Id"], "start"), body={"Detach": False, "Tty": flags["tty"], **size})
    resize = resizer(client, "exec", made["Id"])
    session = Session(wire, flags["tty"], flags["interactive"], keys(flags["detach_keys"]), on_resize=resize)
    session.run()
    return int(client.call("GET", path("exec", made["Id"], "json")).get("ExitCode") or 0)
