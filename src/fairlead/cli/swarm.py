"""``fairlead swarm``: a cluster begins, grows, is locked, and ends."""

from __future__ import annotations

import ipaddress
import sys
from typing import Any

from fairlead.cli.client import Client, path
from fairlead.cli.command import HelpWanted, command, content, integer, many, option, switch
from fairlead.errors import Invalid

AVAILABILITIES = ("", "active", "pause", "drain")
LISTEN = "0.0.0.0:2377"


class Trouble(Invalid):
    """What the engine says of a swarm, without the usual words in front."""


def fields_of(text: str) -> list[tuple[str, str]]:
    """(key, value) of ``key=value,key=value``; a part with a comma stands in double quotes."""
    from csv import reader
    from io import StringIO

    found = []
    for part in next(reader(StringIO(text, newline="")), []):
        key, equals, value = part.partition("=")
        if not equals:
            raise Invalid(f"invalid field '{part}' must be a key=value pair")
        found.append((key, value))
    return found


def _subnet(text: str) -> str:
    try:
        if "/" not in text:
            raise ValueError
        return str(ipaddress.ip_network(text, strict=False))
    except ValueError:
        raise Invalid(f"invalid string being converted to CIDR: {text}") from None


def _subnets(text: str) -> list[str]:
    return [_subnet(part.strip()) for part in text.split(",")]


def _authority(text: str) -> dict[str, Any]:
    """``protocol=cfssl,url=https://…,cacert=FILE`` in the API's keys."""
    ca: dict[str, Any] = {}
    for key, value in fields_of(text):
        key = key.lower()
        if key == "protocol":
            if value.lower() != "cfssl":
                raise Invalid(f"unrecognized external CA protocol {value}")
            ca["Protocol"] = "cfssl"
        elif key == "url":
            ca["URL"] = value
        elif key == "cacert":
            try:
                ca["CACert"] = content(value).decode()
            except Invalid as problem:
                raise Invalid(f"unable to read CA cert for external CA: {problem.message}") from None
        else:
            ca.setdefault("Options", {})[key] = value
    for key, word in (("Protocol", "protocol"), ("URL", "url")):
        if key not in ca:
            raise Invalid(f"the external-ca option needs a {word}= parameter")
    return ca


def _place(text: str) -> str:
    """``address``, ``address:port`` or ``:port``, with what is missing filled in."""
    address, port = "", ""
    if text.count(":") > 1 and not text.startswith("["):
        address = f"[{text}]"
    elif text.startswith("[") or ":" in text:
        address, _, port = (text, "", "") if text.endswith("]") else text.rpartition(":")
    else:
        address = text
    return f"{address or '0.0.0.0'}:{port or 2377}"


EXTERNAL = many("--external-ca", word="external-ca", read=_authority, help="Who else signs: protocol=cfssl,url=URL.")
EXPIRY = option("--cert-expiry", word="duration", default=None, help="How long certificates of nodes hold: 2160h.")


QUIET = switch("-q", "--quiet", help="Print that alone.")


def _settings(function: Any) -> Any:
    """The flags that both init and update know."""
    for add in (
        integer("--task-history-limit", help="How many old tasks of a slot are remembered (default 5)."),
        EXPIRY,
        EXTERNAL,
        option(
            "--dispatcher-heartbeat", word="duration", default=None, help="Time between signs of life (default 5s)."
        ),
        option("--max-snapshots", word="uint", default=None, help="Older snapshots of the store to keep."),
        option("--snapshot-interval", word="uint", default=None, help="Log entries between two snapshots."),
    ):
        function = add(function)
    return function


def change(spec: dict[str, Any], flags: dict[str, Any]) -> None:
    """Write into a swarm's spec what was said."""
    for flag, part, key in (
        ("task_history_limit", "Orchestration", "TaskHistoryRetentionLimit"),
        ("cert_expiry", "CAConfig", "NodeCertExpiry"),
        ("dispatcher_heartbeat", "Dispatcher", "HeartbeatPeriod"),
        ("snapshot_interval", "Raft", "SnapshotInterval"),
        ("max_snapshots", "Raft", "KeepOldSnapshots"),
        ("autolock", "EncryptionConfig", "AutoLockManagers"),
    ):
        if flags.get(flag) is not None:
            spec.setdefault(part, {})[key] = flags[flag]
    if flags["external_ca"]:
        spec.setdefault("CAConfig", {})["ExternalCAs"] = flags["external_ca"]


