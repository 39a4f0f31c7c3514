"""Options of networks and of their endpoints, read once into typed values.

    {"com.docker.network.bridge.enable_icc": "false"} --bridge_options--> BridgeOptions(icc=False)
    {"com.docker.network.endpoint.ifname": "lan0"}    --endpoint_options--> EndpointOptions(ifname="lan0")

Rules
    1. What cannot be read is ``Invalid``, in dockerd's words. Options we do not know
       are somebody else's (labels travel the same way): they are kept and ignored.
    2. Booleans and numbers are what Go takes for them: ``1 t T TRUE true True`` and so on.
    3. What is left open stays open (mtu 0): defaults that depend on the machine are the driver's.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator, Mapping

import msgspec

from fairlead.core.patterns import pattern
from fairlead.errors import Invalid

BRIDGE = "com.docker.network.bridge."
NAME = BRIDGE + "name"
ICC = BRIDGE + "enable_icc"
MASQUERADE = BRIDGE + "enable_ip_masquerade"
HOST_BINDING = BRIDGE + "host_binding_ipv4"
DEFAULT_BRIDGE = BRIDGE + "default_bridge"
MODE4 = BRIDGE + "gateway_mode_ipv4"
MODE6 = BRIDGE + "gateway_mode_ipv6"
INHIBIT_IPV4 = BRIDGE + "inhibit_ipv4"
TRUSTED = BRIDGE + "trusted_host_interfaces"
MTU = "com.docker.network.driver.mtu"
PREFIX = "com.docker.network.container_iface_prefix"
HOST_IPV4 = "com.docker.network.host_ipv4"
HOST_IPV6 = "com.docker.network.host_ipv6"
IFNAME = "com.docker.network.endpoint.ifname"
SYSCTLS = "com.docker.network.endpoint.sysctls"
HOST_ACCESS = "host_access"
ANTISPOOF = "com.fairlead.antispoof"
RATE = "com.fairlead.rate"
RATE_IN, RATE_OUT = f"{RATE}_in", f"{RATE}_out"

MODES = ("nat", "nat-unprotected", "routed", "isolated")
_TRUE = frozenset({"1", "t", "T", "TRUE", "true", "True"})
_FALSE = frozenset({"0", "f", "F", "FALSE", "false", "False"})
_OF_DEVICES = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.-")
_RATE = pattern(r"([0-9]{1,9})([kmg]?)bit")
_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9}
SLOWEST, FASTEST = 8_000, 10**12
_INTEGER = pattern(r"[+-]?[0-9]+")
_SETTING = pattern(r"net\.(ipv4|ipv6|mpls)\.([a-z0-9_]+)\.(IFNAME|ifname)\.([a-z0-9_]+)=([^\n=]*)")


class BridgeOptions(msgspec.Struct, frozen=True, kw_only=True):
    """Everything a user may say about a bridge network."""

    name: str = ""
    """of the device; "": chosen by the driver"""
    icc: bool = True
    masquerade: bool = True
    host_binding: str = "0.0.0.0"
    """where a published port that names no address is bound"""
    default_bridge: bool = False
    mode4: str = "nat"
    mode6: str = "nat"
    inhibit_ipv4: bool = False
    trusted: tuple[str, ...] = ()
    mtu: int = 0
    prefix: str = "eth"
    host_ipv4: str = ""
    host_ipv6: str = ""
    antispoof: bool = False
    """containers speak for their own addresses only"""


class LanOptions(msgspec.Struct, frozen=True, kw_only=True):
    """What a user may say about a macvlan or ipvlan network besides parent, mode and flag (``core.parents``)."""

    mtu: int = 0
    """0: the parent's"""
    prefix: str = "eth"
    host_access: bool = False
    """the host reaches its containers"""


class EndpointOptions(msgspec.Struct, frozen=True, kw_only=True):
    """Everything a user may say about one endpoint; ``sysctls`` are (path with ``IFNAME``, value)."""

    ifname: str = ""
    sysctls: tuple[tuple[str, str], ...] = ()
    rate_in: int = 0
    """bits a second that reach the container, 0: as many as can"""
    rate_out: int = 0
    """bits a second that it may send"""


def bridge_options(options: Mapping[str, str]) -> BridgeOptions:
    """The typed form; ``Invalid("failed to parse … value: …")`` for what cannot be read."""
    read = _Reader(options)
    return BridgeOptions(
        name=read.device(NAME, ""),
        icc=read.boolean(ICC, True),
        masquerade=read.boolean(MASQUERADE, True),
        host_binding=read.address(HOST_BINDING, "0.0.0.0"),
        default_bridge=read.boolean(DEFAULT_BRIDGE, False),
        mode4=read.mode(MODE4),
        mode6=read.mode(MODE6),
        inhibit_ipv4=read.boolean(INHIBIT_IPV4, False),
        trusted=read.devices(TRUSTED),
        mtu=read.mtu(),
        prefix=read.device(PREFIX, "eth"),
        host_ipv4=read.address(HOST_IPV4, "", 4),
        host_ipv6=read.address(HOST_IPV6, "", 6),
        antispoof=read.boolean(ANTISPOOF, False),
    )


