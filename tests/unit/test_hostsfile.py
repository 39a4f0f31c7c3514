"""The files of a container as golden text; where Docker 28 has words, its words."""

import textwrap

import pytest

from fairlead.core import hostsfile
from fairlead.core.hostsfile import parse_resolv_conf, resolv_conf
from fairlead.errors import Internal, Invalid

LOCAL = """\
127.0.0.1\tlocalhost
::1\tlocalhost ip6-localhost ip6-loopback
fe00::\tip6-localnet
ff00::\tip6-mcastprefix
ff02::1\tip6-allnodes
ff02::2\tip6-allrouters
"""


def text(block: str) -> str:
    return textwrap.dedent(block).lstrip("\n")


def test_hosts_of_a_linked_container() -> None:
    links = [hostsfile.link_line("172.17.0.4", "db", "3cf7713321fd", "database")]
    assert hostsfile.hosts(["172.17.0.6"], "bb8a57b192c9", extra=links) == (
        LOCAL + "172.17.0.4\tdb 3cf7713321fd database\n172.17.0.6\tbb8a57b192c9\n"
    )
    assert hostsfile.link_line("10.0.0.1", "db", "abc", "db") == ("10.0.0.1", "db abc")


def test_hosts_with_domain_and_two_families() -> None:
    got = hostsfile.hosts(["172.18.0.2/16", "fd00::2/64"], "web", "example.com", [("1.2.3.4", "peer")])
    assert got == LOCAL + "1.2.3.4\tpeer\n172.18.0.2\tweb.example.com web\nfd00::2\tweb.example.com web\n"
    assert hostsfile.own_names("web.example.com") == "web.example.com web"
    assert hostsfile.own_names("web") == "web"


def test_hosts_without_ipv6() -> None:
    extra = [("1.2.3.4", "four"), ("fd00::1", "six")]
    assert hostsfile.hosts([], extra=extra, ipv6_loopback=False) == "127.0.0.1\tlocalhost\n1.2.3.4\tfour\n"


def test_extra_hosts() -> None:
    said = ["a:1.2.3.4", "b=::1", "c:fd00::7", "d:[fd00::8]", "gate:host-gateway"]
    assert hostsfile.extra_hosts(said, ["172.17.0.1", "fd17::1"]) == (
        ("1.2.3.4", "a"),
        ("::1", "b"),
        ("fd00::7", "c"),
        ("fd00::8", "d"),
        ("172.17.0.1", "gate"),
        ("fd17::1", "gate"),
    )
    with pytest.raises(Internal, match="unable to derive the IP value for host-gateway"):
        hostsfile.extra_hosts(["gate:host-gateway"])


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ("bad", 'bad format for add-host: "bad"'),
        (":1.2.3.4", 'bad format for add-host: ":1.2.3.4"'),
        ("a:", 'bad format for add-host: "a:"'),
        ("a:nonsense", 'invalid IP address in add-host: "nonsense"'),
    ],
)
def test_extra_hosts_refused_in_dockers_words(said: str, words: str) -> None:
    with pytest.raises(Invalid) as caught:
        hostsfile.extra_hosts([said])
    assert caught.value.message == words


def test_hostname() -> None:
    assert hostsfile.hostname("web") == "web\n"


def test_edits_of_the_user_are_carried_over() -> None:
    before = hostsfile.hosts(["10.0.0.2"], "web")
    after = hostsfile.hosts(["10.0.0.2", "10.1.0.2"], "web")
    edited = before.replace("10.0.0.2\tweb\n", "9.9.9.9\tmine\n10.0.0.2\tweb\n")
    assert hostsfile.carry_over(before, before, after) == after
    assert hostsfile.carry_over(edited, before, after) == edited + "10.1.0.2\tweb\n"
    both = hostsfile.carry_over(edited, before, after)
    assert hostsfile.carry_over(both, after, before) == edited
    gone = hostsfile.hosts([], "web")
    assert "9.9.9.9\tmine\n" in hostsfile.carry_over(edited, before, gone)
    assert "10.0.0.2" not in hostsfile.carry_over(edited, before, gone)


HOST = parse_resolv_conf(
    text("""
    # a comment
    ; another
    nameserver 192.168.90.1
    nameserver nonsense
    nameserver fd00::53
    domain old.example
    search example.com corp.example.com
    options edns0
    options trust-ad
    sortlist 130.155.160.0
    """)
)
LOOPBACK = parse_resolv_conf("nameserver 127.0.0.53\nnameserver ::1\noptions ndots:2 ndots:x\n")
EMPTY = parse_resolv_conf("")


