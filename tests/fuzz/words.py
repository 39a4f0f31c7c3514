"""What people write: options, files, references, templates, names. Each reader gets its own seeds, spoilt."""

from __future__ import annotations

import contextlib
import io
import json
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from fairlead import options, settings
from fairlead.api import gojson, http, times
from fairlead.cli import command, create, networks, tables, template
from fairlead.cli import ports as cli_ports
from fairlead.cli.command import HelpWanted
from fairlead.cli.running import run
from fairlead.core import (
    addresses,
    capabilities,
    dockerfile,
    hostsfile,
    imagespec,
    instructions,
    loglines,
    mounts,
    ports,
    reference,
    remotes,
    signals,
    users,
    validate,
)
from fairlead.core.container import Config, LogConfig
from fairlead.core.model import Ipam, Subnet
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
    mounts.mount(create._mount(text))


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
        addresses.family_of,
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


# -- images ----------------------------------------------------------------------------------

REFERENCES = (
    "busybox",
    "a/b:tag",
    "localhost:5000/x/y@sha256:" + "a" * 64,
    "[::1]:5000/x",
    "Registry.io/up/case",
    "sha256:" + "b" * 64,
)


@reader("reference", 4, *REFERENCES)
def references(text: str) -> None:
    several(
        reference.check_tag, reference.image_id, reference.id_prefix, lambda t: reference.matches(t, "busybox:latest")
    )(text)
    got = reference.parse(text)
    assert reference.parse(got.normal) == got
    assert reference.parse(got.familiar) == got or len(got.path) == 64


CONFIG = {
    "architecture": "amd64",
    "os": "linux",
    "created": "2026-01-01T00:00:00Z",
    "author": "me",
    "config": {
        "Env": ["A=b"],
        "Cmd": ["sh"],
        "ExposedPorts": {"80/tcp": {}},
        "Volumes": {"/v": {}},
        "Labels": {"a": "b"},
        "User": "1:2",
        "Healthcheck": {"Test": ["CMD", "x"], "Interval": 1},
        "OnBuild": ["RUN x"],
        "StopSignal": "9",
        "WorkingDir": "/",
    },
    "rootfs": {"type": "layers", "diff_ids": ["sha256:" + "c" * 64]},
    "history": [{"created": "2026-01-01T00:00:00Z", "created_by": "x", "empty_layer": True}],
}
MANIFEST = {
    "schemaVersion": 2,
    "mediaType": "application/vnd.oci.image.manifest.v1+json",
    "config": {"mediaType": "x", "digest": "sha256:" + "d" * 64, "size": 7},
    "layers": [{"mediaType": "application/vnd.oci.image.layer.v1.tar+gzip", "digest": "sha256:" + "e" * 64, "size": 9}],
    "manifests": [{"digest": "sha256:" + "f" * 64, "size": 1, "platform": {"os": "linux", "architecture": "amd64"}}],
}


@target("image documents", 5, lambda dice: written(dice.spoilt(dice.choice((CONFIG, MANIFEST)))))
def image_documents(blob: bytes) -> None:
    with contextlib.suppress(FairleadError):
        record, _ = imagespec.read_config(blob)
        imagespec.read_config(imagespec.write_config(record))
        imagespec.history(record)
    with contextlib.suppress(FairleadError):
        imagespec.read_manifest(blob)


CHANGES = (
    'CMD ["sh","-c","x"]',
    "ENV A=b C='d e'",
    "EXPOSE 80 81/udp",
    "LABEL a=b",
    "USER 1:2",
    "WORKDIR /x",
    'VOLUME ["/v"]',
    "HEALTHCHECK --interval=5s CMD x",
    "ENTRYPOINT x",
    "ONBUILD RUN x",
    "STOPSIGNAL 9",
    "ENV P=${HOME:-x}$Y",
)


@reader("changes", 4, *CHANGES)
def changes(text: str) -> None:
    several(
        lambda t: instructions.apply(Config(), [t]),
        lambda t: instructions.words(t, {"A": "b"}),
        lambda t: instructions.expand(t, {"A": "b"}),
    )(text)


@reader(
    "dockerfile",
    3,
    "FROM a AS b\nRUN x\\\n y\nFROM b\n",
    "ARG X=1\nFROM $X\nCOPY --from=z . .\n",
    "# escape=`\nFROM scratch\nRUN <<EOF\nx\nEOF\n",
)
def dockerfiles(text: str) -> None:
    several(lambda t: dockerfile.check(t, "Dockerfile", "b"), lambda t: dockerfile.bases(t, {"X": "y"}))(text)


# -- small languages ------------------------------------------------------------------------------

TEMPLATES = (
    "{{.Name}}",
    "{{json .}}",
    "{{range $k, $v := .Labels}}{{$k}}={{$v}}{{end}}",
    "table {{.ID}}\t{{.Name}}",
    "{{index .List 0}}",
    '{{join .List ","}}',
    '{{if .Missing}}x{{else if eq .Name "a"}}y{{end}}',
    '{{printf "%5.2f|%s|%q" 1 .Name .List}}',
    "{{with .Deep}}{{.X}}{{end}}",
    "{{.List | len}}",
    "{{- .Name -}}",
    '{{split .Name ":"}}',
    "{{/* c */}}{{lower .Name}}",
    '{{pad .Name 1 2}}{{truncate .Name 3}}{{title "x"}}',
    "{{slice .Name 0 1}}",
    "{{println .}}",
)
DATA = {
    "Name": "web",
    "ID": "abc",
    "List": ["a", 1, None],
    "Labels": {"x": "y"},
    "Deep": {"X": 1.5, "Y": True},
    "None": None,
}


