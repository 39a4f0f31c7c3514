"""Kinds of option values: how a flag's text and a file's JSON become one checked value.

``settings`` says *which* options there are; this file says what a switch, an
address, a pool or a size looks like, once for flags and once for ``daemon.json``.

    Kind.one(text)      one value from one flag          --mtu 1400          -> 1400
    Kind.join(texts)    all of a flag's texts            --dns a --dns b     -> ("a", "b")
    Kind.read(json)     the value in daemon.json         {"dns": ["a", "b"]} -> ("a", "b")

Complaints are dockerd's. The lists at the end hold the options of dockerd that
mean nothing here, each with the reason that its warning gives.
"""

import ipaddress
import re
from collections.abc import Callable, Sequence
from typing import Any
from urllib import parse

import msgspec

from fairlead.errors import Invalid


class AddressPool(msgspec.Struct, frozen=True):
    """Subnets of ``size`` prefix bits are cut from ``base`` (canonical CIDR)."""

    base: str
    size: int


class Ulimit(msgspec.Struct, frozen=True):
    """A limit of processes; -1 is unlimited."""

    soft: int
    hard: int


class StoreAddress(msgspec.Struct, frozen=True):
    """Where the cluster store is. ``kind``: consul, etcd, zk, boltdb; ``places``: address:port; ``path``: within it."""

    kind: str
    places: tuple[str, ...]
    path: str = ""
    user: str = ""
    password: str = ""

    def __str__(self) -> str:
        """As it may be shown: without the password."""
        login = f"{self.user}:***@" if self.user else ""
        path = self.path if self.kind == "boltdb" else f"/{self.path}" if self.path else ""
        return f"{self.kind}://{login}{','.join(self.places)}{path}"


class Advertised(msgspec.Struct, frozen=True):
    """Where other hosts find this one: an address or an interface, and a port."""

    where: str
    port: int

    def __str__(self) -> str:
        return f"[{self.where}]:{self.port}" if ":" in self.where else f"{self.where}:{self.port}"


class Kind(msgspec.Struct, frozen=True):
    """One way to write a value. ``gather`` turns several into one (list, map); None: the last one counts."""

    word: str
    one: Callable[[str], Any]
    json: tuple[type, ...] = (str,)
    gather: Callable[[Sequence[Any]], Any] | None = None
    switch: bool = False

    def join(self, texts: Sequence[str], option: Any) -> Any:
        """The value of a flag given with these texts, in order. ``option`` is named in the complaint."""
        values = []
        for text in texts:
            try:
                values.append(self.one(text))
            except Invalid as problem:
                names = ", ".join(sorted(option.flags, key=len))
                raise Invalid(f'invalid argument "{text}" for "{names}" flag: {problem.message}') from None
        return self.gather(values) if self.gather else values[-1]

    def read(self, value: Any, key: str) -> Any:
        """The value of ``key`` in daemon.json; raises ``Invalid`` when the JSON has another shape."""
        shape = next((name for kind, name in _SHAPES if isinstance(value, kind)), "null")
        if not isinstance(value, self.json) or (isinstance(value, bool) and bool not in self.json):
            raise Invalid(f"invalid JSON: cannot read {shape} as {self.word} for {key}")
        if self is SWITCH or (self is NUMBER) or (self is SIZE and isinstance(value, int)):
            return value
        if isinstance(value, str):
            return self.one(value)
        if self.gather is None:
            raise Invalid(f"invalid JSON: cannot read {shape} as {self.word} for {key}")
        return self.gather([self.one(text) for text in self._texts(value, key)])

    def _texts(self, value: Any, key: str) -> list[str]:
        """A JSON list or object as the texts that flags would have said."""
        if self in (POOLS, ULIMITS, MAP_OF_MAPS):
            inner = value.values() if isinstance(value, dict) else value
            if not all(isinstance(item, dict) for item in inner):
                raise Invalid(f"invalid JSON: every item of {key} must be an object")
        if self is POOLS:
            return [f"base={item.get('base', '')},size={item.get('size', '')}" for item in value]
        if self is ULIMITS:
            return [
                f"{name}={item.get('Soft', item.get('Hard', 0))}:{item.get('Hard', 0)}" for name, item in value.items()
            ]
        if self is MAP_OF_MAPS:
            return [f"{root}={name}={text}" for root, inner in value.items() for name, text in inner.items()]
        pairs = [f"{name}={text}" for name, text in value.items()] if isinstance(value, dict) else value
        plain = value.values() if isinstance(value, dict) else value
        if not all(isinstance(item, str) for item in plain):
            raise Invalid(f"invalid JSON: every item of {key} must be text")
        return list(pairs)