def _availability(word: str) -> str:
    if word.lower() not in AVAILABILITIES:
        raise Invalid(f'invalid availability "{word}", only active, pause and drain are supported')
    return word.lower()


@command("[OPTIONS]")
@_settings
@option("--advertise-addr", help="How others reach this node: address or interface, with :port if it is not 2377.")
@option("--listen-addr", word="node-addr", read=_place, default=LISTEN, help="Where it listens (default 0.0.0.0:2377).")
@option("--data-path-addr", help="Address or interface for the traffic of containers.")
@option("--data-path-port", word="uint32", default=0, help="UDP port of that traffic (default 4789).")
@many("--default-addr-pool", word="ipNetSlice", read=_subnets, help="Where new networks get their subnets: 10.0.0.0/8.")
@option("--default-addr-pool-mask-length", word="uint32", default=24, help="Size of those subnets (default 24).")
@option("--availability", help="What this node is for: active, pause, drain.")
@switch("--autolock", help="A manager that starts needs the unlock key.")
@switch("--force-new-cluster", help="Begin anew from what this manager knows: the others are lost.")
@switch("--dry-run", help="With --force-new-cluster: only say what would be.")
def init(client: Client, **flags: Any) -> int:
    """Begin a swarm; this node is its first manager."""
    availability = _availability(flags["availability"])
    if flags["dry_run"] and not flags["force_new_cluster"]:
        raise Invalid("--dry-run goes with --force-new-cluster")
    spec: dict[str, Any] = {"EncryptionConfig": {"AutoLockManagers": flags["autolock"]}}
    change(spec, flags)
    wish = {
        "ListenAddr": flags["listen_addr"],
        "AdvertiseAddr": flags["advertise_addr"],
        "DataPathAddr": flags["data_path_addr"],
        "DataPathPort": flags["data_path_port"],
        "ForceNewCluster": flags["force_new_cluster"],
        "Spec": spec,
        "AutoLockManagers": flags["autolock"],
        "Availability": availability,
        "DefaultAddrPool": [subnet for subnets in flags["default_addr_pool"] for subnet in subnets],
        "SubnetSize": flags["default_addr_pool_mask_length"],
    }
    if flags["dry_run"]:
        print("\n".join(client.call("POST", "/swarm/init", {"dryrun": True}, wish)["Would"]))
        return 0
    node = client.call("POST", "/swarm/init", body=wish)
    print(f"Swarm initialized: current node ({node}) is now a manager.\n")
    _invite(client, "worker", node)
    program = client.typed.partition(" ")[0]
    print(f"To add a manager to this swarm, run '{program} swarm join-token manager' and follow the instructions.")
    if flags["autolock"]:
        _show_key(client)
    return 0


def _invite(client: Client, role: str, node: str) -> None:
    """The command that another host would type to join."""
    me = client.call("GET", path("nodes", node))
    tokens = client.call("GET", "/swarm")["JoinTokens"]
    if me.get("ManagerStatus"):
        program = client.typed.partition(" ")[0]
        print(f"To add a {role} to this swarm, run the following command:\n")
        print(f"    {program} swarm join --token {tokens[role.title()]} {me['ManagerStatus']['Addr']}\n")


@command("[OPTIONS] HOST:PORT")
@option("--token", help="What join-token says.")
@option("--advertise-addr", help="How others reach this node: address or interface, with :port if it is not 2377.")
@option("--listen-addr", word="node-addr", read=_place, default=LISTEN, help="Where it listens (default 0.0.0.0:2377).")
@option("--data-path-addr", help="Address or interface for the traffic of containers.")
@option("--availability", help="What this node is for: active, pause, drain.")
def join(client: Client, manager: str, **flags: Any) -> int:
    """Join a swarm, as worker or manager as the token says."""
    wish = {
        "ListenAddr": flags["listen_addr"],
        "AdvertiseAddr": flags["advertise_addr"],
        "DataPathAddr": flags["data_path_addr"],
        "RemoteAddrs": [manager],
        "JoinToken": flags["token"],
        "Availability": _availability(flags["availability"]),
    }
    client.call("POST", "/swarm/join", body=wish)
    role = "manager" if client.call("GET", "/info")["Swarm"].get("ControlAvailable") else "worker"
    print(f"This node joined a swarm as a {role}.")
    return 0


