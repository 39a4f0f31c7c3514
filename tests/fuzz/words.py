"""What people type: ports, mounts, networks, all flags of ``run``, the daemon's options. Each gets its own seeds."""

from __future__ import annotations

import contextlib
import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fairlead import options, settings
from fairlead.cli import create, networks
from fairlead.cli import mounts as cli_mounts
from fairlead.cli import ports as cli_ports
from fairlead.cli.command import HelpWanted
from fairlead.cli.running import run
from fairlead.core import (
    addresses,
    mounts,
    ports,
    validate,
)
from fairlead.core.model import Ipam, Subnet
from fairlead.core.written import family_of, parted
from fairlead.errors import FairleadError
from fuzz.mutate import Dice, written
from fuzz.targets import target


def reader(
    name: str, weight: float, *seeds: str, refusals: tuple[type[Exception], ...] = (FairleadError,)
) -> Callable[..., Any]:
    """A target of one text: the function may refuse it, with our own errors only."""

    def make(dice: Dice) -> str:
        text = dice.choice(seeds)
        return dice.scribbled(text, seeds) if dice.random() < 0.95 else text

    def enter(read: Callable[[str], Any]) -> Callable[[str], Any]:
        def attempt(text: str) -> None:
            with contextlib.suppress(*refusals):
                read(text)

        target(name, weight, make)(attempt)
        return read

    return enter


def several(*reads: Callable[[str], Any]) -> Callable[[str], None]:
    """Each of them, one's refusal not sparing the next."""

    def read(text: str) -> None:
        for one in reads:
            with contextlib.suppress(FairleadError):
                one(text)

    return read


# -- ports, addresses, mounts -----------------------------------------------------------------

PUBLISHED = (
    "80",
    "8080:80",
    "127.0.0.1:8080:80",
    "[::1]:8080:80/udp",
    "5000-5010:2000-2010/sctp",
    "8000-9000:80",
    "::80",
    "0:0",
)


@reader("publish", 4, *PUBLISHED)
def published(text: str) -> None:
    """What the client makes of ``-p`` the engine can read; the ports are ports."""
    bindings, exposed = cli_ports.parse([text], [text.replace(":", "-")] if ":" not in text else [])
    for request in ports.parse_bindings(bindings, exposed, True):
        assert 0 < request.port < 65536 and 0 <= request.host_first <= request.host_last < 65536


@reader("port fields", 4, *PUBLISHED, "80/tcp", "1-65535/udp")
def port_fields(text: str) -> None:
    several(
        lambda t: list(ports.exposed_ports(t)),
        lambda t: ports.parse_bindings({t: [{"HostIp": t, "HostPort": t}]}, {t: {}}, True),
        lambda t: ports.parse_bindings({"80/tcp": [{"HostIp": t, "HostPort": t}]}, None),
    )(text)


VOLUMES = ("/a", "vol:/data", "/host:/in:ro,z", "vol:/data:nocopy,rshared", "C:/x:/y", "a:b:c:d", "/a:/b:rw,Z,slave")


@reader("volume", 4, *VOLUMES)
def volume(text: str) -> None:
    wish = mounts.bind(text)
    assert wish.mount.destination.startswith("/") and ".." not in wish.mount.destination.split("/")
    assert (
        mounts.bind(f"{wish.mount.source or wish.mount.name}:{wish.mount.destination}").mount.destination
        == wish.mount.destination
        or wish.mount.anonymous
    )


MOUNTS = (
    "type=bind,source=/a,target=/b,readonly",
    "type=volume,src=v,dst=/d,volume-opt=a=b",
    "type=tmpfs,dst=/t,tmpfs-size=1m,tmpfs-mode=1770",
    'type=image,src=x,dst=/y,"a,b"=c',
)


@reader("mount", 4, *MOUNTS)
def mount(text: str) -> None:
    mounts.mount(cli_mounts.parse(text))


CIDRS = (
    "10.0.0.0/8",
    "fd00::/64",
    "192.168.1.1/24",
    "172.17.0.0/16",
    "::ffff:1.2.3.4/96",
    "10.0.0.0/255.0.0.0",
    "1.2.3.4",
)


@reader("addresses", 3, *CIDRS)
def cidrs(text: str) -> None:
    several(
        family_of,
        parted,
        lambda t: addresses.contains("10.0.0.0/8", t),
        validate.mac_address,
        lambda t: addresses.check_ipam(
            Ipam(config=(Subnet(t, gateway=t, ip_range=t, auxiliary={"a": t}),)), True, True
        ),
        lambda t: addresses.check_ipam(
            Ipam(config=(Subnet("10.0.0.0/8", gateway=t, ip_range=t, auxiliary={"a": t}),)), True, True
        ),
    )(text)