_SHAPES = ((bool, "bool"), (int | float, "number"), (str, "string"), (list, "array"), (dict, "object"))


def _text(text: str) -> str:
    return text


def _switch(text: str) -> bool:
    if text in ("1", "t", "T", "true", "TRUE", "True"):
        return True
    if text in ("0", "f", "F", "false", "FALSE", "False"):
        return False
    raise Invalid(f'strconv.ParseBool: parsing "{text}": invalid syntax')


def _number(text: str) -> int:
    if not re.fullmatch(r"[+-]?[0-9]+", text):
        raise Invalid(f'strconv.ParseInt: parsing "{text}": invalid syntax')
    if len(text) > 19:
        raise Invalid(f'strconv.ParseInt: parsing "{text}": value out of range')
    return int(text)


def size(text: str) -> int:
    """Bytes of ``64m``, ``1.5g``, ``1024``, ``2KiB`` (powers of 1024, as Docker counts memory)."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?) ?([kmgtp]?)(?:i?b)?", text.strip().lower())
    if not match:
        raise Invalid(f"invalid size: '{text}'")
    try:
        return int(float(match[1]) * 1024 ** " kmgtp".index(match[2] or " "))
    except OverflowError:
        raise Invalid(f"invalid size: '{text}'") from None


def _address(text: str) -> str:
    try:
        return str(ipaddress.ip_address(text)) if text else ""
    except ValueError:
        raise Invalid(f'failed to parse IP: "{text}"') from None


def _server(text: str) -> str:
    try:
        return str(ipaddress.ip_address(text.strip()))
    except ValueError:
        raise Invalid(f"invalid string being converted to IP address: {text}") from None


def _interface(family: int, whole: bool) -> Callable[[str], str]:
    """A parser of ``address/prefix``; ``whole``: a subnet is meant, host bits are dropped."""

    def one(text: str) -> str:
        if not text:
            return ""
        try:
            interface = ipaddress.ip_interface(text)
        except ValueError:
            raise Invalid(f"invalid CIDR address: {text}") from None
        if "/" not in text:
            raise Invalid(f"invalid CIDR address: {text}")
        if interface.version != family:
            raise Invalid(f"'{text}' is not a valid IPv{family} subnet")
        return str(interface.network) if whole else str(interface)

    return one


def _pool(text: str) -> AddressPool:
    parts = dict(part.partition("=")[::2] for part in text.split(","))
    for name in parts:
        if name not in ("base", "size"):
            raise Invalid(f"unexpected key '{name}' in '{text}'")
    try:
        base = ipaddress.ip_network(parts.get("base", ""), strict=False)
    except ValueError:
        raise Invalid(
            f'invalid base prefix "{parts.get("base", "")}": an address and a prefix length are wanted'
        ) from None
    if not re.fullmatch("[0-9]{1,9}", parts.get("size", "")):
        raise Invalid(f'invalid size value: "{text}" (must be integer)')
    bits = int(parts["size"])
    if not base.prefixlen <= bits <= base.max_prefixlen:
        raise Invalid(f"invalid size value: {bits} is not between /{base.prefixlen} and /{base.max_prefixlen}")
    return AddressPool(str(base), bits)


def _pair_of_pairs(text: str) -> tuple[str, str, str]:
    root, first, rest = text.partition("=")
    key, second, value = rest.partition("=")
    if not (first and second and root and key):
        raise Invalid(f'invalid value "{text}" for map option, should be root-key=key=value')
    return root, key, value


def _nest(triples: Sequence[tuple[str, str, str]]) -> dict[str, dict[str, str]]:
    nested: dict[str, dict[str, str]] = {}
    for root, key, value in triples:
        nested.setdefault(root, {})[key] = value
    return nested


def _domain(text: str) -> str:
    text = text.strip()
    if text == ".":
        return text
    if not re.fullmatch(r"(?!-)[A-Za-z0-9_-]{1,63}(\.[A-Za-z0-9_-]{1,63})*\.?", text) or len(text) > 255:
        raise Invalid(f"{text} is not a valid domain")
    return text


def _label(text: str) -> str:
    if not text.partition("=")[1]:
        raise Invalid(f"bad attribute format: {text}")
    return text


def _generic(text: str) -> str:
    kind, equals, value = text.partition("=")
    if not (kind and equals and value) or "=" in value:
        raise Invalid(f"invalid node generic resource format `{text}` expected `name=value`")
    return text


def _level(text: str) -> str:
    if text not in ("debug", "info", "warn", "error", "fatal"):
        raise Invalid(f"invalid logging level: {text}")
    return text


def ulimit(text: str) -> tuple[str, Ulimit]:
    """``nofile=1024:2048`` (soft:hard), ``nproc=100`` (both)."""
    match = re.fullmatch(r"([a-z]+)=(-?[0-9]{1,18})(?::(-?[0-9]{1,18}))?", text)
    if not match:
        raise Invalid(f"invalid ulimit argument: {text}")
    soft = int(match[2])
    hard = int(match[3]) if match[3] else soft
    if hard != -1 and (soft > hard or soft == -1):
        raise Invalid(f"ulimit soft limit must be less than or equal to hard limit: {soft} > {hard}")
    return match[1], Ulimit(soft, hard)


def host(text: str) -> str:
    """A socket to listen on, canonical: ``unix:///path``, ``tcp://address:port`` or ``fd://`` (systemd's)."""
    protocol, found, rest = text.strip().partition("://")
    if not found:
        protocol, rest = "tcp", text.strip()
    if protocol == "unix":
        return f"unix://{rest or '/var/run/docker.sock'}"
    if protocol == "fd":
        return f"fd://{rest}"
    if protocol != "tcp":
        raise Invalid(f"invalid bind address ({text}): unsupported proto '{protocol}'")
    name, _, port = rest.rpartition(":") if re.search(r":\d*$", rest) else (rest, "", "")
    if port and not (len(port) < 10 and 0 < int(port) < 65536):
        raise Invalid(f"invalid bind address ({text}): invalid port {port}")
    return f"tcp://{name or 'localhost'}:{port or 2375}"


