"""Settings: one table from which flags, ``daemon.json`` and the reference page come.

Every option of the engine is one line of ``Settings`` below: its name, default,
flags, key in ``daemon.json`` and one sentence. Nothing about an option is said
anywhere else.

    argv ---------+
                  +--> parse() --> Settings (frozen, checked)   docs/reference/settings.md
    daemon.json --+                     ^                              ^
                                        +------- the table ------------+

Rules
    1. Names, spellings and complaints are dockerd's, so that its manual, its
       unit files and its users' habits serve here unchanged.
    2. An option is given once: as a flag or in the file. Both is refused, by name.
    3. An option of dockerd that means nothing here is accepted with one line of
       warning that says why. One that would promise *safety* that we do not give
       (``--userns-remap``) is refused: silence would be a lie.
    4. What leaves ``parse`` is canonical (addresses as ``str(ipaddress…)``,
       hosts as ``unix:///path`` or ``tcp://address:port``) and is never checked again.

What it does not do: look at the machine. Whether a bridge exists or a group is
known is found out by who uses it. Reading the one file is the only deed here.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
from msgspec.structs import replace

from fairlead import options as kinds
from fairlead.errors import Invalid
from fairlead.options import AddressPool, Advertised, Kind, StoreAddress, Ulimit

PROGRAMS: dict[str, dict[str, Any]] = {
    "fairlead daemon": {
        "hosts": ("unix:///var/run/fairlead.sock",),
        "pidfile": "/var/run/fairlead.pid",
        "config_file": "/etc/fairlead/daemon.json",
        "live_restore": True,
    },
    "dockerd": {
        "hosts": ("unix:///var/run/docker.sock",),
        "pidfile": "/var/run/docker.pid",
        "config_file": "/etc/docker/daemon.json",
        "live_restore": False,
    },
}
"""The defaults that depend on the name we are run under."""


class Option(msgspec.Struct, frozen=True):
    """How one field of ``Settings`` is written: flags (first the long one), key in the file ("": flag only)."""

    flags: tuple[str, ...]
    key: str
    kind: Kind
    says: str
    name: str = ""

    @property
    def flag(self) -> str:
        return self.flags[0]


_TABLE: list[tuple[Option, Any]] = []
"""Every option with its default, in the order of the fields of ``Settings``."""


def _is(default: Any, flags: str, kind: Kind, says: str, key: str | None = None) -> Any:
    """One line of the table. ``key`` is the flag without dashes unless given; "" keeps it out of the file."""
    names = tuple(flags.split())
    _TABLE.append((Option(names, names[0].lstrip("-") if key is None else key, kind, says), default))
    return default


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """What the engine was asked to be. Each field is one option; ``warnings`` are lines for the log."""

    # Where it listens
    hosts: tuple[str, ...] = _is(
        (),
        "--host -H",
        kinds.HOSTS,
        "Socket to listen on: unix:///path or tcp://address:port; several allowed.",
        "hosts",
    )
    group: str = _is("docker", "--group -G", kinds.TEXT, "Group that may use the unix socket.")
    tls: bool = _is(False, "--tls", kinds.SWITCH, "Use TLS on tcp sockets; implied by --tlsverify.")
    tlsverify: bool = _is(False, "--tlsverify", kinds.SWITCH, "Use TLS and let in only clients with a certificate.")
    tlscacert: str = _is("/root/.docker/ca.pem", "--tlscacert", kinds.TEXT, "CA that signed the clients' certificates.")
    tlscert: str = _is("/root/.docker/cert.pem", "--tlscert", kinds.TEXT, "Certificate of the engine.")
    tlskey: str = _is("/root/.docker/key.pem", "--tlskey", kinds.TEXT, "Key of the engine's certificate.")

    # Where it keeps things
    data_root: str = _is("/var/lib/fairlead", "--data-root", kinds.TEXT, "Folder of what must outlive a reboot.")
    exec_root: str = _is("/run/fairlead", "--exec-root", kinds.TEXT, "Folder of what lives until the next reboot.")
    pidfile: str = _is("", "--pidfile -p", kinds.TEXT, "File that holds the engine's process id.")
    config_file: str = _is("", "--config-file", kinds.TEXT, "The file with these same options as JSON.", "")

    # The default network
    bridge: str = _is(
        "", "--bridge -b", kinds.TEXT, "Use this existing bridge as default network; none: no such network."
    )
    bip: str = _is("", "--bip", kinds.CIDR4, "IPv4 address and prefix of docker0.")
    bip6: str = _is("", "--bip6", kinds.CIDR6, "IPv6 address and prefix of docker0.")
    fixed_cidr: str = _is("", "--fixed-cidr", kinds.NETWORK4, "Range of the default network that containers get.")
    fixed_cidr_v6: str = _is("", "--fixed-cidr-v6", kinds.NETWORK6, "IPv6 subnet of the default network.")
    ipv6: bool = _is(False, "--ipv6", kinds.SWITCH, "Give the default network IPv6.")
    default_gateway: str = _is("", "--default-gateway", kinds.ADDRESS, "IPv4 default gateway of the default network.")
    default_gateway_v6: str = _is(
        "", "--default-gateway-v6", kinds.ADDRESS, "IPv6 default gateway of the default network."
    )
    mtu: int = _is(0, "--mtu", kinds.NUMBER, "MTU of the default network; 0: that of the host's default route.")
    icc: bool = _is(True, "--icc", kinds.SWITCH, "Let containers of the default network reach each other.")
    ip: str = _is("0.0.0.0", "--ip", kinds.ADDRESS, "Host address of published ports that name none (default network).")

    # All networks
    default_address_pools: tuple[AddressPool, ...] = _is(
        (),
        "--default-address-pool",
        kinds.POOLS,
        "Where subnets come from: base=10.0.0.0/8,size=24.",
        "default-address-pools",
    )
    default_network_opts: Mapping[str, Mapping[str, str]] = _is(
        {},
        "--default-network-opt",
        kinds.MAP_OF_MAPS,
        "Options of new networks: driver=key=value.",
        "default-network-opts",
    )
    iptables: bool = _is(
        True, "--iptables", kinds.SWITCH, "Write firewall rules (nftables). Off: ports go through the relay."
    )
    ip6tables: bool = _is(True, "--ip6tables", kinds.SWITCH, "Write firewall rules for IPv6.")
    ip_forward: bool = _is(True, "--ip-forward", kinds.SWITCH, "Turn on the kernel's forwarding.")
    ip_forward_no_drop: bool = _is(
        False, "--ip-forward-no-drop", kinds.SWITCH, "Do not drop the host's other forwarding when we turned it on."
    )
    ip_masq: bool = _is(
        True, "--ip-masq", kinds.SWITCH, "Hide the default network behind the host's address on the way out."
    )
    userland_proxy: bool = _is(
        True, "--userland-proxy", kinds.SWITCH, "Allow the relay process for what the kernel cannot do."
    )
    allow_direct_routing: bool = _is(
        False, "--allow-direct-routing", kinds.SWITCH, "Let other hosts reach published ports on container addresses."
    )

    # Names
    dns: tuple[str, ...] = _is(
        (), "--dns", kinds.ADDRESSES, "Name server of containers that name none; several allowed."
    )
    dns_search: tuple[str, ...] = _is((), "--dns-search", kinds.DOMAINS, "Search domain of containers that name none.")
    dns_opts: tuple[str, ...] = _is(
        (), "--dns-opt", kinds.TEXTS, "Resolver option of containers that name none.", "dns-opts"
    )
    host_gateway_ips: tuple[str, ...] = _is(
        (), "--host-gateway-ip", kinds.ADDRESSES, "What host-gateway in --add-host stands for.", "host-gateway-ips"
    )

    # Defaults of containers
    cgroup_parent: str = _is("", "--cgroup-parent", kinds.TEXT, "Parent cgroup of all containers.")
    default_cgroupns_mode: str = _is(
        "", "--default-cgroupns-mode", kinds.TEXT, "cgroup namespace of containers: host, private."
    )
    default_ipc_mode: str = _is(
        "private", "--default-ipc-mode", kinds.TEXT, "ipc namespace of containers: private, shareable."
    )
    default_shm_size: int = _is(64 << 20, "--default-shm-size", kinds.SIZE, "Size of /dev/shm in containers.")
    default_ulimits: Mapping[str, Ulimit] = _is(
        {}, "--default-ulimit", kinds.ULIMITS, "Limits of containers: nofile=1024:2048.", "default-ulimits"
    )
    init: bool = _is(False, "--init", kinds.SWITCH, "Run an init in containers that reaps and forwards signals.")
    no_new_privileges: bool = _is(False, "--no-new-privileges", kinds.SWITCH, "Set no-new-privileges in containers.")
    seccomp_profile: str = _is(
        "builtin", "--seccomp-profile", kinds.TEXT, "System call filter: builtin, unconfined or a file."
    )
    log_driver: str = _is(
        "json-file", "--log-driver", kinds.TEXT, "Where containers' output goes: json-file, local, none."
    )
    log_opts: Mapping[str, str] = _is(
        {}, "--log-opt", kinds.MAP, "Options of the log driver: max-size=10m.", "log-opts"
    )

    # Images
    registry_mirrors: tuple[str, ...] = _is(
        (), "--registry-mirror", kinds.TEXTS, "Registry to ask before Docker's own.", "registry-mirrors"
    )
    insecure_registries: tuple[str, ...] = _is(
        (), "--insecure-registry", kinds.TEXTS, "Registry that may speak without TLS.", "insecure-registries"
    )

    # Many machines
    cluster_store: StoreAddress | None = _is(
        None, "--cluster-store", kinds.STORE, "Key-value store of the cluster: consul://, etcd://, zk:// or boltdb://."
    )
    cluster_advertise: Advertised | None = _is(
        None, "--cluster-advertise", kinds.ADVERTISED, "Where other hosts reach this one: eth0:2376 or address:port."
    )
    cluster_store_opts: Mapping[str, str] = _is(
        {},
        "--cluster-store-opt",
        kinds.STORE_OPTS,
        "Options of the cluster store: kv.cacertfile=, kv.certfile=, kv.keyfile=, kv.path=.",
        "cluster-store-opts",
    )
    cluster_gossip_port: int = _is(
        7946, "--cluster-gossip-port", kinds.NUMBER, "TCP and UDP port of this host's gossip with the others; 0: none."
    )

    overlay_key_lifetime: int = _is(
        12 * 3600,
        "--overlay-key-lifetime",
        kinds.NUMBER,
        "Seconds after which encrypted overlay networks, and the gossip of a swarm, get new keys.",
    )

    # The engine itself
    live_restore: bool = _is(
        True,
        "--live-restore",
        kinds.SWITCH,
        "Let containers run on when the engine is told to end; under the name dockerd only if asked for.",
    )
    node_generic_resources: tuple[str, ...] = _is(
        (),
        "--node-generic-resource",
        kinds.GENERICS,
        "What this node has for services that ask for it: gpu=2, or gpu=UUID.",
        "node-generic-resources",
    )
    labels: tuple[str, ...] = _is((), "--label", kinds.LABELS, "key=value shown by `info`.", "labels")
    debug: bool = _is(False, "--debug -D", kinds.SWITCH, "Say more in the log.")
    log_level: str = _is("info", "--log-level -l", kinds.LEVEL, "How much to log: debug, info, warn, error, fatal.")
    log_format: str = _is("text", "--log-format", kinds.TEXT, "How to log: text or json.")
    validate: bool = _is(False, "--validate", kinds.SWITCH, "Check the settings and exit.", "")
    help: bool = _is(False, "--help -h", kinds.SWITCH, "Print this list and exit.", "")
    version: bool = _is(False, "--version -v", kinds.SWITCH, "Print the version and exit.", "")

    warnings: tuple[str, ...] = ()

    @property
    def use_tls(self) -> bool:
        return self.tls or self.tlsverify


def table() -> Iterator[tuple[Option, Any]]:
    """Every option with its default, in the order of the table."""
    for (option, default), name in zip(_TABLE, Settings.__struct_fields__, strict=False):  # ``warnings`` is none
        yield replace(option, name=name), default


def usage(program: str) -> str:
    """The help page: every flag with its sentence and default."""
    lines = [f"Usage: {program} [OPTIONS]", "", "Runs the engine that gives containers their networks.", "", "Options:"]
    for option, default in table():
        default = PROGRAMS[program].get(option.name, default)
        short = "".join(f"{flag}, " for flag in option.flags[1:])
        word = "" if option.kind.switch else f" {option.kind.word.split()[0]}"
        ends = f" (default {kinds.as_go(default)})" if default else ""
        lines.append(f"  {short or '    '}{option.flag + word:<34} {option.says}{ends}")
    return "\n".join(lines)


_OPTIONS = [option for option, _ in table()]
BY_FLAG: dict[str, Option] = {flag: option for option in _OPTIONS for flag in option.flags}
BY_KEY: dict[str, Option] = {option.key: option for option in _OPTIONS if option.key}


def parse(argv: Sequence[str], program: str = "fairlead daemon") -> Settings:
    """Options as typed, plus the file they name (or the default one, if it is there), as checked ``Settings``.

    ``program``: ``fairlead daemon`` or ``dockerd`` (other default sockets). Raises ``Invalid`` in dockerd's words.
    """
    defaults = PROGRAMS[program]
    given, ignored = _flags(argv)
    values = {name: option.kind.join(texts, option) for name, (option, texts) in given.items()}
    path = values.get("config_file", defaults["config_file"])
    if not (values.get("help") or values.get("version")):
        from_file, more = _file(path, "config_file" in values, values)
        values |= from_file
        ignored += [name for name in more if name not in ignored]
    settings = Settings(**{**defaults, **values, "config_file": path, "warnings": tuple(map(_warning, ignored))})
    _check(settings)
    return settings


def _flags(argv: Sequence[str]) -> tuple[dict[str, tuple[Option, list[str]]], list[str]]:
    """``argv`` as {field: (option, texts as typed)} and the dockerd options that mean nothing here."""
    given: dict[str, tuple[Option, list[str]]] = {}
    ignored: list[str] = []
    words = list(argv)
    while words:
        flag, text = _split(words)
        option = BY_FLAG.get(flag)
        if option is None:
            ignored.append(_foreign(flag, text, words))
            continue
        if text is None:
            if option.kind.switch:
                text = "true"
            elif words:
                text = words.pop(0)
            else:
                raise Invalid(f"flag needs an argument: {flag}")
        given.setdefault(option.name, (option, []))[1].append(text)
    return given, ignored


def _split(words: list[str]) -> tuple[str, str | None]:
    """Take the first word: its flag, and the text that came with it in the same word (``--x=y``, ``-xy``)."""
    word = words.pop(0)
    if not word.startswith("-") or word in ("-", "--"):
        raise Invalid(f'"dockerd" accepts no arguments, got "{word}".')
    if word.startswith("--"):
        flag, equals, text = word.partition("=")
        return flag, text if equals else None
    flag, rest = word[:2], word[2:]
    known = BY_FLAG.get(flag)
    if known and known.kind.switch and rest and not rest.startswith("="):
        words.insert(0, "-" + rest)  # -Dl debug: two short flags in one word
        rest = ""
    return flag, rest.removeprefix("=") if rest else None


def _foreign(flag: str, text: str | None, words: list[str]) -> str:
    """A flag that is not in the table: one of dockerd's that means nothing here (consumed, named), or an error."""
    name = kinds.SHORT_FOREIGN.get(flag, flag.lstrip("-"))
    if name in kinds.REFUSED and text not in ("", "false"):
        raise Invalid(f"--{name} is not supported: {kinds.REFUSED[name]}")
    if name not in kinds.IGNORED and name not in kinds.REFUSED:
        word = f"unknown flag: {flag}" if flag.startswith("--") else f"unknown shorthand flag: '{flag[1:]}' in {flag}"
        raise Invalid(word)
    if text is None and name not in kinds.IGNORED_SWITCHES:
        if not words:
            raise Invalid(f"flag needs an argument: {flag}")
        words.pop(0)
    return name