def lan_options(options: Mapping[str, str]) -> LanOptions:
    """The typed form; ``Invalid("failed to parse … value: …")`` for what cannot be read."""
    read = _Reader(options)
    return LanOptions(mtu=read.mtu(), prefix=read.device(PREFIX, "eth"), host_access=read.boolean(HOST_ACCESS, False))


class _Reader:
    """One kind of value a method; every complaint names the option and what was given."""

    def __init__(self, options: Mapping[str, str]) -> None:
        self._options = options

    def boolean(self, key: str, default: bool) -> bool:
        value = self._options.get(key)
        if value is None:
            return default
        if value in _TRUE or value in _FALSE:
            return value in _TRUE
        raise _unreadable(key, value, f'strconv.ParseBool: parsing "{value}": invalid syntax')

    def mode(self, key: str) -> str:
        value = self._options.get(key, "nat")
        if value not in MODES:
            raise _unreadable(key, value, f"unknown gateway mode {value}")
        return value

    def mtu(self) -> int:
        value = self._options.get(MTU, "0")
        if not (value.isascii() and value.isdigit()) and not _INTEGER.fullmatch(value):
            raise _unreadable(MTU, value, f'strconv.Atoi: parsing "{value}": invalid syntax')
        number = int(value)
        if not 0 <= number <= 65535 or 0 < number < 68:
            raise Invalid(f"invalid MTU number: {number}")
        return number

    def address(self, key: str, default: str, family: int = 0) -> str:
        value = self._options.get(key)
        if value is None:
            return default
        try:
            parsed = ipaddress.ip_address(value)
        except ValueError:
            raise _unreadable(key, value, "nil ip") from None
        if family and parsed.version != family:
            raise _unreadable(key, value, f"not an IPv{family} address")
        return str(parsed)

    def device(self, key: str, default: str) -> str:
        value = self._options.get(key) or default
        if value and not is_device_name(value):
            raise _unreadable(key, value, "not a name of a network device: 1 to 15 letters, digits, . _ or -")
        return value

    def devices(self, key: str) -> tuple[str, ...]:
        value = self._options.get(key, "")
        names = tuple(dict.fromkeys(name for name in value.split(":") if name))
        for name in names:
            if not is_device_name(name):
                raise _unreadable(key, value, f"{name!r} is no name of a network device")
        return names


def _unreadable(key: str, value: str, why: str) -> Invalid:
    return Invalid(f"failed to parse {key} value: {value} ({why})")


def is_device_name(text: str) -> bool:
    """What both the kernel and nftables take for a device's name and nothing more (no ``%d``, no ``*``)."""
    return 0 < len(text) <= 15 and _OF_DEVICES.issuperset(text) and text not in (".", "..")


# -- endpoints --------------------------------------------------------------------------


def endpoint_options(options: Mapping[str, str]) -> EndpointOptions:
    """The typed form; ``Invalid`` with the first of ``endpoint_complaints``."""
    for complaint in endpoint_complaints(options):
        raise Invalid(complaint)
    both = options.get(RATE, "")
    return EndpointOptions(
        ifname=options.get(IFNAME, ""),
        sysctls=tuple(_settings(options.get(SYSCTLS, ""))),
        rate_in=_rate(options.get(RATE_IN, both)),
        rate_out=_rate(options.get(RATE_OUT, both)),
    )


def lan_endpoint_options(options: Mapping[str, str]) -> EndpointOptions:
    """The same for an endpoint on the LAN itself, where nothing of ours stands in the way of what reaches it."""
    found = endpoint_options(options)
    if found.rate_in:
        raise Invalid(f"{RATE_IN} is for bridge networks; on macvlan and ipvlan only {RATE_OUT} can be kept")
    return found


def endpoint_complaints(options: Mapping[str, str]) -> Iterator[str]:
    """What is wrong with an endpoint's driver options, a sentence each."""
    name = options.get(IFNAME, "")
    if name and (not is_device_name(name) or name == "lo"):
        yield f"invalid interface name {name}: 1 to 15 letters, digits, . _ or -"
    for key in (RATE, RATE_IN, RATE_OUT):
        if _rate(options.get(key, "")) < 0:
            yield f"invalid {key} {options[key]}: a rate is like 10mbit or 500kbit, from 8kbit to 1000gbit"
    for text in filter(None, options.get(SYSCTLS, "").split(",")):
        if not _SETTING.fullmatch(text):
            yield (
                f"unrecognised network interface sysctl '{text}'; represent 'net.X.Y.ethN.Z=V' as"
                " 'net.X.Y.IFNAME.Z=V', 'X' must be 'ipv4', 'ipv6' or 'mpls'"
            )


def _rate(text: str) -> int:
    """Bits a second of ``10mbit``, in whole bytes; 0 for "", -1 for what is none."""
    if not text:
        return 0
    found = _RATE.fullmatch(text)
    rate = int(found[1]) * _UNITS[found[2]] // 8 * 8 if found else -1
    return rate if SLOWEST <= rate <= FASTEST else -1


def _settings(text: str) -> Iterator[tuple[str, str]]:
    for item in filter(None, text.split(",")):
        found = _SETTING.fullmatch(item)
        if found:
            family, kind, _, name, value = found.groups()
            yield f"net/{family}/{kind}/IFNAME/{name}", value
