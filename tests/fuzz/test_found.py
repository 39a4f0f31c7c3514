"""What the fuzz lane found, each by name. Every one of these was once a traceback, a hang or a lie."""

from __future__ import annotations

import contextlib
import gc
import io
import json
import os
import tarfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import fairlead.core.template as template
from fairlead import options, settings
from fairlead.api import times
from fairlead.cli import command, create, mounts
from fairlead.cli import ports as cli_ports
from fairlead.core import (
    dnswire,
    hostsfile,
    imagespec,
    instructions,
    logoptions,
    names,
    ports,
    reference,
    remotes,
    users,
)
from fairlead.core.container import Config, LogConfig
from fairlead.core.model import Endpoint
from fairlead.errors import FairleadError, Invalid
from fairlead.host import conntrack, links, netlink
from fuzz import documents, requests, tars  # noqa: F401  (they register their targets)
from fuzz.mutate import written
from fuzz.targets import attempt, watch_the_clock
from fuzz.wires import _Dump

ENDLESS = "9" * 5000
"""more digits than Python turns into a number"""

REFUSED: dict[str, Callable[[], Any]] = {
    "a superscript as port": lambda: cli_ports.parse(["0:²0"]),
    "an endless port": lambda: ports.parse_bindings({ENDLESS: None}, None),
    "an endless port, typed": lambda: cli_ports.parse([ENDLESS]),
    "a mode that is no number": lambda: mounts.parse("type=tmpfs,dst=/t,tmpfs-mode=17\t70"),
    "endless restarts": lambda: create.policy(f"always:{ENDLESS}"),
    "a time without end": lambda: command.nanoseconds(f"{ENDLESS}h"),
    "cpus beyond all numbers": lambda: command.cpus("1e400"),
    "a number beyond 64 bits": lambda: command.number(ENDLESS),
    "a size beyond all numbers": lambda: options.size("9" * 400),
    "an option beyond 64 bits": lambda: options.NUMBER.one(ENDLESS),
    "log files without end": lambda: logoptions.settings(
        LogConfig("json-file", {"max-size": "1", "max-file": ENDLESS})
    ),
    "a log beyond all numbers": lambda: logoptions.settings(LogConfig("json-file", {"max-size": "1e400"})),
    "a layer without type": lambda: imagespec.read_manifest(
        b'{"config": {"digest": "a"}, "layers": [{"mediaType": "x", "digest": "b", "size": "many"}]}'
    ),
    "half a character as label": lambda: dnswire.wire("web\ud800"),
    "a text that does not end": lambda: template.render('{{printf "tf \n"%5.2f|%s|% 1 .Name}}', {"Name": "x"}),
    "a pool of superscript size": lambda: options.POOLS.one("base=10.0.0.0/8,size=24²"),
    "an endless limit": lambda: options.ulimit(f"nofile={ENDLESS}"),
    "an endless port to listen on": lambda: options.host(f"tcp://:{ENDLESS}"),
    "an endless port of an image": lambda: instructions.apply(Config(), [f"EXPOSE {ENDLESS}"]),
    "a volume with half a character": lambda: instructions.apply(Config(), ['VOLUME \ud800"']),
    "an interval without end": lambda: instructions.apply(Config(), [f"HEALTHCHECK --interval={ENDLESS}h CMD x"]),
    "retries without end": lambda: instructions.apply(Config(), [f"HEALTHCHECK --retries={ENDLESS} CMD x"]),
    "a name server beyond all": lambda: hostsfile.check_dns([f"10.0.0.{ENDLESS}"]),
    "a moment without end": lambda: times.timestamp(ENDLESS, 0),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused_in_our_own_words(case: str) -> None:
    begun = time.process_time()
    with pytest.raises(FairleadError):
        REFUSED[case]()
    assert time.process_time() - begun < 1


@pytest.mark.parametrize(
    "text",
    [
        b"\xff\xfe\xff",
        b"[" * 100_000,
        b'{"default-ulimits": {"nofile": "1:2"}}',
        b'{"default-network-opts": {"bridge": "x"}}',
        b'{"default-address-pools": ["10.0.0.0/8"]}',
    ],
)
def test_a_file_of_options_that_is_none(text: bytes, tmp_path: Path) -> None:
    (tmp_path / "daemon.json").write_bytes(text)
    with pytest.raises(FairleadError):
        settings.parse(["--config-file", str(tmp_path / "daemon.json")])


def test_a_user_of_an_image_with_an_endless_number() -> None:
    passwd = f"root:x:0:0::/root:/bin/sh\nx:x:{ENDLESS}:0::/:\n"
    assert users.resolve("root", None, passwd, f"g:x:{ENDLESS}:\n").uid == 0


def test_a_fraction_of_more_than_nine_digits() -> None:
    assert times.timestamp("1.1234567890123", 0) == 1_123_456_789


def test_names_with_endless_numbers_are_nobodys() -> None:
    known = names.Names()
    known.sandbox("box", ["n"])
    known.put("n", "red", "e", ["web"], "10.0.0.2")
    assert known.find("box", f"_{ENDLESS}._tcp.web", dnswire.SRV) == ()
    assert known.find("box", f"1.2.3.{ENDLESS}.in-addr.arpa", dnswire.PTR) is None


def test_attributes_of_the_kernel_that_are_too_short() -> None:
    assert links.seen(bytes(16) + b"\x05\x00\x04\x00\x01\0\0\0").mtu == 0  # one byte of MTU
    addresses = netlink.nested(1, netlink.attribute(1, b"\1\2\3\4"), netlink.attribute(2, b"\5\6\7"))
    protocol = netlink.nested(2, netlink.attribute(1, b""), netlink.attribute(3, b"\0\x50"))
    flow = b"\2\0\0\0" + netlink.nested(1, addresses, protocol)
    assert list(conntrack._flows(_Dump([flow]), b"", conntrack._ORIGINAL)) == []  # type: ignore[arg-type]


# -- the API, on paper ------------------------------------------------------------------------


def ask(data: bytes) -> bytes:
    it = requests.stage()
    answer = it.say(data, False)
    it.check()
    return answer


def test_a_body_that_ends_too_early_is_answered() -> None:
    head = b"POST /volumes/create HTTP/1.1\r\nHost: d\r\nContent-Type: application/json\r\nContent-Length: 99\r\n\r\n"
    answer = ask(head + b'{"Name":')
    assert answer.startswith(b"HTTP/1.1 400") and b"unexpected EOF" in answer


@pytest.mark.parametrize("header", ["Content-Type: \xff", "Expect: \xff", "X-Registry-Auth: \xff"])
def test_a_header_that_is_no_text(header: str) -> None:
    body = written({"Image": "busybox"})
    lines = ["POST /containers/create HTTP/1.1", "Host: d", "Connection: close", header, f"Content-Length: {len(body)}"]
    head = "".join(f"{line}\r\n" for line in lines)
    answer = ask(head.encode("latin-1") + b"\r\n" + body)
    assert answer[9:12] in (b"201", b"400", b"417"), answer


def test_a_web_socket_without_an_upgrade_is_the_clients_fault() -> None:
    answer = ask(b"GET /containers/c1/attach/ws HTTP/1.1\r\nHost: d\r\nConnection: close\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 400") and b"not websocket protocol" in answer


def test_a_place_to_go_to_is_written_as_it_came() -> None:
    line = b"PUT /v1.51/containers///y%7F/archive HTTP/1.1"
    answer = ask(line + b"\r\nHost: d\r\nConnection: close\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 301") and b"Location: /v1.51/containers/y%7F/archive" in answer


def test_a_stream_for_a_client_of_http_1_0() -> None:
    answer = requests.stage().say(b"GET /events?since=1&until=2 HTTP/1.0\r\n\r\n", False)
    requests.stage().check()
    assert answer.startswith(b"HTTP/1.0 200") and b"chunked" not in answer


def test_what_is_no_http_leaves_no_traceback() -> None:
    assert ask(b"GET / HTTP/1.1\r\nHost: d\r\nContent-Length: x\r\n\r\n").startswith(b"HTTP/1.1 400")
    with contextlib.suppress(json.JSONDecodeError):
        assert ask(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03").startswith(b"HTTP/1.1 400")


# -- archives ---------------------------------------------------------------------------------


def archive_of(*members: tuple[str, bytes], **fields: Any) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name, kind in members:
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, "nowhere"
            for field, value in fields.items():
                setattr(info, field, value)
            tar.addfile(info)
    return out.getvalue()


def endless_data() -> bytes:
    """The header of a file at the root, which nobody can unpack, with 2⁸⁰ bytes."""
    info = tarfile.TarInfo("/")
    info.size = 1 << 80
    return info.tobuf(tarfile.GNU_FORMAT)


def test_a_pattern_of_image_names_cannot_stop_the_engine() -> None:
    begun = time.process_time()
    assert not reference.matches("*a" * 12 + "b", "a" * 100)
    assert time.process_time() - begun < 1


def test_a_template_cannot_eat_the_memory() -> None:
    assert len(template.render("{{pad .Name 1 99999999999}}", {"Name": "x"})) < 100_000
    assert len(template.render('{{printf "%99999999999s" .Name}}', {"Name": "x"})) < 100_000


@pytest.mark.skipif(os.geteuid() != 0, reason="changing the root takes root")
@pytest.mark.parametrize(
    "data",
    [
        pytest.param(archive_of(("pipe", tarfile.FIFOTYPE), ("pipe/", b"9")), id="a pipe by another name"),
        pytest.param(archive_of(("pipe", tarfile.FIFOTYPE), ("new/../pipe", tarfile.REGTYPE)), id="a pipe by a detour"),
        pytest.param(archive_of(("link", tarfile.LNKTYPE)), id="a hard link to nothing"),
        pytest.param(
            archive_of(("nowhere", tarfile.DIRTYPE), ("nowhere/a", tarfile.DIRTYPE), ("nowhere", tarfile.SYMTYPE)),
            id="a link to itself where a directory is",
        ),
        pytest.param(endless_data(), id="data without end, skipped"),
        pytest.param(archive_of(("a", tarfile.REGTYPE), uid=-5), id="an owner below nobody"),
    ],
)
def test_archives(data: bytes) -> None:
    watch_the_clock()
    attempt("archives", data)


# -- what others wrote into the cluster's store -----------------------------------------------------


@pytest.mark.parametrize(
    "told",
    [
        {"options": {remotes.VNI: "9" * 5000}},  # longer than Python turns into a number
        {"options": {remotes.VNI: "4097", remotes.MTU: "much"}},
        {"ipam": {"config": [{"subnet": "10.9.0.0/24", "gateway": "the first"}]}},
        {"ipam": {"config": [{"subnet": "10.9.0.0/24", "ip_range": "10.8.0.0/16"}]}},
        {"name": "\ud800"},
    ],
)
def test_networks_of_the_cluster(told: dict[str, Any]) -> None:
    key, network = f"networks/{'d' * 64}", documents.NETWORK
    remotes.read_network(key, written(network))
    with pytest.raises(Invalid):
        remotes.read_network(key, written({**network, **told}))


# -- memory ---------------------------------------------------------------------------------------


def test_what_is_gone_is_forgotten() -> None:
    """Found by the soak: the last endpoints of removed containers stayed, 2 MB in a thousand operations."""
    box = {"Image": "busybox", "HostConfig": {"NetworkMode": "gone"}}
    box["NetworkingConfig"] = {"EndpointsConfig": {"gone": {"IPAMConfig": {"IPv4Address": "10.88.0.9"}}}}
    net = {"Name": "gone", "IPAM": {"Config": [{"Subnet": "10.88.0.0/24"}]}}
    calls: list[tuple[str, str, Any]] = [
        ("POST", "/networks/create", net),
        ("POST", "/containers/create?name=gone", box),
        ("POST", "/containers/gone/start", None),
        ("POST", "/containers/gone/stop", None),
        ("DELETE", "/containers/gone", None),
        ("DELETE", "/networks/gone", None),
    ]
    for method, path, body in calls:
        answer = ask(requests.packed(method, path, {}, written(body) if body else b"")[0])
        assert answer[9:10] == b"2", answer
    left = [one for one in gc.get_objects() if isinstance(one, Endpoint) and one.name == "gone"]
    assert not left
    endpoints = requests.stage().api.build.endpoints
    assert "gone" not in endpoints._promised
    there = {network.id for network in requests.stage().api.build.controller.networks()}
    assert set(endpoints._members._endpoints) <= there and {id for id, _ in endpoints._members._held} <= there


def test_a_range_of_ports_of_an_endless_protocol_is_one_protocol() -> None:
    """Spelled once, not for each of 65,535 ports."""
    found = list(ports.exposed_ports("1-9/" + "X" * 5000))
    assert len(found) == 9
    assert len({id(protocol) for _, protocol in found}) == 1