STORE_PORTS = {"consul": 8500, "etcd": 2379, "zk": 2181}


def _place(text: str, port: int) -> str:
    """``address:port`` or ``[address]:port``; ``port`` where none is given (0: it must be)."""
    match = re.fullmatch(r"(\[[0-9a-fA-F:.]+\]|[A-Za-z0-9._-]+)(?::(\d{1,5}))?", text)
    if not match:
        raise Invalid(f'"{text}" is no ADDRESS:PORT')
    number = int(match[2] or port)
    if not 0 < number < 65536:
        raise Invalid(f'"{text}" needs a port between 1 and 65535')
    return f"{match[1]}:{number}"


def store_address(text: str) -> StoreAddress:
    """``consul://10.0.0.1:8500/network``, ``etcd://user:password@a:2379,b:2379/prefix``, ``boltdb:///a/file``."""
    kind, found, rest = text.strip().partition("://")
    if not found or (kind not in STORE_PORTS and kind != "boltdb"):
        raise Invalid("it must begin with consul://, etcd://, zk:// or boltdb://, as in consul://192.168.99.100:8500")
    if kind == "boltdb":
        if not rest.startswith("/"):
            raise Invalid("boltdb:// needs the absolute path of a file, as in boltdb:///var/lib/cluster.db")
        return StoreAddress(kind, (), rest)
    login, _, rest = rest.rpartition("@")
    user, _, password = (parse.unquote(part) for part in login.partition(":"))
    hosts, _, path = rest.partition("/")
    places = tuple(_place(place, STORE_PORTS[kind]) for place in hosts.split(","))
    return StoreAddress(kind, places, path.strip("/"), user, password)


def advertised(text: str) -> Advertised:
    """``eth0:2376``, ``192.168.99.101:2376`` or ``[fd00::1]:2376``."""
    where, _, port = _place(text.strip(), 0).rpartition(":")
    return Advertised(where.strip("[]"), int(port))


STORE_OPTIONS = {
    "kv.cacertfile": "file with the CA of the store's certificate",
    "kv.certfile": "file with our certificate",
    "kv.keyfile": "file with our certificate's key",
    "kv.path": "path within the store",
    "discovery.heartbeat": "seconds between two signs of life",
    "discovery.ttl": "seconds after which a silent host is gone",
}


def _store_option(text: str) -> tuple[str, str]:
    name, _, value = text.partition("=")
    if name not in STORE_OPTIONS:
        raise Invalid(f'unknown option "{name}": there are {", ".join(STORE_OPTIONS)}')
    if name.startswith("discovery.") and not (value.isdecimal() and int(value)):
        raise Invalid(f"{name} must be a positive number of seconds")
    return name, value


