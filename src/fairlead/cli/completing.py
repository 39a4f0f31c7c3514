"""Words to complete: what a shell asks for when somebody presses the tab key.

    fairlead completion bash          the lines that teach a shell to ask
    fairlead __complete WORD… LAST    a word a line that LAST could become

Commands and options we know ourselves; names the engine is asked for. It gives
up quietly: a shell that waits or complains is worse than one that offers nothing.
"""

from __future__ import annotations

from typing import Any

from fairlead.cli.client import Client
from fairlead.cli.command import command
from fairlead.errors import FairleadError, Invalid

STACK = "com.docker.stack.namespace"
SCRIPTS = {
    "bash": """_fairlead() {
    mapfile -t COMPREPLY < <(fairlead __complete "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null)
}
complete -o default -F _fairlead fairlead""",
    "zsh": """#compdef fairlead
_fairlead() {
    local -a found
    found=("${(@f)$(fairlead __complete "${(@)words[2,CURRENT]}" 2>/dev/null)}")
    compadd -a found
}
compdef _fairlead fairlead""",
    "fish": """function __fairlead
    fairlead __complete (commandline -opc)[2..] (commandline -ct) 2>/dev/null
end
complete -c fairlead -f -a '(__fairlead)'""",
}


@command("bash|zsh|fish")
def completion(client: Client, shell: str) -> int:
    """Print the lines that teach a shell our words: source <(fairlead completion bash)."""
    if shell not in SCRIPTS:
        raise Invalid(f"unknown shell: {shell} (one of {', '.join(SCRIPTS)})")
    print(SCRIPTS[shell])
    return 0


@command("[WORD...]", own_words=True)
def complete(client: Client, *words: str) -> int:
    """What the last word could become, a line each."""
    for word in sorted(set(_offers(client, list(words[:-1]), words[-1] if words else ""))):
        print(word)
    return 0


def _offers(client: Client, before: list[str], last: str) -> list[str]:
    from fairlead.cli.catalog import ROOT, find, load

    name, after = find(before)
    if name == "help":
        return _commands(after, last)
    if name:
        known = load(name)
        if last.startswith("-"):
            return [flag for each in known.flags if each.help for flag in each.names if flag.startswith(last)]
        return [word for word in (known.complete(client, last) if known.complete else ()) if word.startswith(last)]
    if last.startswith("-") and not before:
        return [flag for each in ROOT.flags for flag in each.names if flag.startswith(last)]
    return _commands(before, last)


def _commands(before: list[str], last: str) -> list[str]:
    """What may follow the first words of a command; nothing behind the last of them."""
    from fairlead.cli.catalog import COMMANDS, PARTS

    group = "".join(f"{word} " for word in before)
    words = [*COMMANDS, *PARTS]
    next_words = {word.removeprefix(group).partition(" ")[0] for word in words if word.startswith(group)}
    return [word for word in next_words if word.startswith(last) and not word.startswith("_")]


def containers(client: Client, start: str) -> list[str]:
    """Names of all containers, running or not."""
    found = _ask(client, "/containers/json", {"all": True})
    return [name.removeprefix("/") for one in found for name in one.get("Names") or [] if name.count("/") == 1]


def networks(client: Client, start: str) -> list[str]:
    """Names of all networks; behind them stands a container, in connect."""
    return [one["Name"] for one in _ask(client, "/networks", {})]


def images(client: Client, start: str) -> list[str]:
    """Names of all images."""
    found = [name for one in _ask(client, "/images/json", {}) for name in one.get("RepoTags") or []]
    return [name.removesuffix(":latest") for name in found]


def volumes(client: Client, start: str) -> list[str]:
    """Names of all volumes."""
    try:
        return [one["Name"] for one in (client.call("GET", "/volumes") or {}).get("Volumes") or []]
    except FairleadError:
        return []


def _named(client: Client, kind: str) -> list[str]:
    return [one["Spec"]["Name"] for one in _ask(client, f"/{kind}", {})]


def services(client: Client, start: str) -> list[str]:
    """Names of all services."""
    return _named(client, "services")


def secrets(client: Client, start: str) -> list[str]:
    """Names of all secrets."""
    return _named(client, "secrets")


def configs(client: Client, start: str) -> list[str]:
    """Names of all configs."""
    return _named(client, "configs")


def stacks(client: Client, start: str) -> list[str]:
    """Names of all stacks."""
    labels = [one["Spec"].get("Labels") or {} for one in _ask(client, "/services", {})]
    return sorted({one[STACK] for one in labels if STACK in one})


def nodes(client: Client, start: str) -> list[str]:
    """Names of all nodes, and the word for the one that we speak to."""
    return ["self", *(one["Description"]["Hostname"] for one in _ask(client, "/nodes", {}))]


def anything(client: Client, start: str) -> list[str]:
    """Whatever can be inspected."""
    return [*containers(client, start), *images(client, start), *networks(client, start), *volumes(client, start)]


def _ask(client: Client, where: str, query: dict[str, bool]) -> list[dict[str, Any]]:
    try:
        return list(client.call("GET", where, query) or [])
    except FairleadError:
        return []