def test_a_resolv_conf_is_read_as_libc_reads_it() -> None:
    assert HOST.servers == ("192.168.90.1", "fd00::53")
    assert HOST.search == ("example.com", "corp.example.com")
    assert HOST.options == ("edns0", "trust-ad")
    assert HOST.other == ("sortlist 130.155.160.0",)
    assert HOST.invalid == ("nonsense",)


def test_on_a_user_network() -> None:
    got = resolv_conf(HOST, "names")
    assert got.text == text("""
        # Written by Fairlead.

        nameserver 127.0.0.11
        search example.com corp.example.com
        options edns0 trust-ad ndots:0
        sortlist 130.155.160.0

        # Based on host file: '/etc/resolv.conf' (internal resolver)
        # Invalid nameservers: [nonsense]
        # ExtServers: [192.168.90.1 host(fd00::53)]
        # Overrides: []
        # Option ndots from: internal
    """)
    assert got.upstreams == (("192.168.90.1", "sandbox"), ("fd00::53", "host"))
    assert resolv_conf(HOST, "names", ipv6=True).upstreams[1] == ("fd00::53", "sandbox")


def test_the_hosts_loopback_is_asked_from_the_host_and_the_containers_from_the_container() -> None:
    got = resolv_conf(LOOPBACK, "names", ipv6=True)
    assert got.upstreams == (("127.0.0.53", "host"), ("::1", "host"))
    assert "options ndots:2\n" in got.text and "# Option ndots from: host\n" in got.text
    assert resolv_conf(LOOPBACK, "names", ["127.0.0.53"]).upstreams == (("127.0.0.53", "sandbox"),)


def test_what_was_asked_with_dns_options_wins() -> None:
    got = resolv_conf(HOST, "names", ["9.9.9.9"], ["."], ["ndots:3"])
    assert got.text == text("""
        # Written by Fairlead.

        nameserver 127.0.0.11
        options ndots:3
        sortlist 130.155.160.0

        # Based on host file: '/etc/resolv.conf' (internal resolver)
        # Invalid nameservers: [nonsense]
        # ExtServers: [9.9.9.9]
        # Overrides: [nameservers search options]
        # Option ndots from: override
    """)
    assert (got.search, got.options) == ((), ("ndots:3",))


def test_on_the_default_bridge() -> None:
    assert resolv_conf(parse_resolv_conf("nameserver 192.168.90.1\n"), "plain").text == text("""
        # Written by Fairlead.

        nameserver 192.168.90.1

        # Based on host file: '/etc/resolv.conf' (legacy)
        # Overrides: []
    """)
    assert "nameserver fd00::53" not in resolv_conf(HOST, "plain").text
    assert "nameserver fd00::53" in resolv_conf(HOST, "plain", ipv6=True).text


def test_nobody_is_left_without_a_server() -> None:
    assert resolv_conf(LOOPBACK, "plain").text.count("nameserver 8.8.") == 2
    assert resolv_conf(LOOPBACK, "plain", ipv6=True).text.count("nameserver 2001:4860:4860::88") == 2
    assert resolv_conf(EMPTY, "names").upstreams == (("8.8.8.8", "sandbox"), ("8.8.4.4", "sandbox"))
    assert "public" in resolv_conf(EMPTY, "names").text


def test_on_the_hosts_own_network() -> None:
    got = resolv_conf(LOOPBACK, "host")
    assert "nameserver 127.0.0.53\nnameserver ::1\n" in got.text and got.upstreams == ()


@pytest.mark.parametrize(
    ("server", "words"),
    [
        ("notip", "unable to parse IP"),
        ("1.2.3", "IPv4 address too short"),
        ("1.2.3.4.5", "IPv4 address too long"),
        ("1.2.3.256", "IPv4 field has value >255"),
        ("1.2.3.04", "IPv4 field has octet with leading zero"),
        ("1.2.3.x", 'unexpected character (at "x")'),
    ],
)
def test_a_bad_server_is_refused_in_dockerds_words(server: str, words: str) -> None:
    with pytest.raises(Internal) as caught:
        resolv_conf(HOST, "names", [server])
    assert caught.value.message == f'bad nameserver address {server}: ParseAddr("{server}"): {words}'
