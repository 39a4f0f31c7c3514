"""Who may resolve what, sentence by sentence of the module's docstring."""

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairlead.core import dnswire
from fairlead.core.dnswire import AAAA, ANY, MX, PTR, SRV, TXT, A
from fairlead.core.names import Names
from fairlead.errors import Invalid


@pytest.fixture
def names() -> Names:
    """RED: web, db (both also "any"). BLUE: db, another one; only with IPv6."""
    names = Names()
    names.put("r", "RED", "e1", ["web", "any", "*.shop", "aaaa1111bbbb"], "172.18.0.2/16", "fd00::2/64")
    names.put("r", "RED", "e2", ["db", "any", "aaaa2222bbbb"], "172.18.0.3/16")
    names.put("b", "blue.net", "e3", ["db"], "", "fd01::9/64")
    names.sandbox("both", ["r", "b"])
    names.sandbox("red", ["r"])
    names.sandbox("blue", ["b"])
    return names


def found(names: Names, sandbox: str, name: str, type_: int = A) -> list[str] | None:
    records = names.find(sandbox, name, type_)
    if records is None:
        return None
    return [dnswire.text(data) if kind == PTR else str(ipaddress.ip_address(data)) for kind, data in records]


def test_a_name_resolves_on_shared_networks_only(names: Names) -> None:
    assert found(names, "red", "web") == ["172.18.0.2"]
    assert found(names, "red", "aaaa1111bbbb") == ["172.18.0.2"]
    assert found(names, "blue", "web") is None
    assert found(names, "nobody", "web") is None


def test_a_known_name_without_the_family_is_empty_not_unknown(names: Names) -> None:
    assert found(names, "red", "db", AAAA) == []
    assert found(names, "red", "db", MX) == []
    assert found(names, "red", "db", TXT) == []
    assert found(names, "red", "nobody", AAAA) is None


def test_the_first_network_with_the_family_answers(names: Names) -> None:
    assert found(names, "both", "db") == ["172.18.0.3"]
    assert found(names, "both", "db", AAAA) == ["fd01::9"]
    names.put("b", "blue.net", "e3", ["db"], "10.0.0.9", "fd01::9")
    assert found(names, "both", "db") == ["172.18.0.3"]
    names.sandbox("both", ["b", "r"])
    assert found(names, "both", "db") == ["10.0.0.9"]


def test_a_name_is_qualified_by_its_network(names: Names) -> None:
    assert found(names, "both", "db.red") == ["172.18.0.3"]
    assert found(names, "both", "db.blue.net", AAAA) == ["fd01::9"]
    assert found(names, "red", "db.blue.net", AAAA) is None
    assert found(names, "red", "db.green") is None


def test_letters_have_no_case_and_a_last_dot_means_nothing() -> None:
    names = Names()
    names.put("r", "Red", "e", ["Web."], "10.0.0.1")
    names.sandbox("s", ["r"])
    assert found(names, "s", "web") == found(names, "s", "web.red") == ["10.0.0.1"]


def test_a_shared_alias_answers_with_all_of_them(names: Names) -> None:
    assert found(names, "red", "any") == ["172.18.0.2", "172.18.0.3"]
    names.drop("r", "e1")
    assert found(names, "red", "any") == ["172.18.0.3"]


def test_wildcards(names: Names) -> None:
    assert found(names, "red", "a.shop") == found(names, "red", "a.b.shop") == ["172.18.0.2"]
    assert found(names, "red", "a.shop.red") == ["172.18.0.2"]
    assert found(names, "red", "shop") is None
    names.put("r", "RED", "e4", ["*.eu.shop"], "10.0.0.4")
    names.put("r", "RED", "e5", ["exact.eu.shop"], "10.0.0.5")
    assert found(names, "red", "x.eu.shop") == ["10.0.0.4"]
    assert found(names, "red", "exact.eu.shop") == ["10.0.0.5"]


def test_services(names: Names) -> None:
    """``_port._proto.name``: who is called so and offers that port, by the name that resolves to its address."""

    def srv(sandbox: str, name: str, type_: int = SRV) -> list[bytes] | None:
        records = names.find(sandbox, name, type_)
        return None if records is None else [data for _, data in records]

    names.put("r", "RED", "e1", ["web", "any", "*.shop"], "172.18.0.2", ports=["80/tcp", "53/udp"])
    names.put("r", "RED", "e2", ["db", "any"], "172.18.0.3", ports=["80/tcp"])
    web, db = b"\0\0\0\0\0\x50\3web\3RED\0", b"\0\0\0\0\0\x50\2db\3RED\0"
    assert srv("red", "_80._tcp.web") == srv("red", "_80._tcp.web.red") == srv("red", "_80._tcp.x.shop") == [web]
    assert srv("red", "_80._tcp.any") == [web, db]
    assert srv("red", "_53._udp.any") == [b"\0\0\0\0\0\x35\3web\3RED\0"]
    assert srv("red", "_80._tcp.web", ANY) == [web]
    assert srv("red", "_80._tcp.web", A) == [], "known, but no address"
    for other in ("_81._tcp.web", "_80._udp.web", "_x._tcp.web", "_._tcp.web", "_http._tcp.web.red"):
        assert srv("red", other) == [], f"{other} is a container's name: it is not asked elsewhere"
    for other in ("_80._tcp.nobody", "_80.web", "_80._tcp", "_80._tcp."):
        assert srv("red", other) is None, other
    assert srv("blue", "_80._tcp.db") == [] and srv("blue", "_80._tcp.web") is None