def _file(path: str, must: bool, given: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Values of ``daemon.json`` by field, and its keys that mean nothing here. ``given``: what flags said."""
    where = f"unable to configure the Docker daemon with file {path}: "
    try:
        text = Path(path).read_bytes()
    except FileNotFoundError:
        if must:
            raise Invalid(f"{where}open {path}: no such file or directory") from None
        return {}, []
    except OSError as problem:
        raise Invalid(f"{where}open {path}: {problem.strerror}") from None
    if not text.strip():
        return {}, []
    try:
        data = json.loads(text)
    except (ValueError, RecursionError) as problem:
        raise Invalid(f"{where}invalid JSON: {problem}") from None
    if not isinstance(data, dict):
        raise Invalid(f"{where}invalid JSON: an object is wanted, not {type(data).__name__}")
    try:
        return _values(data, given)
    except Invalid as problem:
        raise Invalid(where + problem.message) from None


def _values(data: Mapping[str, Any], given: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """The checked values of a parsed file. Unknown keys and keys given as flags too are refused together, by name."""
    unknown = [key for key in data if key not in BY_KEY and not kinds.foreign_key(key)]
    if unknown:
        raise Invalid(f"the following directives don't match any configuration option: {', '.join(unknown)}")
    twice = [
        f"{key}: (from flag: {kinds.as_go(given[BY_KEY[key].name])}, from file: {kinds.as_go(data[key])})"
        for key in data
        if key in BY_KEY and BY_KEY[key].name in given
    ]
    if twice:
        text = ", ".join(twice)
        raise Invalid(f"the following directives are specified both as a flag and in the configuration file: {text}")
    refused = [key for key in data if key in kinds.REFUSED and data[key]]
    if refused:
        raise Invalid(f"{refused[0]} is not supported: {kinds.REFUSED[refused[0]]}")
    values = {BY_KEY[key].name: BY_KEY[key].kind.read(value, key) for key, value in data.items() if key in BY_KEY}
    return values, [kinds.foreign_key(key) for key in data if key not in BY_KEY and key not in kinds.REFUSED]


def _warning(name: str) -> str:
    return f"--{name} has no effect here: {kinds.IGNORED.get(name, 'it is off anyway')}"


def _check(settings: Settings) -> None:
    """What single values cannot show: options that exclude each other, in dockerd's words."""
    if settings.bridge and settings.bip:
        raise Invalid("You specified -b & --bip, mutually exclusive options. Please specify only one")
    if settings.bridge and settings.bip6:
        raise Invalid("You specified -b & --bip6, mutually exclusive options. Please specify only one")
    if not settings.icc and not settings.iptables:
        raise Invalid(
            "You specified --iptables=false with --icc=false. ICC=false uses iptables to function. "
            "Please set --icc or --iptables to true"
        )
    if not settings.icc and settings.ipv6 and not settings.ip6tables:
        raise Invalid(
            "You specified --ip6tables=false with --icc=false. ICC=false uses ip6tables to function. "
            "Please set --icc or --ip6tables to true"
        )
    if settings.mtu < 0:
        raise Invalid(f"invalid default MTU: {settings.mtu}")
    if settings.overlay_key_lifetime < 1:
        raise Invalid(f"invalid --overlay-key-lifetime: {settings.overlay_key_lifetime} seconds: at least 1")
    _check_cluster(settings)
    for name in ("data_root", "exec_root"):
        if not getattr(settings, name).startswith("/"):
            raise Invalid(f"--{name.replace('_', '-')} must be an absolute path: {getattr(settings, name)!r}")
    choices = {
        "default_cgroupns_mode": ("", "host", "private"),
        "default_ipc_mode": ("private", "shareable"),
        "log_format": ("text", "json"),
    }
    for name, allowed in choices.items():
        if getattr(settings, name) not in allowed:
            raise Invalid(
                f"--{name.replace('_', '-')}: {getattr(settings, name)!r} is none of {', '.join(allowed).strip(', ')}"
            )


def _check_cluster(settings: Settings) -> None:
    """Which of the cluster's options is wrong, by name."""
    options = settings.cluster_store_opts
    if settings.cluster_store is None:
        for name, given in (("advertise", settings.cluster_advertise), ("store-opt", options)):
            if given:
                raise Invalid(
                    f"invalid cluster configuration. --cluster-{name} must be accompanied by --cluster-store"
                    " configuration"
                )
        return
    if ("kv.certfile" in options) != ("kv.keyfile" in options):
        raise Invalid("--cluster-store-opt: kv.certfile and kv.keyfile belong together, one of them is missing")
    if not 0 <= settings.cluster_gossip_port < 65536:
        raise Invalid(f"--cluster-gossip-port: {settings.cluster_gossip_port} is no port: 65535 is the last")
    heartbeat, ttl = (int(options.get(f"discovery.{name}", 0)) for name in ("heartbeat", "ttl"))
    if heartbeat and ttl and ttl <= heartbeat:
        raise Invalid("--cluster-store-opt: discovery.ttl must be greater than discovery.heartbeat")
