"""Certificates of nodes, roots that follow each other, tokens."""

import datetime
import socket
import ssl
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as some

from fairlead.core import tokens
from fairlead.errors import Invalid
from fairlead.swarm import ca
from fairlead.swarm.ca import Authority, Identity

NOW = datetime.datetime.now(datetime.UTC)
DAY = datetime.timedelta(days=1)
ANNA = Identity("anna0000000000000000node1", "worker", "cluster1")


@pytest.fixture(scope="module")
def root() -> Authority:
    return Authority.found(NOW)


def node(by: Authority, who: Identity = ANNA, now: datetime.datetime = NOW) -> tuple[bytes, bytes]:
    key, request = ca.new_request()
    return key, by.issue(request, who, now)


def test_a_certificate_says_who_and_what(root: Authority) -> None:
    _, certificate = node(root)
    assert ca.identity(certificate) == ANNA
    assert ca.trusted(certificate, [root.certificate], NOW)


def test_the_authority_decides_the_name_not_the_request(root: Authority) -> None:
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    wish = x509.Name([x509.NameAttribute(x509.NameOID.ORGANIZATIONAL_UNIT_NAME, "swarm-manager")])
    request = x509.CertificateSigningRequestBuilder().subject_name(wish).sign(key, hashes.SHA256())
    issued = root.issue(request.public_bytes(serialization.Encoding.PEM), ANNA, NOW)
    assert ca.identity(issued).role == "worker"


def test_one_of_another_cluster_is_not_trusted(root: Authority) -> None:
    _, foreign = node(Authority.found(NOW))
    assert not ca.trusted(foreign, [root.certificate], NOW)


@pytest.mark.parametrize(("later", "good"), [(0, True), (89, True), (91, False), (-1, False)])
def test_a_certificate_has_its_time(root: Authority, later: int, good: bool) -> None:
    _, certificate = node(root)
    assert ca.trusted(certificate, [root.certificate], NOW + later * DAY) is good


def test_a_node_cannot_make_nodes(root: Authority) -> None:
    key, certificate = node(root)
    rogue = Authority(certificate, key)
    _, made = node(rogue)
    assert not ca.trusted(made + certificate, [root.certificate], NOW)


def test_a_new_root_is_believed_by_those_who_know_the_old(root: Authority) -> None:
    new = root.succeeded_by(Authority.found(NOW), NOW)
    _, certificate = node(new)
    assert ca.trusted(certificate, [root.certificate], NOW), "by the bridge"
    assert ca.trusted(certificate, [new.certificate], NOW), "without it"
    _, before = node(root)
    assert ca.trusted(before, [root.certificate, new.certificate], NOW)
    assert not ca.trusted(before, [new.certificate], NOW), "once the old root is forgotten"


def test_tls_believes_the_bridge_too(root: Authority, tmp_path: Path) -> None:
    new = root.succeeded_by(Authority.found(NOW), NOW)
    assert spoken(tmp_path, node(new), node(new), trust=root.certificate)
    assert spoken(tmp_path, node(root), node(new), trust=root.certificate + new.certificate)
    with pytest.raises(ssl.SSLError):
        spoken(tmp_path, node(root), node(Authority.found(NOW)), trust=root.certificate)


def spoken(folder: Path, server: tuple[bytes, bytes], client: tuple[bytes, bytes], trust: bytes) -> bool:
    """Whether two nodes come to speak over TLS, each asking for the other's certificate."""
    ends = socket.socketpair()
    failed: list[ssl.SSLError] = []

    def serve() -> None:
        try:
            with context(folder, "server", server, trust, ssl.PROTOCOL_TLS_SERVER).wrap_socket(
                ends[0], server_side=True
            ) as it:
                it.sendall(it.recv(5))
        except ssl.SSLError as error:
            failed.append(error)
            ends[0].close()

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        with context(folder, "client", client, trust, ssl.PROTOCOL_TLS_CLIENT).wrap_socket(ends[1]) as it:
            it.sendall(b"hello")
            return it.recv(5) == b"hello"
    finally:
        thread.join(5)
        if failed:
            raise failed[0]


def context(folder: Path, name: str, own: tuple[bytes, bytes], trust: bytes, protocol: int) -> ssl.SSLContext:
    made = ssl.SSLContext(protocol)
    made.check_hostname = False
    made.verify_mode = ssl.CERT_REQUIRED
    made.load_verify_locations(cadata=trust.decode())
    (folder / name).write_bytes(own[0] + own[1])
    made.load_cert_chain(folder / name)
    return made


def test_renewal_falls_into_its_life(root: Authority) -> None:
    _, certificate = node(root)
    assert abs(ca.renew_at(certificate, 0.5) - (NOW + 45 * DAY)) < datetime.timedelta(seconds=2)


@pytest.mark.parametrize(
    "request_", [b"", b"-----BEGIN CERTIFICATE REQUEST-----\nxx\n-----END CERTIFICATE REQUEST-----\n"]
)
def test_what_is_no_request_is_refused(root: Authority, request_: bytes) -> None:
    with pytest.raises(Invalid):
        root.issue(request_, ANNA, NOW)


def test_a_role_is_worker_or_manager(root: Authority) -> None:
    _, request = ca.new_request()
    with pytest.raises(Invalid, match="no role 'root'"):
        root.issue(request, ANNA._replace(role="root"), NOW)


def test_a_key_of_somebody_else_is_noticed(root: Authority) -> None:
    with pytest.raises(Invalid, match="do not belong together"):
        Authority(root.certificate, Authority.found(NOW).key)


def test_no_secret_in_a_repr(root: Authority) -> None:
    assert "PRIVATE" not in repr(root) and "BEGIN" not in repr(root)


# -- tokens ------------------------------------------------------------------------------------------


def test_a_token_names_its_cluster(root: Authority) -> None:
    token = tokens.make(root.certificate, b"\x01" * 16)
    assert len(token.text) == len("SWMTKN-1-") + 50 + 1 + 25
    assert tokens.parse(token.text) == token
    assert token.is_for(root.certificate)
    assert not token.is_for(Authority.found(NOW).certificate)


@given(some.binary(min_size=16, max_size=16))
def test_secrets_have_one_length(secret: bytes) -> None:
    token = tokens.make(b"root", secret)
    assert tokens.parse(token.text) == token


@pytest.mark.parametrize("text", ["", "SWMTKN-1-abc-def", "SWMTKN-2-" + "a" * 50 + "-" + "b" * 25, "x" * 85])
def test_what_is_no_token(text: str) -> None:
    with pytest.raises(Invalid, match="invalid join token"):
        tokens.parse(text)


@given(some.binary(min_size=32, max_size=32))
def test_unlock_keys(key: bytes) -> None:
    assert tokens.parse_unlock_key(tokens.unlock_key(key)) == key


@given(some.text(max_size=60))
def test_other_words_unlock_nothing(text: str) -> None:
    with pytest.raises(Invalid, match="swarm could not be unlocked: invalid key provided"):
        tokens.parse_unlock_key(text)