def test_reverse_agrees_with_forward(names: Names) -> None:
    assert found(names, "red", "2.0.18.172.in-addr.arpa", PTR) == ["web.red"]
    assert names.find("red", "2.0.18.172.in-addr.arpa", PTR) == ((PTR, b"\3web\3RED\0"),)
    assert found(names, "red", "web.red") == ["172.18.0.2"]
    six = ".".join(reversed(ipaddress.ip_address("fd01::9").exploded.replace(":", ""))) + ".ip6.arpa"
    assert found(names, "both", six, PTR) == ["db.blue.net"]
    assert found(names, "red", six, PTR) is None
    assert found(names, "red", "2.0.18.172.in-addr.arpa", A) == []
    assert found(names, "red", "0.18.172.in-addr.arpa", PTR) is None
    assert found(names, "red", "2.0.18.999.in-addr.arpa", PTR) is None


def test_a_name_that_fits_no_message_is_not_told() -> None:
    names = Names()
    names.put("r", "red", "e", ["x" * 64, "y" * 63, "*.w"], "10.0.0.1")
    names.sandbox("s", ["r"])
    assert found(names, "s", "1.0.0.10.in-addr.arpa", PTR) == ["y" * 63 + ".red"]


def test_links_are_seen_by_their_sandbox_alone(names: Names) -> None:
    names.sandbox("red", ["r"], {"r": {"Database": "db"}})
    assert found(names, "red", "database") == found(names, "red", "database.red") == ["172.18.0.3"]
    assert found(names, "both", "database") is None
    names.drop("r", "e2")
    assert found(names, "red", "database") is None


def test_any_gives_both_families(names: Names) -> None:
    assert found(names, "red", "web", ANY) == ["172.18.0.2", "fd00::2"]


def test_services_and_tasks_are_names_like_any_other() -> None:
    names = Names()
    names.put("o", "over", "service", ["web"], "10.0.1.5")
    names.put("o", "over", "task1", ["web.1.abc", "tasks.web"], "10.0.1.6")
    names.put("o", "over", "task2", ["web.2.def", "tasks.web"], "10.0.1.7")
    names.sandbox("s", ["o"])
    assert found(names, "s", "web") == ["10.0.1.5"]
    assert found(names, "s", "tasks.web") == ["10.0.1.6", "10.0.1.7"]


def test_sharing_tells_whose_answers_change(names: Names) -> None:
    assert names.sharing("r") == {"both", "red"}
    names.forget("red")
    names.forget("red")
    assert names.sharing("r") == {"both"}
    assert names.counts() == {"networks": 2, "sandboxes": 2, "endpoints": 3}


def test_addresses_must_be_addresses() -> None:
    for four, six in (("nonsense", ""), ("", "10.0.0.1"), ("fd00::1", "")):
        with pytest.raises(Invalid):
            Names().put("r", "red", "e", ["web"], four, six)


some_names = st.sampled_from(("web", "db", "*.web", "a.web", "any"))
steps = st.lists(
    st.tuples(
        st.sampled_from("rb"), st.sampled_from(("e1", "e2", "e3")), st.lists(some_names, max_size=3), st.integers(1, 9)
    ),
    max_size=12,
)


@given(steps)
def test_upserts_and_drops_leave_nothing_behind(steps: list[tuple[str, str, list[str], int]]) -> None:
    """Against a model: a dictionary of what is there, searched in full."""
    names, model = Names(), {}
    names.sandbox("s", ["r", "b"])
    for network, endpoint, given_names, octet in steps:
        if given_names:
            names.put(network, network, endpoint, given_names, f"10.0.0.{octet}")
            model.pop((network, endpoint), None)
            model[(network, endpoint)] = (given_names, f"10.0.0.{octet}")
        else:
            names.drop(network, endpoint)
            model.pop((network, endpoint), None)
    for name in ("web", "db", "any", "a.web"):
        expected = next(
            (hits for on in "rb" if (hits := {a for (n, _), (ns, a) in model.items() if n == on and name in ns})), None
        )
        if expected is None and name == "a.web":
            continue
        assert (None if expected is None else expected) == (
            None if (got := found(names, "s", name)) is None else set(got)
        )
    for network, endpoint in list(model):
        names.drop(network, endpoint)
    assert names.counts()["networks"] == 0
