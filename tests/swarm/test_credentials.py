"""What a node keeps of its swarm on disk, sealed or not, and what it says and believes when managers have moved."""

import base64
import datetime
from pathlib import Path

import msgspec
import pytest

from fairlead.core.session import Issued
from fairlead.errors import Internal, Invalid
from fairlead.swarm import beacon, ca
from fairlead.swarm.beacon import HERE, SEEK, Beacon
from fairlead.swarm.credentials import Credentials, Notes, each

NOW = datetime.datetime.now(datetime.UTC)
KEY, OTHER = b"k" * 32, b"o" * 32


@pytest.fixture(scope="module")
def root() -> ca.Authority:
    return ca.Authority.found(NOW)


def certified(
    root: ca.Authority,
    node: str = "node1",
    role: str = "manager",
    cluster: str = "cluster",
    at: datetime.datetime = NOW,
) -> tuple[str, bytes]:
    key, request = ca.new_request()
    return root.issue(request, ca.Identity(node, role, cluster), at, datetime.timedelta(days=1)).decode(), key


def made(folder: Path, root: ca.Authority, node: str = "node1", role: str = "manager", **more: object) -> Credentials:
    certificate, key = certified(root, node, role, **more)  # type: ignore[arg-type]
    found = Credentials(
        folder / node / "node.json",
        Notes(certificate, key.decode(), root.certificate.decode(), listen="127.0.0.1:2377", managers={"a": "b:1"}),
    )
    found.save()
    return found


# -- on disk -----------------------------------------------------------------------------------------------------------


def test_what_is_written_is_read_again_and_root_s_alone(tmp_path: Path, root: ca.Authority) -> None:
    assert Credentials.read(tmp_path / "node.json") is None
    one = made(tmp_path, root)
    one.note(listen="0.0.0.0:2377")
    found = Credentials.read(tmp_path / "node1" / "node.json")
    assert found and found.notes == one.notes and found.identity == ("node1", "manager", "cluster")
    assert (tmp_path / "node1" / "node.json").stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "node1").stat().st_mode & 0o077 == 0
    found.client()
    found.server()


def test_what_makes_no_sense_is_left_alone_and_not_shown(tmp_path: Path) -> None:
    place = tmp_path / "node.json"
    place.write_text('{"certificate": "secret words')
    with pytest.raises(Internal) as told:
        Credentials.read(place)
    assert "secret" not in told.value.message and place.exists()


def test_a_key_that_is_sealed(tmp_path: Path, root: ca.Authority) -> None:
    one = made(tmp_path, root)
    one.keep_data_keys({"": b"d" * 32, "new": b"n" * 32})
    open_key = one.notes.key
    one.seal(KEY)
    file = (tmp_path / "node1" / "node.json").read_text()
    assert not any(base64.b64encode(key * 32).decode() in file for key in (b"d", b"n"))
    assert open_key.splitlines()[1] not in file
    one.client()  # who is not locked goes on
    found = Credentials.read(tmp_path / "node1" / "node.json")
    assert found and found.locked and found.identity.node == "node1"
    with pytest.raises(Invalid, match="locked"):
        found.client()
    with pytest.raises(Invalid, match="invalid key provided"):
        found.unlock(OTHER)
    assert not found.data_keys
    found.unlock(KEY)
    found.client()
    assert found.data_keys == {"": b"d" * 32, "new": b"n" * 32}
    found.note(listen="x:1")
    assert "ENCRYPTED" in found.notes.key, "what is written later is sealed, too"
    found.seal(OTHER)
    again = Credentials.read(tmp_path / "node1" / "node.json")
    assert again
    with pytest.raises(Invalid):
        again.unlock(KEY)
    again.unlock(OTHER)
    again.seal(b"")
    assert Credentials(tmp_path, again.notes).data_keys == found.data_keys
    assert not Credentials(tmp_path, again.notes).locked


def test_data_keys_as_an_older_engine_wrote_them(tmp_path: Path, root: ca.Authority) -> None:
    """One, without an id; it may read it again for as long as it is there."""
    notes = made(tmp_path, root).notes
    old = Credentials(tmp_path / "old.json", msgspec.structs.replace(notes, data_key=b"d" * 32))
    assert old.data_keys == {"": b"d" * 32}
    old.keep_data_keys({**old.data_keys, "new": b"n" * 32})
    assert (old.notes.data_key, old.notes.data_keys) == (b"d" * 32, {"new": b"n" * 32})
    old.keep_data_keys({"new": b"n" * 32})
    found = Credentials.read(tmp_path / "old.json")
    assert found and found.data_keys == {"new": b"n" * 32} and not found.notes.data_key


def test_a_data_key_that_could_not_be_written_is_not_kept(tmp_path: Path, root: ca.Authority) -> None:
    """Others count on it."""
    one = made(tmp_path, root)
    one.keep_data_keys({"a": b"a" * 32})
    (tmp_path / "node1" / "node.json.new").mkdir()  # nobody can write there
    with pytest.raises(Internal):
        one.keep_data_keys({"a": b"a" * 32, "b": b"b" * 32})
    assert one.data_keys == {"a": b"a" * 32}


def test_only_a_certificate_for_this_node_and_its_key_is_taken(tmp_path: Path, root: ca.Authority) -> None:
    one = made(tmp_path, root)
    roots = root.certificate.decode()
    other, key = certified(root, "node2")
    with pytest.raises(Invalid, match="another node's"):
        one.renewed(Issued("node2", other, roots), key)
    own, key = certified(root, role="worker")
    with pytest.raises(Invalid, match="another key"):
        one.renewed(Issued("node1", own, roots), ca.new_request()[0])
    one.renewed(Issued("node1", own, roots), key)
    assert one.identity.role == "worker"


