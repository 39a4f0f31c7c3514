"""What is read from files and small languages: images, Dockerfiles, templates, JSON, times, logs, records."""

from __future__ import annotations

import contextlib
import io
import re
from collections.abc import Sequence

from msgspec.structs import asdict

import fairlead.core.template as template
from fairlead.api import gojson, http, times
from fairlead.cli import command, create, tables
from fairlead.cli.command import HelpWanted
from fairlead.cli.running import run
from fairlead.core import (
    addresses,
    capabilities,
    dockerfile,
    heredocs,
    hostsfile,
    imagespec,
    instructions,
    loglines,
    logoptions,
    reference,
    remotes,
    signals,
    users,
    validate,
)
from fairlead.core.container import Config, LogConfig
from fairlead.engine.drivers.base import Facts
from fairlead.engine.drivers.overlay import Overlay
from fairlead.errors import FairleadError
from fuzz.mutate import written
from fuzz.targets import target
from fuzz.words import reader, several

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
        reference.check_tag,
        reference.image_id,
        reference.id_prefix,
        lambda t: reference.matches(t, "busybox" + "y" * 90),
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
    'FROM a AS b\nARG A=1\nENV B=${A:-x}\nCOPY --chmod=1 <<-"x" << y /d/\n\tz\nx\n$B \\\\\ny\nRUN cat <<E\nq\nE\n',
)
def dockerfiles(text: str) -> None:
    text = text.encode(errors="surrogateescape").decode(errors="replace")  # as ``host.build`` reads the file
    several(
        lambda t: dockerfile.check(t, "Dockerfile", "b"), lambda t: dockerfile.bases(t, {"X": "y"}), without_documents
    )(text)


def without_documents(text: str) -> None:
    dockerfile.bases(text, {})
    recipe = dockerfile.recipe(text, {"X": "y"}, "", {"k": "v"})
    said, files = heredocs.without(recipe, {"X": "y"}, {})
    if files:
        assert not any(line.documents for one in dockerfile.recipe(said, {}, "", {}).stages for line in one.lines)


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
        hostsfile.hostname,
        lambda t: hostsfile.check_dns([t]),
        lambda t: validate.security_options([t]),
        http.parse_bool,
        http.parse_int,
        lambda t: create.policy(t),
        lambda t: create._device(t),
        lambda t: create._network(t),
        lambda t: http.matches(t, "web-1"),
        lambda t: logoptions.settings(LogConfig("json-file", {"max-size": t, "max-file": t, "labels": t, "tag": t})),
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


ENDPOINT = {
    "id": "e" * 64,
    "network": "d" * 64,
    "node": "n2",
    "host": "two",
    "vtep": "192.0.2.1",
    "name": "db",
    "mac": "02:42:0a:09:00:03",
    "ipv4": "10.9.0.3/24",
    "ipv6": "fd00::3/64",
    "names": ["db", "e" * 12],
    "ports": ["80/tcp"],
}
NETWORK = {
    "id": "d" * 64,
    "name": "RED",
    "created": "2026-01-02T03:04:05Z",
    "driver": "overlay",
    "scope": "global",
    "ipv6": True,
    "options": {remotes.VNI: "4097", remotes.MTU: "1400"},
    "ipam": {
        "config": [
            {"subnet": "10.9.0.0/24", "gateway": "10.9.0.1"},
            {"subnet": "fd00::/64", "auxiliary": {"x": "fd00::9"}},
        ]
    },
}
PLAIN = re.compile(r"[A-Za-z0-9_.:/ -]*")


@target(
    "cluster records",
    3,
    lambda dice: (dice.choice("en"), written(dice.spoilt((ENDPOINT, NETWORK)[dice.random() < 0.5]))),
)
def cluster_records(given: tuple[str, bytes]) -> None:
    """What is believed becomes addresses and names, and nothing else, in what the kernel is told."""
    network = remotes.read_network(f"networks/{'d' * 64}", written(NETWORK))
    kind, text = given
    with contextlib.suppress(FairleadError):
        if kind == "n":
            network = remotes.read_network(f"networks/{'d' * 64}", text)
        row = remotes.read_remote(f"endpoints/n2/{'e' * 64}", text if kind == "e" else written(ENDPOINT))
        facts = Facts(vtep="192.0.2.2")
        plan = [*Overlay().path(network, facts), *Overlay().vtep(network, row.vtep, facts)]
        for pool in network.ipam.config:
            addresses.lease([pool], set(), "", "", network.name)
        if remotes.fits(row, network):
            plan += Overlay().remote(network, row, facts)
        for item in plan:
            words = [value for name, value in asdict(item).items() if name not in ("why", "owner")]
            assert all(PLAIN.fullmatch(word) for word in words if isinstance(word, str)), item
        assert all(PLAIN.fullmatch(name.replace("*", "")) for name in (row.name, row.host, *row.names)), row


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
