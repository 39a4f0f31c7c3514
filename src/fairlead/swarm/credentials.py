"""Credentials: a node's key and certificate, whom it believes, and what it has to remember of its swarm, in one file.

    node.json    0600, replaced as a whole: after a crash it is the one before or the one after, never half of each
    files()      the same as three files, for etcd; they belong where nothing outlives a power cut (tmpfs)

With autolock the key in the file is sealed with the unlock key of the swarm: after a restart the node is *locked*,
until somebody types that key. The contexts are built once for each change of key, certificate or roots.
"""

from __future__ import annotations

import datetime
import logging
import os
import ssl
from collections.abc import Callable, Collection
from pathlib import Path

import msgspec
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from msgspec.structs import replace

from fairlead.core.datakeys import ZERO
from fairlead.core.session import Issued
from fairlead.errors import Internal, Invalid
from fairlead.swarm import ca, gate
from fairlead.swarm.ca import Identity

log = logging.getLogger(__name__)

SEALED = b"-----BEGIN ENCRYPTED PRIVATE KEY-----"
NONCE = 12
WRONG = "swarm could not be unlocked: invalid key provided"


class Notes(msgspec.Struct, frozen=True):
    """What is in the file.

    ``listen``: ``host:port``; ``advertise``: as people wrote it; ``device``: of this machine, that had this
    address; ``data_path``: an address; ``managers``: node id -> ``host:port``, as last heard.
    ``certificate``, ``key``, ``roots``: PEM. ``data_keys``: of the managers' store, by id; ``data_key``: the one that
    has none (``core.datakeys.ZERO``). Sealed where ``key`` is.
    """

    certificate: str
    key: str
    roots: str
    data_key: bytes = b""
    data_keys: dict[str, bytes] = {}
    listen: str = ""
    advertise: str = ""
    data_path: str = ""
    device: str = ""
    era: int = 0
    """of the swarm, as this node knows it (``Cluster.era``)"""
    managers: dict[str, str] = {}

    def __repr__(self) -> str:
        return "Notes()"