TEXT = Kind("text", _text)
SWITCH = Kind("true or false", _switch, (bool,), switch=True)
NUMBER = Kind("number", _number, (int,))
SIZE = Kind("size", size, (str, int))
ADDRESS = Kind("address", _address)
CIDR4 = Kind("address/prefix", _interface(4, False))
CIDR6 = Kind("address/prefix", _interface(6, False))
NETWORK4 = Kind("subnet", _interface(4, True))
NETWORK6 = Kind("subnet", _interface(6, True))
LEVEL = Kind("level", _level)
TEXTS = Kind("list", _text, (list,), tuple)
ADDRESSES = Kind("list of addresses", _server, (list,), tuple)
DOMAINS = Kind("list of domains", _domain, (list,), tuple)
GENERICS = Kind("list of name=value", _generic, (list,), tuple)
LABELS = Kind("list of key=value", _label, (list,), tuple)
HOSTS = Kind("list of sockets", host, (list,), tuple)
POOLS = Kind("list of pools", _pool, (list,), tuple)
ULIMITS = Kind("map of limits", ulimit, (dict,), dict)
STORE = Kind("kind://address:port/path", store_address)
ADVERTISED = Kind("interface or address:port", advertised)
STORE_OPTS = Kind("map", _store_option, (dict,), dict)
MAP = Kind("map", lambda text: text.partition("=")[::2], (dict,), dict)
MAP_OF_MAPS = Kind("map of maps", _pair_of_pairs, (dict,), _nest)


def as_go(value: Any) -> str:
    """A value as dockerd prints it in its complaint about options given twice."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list | tuple):
        return "[" + " ".join(map(as_go, value)) + "]"
    if isinstance(value, dict):
        return "map[" + " ".join(f"{key}:{as_go(item)}" for key, item in value.items()) + "]"
    return str(value)


_RUNTIME = "processes are always run by crun under conmon"
_STORAGE = "layers are always kept by overlayfs"
_PROXY = "set HTTP_PROXY and NO_PROXY in the engine's environment"
_SCHEDULE = "skopeo schedules transfers by itself"
_NAMESPACE = "there is no containerd"

IGNORED: dict[str, str] = {
    "add-runtime": _RUNTIME,
    "default-runtime": _RUNTIME,
    "exec-opt": _RUNTIME,
    "init-path": "the init is catatonit, as Debian installs it",
    "containerd": _NAMESPACE,
    "containerd-namespace": _NAMESPACE,
    "containerd-plugins-namespace": _NAMESPACE,
    "cri-containerd": _NAMESPACE,
    "cdi-spec-dir": "devices are given by --device only",
    "cpu-rt-period": "real-time scheduling is given per container only",
    "cpu-rt-runtime": "real-time scheduling is given per container only",
    "experimental": "nothing is hidden behind it",
    "feature": "nothing is hidden behind it",
    "http-proxy": _PROXY,
    "https-proxy": _PROXY,
    "no-proxy": _PROXY,
    "max-concurrent-downloads": _SCHEDULE,
    "max-concurrent-uploads": _SCHEDULE,
    "max-download-attempts": _SCHEDULE,
    "metrics-addr": "metrics are not served yet",
    "network-control-plane-mtu": "gossip keeps to packets of 1400 bytes",
    "swarm-default-advertise-addr": "say --advertise-addr to swarm init and swarm join",
    "raw-logs": "the log is always plain",
    "shutdown-timeout": "each container has the time that its own stop timeout gives it",
    "storage-driver": _STORAGE,
    "storage-opt": _STORAGE,
    "userland-proxy-path": "the relay is part of Fairlead",
}
"""Options of dockerd that are accepted with one line of warning: name -> reason."""

IGNORED_SWITCHES = {"cri-containerd", "experimental", "raw-logs"}
SHORT_FOREIGN = {"-s": "storage-driver"}

REFUSED: dict[str, str] = {
    "authorization-plugin": "requests would pass unasked",
    "authorization-plugins": "requests would pass unasked",
    "rootless": "the engine needs root",
    "selinux-enabled": "containers would run unconfined",
    "userns-remap": "root in containers would be root on the host",
}
"""Options of dockerd that promise safety we do not give: name -> what would go wrong."""

_KEYS = {
    "runtimes": "add-runtime",
    "exec-opts": "exec-opt",
    "features": "feature",
    "builder": "feature",
    "proxies": "http-proxy",
    "storage-opts": "storage-opt",
    "cdi-spec-dirs": "cdi-spec-dir",
}


def foreign_key(key: str) -> str:
    """The name in ``IGNORED`` (or ``REFUSED``) for a key of daemon.json; "" when dockerd does not know it either."""
    name = _KEYS.get(key, key)
    return name if name in IGNORED or name in REFUSED else ""
