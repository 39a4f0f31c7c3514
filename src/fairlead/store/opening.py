"""Opening a cluster store: from an address to whoever speaks its language.

Nothing is asked yet: a store that is away now is opened all the same. What can
be known without it is refused here: files that are not there or are no certificates.
"""

from __future__ import annotations

import ssl
from collections.abc import Mapping, Sequence
from pathlib import Path

from fairlead.errors import Invalid
from fairlead.store.base import Store
from fairlead.store.consul import ConsulStore
from fairlead.store.etcd import EtcdStore
from fairlead.store.http import Servers
from fairlead.store.sqlite import SqliteStore
from fairlead.store.zookeeper import Access, ZookeeperStore

OURS = "fairlead"
"""The path that everything of ours is below, unless ``kv.path`` says another."""


def open_store(
    kind: str, places: Sequence[str], path: str, user: str, password: str, options: Mapping[str, str]
) -> Store:
    """``kind``: consul, etcd, zk, boltdb. ``options``: of ``--cluster-store-opt``. Consul's token is a password."""
    if kind == "boltdb":
        return SqliteStore(Path(path))
    files = [options.get(f"kv.{name}", "") for name in ("cacertfile", "certfile", "keyfile")]
    tls = _context(*files)
    prefix = "/".join(part for part in (path, options.get("kv.path", OURS).strip("/")) if part)
    if kind == "zk":
        return ZookeeperStore(Access(places, user, password, *files), f"/{prefix}")
    if kind == "consul":
        return ConsulStore(Servers(places, tls), f"{prefix}/", password)
    return EtcdStore(Servers(places, tls), f"{prefix}/", user, password)


def way_to_see(kind: str, places: Sequence[str], tls: bool = False) -> str:
    """A command that shows whether the store answers; "" for a file."""
    if not places:
        return ""
    if kind == "zk":
        return f"echo srvr | nc {' '.join(places[0].rsplit(':', 1))}"
    page = {"consul": "v1/status/leader", "etcd": "health"}[kind]
    return f"curl {'https' if tls else 'http'}://{places[0]}/{page}"


def _context(ca: str, certificate: str, key: str) -> ssl.SSLContext | None:
    """None when there is no file at all: then the store is spoken to in the clear."""
    if not (ca or certificate):
        return None
    for name, file in (("kv.cacertfile", ca), ("kv.certfile", certificate), ("kv.keyfile", key)):
        if file and not Path(file).is_file():
            raise Invalid(f"--cluster-store-opt {name}={file}: no such file")
    try:
        context = ssl.create_default_context(cafile=ca or None)
        if certificate:
            context.load_cert_chain(certificate, key)
    except (ssl.SSLError, OSError) as error:
        raise Invalid(f"--cluster-store-opt: the certificates cannot be used: {error}") from None
    return context