class Credentials:
    """``gate.Keys`` of a node that is in a swarm."""

    def __init__(self, path: Path, notes: Notes) -> None:
        """``path``: the file, written when something changes; ``save`` writes it for the first time."""
        self._path, self.notes = path, notes
        sealed = notes.key.encode().startswith(SEALED)
        self._key = b"" if sealed else notes.key.encode()
        self.data_keys = {} if sealed else _kept(notes, bytes)
        """of the managers' store, by id; none on workers"""
        self._seal = b""
        """the unlock key, while this node is not locked"""
        self._server: ssl.SSLContext | None = None
        self._client: ssl.SSLContext | None = None

    @classmethod
    def read(cls, path: Path) -> Credentials | None:
        """None: there are none. Raises ``Internal`` when the file makes no sense: it is not ours to throw away."""
        try:
            return cls(path, msgspec.json.decode(path.read_bytes(), type=Notes))
        except FileNotFoundError:
            return None
        except (OSError, msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise Internal(f"{path} cannot be read: {type(error).__name__}") from None

    def __repr__(self) -> str:
        return f"Credentials({self._path})"

    # -- who we are --------------------------------------------------------------------------------------------------

    @property
    def identity(self) -> Identity:
        return ca.identity(self.notes.certificate.encode())

    @property
    def locked(self) -> bool:
        return not self._key

    def server(self) -> ssl.SSLContext:
        if self._server is None:
            self._server = self.with_pair(gate.server_context(self.notes.roots))
        return self._server

    def client(self) -> ssl.SSLContext:
        if self._client is None:
            self._client = self.with_pair(gate.client_context(self.notes.roots))
        return self._client

    def knows(self, who: Identity, address: str) -> bool:
        """Ourselves, and who managers told of; just after a join, by address alone. One that is none any more may still
        have its certificate, and an address that was another's."""
        return who.node in (self.identity.node, *self.notes.managers) or address in self.notes.managers

    def with_pair(self, context: ssl.SSLContext) -> ssl.SSLContext:
        """It shows our certificate. ``ssl`` wants a file: one in memory, that has no name."""
        if self.locked:
            raise Invalid("the swarm is locked")
        place = os.memfd_create("pair")
        try:
            os.write(place, self._key + self.notes.certificate.encode())
            context.load_cert_chain(f"/proc/self/fd/{place}")
        finally:
            os.close(place)
        return context

    def _sealed_data_keys(self) -> dict[str, bytes]:
        """As they are in the file."""
        if self.locked:
            return _kept(self.notes, bytes)
        if not self._seal:
            return dict(self.data_keys)
        return {id: _sealed(self._seal, key) for id, key in self.data_keys.items()}

    def sign(self, data: bytes) -> bytes:
        return ca.load_key(self._key).sign(data, ec.ECDSA(hashes.SHA256()))

    def outdated(self, now: datetime.datetime, share: float) -> bool:
        """Time for another certificate (``share``: ``ca.renew_at``), or this one leads to no root that is believed."""
        chain = self.notes.certificate.encode()
        roots = [root.encode() for root in each(self.notes.roots)]
        return now >= ca.renew_at(chain, share) or not ca.trusted(chain, roots, now)

    def expired(self, now: datetime.datetime) -> bool:
        return now > ca.load(self.notes.certificate.encode()).not_valid_after_utc

    def seconds_left(self, now: datetime.datetime, share: float, most: float) -> float:
        """Until it is ``outdated``; ``most``: at most."""
        left = (ca.renew_at(self.notes.certificate.encode(), share) - now).total_seconds()
        return max(0.0, min(left, most))

    # -- what changes ------------------------------------------------------------------------------------------------

    def renewed(self, issued: Issued, key: bytes) -> None:
        """Another certificate, for ``key``. Raises ``Invalid`` when it is not for it, or for another node."""
        chain = issued.certificate.encode()
        if ca.identity(chain)[::2] != self.identity[::2]:
            raise Invalid("the certificate is another node's")
        if not ca.matches(chain, key):
            raise Invalid("the certificate is for another key")
        self._key = key
        self._write(replace(self.notes, certificate=issued.certificate, roots=issued.roots or self.notes.roots))

    def believe(self, roots: str) -> bool:
        """These roots from now on; whether they are others."""
        if not roots or roots == self.notes.roots:
            return False
        self._remember(replace(self.notes, roots=roots))
        return True

    def keep_data_keys(self, keys: dict[str, bytes]) -> None:
        """Of the managers' store, from now on; none: this node manages no more. What could not be written is not kept
        (``Internal``): others count on it."""
        if keys != self.data_keys:
            before, self.data_keys = self.data_keys, dict(keys)
            try:
                self._write(self.notes)
            except Internal:
                self.data_keys = before
                raise

    def note(self, **changes: object) -> None:
        """Other facts of ``Notes`` than keys, certificates and roots."""
        changed = replace(self.notes, **changes)
        if changed != self.notes:
            self._remember(changed)

    def _remember(self, notes: Notes) -> None:
        """What others tell again: a disk that is full costs no more than that."""
        try:
            self._write(notes)
        except Internal as error:
            log.error("%s", error.message)
            self.notes, self._server, self._client = notes, None, None

    def save(self) -> None:
        self._write(self.notes)

    def seal(self, unlock_key: bytes) -> None:
        """With what the file's key is sealed; empty: not at all."""
        if not self.locked and (unlock_key != self._seal or self.sealed != bool(unlock_key)):
            self._seal = unlock_key
            self._write(self.notes)

    @property
    def sealed(self) -> bool:
        """Whether the key in the file is."""
        return self.notes.key.encode().startswith(SEALED)

    def unlock(self, unlock_key: bytes) -> None:
        """Raises ``Invalid``."""
        try:
            loaded = serialization.load_pem_private_key(self.notes.key.encode(), unlock_key)
        except (ValueError, TypeError):
            raise Invalid(WRONG) from None
        self._key = loaded.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        self._seal = unlock_key
        self.data_keys = _kept(self.notes, lambda key: AESGCM(unlock_key).decrypt(key[:NONCE], key[NONCE:], None))

    def _write(self, notes: Notes) -> None:
        """The file first: what is not written is not so."""
        data = self._sealed_data_keys()
        zero = data.pop(ZERO, b"")
        notes = replace(notes, key=self._sealed_key().decode(), data_key=zero, data_keys=data)
        replace_file(self._path, msgspec.json.encode(notes))
        self.notes, self._server, self._client = notes, None, None

    def _sealed_key(self) -> bytes:
        if self.locked:
            return self.notes.key.encode()
        if not self._seal:
            return self._key
        return ca.load_key(self._key).private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(self._seal),
        )

    def files(self, folder: Path) -> bool:
        """``ca.crt``, ``node.crt``, ``node.key`` in a folder that is only root's; whether there were other roots.
        (The list of those that are good no more: ``revoke``.)"""
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        pairs = {
            "ca.crt": self.notes.roots.encode(),
            "node.crt": self.notes.certificate.encode(),
            "node.key": self._key,
        }
        roots = folder / "ca.crt"
        others = roots.exists() and roots.read_bytes() != pairs["ca.crt"]
        for name, content in pairs.items():
            replace_file(folder / name, content)
        return others

    def revoke(self, file: Path, serials: Collection[str], now: datetime.datetime) -> None:
        """Writes the list of managers' certificates that are good no more."""
        replace_file(file, ca.revocations(serials, self.notes.certificate.encode(), self._key, now))


def _kept(notes: Notes, opened: Callable[[bytes], bytes]) -> dict[str, bytes]:
    """The data keys of a file."""
    kept = notes.data_keys | ({ZERO: notes.data_key} if notes.data_key else {})
    return {id: opened(key) for id, key in kept.items()}


def _sealed(seal: bytes, key: bytes) -> bytes:
    nonce = os.urandom(NONCE)
    return nonce + AESGCM(seal).encrypt(nonce, key, None)


def each(roots: str) -> list[str]:
    """The certificates of a PEM text, one by one, as they are written."""
    end = "-----END CERTIFICATE-----\n"
    return [part + end for part in roots.split(end) if part.strip()]


def replace_file(path: Path, content: bytes) -> None:
    """Whole, on the disk, and only root's. Raises ``Internal``."""
    fresh = path.with_name(path.name + ".new")
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with open(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(path)
    except OSError as error:
        raise Internal(f"{path} cannot be written: {error.strerror}") from None
