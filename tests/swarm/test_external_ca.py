"""Certificates that somebody else signs, over real HTTPS: who is asked, what he is shown, and what is believed."""

import datetime
import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest
from msgspec.structs import replace

from fairlead.core.swarmspec import CaConfig, Cluster, ClusterSpec, ExternalCa, Trust
from fairlead.errors import FairleadError, Invalid, Unavailable
from fairlead.swarm import ca, externalca
from fairlead.swarm.ca import Authority, Identity
from fairlead.swarm.credentials import Credentials, Notes
from lane.cfssl import Answer, Cfssl

NOW = datetime.datetime.now(datetime.UTC)
ROOT = Authority.found(NOW)
WHO = Identity("node7", "manager", "cluster")


@pytest.fixture
def cfssl(tmp_path: Path) -> Iterator[Cfssl]:
    with Cfssl(ROOT, tmp_path, ROOT.certificate) as server:
        yield server


@pytest.fixture
def mine(tmp_path: Path) -> Credentials:
    """Of the manager that asks."""
    key, request = ca.new_request()
    certificate = ROOT.issue(request, Identity("me", "manager", "cluster"), NOW).decode()
    return Credentials(tmp_path / "node.json", Notes(certificate, key.decode(), ROOT.certificate.decode()))


async def signed(mine: Credentials, *urls: str, root: Authority = ROOT) -> tuple[bytes, bytes]:
    """The key, and what somebody signed for it."""
    key, request = ca.new_request()
    signers = [ExternalCa(url=url) for url in urls]
    return key, await externalca.sign(signers, root.certificate.decode(), request, WHO, mine.with_pair, NOW)


async def test_a_certificate_for_the_key_node_and_role_that_were_asked_for(cfssl: Cfssl, mine: Credentials) -> None:
    key, certificate = await signed(mine, "https://127.0.0.1:1/", cfssl.url)
    assert ca.matches(certificate, key) and ca.identity(certificate) == WHO, "who is away is passed over"
    ((shown, asked),) = cfssl.asked
    assert shown == Identity("me", "manager", "cluster"), "it sees which manager asks"
    subject = {"CN": "node7", "names": [{"OU": "swarm-manager", "O": "cluster"}]}
    assert asked["subject"] == subject and asked["hosts"] == ["swarm-manager", "node7"]


def of_another_root(asked: dict[str, object]) -> bytes:
    return Authority.found(NOW).issue(str(asked["certificate_request"]).encode(), WHO, NOW)


def of_another_node(asked: dict[str, object]) -> bytes:
    return ROOT.issue(str(asked["certificate_request"]).encode(), WHO._replace(node="node8"), NOW)


def of_another_role(asked: dict[str, object]) -> bytes:
    return ROOT.issue(str(asked["certificate_request"]).encode(), WHO._replace(role="worker"), NOW)


def of_another_key(asked: dict[str, object]) -> bytes:
    return ROOT.issue(ca.new_request()[1], WHO, NOW)


def over(asked: dict[str, object]) -> bytes:
    then = NOW - datetime.timedelta(days=9)
    return ROOT.issue(str(asked["certificate_request"]).encode(), WHO, then, datetime.timedelta(days=1))


def an_authority(asked: dict[str, object]) -> bytes:
    return ROOT.certificate


def refused(asked: dict[str, object]) -> bytes:
    raise ValueError("not on a Sunday")


@pytest.mark.parametrize(
    "answer",
    [of_another_root, of_another_node, of_another_role, of_another_key, over, an_authority, refused, lambda _: b"no"],
)
async def test_anything_else_is_believed_nobody(cfssl: Cfssl, mine: Credentials, answer: Answer) -> None:
    cfssl.answer = answer
    with pytest.raises(Unavailable, match="Sunday" if answer is refused else cfssl.url):
        await signed(mine, cfssl.url)


async def test_it_has_to_be_of_the_root_that_it_signs_for(cfssl: Cfssl, mine: Credentials) -> None:
    with pytest.raises(Unavailable, match="CERTIFICATE_VERIFY_FAILED"):
        await signed(mine, cfssl.url, root=Authority.found(NOW))
    assert not cfssl.asked
    one = ExternalCa(url=cfssl.url)
    assert await externalca.reachable([ExternalCa(url="https://127.0.0.1:1"), one], ROOT.certificate.decode())
    assert not await externalca.reachable([one], Authority.found(NOW).certificate.decode())


async def test_who_shows_no_certificate_gets_none(cfssl: Cfssl) -> None:
    def nothing(context: ssl.SSLContext) -> None: ...

    request = ca.new_request()[1]
    with pytest.raises(Unavailable, match="does not answer"):
        await externalca.sign([ExternalCa(url=cfssl.url)], ROOT.certificate.decode(), request, WHO, nothing, NOW)
    assert not cfssl.asked


@pytest.mark.parametrize("url", ["http://ca/", "ca", "https://", "https://ca:99999/", "https://[::1/"])
def test_only_https(url: str) -> None:
    with pytest.raises(Invalid, match="expected https://host"):
        externalca.check(ExternalCa(url=url))


def test_those_of_the_root_that_signs_now() -> None:
    old, new = "old\n", "new\n"
    usual, theirs = ExternalCa(url="https://a"), ExternalCa(url="https://b", ca_cert="new")
    spec = ClusterSpec(ca_config=CaConfig(external_cas=(usual, theirs)))
    cluster = Cluster("cluster", Trust(old), spec)
    assert externalca.signing(cluster) == (usual,)
    assert externalca.signing(replace(cluster, trust=Trust(old, next_root=new))) == (theirs,)
    assert externalca.signing(replace(cluster, trust=Trust(new))) == (usual, theirs)


async def test_nobody_signs() -> None:
    with pytest.raises(FairleadError, match="no external CA signs"):
        await externalca.sign([], "", ca.new_request()[1], WHO, lambda context: None, NOW)
