"""Commands that reach a registry: pull, push, login, logout, search.

Credentials are kept where Docker's client keeps them (``config.json`` in
$DOCKER_CONFIG or ~/.docker, readable by its owner only), so either client
finds what the other stored; credential helpers are asked as Docker asks them.
"""

from __future__ import annotations

import base64
import getpass
import json
import os
import subprocess
import sys
from typing import Any

from fairlead.cli import completing, tables
from fairlead.cli.client import Client, path
from fairlead.cli.command import command, filter_query, filters, form, integer, no_trunc, option, switch
from fairlead.cli.progress import follow, silently, tagged
from fairlead.errors import Invalid

HUB = "https://index.docker.io/v1/"


def registry_of(image: str) -> str:
    """The key under which credentials for an image are kept."""
    host, slash, _ = image.partition("/")
    plain = bool(slash) and (any(sign in host for sign in ".:") or host == "localhost")
    return host if plain and host not in ("docker.io", "index.docker.io") else HUB


def _settings() -> str:
    return os.path.join(os.environ.get("DOCKER_CONFIG") or os.path.expanduser("~/.docker"), "config.json")


def _read() -> dict[str, Any]:
    try:
        with open(_settings()) as file:
            found = json.load(file)
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as problem:
        print(f"WARNING: Error loading config file: {_settings()}: {problem}", file=sys.stderr)
        return {}
    return found if isinstance(found, dict) else {}


