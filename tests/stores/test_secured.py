"""Stores that let in only who has a certificate of theirs and the right password."""

from pathlib import Path

import msgspec
import pytest

from fairlead.errors import Unavailable
from fairlead.lab.world import World
from fairlead.store.base import Store
from fairlead.store.http import Servers
from fairlead.store.opening import _context, open_store
from lane.certificates import Pair, certificate
from lane.store_promises import take
from lane.store_servers import HOSTS, Server, until_it_answers

SECRET = "pass:word-4711"
USERS = {"etcd": "root", "consul": "", "zk": "fairlead"}


class Secured:
    """One server of each kind, and the files of who may talk to it."""

    def __init__(self, world: World, folder: Path) -> None:
        self.ca = certificate(folder, "ca")
        self.mine = certificate(folder, "mine", self.ca)
        self.other = certificate(folder, "other")
        self.stranger = certificate(folder, "stranger", self.other)
        self.places = {}
        for kind, node in zip(USERS, HOSTS, strict=True):
            address = world[node].address4
            pair = certificate(folder, kind, self.ca, address)
            self.places[kind] = getattr(self, f"_{kind}")(world, node, address, pair)

    def _etcd(self, world: World, node: str, address: str, pair: Pair) -> str:
        urls = [f"--{word}-client-urls=https://{address}:2379" for word in ("listen", "advertise")]
        files = [f"--cert-file={pair[0]}", f"--key-file={pair[1]}", f"--trusted-ca-file={self.ca[0]}"]
        Server(world, "etcd", node, None, *urls, *files, "--client-cert-auth").start().wait()
        return f"{address}:2379"

    def _consul(self, world: World, node: str, address: str, pair: Pair) -> str:
        config = {
            "ports": {"https": 8501},
            "addresses": {"https": address, "http": "127.0.0.1"},
            "verify_incoming": True,
            **{"ca_file": self.ca[0], "cert_file": pair[0], "key_file": pair[1]},
            "acl": {"enabled": True, "default_policy": "deny", "tokens": {"master": SECRET}},
        }
        file = world[node].folder / "consul.json"
        file.write_bytes(msgspec.json.encode(config))
        server = Server(world, "consul", node, None, f"-config-file={file}")
        server.port = 8501
        server.start().wait()
        return server.place

    def _zk(self, world: World, node: str, address: str, pair: Pair) -> str:
        server = Server(world, "zookeeper", node)
        store = world[node].folder / "pair.pem"
        key = world[node].folder / "key.pem"
        world[node].run("openssl", "pkcs8", "-topk8", "-nocrypt", "-in", pair[1], "-out", str(key))
        store.write_text(key.read_text() + Path(pair[0]).read_text())
        settings = {
            "serverCnxnFactory": "org.apache.zookeeper.server.NettyServerCnxnFactory",
            "secureClientPort": "2281",
            "secureClientPortAddress": address,
            "ssl.keyStore.location": str(store),
            "ssl.trustStore.location": self.ca[0],
            "ssl.clientAuth": "need",
        }
        with (world[node].folder / "data" / "zoo.cfg").open("a") as file:
            file.writelines(f"{name}={value}\n" for name, value in settings.items())
        server.port = 2281
        server.start().wait()
        return server.place

    def options(self, pair: Pair) -> dict[str, str]:
        return {"kv.cacertfile": self.ca[0], "kv.certfile": pair[0], "kv.keyfile": pair[1]}

    def open(self, kind: str, path: str, password: str, options: dict[str, str]) -> Store:
        return open_store(kind, [self.places[kind]], path, USERS[kind], password, options)


@pytest.fixture(scope="module")
def secured(world: World, tmp_path_factory: pytest.TempPathFactory) -> Secured:
    return Secured(world, tmp_path_factory.mktemp("tls"))


async def protect_etcd(secured: Secured) -> None:
    """A root with a password, and no more asking without."""
    servers = Servers([secured.places["etcd"]], _context(*secured.options(secured.mine).values()))
    pages = {
        "user/add": {"name": "root", "password": SECRET},
        "user/grant": {"user": "root", "role": "root"},
        "enable": {},
    }
    await until_it_answers(lambda: servers.ask("POST", "/v3/kv/range", b'{"key":"AA=="}'))
    for page, body in pages.items():
        answer = await servers.ask("POST", f"/v3/auth/{page}", msgspec.json.encode(body))
        assert answer.status == 200, answer.body
    await servers.close()


@pytest.mark.proves(
    "CVE-2018-19653",
    guard=(
        "store/opening.py",
        "context = ssl.create_default_context(cafile=ca or None)\n",
        "context = ssl._create_unverified_context()\n",
    ),
)
@pytest.mark.parametrize("kind", USERS)
async def test_who_has_both_gets_in(kind: str, secured: Secured, prefix: str) -> None:
    if kind == "etcd":
        await protect_etcd(secured)
    store = secured.open(kind, prefix, SECRET, secured.options(secured.mine))
    await until_it_answers(lambda: store.put_if("a/1", b"1"))
    watch = store.watch("a/")
    await take(watch, "a/1", b"1")
    await store.put_if("a/2", b"1", 0, await store.lease(10))
    await take(watch, "a/2", b"1")
    await watch.aclose()
    await store.close()

    for password, options in (
        ("wrong", secured.options(secured.mine)),
        (SECRET, secured.options(secured.stranger)),
        (SECRET, {"kv.cacertfile": secured.ca[0]}),
        (SECRET, {**secured.options(secured.mine), "kv.cacertfile": secured.other[0]}),  # it is not who we think
        (SECRET, {}),
    ):
        refused = secured.open(kind, prefix, password, options)
        with pytest.raises(Unavailable) as told:
            await refused.get("a/1")
        assert SECRET not in str(told.value) and "wrong" not in str(told.value)
        await refused.close()