@command("[OPTIONS]")
@switch("-f", "--force", help="Also when the swarm suffers from it.")
def leave(client: Client, force: bool) -> int:
    """Leave the swarm."""
    client.call("POST", "/swarm/leave", {"force": force})
    print("Node left the swarm.")
    return 0


def write(client: Client, swarm: dict[str, Any], *rotate: str) -> None:
    """Give the engine the changed spec of the swarm. ``rotate``: what else gets a new value."""
    kinds = ("rotateWorkerToken", "rotateManagerToken", "rotateManagerUnlockKey")
    query: dict[str, Any] = {kind: str(kind in rotate).lower() for kind in kinds}
    client.call("POST", "/swarm/update", {"version": swarm["Version"]["Index"], **query}, swarm["Spec"])


@command("[OPTIONS] (worker|manager)")
@switch("--rotate", help="Make a new token; the old one opens nothing any more.")
@QUIET
def join_token(client: Client, role: str, rotate: bool, quiet: bool) -> int:
    """Show the token that opens the swarm to a worker or a manager."""
    if role not in ("worker", "manager"):
        raise Invalid(f"unknown role {role}")
    swarm = client.call("GET", "/swarm")
    if rotate:
        write(client, swarm, f"rotate{role.title()}Token")
        if not quiet:
            print(f"Successfully rotated {role} join token.\n")
    if quiet:
        swarm = client.call("GET", "/swarm") if rotate else swarm
        print(swarm["JoinTokens"][role.title()])
    else:
        _invite(client, role, client.call("GET", "/info")["Swarm"]["NodeID"])
    return 0


@command("[OPTIONS]")
@_settings
@option("--autolock", word="", default=None, help="Whether a manager that starts needs the unlock key.")
def update(client: Client, **flags: Any) -> int:
    """Change the settings of the swarm."""
    if not any(value is not None and value != [] for value in flags.values()):
        raise HelpWanted
    swarm = client.call("GET", "/swarm")
    spec = swarm["Spec"]
    locked = spec["EncryptionConfig"]["AutoLockManagers"]
    change(spec, flags)
    write(client, swarm)
    print("Swarm updated.")
    if spec["EncryptionConfig"]["AutoLockManagers"] and not locked:
        _show_key(client)
    return 0


@command("")
def unlock(client: Client) -> int:
    """Give a locked manager the key; it is read from the terminal or from standard input."""
    state = client.call("GET", "/info")["Swarm"]["LocalNodeState"]
    if state == "inactive":
        raise Trouble("Error: This node is not part of a swarm")
    if state != "locked":
        raise Trouble("Error: swarm is not locked")
    if sys.stdin.isatty():
        from getpass import getpass

        key = getpass("Enter unlock key: ")
    else:
        print("Enter unlock key: ", end="", flush=True)
        key = sys.stdin.readline().strip()
    client.call("POST", "/swarm/unlock", body={"UnlockKey": key})
    return 0


@command("[OPTIONS]")
@switch("--rotate", help="Make a new key.")
@QUIET
def unlock_key(client: Client, rotate: bool, quiet: bool) -> int:
    """Show the key that unlocks managers."""
    if rotate:
        swarm = client.call("GET", "/swarm")
        if not swarm["Spec"]["EncryptionConfig"]["AutoLockManagers"]:
            raise Trouble("cannot rotate because autolock is not turned on")
        write(client, swarm, "rotateManagerUnlockKey")
        if not quiet:
            print("Successfully rotated manager unlock key.")
    _show_key(client, quiet)
    return 0


def _show_key(client: Client, quiet: bool = False) -> None:
    from fairlead.cli.client import Refused

    try:
        key = client.call("GET", "/swarm/unlockkey")["UnlockKey"]
    except Refused as problem:
        raise Trouble(f"could not fetch unlock key: Error response from daemon: {problem.message}") from None
    if not key:
        raise Trouble("no unlock key is set")
    if quiet:
        print(key)
        return
    program = client.typed.partition(" ")[0]
    print(f"To unlock a swarm manager after it restarts, run the `{program} swarm unlock`")
    print(f"command and provide the following key:\n\n    {key}\n")
    print("Remember to store this key in a password manager, since without it you")
    print("will not be able to restart the manager.")