def _write(settings: dict[str, Any]) -> None:
    """The whole file or none, for its owner's eyes only."""
    name = _settings()
    os.makedirs(os.path.dirname(name), mode=0o700, exist_ok=True)
    part = f"{name}.part-{os.getpid()}"
    with open(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        json.dump(settings, file, indent="\t")
    os.replace(part, name)


def _helper(settings: dict[str, Any], server: str) -> str:
    return (settings.get("credHelpers") or {}).get(server) or settings.get("credsStore") or ""


def _ask_helper(helper: str, verb: str, said: str) -> str:
    done = subprocess.run([f"docker-credential-{helper}", verb], input=said, capture_output=True, text=True)
    if done.returncode:
        raise Invalid(f"error {verb} credentials - err: exit status {done.returncode}, out: `{done.stdout.strip()}`")
    return done.stdout


def credentials(server: str) -> dict[str, str]:
    """What we know to say to a registry; empty when nothing."""
    settings = _read()
    if helper := _helper(settings, server):
        try:
            found = json.loads(_ask_helper(helper, "get", server))
        except (Invalid, OSError, ValueError):  # not found is how helpers say that they know nothing
            return {}
        token = found.get("Username") == "<token>"
        kept = (
            {"identitytoken": found["Secret"]}
            if token
            else {"username": found["Username"], "password": found["Secret"]}
        )
        return {**kept, "serveraddress": server}
    entry = (settings.get("auths") or {}).get(server)
    if not entry:
        return {}
    user, _, word = base64.b64decode(entry.get("auth") or "").decode().partition(":")
    token = {"identitytoken": entry["identitytoken"]} if entry.get("identitytoken") else {}
    return {"username": user, "password": word, "serveraddress": server, **token}


def header(known: Any) -> dict[str, str]:
    """Credentials as the API wants them: JSON in URL-safe base64."""
    return {"X-Registry-Auth": base64.urlsafe_b64encode(json.dumps(known).encode()).decode()}


def for_image(image: str) -> dict[str, str]:
    """The header for pulling or pushing an image; nothing when we know nothing."""
    known = credentials(registry_of(image))
    return header(known) if known else {}


def everything() -> dict[str, str]:
    """The header of a build: all we know, by registry."""
    servers = (_read().get("auths") or {}).keys()
    known = {server: found for server in servers if (found := credentials(server))}
    return {"X-Registry-Config": header(known)["X-Registry-Auth"]} if known else {}


def canonical(image: str) -> str:
    """``busybox:latest`` -> ``docker.io/library/busybox:latest``."""
    if registry_of(image) != HUB:
        return image
    plain = image.removeprefix("index.").removeprefix("docker.io/")
    return f"docker.io/{plain}" if "/" in plain else f"docker.io/library/{plain}"


def fetch(client: Client, image: str, platform: str = "", *, quiet: bool = False, out: Any = None) -> None:
    """Pull one image, and tell of it."""
    name, _, tag = tagged(image).rpartition("@" if "@" in image else ":")
    query = {"fromImage": name, "tag": tag, "platform": platform}
    with client.stream("POST", "/images/create", query, headers=for_image(image)) as answer:
        silently(answer) if quiet else follow(answer, out)


@command("[OPTIONS] NAME[:TAG|@DIGEST]", complete=completing.images)
@switch("-a", "--all-tags", help="All tags of the repository.")
@switch("--disable-content-trust", default=True)
@option("--platform", help="Platform, if the image is for several.")
@switch("-q", "--quiet", help="Only print the name.")
def pull(client: Client, image: str, all_tags: bool, disable_content_trust: bool, platform: str, quiet: bool) -> int:
    """Pull an image from a registry."""
    if all_tags:
        if tagged(image) == image:
            raise Invalid("tag can't be used with --all-tags/-a")
        with client.stream("POST", "/images/create", {"fromImage": image, "platform": platform},
                           headers=for_image(image)) as answer:  # fmt: skip
            silently(answer) if quiet else follow(answer)
    else:
        if tagged(image) != image and not quiet:
            print("Using default tag: latest", flush=True)
        fetch(client, image, platform, quiet=quiet)
    print(canonical(image if all_tags else tagged(image)))
    return 0


@command("[OPTIONS] NAME[:TAG]", complete=completing.images)
@switch("-a", "--all-tags", help="All tags of the repository.")
@switch("--disable-content-trust", default=True)
@option("--platform", help="Only this platform.")
@switch("-q", "--quiet", help="Only print the name.")
def push(client: Client, image: str, all_tags: bool, disable_content_trust: bool, platform: str, quiet: bool) -> int:
    """Push an image to a registry."""
    if all_tags and tagged(image) == image:
        raise Invalid("tag can't be used with --all-tags/-a")
    if tagged(image) != image and not all_tags and not quiet:
        print("Using default tag: latest", flush=True)
    name, tag = (image, "") if all_tags else tagged(image).rpartition(":")[::2]
    known = for_image(image) or header({})
    with client.stream(
        "POST", path("images", name, "push"), {"tag": tag, "platform": platform}, headers=known
    ) as answer:
        silently(answer) if quiet else follow(answer)
    if quiet:
        print(canonical(image if all_tags else tagged(image)))
    return 0


@command("[OPTIONS] [SERVER]")
@option("-u", "--username", help="Who you are there.")
@option("-p", "--password", help="Password or token; better asked for, or from --password-stdin.")
@switch("--password-stdin", help="Read the password from standard input.")
def login(client: Client, server: str = "", *, username: str, password: str, password_stdin: bool) -> int:
    """Show a registry who you are, and remember it."""
    if password:
        print("WARNING! Using --password via the CLI is insecure. Use --password-stdin.", file=sys.stderr)
        if password_stdin:
            raise Invalid("--password and --password-stdin are mutually exclusive")
    if password_stdin:
        if not username:
            raise Invalid("Must provide --username with --password-stdin")
        password = sys.stdin.read().rstrip("\r\n")
    server = _server(server)
    known = credentials(server)
    user, word = username or known.get("username", ""), password
    if not password and known and username in ("", known.get("username")):
        word = known.get("password", "")
    if not (user and word):
        if not sys.stdin.isatty():
            raise Invalid("Error: Cannot perform an interactive login from a non TTY device")
        user = user or input("Username: ")
        word = word or getpass.getpass("Password: ")
    said = {"username": user, "password": word, "serveraddress": server}
    answer = client.call("POST", "/auth", body=said)
    _remember(server, user, word, answer.get("IdentityToken") or "")
    print(answer.get("Status") or "Login Succeeded")
    return 0


def _server(given: str) -> str:
    """``registry:5000`` from whatever was typed; the hub has its own long name."""
    plain = given.removeprefix("https://").removeprefix("http://").partition("/")[0]
    return HUB if plain in ("", "docker.io", "index.docker.io", "registry-1.docker.io") else plain


def _remember(server: str, user: str, word: str, token: str) -> None:
    settings = _read()
    if helper := _helper(settings, server):
        secret = {"ServerURL": server, "Username": "<token>" if token else user, "Secret": token or word}
        _ask_helper(helper, "store", json.dumps(secret))
        return
    print(f"\nWARNING! Your credentials are stored unencrypted in '{_settings()}'.", file=sys.stderr)
    entry = {"auth": base64.b64encode(f"{user}:{'' if token else word}".encode()).decode()}
    settings.setdefault("auths", {})[server] = {**entry, **({"identitytoken": token} if token else {})}
    _write(settings)


@command("[SERVER]")
def logout(client: Client, server: str = "") -> int:
    """Forget what a registry was shown."""
    name = _server(server)
    settings = _read()
    helper = _helper(settings, name)
    if not helper and name not in (settings.get("auths") or {}):
        print(f"Not logged in to {name}")
        return 0
    print(f"Removing login credentials for {name}")
    if helper:
        _ask_helper(helper, "erase", name)
    else:
        del settings["auths"][name]
        _write(settings)
    return 0


@command("[OPTIONS] TERM")
@filters
@form
@integer("--limit", help="How many at most.")
@no_trunc
def search(client: Client, term: str, filter: Any, form: str, limit: int | None, no_trunc: bool) -> int:
    """Search the hub for images."""
    query = {"term": term, "limit": limit, "filters": filter_query(filter)}
    rows = []
    for one in client.call("GET", "/images/search", query):
        said = one["description"].replace("\n", " ").replace("\r", " ")
        rows.append(
            {
                "Name": one["name"],
                "Description": said if no_trunc else tables.ellipsis(said, 45),
                "StarCount": str(one["star_count"]),
                "IsOfficial": "[OK]" if one["is_official"] else "",
                "IsAutomated": "",
            }
        )
    heads = {"StarCount": "STARS", "IsOfficial": "OFFICIAL", "IsAutomated": "AUTOMATED"}
    tables.show(rows, form, ("Name", "Description", "StarCount", "IsOfficial"), heads)
    return 0