@reader("template", 6, *TEMPLATES)
def templates(text: str) -> None:
    several(lambda t: template.render(t, DATA), lambda t: tables.render([DATA], t, ["Name"], {"Name": "NAME"}))(text)


@reader(
    "json",
    4,
    '{"a":[1,2.5e3,"\\u00e9",null,true],"b":{"c":"d"}}',
    "[[[[]]]]",
    '"\\ud800"',
    "-0.0",
    "{}{}",
    "nul",
    '{"a":1,}',
)
def json_text(text: str) -> None:
    """Whatever is no JSON is refused in Go's words, and what Go complains about is no JSON."""
    raw = text.encode("utf-8", "surrogatepass")
    with contextlib.suppress(FairleadError):
        http.parse_json(raw)
    gojson.complaint(raw.decode("utf-8", "replace"))


@reader(
    "times",
    4,
    "2026-01-02T03:04:05.000000006Z",
    "1700000000.123",
    "1h2m3.5s",
    "-5s",
    "2026-01-02",
    "10ms",
    "0",
    "2026-13-45T99:99:99+25:00",
)
def moments(text: str) -> None:
    several(
        lambda t: times.duration(t),
        lambda t: times.timestamp(t, 10**18),
        times.nanoseconds,
        command.nanoseconds,
        tables.reformatted,
    )(text)
    several(command.memory, command.cpus, command.limit, command.condition, command.truth, command.number)(text)


FILTERS = (
    '{"name":["a"]}',
    '{"label":{"x=y":true}}',
    '["x"]',
    '{"until":["10m"]}',
    '{"publish":["1-10/tcp"]}',
    '{"status":["running"]}',
)


@reader(
    "small words",
    4,
    "SIGKILL",
    "9",
    "SIGRTMIN+3",
    "root:wheel",
    "1000",
    "CAP_NET_ADMIN",
    "all",
    "0-3,5",
    "db:10.0.0.1",
    "host-gateway",
    "a:b",
    "x=y",
    "linux/amd64/v8",
    "web:alias",
)
def small_words(text: str) -> None:
    passwd = f"root:x:0:0:root:/root:/bin/sh\n{text}\nu:x:{text}:1::/:\n"
    several(
        signals.number,
        lambda t: users.resolve(t, [t], passwd, f"g:x:1:u\n{t}\n"),
        lambda t: capabilities.settle([t], [t], ["CAP_CHOWN"]),
        lambda t: validate.cpuset(t, "cpus"),
        validate.extra_host,
        validate.platform,
        validate.link,
        validate.container_name,
        lambda t: hostsfile.extra_hosts([t], ("10.0.0.1",)),
        lambda t: hostsfile.check_extra_hosts([t]),
        hostsfile.hostname,
        lambda t: hostsfile.check_dns([t]),
        lambda t: validate.security_options([t]),
        http.parse_bool,
        http.parse_int,
        lambda t: create.policy(t),
        lambda t: create._device(t),
        lambda t: create._network(t),
        lambda t: http.matches(t, "web-1"),
        lambda t: loglines.settings(LogConfig("json-file", {"max-size": t, "max-file": t, "labels": t, "tag": t})),
    )(text)


RESOLV = (
    "nameserver 10.0.0.1\nsearch a b\noptions ndots:2 timeout:1\n",
    "nameserver fe80::1%eth0\n;c\n",
    "domain x\nsortlist 1\n",
    "options ndots:x\n",
)


@reader("resolv.conf", 3, *RESOLV)
def resolv(text: str) -> None:
    parsed = hostsfile.parse_resolv_conf(text)
    for mode in ("internal", "legacy", "bridge", "host"):
        with contextlib.suppress(FairleadError):
            hostsfile.resolv_conf(parsed, mode)
    base = "127.0.0.1\tlocalhost\n10.0.0.2\tme\n"
    kept = hostsfile.carry_over(text, base, base + "10.0.0.3\tyou\n")
    assert isinstance(kept, str)


LOG = (
    "2026-01-02T03:04:05.000000006+00:00 stdout F hello\n",
    "2026-01-02T03:04:05.000000006Z stderr P part",
    '{"log":"x\\n","stream":"stdout","time":"2026-01-02T03:04:05Z"}\n',
)


@target("log lines", 3, lambda dice: [dice.mangled(dice.choice(LOG).encode()) for _ in range(3)])
def log_lines(pieces: Sequence[bytes]) -> None:
    assembler = loglines.Assembler()
    for piece in pieces:
        list(assembler.feed(piece))
    list(assembler.finish())


REMOTE = {
    "network": "n",
    "endpoint": "e",
    "node": "x",
    "address": "10.0.0.2/24",
    "mac": "02:00:00:00:00:01",
    "names": ["a"],
    "vtep": "192.0.2.1",
}


@target("cluster records", 3, lambda dice: ("k/n/e", written(dice.spoilt(REMOTE))))
def cluster_records(given: tuple[str, bytes]) -> None:
    several(lambda t: remotes.read_remote(given[0], given[1]), lambda t: remotes.read_network(given[0], given[1]))("")


@target(
    "command lines",
    3,
    lambda dice: [
        dice.scribbled(w)
        for w in dice.sample(
            [
                "ps",
                "run",
                "network",
                "--format",
                "{{.}}",
                "-a",
                "x",
                "create",
                "-f",
                "name=x",
                "--help",
                "-H",
                "unix:///nowhere",
            ],
            3,
        )
    ],
)
def command_lines(words: list[str]) -> None:
    quiet = io.StringIO()
    with (
        contextlib.redirect_stdout(quiet),
        contextlib.redirect_stderr(quiet),
        contextlib.suppress(FairleadError, HelpWanted),
    ):
        run.parse(words)
