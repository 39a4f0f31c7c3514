"""Published ports: every form of -p, and choices that no history can make collide."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairlead.core.model import PortBinding, PortRequest
from fairlead.core.ports import choose, exposed_ports, parse_bindings, rows
from fairlead.errors import Conflict, Invalid


def shown(bindings: tuple[PortBinding, ...]) -> list[str]:
    return [f"{b.host_ip}:{b.host_port}->{b.port}/{b.protocol}" for b in bindings]


# -- reading ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("bindings", "expected"),
    [
        ({"80/tcp": ({"HostIp": "", "HostPort": "8080"},)}, [PortRequest(80, "tcp", "", 8080, 8080)]),
        ({"80": ({"HostPort": "8080"},)}, [PortRequest(80, "tcp", "", 8080, 8080)]),
        ({"53/UDP": ({"HostPort": ""},)}, [PortRequest(53, "udp")]),
        ({"53/sctp": ()}, [PortRequest(53, "sctp")]),
        ({"53/udp": None}, [PortRequest(53, "udp")]),
        ({"80/tcp": ({"HostPort": "8000-8010"},)}, [PortRequest(80, "tcp", "", 8000, 8010)]),
        ({"80/tcp": ({"HostIp": "127.0.0.1", "HostPort": "1"},)}, [PortRequest(80, "tcp", "127.0.0.1", 1, 1)]),
        ({"80/tcp": ({"HostIp": "::0001", "HostPort": "1"},)}, [PortRequest(80, "tcp", "::1", 1, 1)]),
        ({"80/tcp": ({"HostIp": "nonsense", "HostPort": "81"},)}, [PortRequest(80, "tcp", "", 81, 81)]),
        ({"80/bogus": ({"HostPort": "1"},)}, []),
        ({"90/tcp": ({"HostPort": "1"},), "80/tcp": ({"HostPort": "2"}, {"HostPort": "3"})},
         [PortRequest(80, "tcp", "", 2, 2), PortRequest(80, "tcp", "", 3, 3), PortRequest(90, "tcp", "", 1, 1)]),
    ],
)  # fmt: skip
def test_every_form(bindings: dict[str, tuple[dict[str, str], ...] | None], expected: list[PortRequest]) -> None:
    assert list(parse_bindings(bindings, None)) == expected


@pytest.mark.parametrize("port", ["99999", "x", "-1", "80-", "90-80", "8 0", "٣"])
def test_no_port(port: str) -> None:
    with pytest.raises(Invalid) as error:
        parse_bindings({"80/tcp": ({"HostPort": port},)}, None)
    assert error.value.message == f'invalid port specification: "{port}"'
    with pytest.raises(Invalid, match="invalid port specification"):
        parse_bindings({f"{port}/tcp": ()}, None)


def test_publish_all_takes_what_is_exposed_and_not_bound() -> None:
    bindings = {"80/tcp": ({"HostPort": "8080"},)}
    exposed = {"80/tcp": {}, "443/tcp": {}, "8000-8001/udp": {}, "1/bogus": {}}
    found = parse_bindings(bindings, exposed, publish_all=True)
    assert [(r.port, r.protocol, r.host_first) for r in found] == [
        (80, "tcp", 8080), (443, "tcp", 0), (8000, "udp", 0), (8001, "udp", 0),
    ]  # fmt: skip
    assert parse_bindings(bindings, exposed) == found[:1]


def test_exposed_forms() -> None:
    assert list(exposed_ports("80")) == [(80, "tcp")]
    assert list(exposed_ports("8000-8002/udp")) == [(8000, "udp"), (8001, "udp"), (8002, "udp")]
    with pytest.raises(Invalid):
        list(exposed_ports("/tcp"))


# -- choosing ---------------------------------------------------------------------------------


def test_without_an_address_both_families_get_one_port() -> None:
    assert shown(choose([PortRequest(80, "tcp", "", 8080, 8080)], (), ipv6=True)) == [
        "0.0.0.0:8080->80/tcp",
        ":::8080->80/tcp",
    ]
    assert shown(choose([PortRequest(80)], (), ipv6=True)) == ["0.0.0.0:32768->80/tcp", ":::32768->80/tcp"]
    assert shown(choose([PortRequest(80)], [("tcp", "::", 32768)], ipv6=True))[0] == "0.0.0.0:32769->80/tcp"
    assert shown(choose([PortRequest(80)], [("tcp", "::", 32768)])) == ["0.0.0.0:32768->80/tcp"]


def test_an_address_gets_only_that() -> None:
    assert shown(choose([PortRequest(80, "tcp", "127.0.0.1", 0, 0)], (), ipv6=True)) == ["127.0.0.1:32768->80/tcp"]
    assert shown(choose([PortRequest(80, "tcp", "::1", 9, 9)], (), ipv6=True)) == ["::1:9->80/tcp"]
    assert choose([PortRequest(80, "tcp", "::1", 9, 9)], (), ipv6=False) == ()


def test_the_networks_default_address() -> None:
    assert shown(choose([PortRequest(80, "tcp", "", 9, 9)], (), "10.0.0.1", "", ipv6=True)) == ["10.0.0.1:9->80/tcp"]


@pytest.mark.parametrize(
    ("holder", "wish", "collides"),
    [
        ("0.0.0.0", "0.0.0.0", True),
        ("0.0.0.0", "127.0.0.1", True),
        ("127.0.0.1", "0.0.0.0", True),
        ("127.0.0.1", "127.0.0.1", True),
        ("127.0.0.1", "127.0.0.2", False),
        ("::", "0.0.0.0", False),
        ("0.0.0.0", "::1", False),
        ("::", "::1", True),
    ],
)
def test_who_collides_with_whom(holder: str, wish: str, collides: bool) -> None:
    request = PortRequest(80, "tcp", wish, 8080, 8080)
    if collides:
        with pytest.raises(Conflict, match=r"failed: port is already allocated$"):
            choose([request], [("tcp", holder, 8080)], ipv6=True)
    else:
        assert choose([request], [("tcp", holder, 8080)], ipv6=True)
    assert choose([request], [("udp", holder, 8080)], ipv6=True)


def test_dockers_words() -> None:
    with pytest.raises(Conflict) as error:
        choose([PortRequest(80, "tcp", "", 8080, 8080)], [("tcp", "0.0.0.0", 8080)])
    assert error.value.message == "Bind for 0.0.0.0:8080 failed: port is already allocated"
    with pytest.raises(Conflict) as error:
        choose([PortRequest(80, "tcp", "", 80, 81)], [("tcp", "0.0.0.0", 80), ("tcp", "0.0.0.0", 81)])
    assert error.value.message == "Bind for 0.0.0.0:80-81 failed: all ports are allocated"


def test_choosing_for_many_looks_at_each_port_once(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []

    def refused(self: object, protocol: str, port: int, addresses: object) -> str:
        asked.append(port)
        return "0.0.0.0" if port % 2 else ""

    monkeypatch.setattr("fairlead.core.ports._Desk._refused", refused)
    found = choose([PortRequest(port) for port in range(1, 101)], ())
    assert [binding.host_port for binding in found] == list(range(32768, 32968, 2))
    assert asked == list(range(32768, 32967))


def test_explicit_ports_are_settled_before_chosen_ones() -> None:
    requests = [PortRequest(1), PortRequest(2, "tcp", "", 32768, 32770), PortRequest(3, "tcp", "", 32768, 32768)]
    assert shown(choose(requests, ())) == ["0.0.0.0:32770->1/tcp", "0.0.0.0:32769->2/tcp", "0.0.0.0:32768->3/tcp"]


def test_twice_the_same_port_collides_with_itself() -> None:
    with pytest.raises(Conflict):
        choose([PortRequest(80, "tcp", "", 9, 9), PortRequest(81, "tcp", "", 9, 9)], ())


def test_a_routed_network_takes_nothing_of_the_host() -> None:
    request = PortRequest(80, "tcp", "", 8080, 8080)
    assert shown(choose([request], [("tcp", "0.0.0.0", 8080)], mode4="routed")) == ["0.0.0.0:0->80/tcp"]
    assert shown(choose([request], (), ipv6=True, mode6="routed")) == ["0.0.0.0:8080->80/tcp", ":::0->80/tcp"]
    assert choose([request], (), mode4="isolated") == ()


def test_what_leads_nowhere_on_the_host_is_said_once() -> None:
    requests = [PortRequest(80, "tcp", "", 8080, 8080), PortRequest(80, "tcp", "", 8081, 8081)]
    found = shown(choose(requests, (), ipv6=True, mode6="routed"))
    assert found == ["0.0.0.0:8080->80/tcp", ":::0->80/tcp", "0.0.0.0:8081->80/tcp"]


def test_ports_that_go_on_side_by_side_are_a_row() -> None:
    pairs = [(8000, 80), (8001, 81), (8002, 82), (8003, 80), (9000, 81), (9001, 82), (9003, 83), (9004, 85)]
    assert list(rows((*pair, 1) for pair in pairs)) == [
        (8000, 80, 3),
        (8003, 80, 1),
        (9000, 81, 2),
        (9003, 83, 1),
        (9004, 85, 1),
    ]
    assert list(rows([])) == []


@given(st.lists(st.tuples(st.integers(1, 9), st.integers(1, 9))))
def test_rows_say_what_the_pairs_said(pairs: list[tuple[int, int]]) -> None:
    assert [
        (first + n, second + n) for first, second, span in rows((*p, 1) for p in pairs) for n in range(span)
    ] == pairs


def test_a_thousand_ports_are_one_request_and_one_binding_of_each_address() -> None:
    kinds = ("tcp", "udp")
    wish = {f"{port}/{kind}": ({"HostPort": str(port + 1000)},) for port in range(5000, 6000) for kind in kinds}
    found = parse_bindings(wish, None)
    assert found == (
        PortRequest(5000, "tcp", "", 6000, 6000, span=1000),
        PortRequest(5000, "udp", "", 6000, 6000, span=1000),
    )
    assert choose(found[:1], (), ipv6=True) == (
        PortBinding(5000, "tcp", "0.0.0.0", 6000, span=1000),
        PortBinding(5000, "tcp", "::", 6000, span=1000),
    )
    with pytest.raises(Conflict, match=r"Bind for 0\.0\.0\.0:6400 failed"):
        choose(found[:1], [("tcp", "127.0.0.1", 6400)])
    assert choose(found[1:], [("tcp", "0.0.0.0", 6400)])


def test_what_is_remembered_of_old_is_one_by_one() -> None:
    """Records that know no rows are read as they were."""
    old = b'{"port":80,"protocol":"tcp","host_ip":"::","host_port":8080}'
    assert list(msgspec.json.decode(old, type=PortBinding).each()) == [PortBinding(80, "tcp", "::", 8080)]
    assert msgspec.json.encode(PortBinding(80, "tcp", "::", 8080)) == old


wishes = st.dictionaries(
    st.tuples(st.integers(80, 90), st.sampled_from(["tcp", "udp"])),
    st.lists(
        st.tuples(st.sampled_from(["", "127.0.0.1", "::1"]), st.sampled_from(["", *map(str, range(80, 92)), "80-95"])),
        min_size=1,
        max_size=2,
    ),
    max_size=9,
)


@given(wishes, st.sampled_from(["nat", "routed"]))
def test_in_rows_or_one_by_one_the_same_is_had(asked: dict[tuple[int, str], list[tuple[str, str]]], mode6: str) -> None:
    spelled = {
        f"{port}/{protocol}": tuple({"HostIp": ip, "HostPort": host_port} for ip, host_port in places)
        for (port, protocol), places in asked.items()
    }
    requests = parse_bindings(spelled, None)
    singles = tuple(one for row in requests for one in row.each())
    by_hand = sorted((port, protocol, ip) for (port, protocol), places in asked.items() for ip, _ in places)
    assert sorted((one.port, one.protocol, one.host_ip) for one in singles) == by_hand

    def had(requests: tuple[PortRequest, ...]) -> list[PortBinding] | None:
        try:
            return sorted(one for row in choose(requests, (), ipv6=True, mode6=mode6) for one in row.each())
        except Conflict:
            return None

    assert had(requests) == had(singles)


hosts = st.sampled_from(["", "0.0.0.0", "127.0.0.1", "10.0.0.1", "::", "::1"])
asked = st.builds(
    lambda port, protocol, host, first, span: PortRequest(port, protocol, host, first, first + span if first else 0),
    st.integers(1, 100),
    st.sampled_from(["tcp", "udp"]),
    hosts,
    st.sampled_from([0, 0, 1000, 1001, 1002, 32768]),
    st.sampled_from([0, 0, 1, 3]),
)


@given(st.lists(st.lists(asked, max_size=4), max_size=6))
def test_no_history_makes_two_bindings_collide(containers: list[list[PortRequest]]) -> None:
    """Containers come one by one; whoever is refused leaves nothing."""
    taken: list[tuple[str, str, int]] = []
    for requests in containers:
        try:
            got = choose(requests, taken, ipv6=True)
        except Conflict:
            continue
        for request in requests:
            mine = [b for b in got if (b.port, b.protocol) == (request.port, request.protocol)]
            assert mine
        taken += dict.fromkeys((b.protocol, b.host_ip, b.host_port) for b in got)
        for number, (protocol, address, port) in enumerate(taken):
            for other in taken[:number]:
                if other[0] == protocol and other[2] == port and (":" in other[1]) == (":" in address):
                    assert other[1] != address
                    assert not {other[1], address} & {"0.0.0.0", "::"}


@given(st.lists(st.integers(32768, 32800), unique=True, max_size=30))
def test_the_lowest_free_port(busy: list[int]) -> None:
    (binding,) = choose([PortRequest(80)], [("tcp", "0.0.0.0", port) for port in busy])
    assert binding.host_port == min(set(range(32768, 32900)) - set(busy))