def test_when_it_is_time_for_another_certificate(tmp_path: Path, root: ca.Authority) -> None:
    one = made(tmp_path, root)
    assert not one.outdated(NOW + datetime.timedelta(hours=11), 0.5)
    assert one.outdated(NOW + datetime.timedelta(hours=13), 0.5)
    one.believe(ca.Authority.found(NOW).certificate.decode())
    assert one.outdated(NOW, 0.5), "it leads to no root that is believed"


def test_files_for_etcd(tmp_path: Path, root: ca.Authority) -> None:
    one, folder = made(tmp_path, root), tmp_path / "files"
    assert not one.files(folder), "nobody has read other roots"
    assert {place.stat().st_mode & 0o777 for place in folder.iterdir()} == {0o600}
    assert not one.files(folder)
    one.believe(root.certificate.decode() + ca.Authority.found(NOW).certificate.decode())
    assert one.files(folder)


def test_a_disk_that_is_full_costs_no_session(tmp_path: Path, root: ca.Authority) -> None:
    one = made(tmp_path, root)
    (tmp_path / "node1" / "node.json.new").mkdir()  # nobody can write there
    one.note(managers={"x": "y:1"})
    assert one.notes.managers == {"x": "y:1"}
    with pytest.raises(Internal):
        one.save()


def test_nothing_secret_is_in_a_repr(tmp_path: Path, root: ca.Authority) -> None:
    one = made(tmp_path, root)
    assert "KEY" not in f"{one!r}{one.notes!r}"


# -- the beacon --------------------------------------------------------------------------------------------------------


class Listener:
    """A node's beacon without a socket; ``now`` is its clock."""

    def __init__(self, credentials: Credentials) -> None:
        self.heard: list[tuple[str, str, str, str]] = []
        self.now = int(NOW.timestamp() * 1e9)
        self.beacon = Beacon(credentials, lambda: [], lambda: self.now, self._hear)

    def _hear(self, kind: str, who: ca.Identity, address: str, sender: tuple[str, int]) -> None:
        self.heard.append((kind, who.node, who.role, address))

    def word(self, kind: str = HERE, address: str = "10.0.0.9:2377") -> bytes:
        self.now += 1
        return self.beacon._signed(beacon.Said(kind, address, self.now))

    def gets(self, word: bytes) -> None:
        self.beacon.datagram_received(word, ("10.0.0.9", 2377))


def test_who_moved_is_heard(tmp_path: Path, root: ca.Authority) -> None:
    speaker = Listener(made(tmp_path, root, "node2"))
    listener = Listener(made(tmp_path, root, "node1", "worker"))
    listener.gets(speaker.word())
    speaker.gets(listener.word(SEEK))
    assert listener.heard == [(HERE, "node2", "manager", "10.0.0.9:2377")]
    assert speaker.heard[0][:3] == (SEEK, "node1", "worker")


def test_in_the_midst_of_an_exchange_of_roots(tmp_path: Path, root: ca.Authority) -> None:
    """Who has a certificate of the next one is believed by its bridge."""
    new = root.succeeded_by(ca.Authority.found(NOW), NOW)
    speaker = Listener(made(tmp_path, new, "node2"))
    listener = Listener(made(tmp_path, root))
    listener.gets(speaker.word())
    assert len(listener.heard) == 1 and len(each(speaker.beacon._credentials.notes.certificate)) == 2


def test_what_counts_for_nothing(tmp_path: Path, root: ca.Authority) -> None:
    speaker, listener = Listener(made(tmp_path, root, "node2")), Listener(made(tmp_path, root))
    strangers = [
        Listener(made(tmp_path, ca.Authority.found(NOW), "stranger")),
        Listener(made(tmp_path, root, "guest", cluster="another")),
        Listener(made(tmp_path, root, "late", at=NOW - datetime.timedelta(days=3))),
    ]
    word = msgspec.msgpack.decode(speaker.word(), type=beacon.Word)
    forged = msgspec.msgpack.encode(beacon.Said(HERE, "10.6.6.6:1", listener.now + 9))
    for bad in (
        *(stranger.word() for stranger in strangers),
        listener.word(),
        msgspec.msgpack.encode(beacon.Word(word.chain, forged, word.signature)),
        msgspec.msgpack.encode(beacon.Word((), word.said, word.signature)),
        speaker.word(address="nonsense:x"),
        b"",
        b"\xff" * 1400,
    ):
        listener.gets(bad)
    assert not listener.heard


def test_the_same_again_and_what_is_older_count_for_nothing(tmp_path: Path, root: ca.Authority) -> None:
    speaker, listener = Listener(made(tmp_path, root, "node2")), Listener(made(tmp_path, root))
    first, second = speaker.word(address="10.0.0.1:1"), speaker.word(address="10.0.0.2:1")
    for word in (second, second, first):
        listener.gets(word)
    assert [address for *_, address in listener.heard] == ["10.0.0.2:1"]


def test_a_flood_costs_little(tmp_path: Path, root: ca.Authority) -> None:
    speaker, listener = Listener(made(tmp_path, root, "node2")), Listener(made(tmp_path, root))
    word = msgspec.msgpack.decode(speaker.word(), type=beacon.Word)
    for _ in range(beacon.MOST):
        listener.gets(b"nonsense")
        listener.gets(msgspec.msgpack.encode(beacon.Word(word.chain, word.said + b"!", word.signature)))
    listener.gets(speaker.word())
    assert not listener.heard
    listener.now += 1_000_000_000
    listener.gets(speaker.word())
    assert len(listener.heard) == 1
