"""Complaints of the runtime, in dockerd's words: clients, and people, look for these.

crun: executable file `nosuch` not found in $PATH: No such file or directory
  ->  …: exec: "nosuch": executable file not found in $PATH         (Invalid, exit code 127)
"""

from __future__ import annotations

import re

from fairlead.errors import FairleadError, Internal, Invalid

CREATE = "failed to create task for container: failed to create shim task: OCI runtime create failed: "
EXEC = "OCI runtime exec failed: exec failed: "
BEGIN = "runc create failed: unable to start container process: error during container init: "
_HOSTS_IPC = "is not allowed in the hosts ipc namespace"
_FILE_AND_DIRECTORY = (
    "Are you trying to mount a directory onto a file (or vice-versa)? Check if the specified host path exists and is"
    " the expected type"
)
_SYSCTL = re.compile(r"the sysctl `(.+?)` requires a new (\w+) namespace")
_MOUNT = re.compile(r"mount `(/.*)` to `/?(.*?)`: (.*)")
_ERRNO = re.compile(r": ([A-Z][a-z]+(?: [a-z]+)*)$")
NOT_FOUND, NOT_EXECUTABLE, OTHER = 127, 126, 128


def of_create(words: str, program: str, *, folder: bool = False) -> FairleadError:
    """The error a failed ``create`` becomes; ``exit_code`` is what ``docker run`` ends with. ``folder``: the program
    is one."""
    if found := _SYSCTL.search(words):
        where = "not allowed in host network namespace" if found[2] == "network" else _HOSTS_IPC
        return _error(f'{CREATE}runc create failed: sysctl "{found[1]}" {where}', OTHER)
    reason, code = _reason("is a directory: executable" if folder else words, program)
    return _error(f"{CREATE}{BEGIN}{reason}", code)


def of_exec(words: str, program: str, *, folder: bool = False) -> FairleadError:
    """The error a failed ``exec`` becomes; ``exit_code`` is the exec's."""
    reason, code = _reason("is a directory: executable" if folder else words, program)
    return _error(f"{EXEC}unable to start container process: {reason}", code)


def of_start(words: str) -> str:
    return f"failed to start container: {plain(words)}"


def plain(words: str) -> str:
    """The last line of a complaint, without the runtime's decoration."""
    lines = [line for line in words.strip().splitlines() if line.strip()]
    line = lines[-1].strip() if lines else "no reason given"
    stamp, _, rest = line.partition(": ")
    return rest if stamp.startswith("20") and "T" in stamp and rest else line


def _reason(words: str, program: str) -> tuple[str, int]:
    text = plain(words)
    low = text.lower()
    about_program = "executable" in low or "execv" in low or f"`{program.lower()}`" in low or f"open `{program}" in text
    if not program or ("not found in $path" in low and "/" not in program):
        return f'exec: "{program}": executable file not found in $PATH', NOT_FOUND
    if about_program and ("no such file or directory" in low or "not found" in low):
        return f'exec: "{program}": stat {program}: no such file or directory', NOT_FOUND
    if about_program and "not a directory" in low:
        return f'exec: "{program}": stat {program}: not a directory', NOT_FOUND
    if about_program and "is a directory" in low:
        return f'exec: "{program}": is a directory: permission denied', NOT_EXECUTABLE
    if about_program and ("permission denied" in low or "operation not permitted" in low):
        return f'exec: "{program}": permission denied', NOT_EXECUTABLE
    if low.startswith("chdir `/") and "no such file or directory" in low:
        place = text.split("`")[1]
        return f'chdir to cwd ("{place}") set in config.json failed: no such file or directory', NOT_FOUND
    if found := _MOUNT.fullmatch(text):
        why = f"mount src={found[1]}, dst=/{found[2]}, flags=MS_BIND|MS_REC: {found[3].lower()}"
        text = f'error mounting "{found[1]}" to rootfs at "/{found[2]}": {why}'
    if found := _ERRNO.search(text):  # as Go spells what the C library says
        text = f"{text[: found.start(1)]}{found[1].lower()}"
    if "not a directory" in low:
        return f"{text}: {_FILE_AND_DIRECTORY}", NOT_FOUND
    if "no such file or directory" in low:  # dockerd takes these for the caller's fault, whatever was not there
        return text, NOT_FOUND
    return text, OTHER


def _error(text: str, code: int) -> FairleadError:
    error: FairleadError = Invalid(text) if code in (NOT_FOUND, NOT_EXECUTABLE) else Internal(text)
    error.exit_code = code  # type: ignore[attr-defined]
    return error