NETWORK_FLAGS = {
    "driver": "bridge",
    "subnet": "10.1.0.0/16",
    "gateway": "10.1.0.1",
    "ip_range": "10.1.4.0/24",
    "opt": "a=b",
    "label": "x=y",
    "aux_address": "one=10.1.0.9",
    "ipv6": "true",
    "internal": "false",
    "scope": "local",
    "ipam_driver": "default",
    "ipam_opt": "a=b",
}


def network_line(dice: Dice) -> list[str]:
    words = []
    for flag, text in NETWORK_FLAGS.items():
        if dice.random() < 0.3:
            text = dice.scribbled(text, CIDRS) if dice.random() < 0.5 else text
            words.append(f"--{flag.replace('_', '-')}={text}")
    return [*words, dice.junk() if dice.random() < 0.2 else "net"]


@target("network flags", 3, network_line)
def network_flags(line: list[str]) -> None:
    with contextlib.suppress(FairleadError, HelpWanted):
        words, flags = networks.create.parse(line)
        json.dumps(networks.wish(words[0] if words else "", flags))


FLAGS = [name for flag in run.flags for name in flag.names]
VALUES = [
    *PUBLISHED,
    *VOLUMES,
    *MOUNTS,
    *CIDRS,
    "a=b",
    "on-failure:3",
    "512m",
    "1.5",
    "nofile=1:2",
    "label=x",
    "5s",
    "/dev/a:/dev/b:rwm",
]
VALUES += [
    "name=x,alias=y,ip=10.0.0.2,driver-opt=a=b",
    "no-new-privileges",
    "json-file",
    "always",
    "CMD true",
    "db:10.0.0.1",
    "0-1",
]


def run_line(dice: Dice) -> list[str]:
    words: list[str] = []
    for _ in range(dice.randrange(6)):
        value = dice.choice(VALUES)
        value = dice.scribbled(value, VALUES) if dice.random() < 0.7 else value
        flag = dice.choice(FLAGS)
        words += [f"{flag}={value}"] if dice.random() < 0.7 else [flag, value]
    return [dice.scribbled(word) if dice.random() < 0.05 else word for word in words] + ["busybox", "true"]


@target("run flags", 6, run_line)
def run_flags(line: list[str]) -> None:
    """``run``'s words become a request that the engine can read."""
    if any("file" in word for word in line):  # --env-file and the like read files
        return
    with contextlib.suppress(FairleadError, HelpWanted):
        words, flags = run.parse(line)
        kept = {"detach", "rm"}
        body = create.body(flags, words[0] if words else "", tuple(words[1:]), detach=bool(flags.get("detach", kept)))
        json.dumps(body)


# -- the daemon's options ------------------------------------------------------------------------

DAEMON = [option for option, _ in settings.table()]
GIVEN = (
    "true",
    "0",
    "10.0.0.0/8",
    "base=10.0.0.0/8,size=24",
    "a=b",
    "unix:///x",
    "tcp://:2375",
    "1G",
    "nofile=1:2",
    "8.8.8.8",
    "json-file",
)
GIVEN += ("etcd://a:1/b", "eth0:7946", "bridge=com.docker.network.driver.mtu=9000", "fd://", "1500", "/abs")


def daemon_line(dice: Dice) -> tuple[list[str], bytes]:
    words, file = [], {}
    for _ in range(dice.randrange(4)):
        option, text = dice.choice(DAEMON), dice.choice(GIVEN)
        if option.name == "config_file":
            continue
        text = dice.scribbled(text, GIVEN) if dice.random() < 0.6 else text
        if dice.random() < 0.5:
            words += [f"{dice.choice(option.flags)}={text}"]
        else:
            file[option.key or option.name] = dice.choice((text, [text], {text: text}, dice.anything()))
    data = written(file)
    return [dice.scribbled(word) if dice.random() < 0.1 else word for word in words], dice.mangled(
        data
    ) if dice.random() < 0.2 else data


_file = Path(tempfile.mkdtemp(prefix="fuzz-")) / "daemon.json"


@target("daemon options", 5, daemon_line)
def daemon_options(given: tuple[list[str], bytes]) -> None:
    words, data = given
    _file.write_bytes(data)
    with contextlib.suppress(FairleadError):
        settings.parse(["--config-file", str(_file), *words])


KINDS = [kind for kind in vars(options).values() if isinstance(kind, options.Kind)]


@reader("option kinds", 4, *GIVEN)
def option_kinds(text: str) -> None:
    several(*(lambda t, kind=kind: kind.one(t) for kind in KINDS))(text)
