"""The small files that tell a container who it is and whom to ask: hosts, hostname, resolv.conf.

    /etc/hosts        localhost block, --add-host and links, own address lines
    /etc/hostname     one word
    /etc/resolv.conf  three shapes:
        names     127.0.0.11, search, options (ndots:0 unless somebody said otherwise);
                  the servers themselves go to the resolver, each with the place it is asked from
        plain     the default bridge: the host's servers, those on its loopback left out
        host      the host's own, as it stands, but for what was asked with --dns*

All of it is text from values; the lines are those Docker 28 writes, in its
order, because programs parse them (the comments are our own). ``carry_over``
brings what somebody edited inside the container into the next version.

Rules
    1. ``--dns`` wins over the host's servers, and then a loopback address means
       the container's own loopback. From the host's file, a loopback address, an
       address with a zone, or an IPv6 one for a container without IPv6 can only
       be asked from the host's namespace.
    2. Nobody is left without a server: when none remains, public ones are used,
       and the file says so.
    3. Errors are dockerd's words.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Sequence

import msgspec

from fairlead.errors import Internal, Invalid

RESOLVER = "127.0.0.11"
PUBLIC4 = ("8.8.8.8", "8.8.4.4")
PUBLIC6 = ("2001:4860:4860::8888", "2001:4860:4860::8844")
HOST_GATEWAY = "host-gateway"

_LOCAL4 = "127.0.0.1\tlocalhost\n"
_LOCAL6 = (
    "::1\tlocalhost ip6-localhost ip6-loopback\n"
    "fe00::\tip6-localnet\n"
    "ff00::\tip6-mcastprefix\n"
    "ff02::1\tip6-allnodes\n"
    "ff02::2\tip6-allrouters\n"
)

Line = tuple[str, str]
"""(address, names) of a hosts file"""


# -- /etc/hosts -----------------------------------------------------------------------------


def hosts(
    own: Iterable[str] = (),
    hostname: str = "",
    domainname: str = "",
    extra: Iterable[Line] = (),
    *,
    ipv6_loopback: bool = True,
) -> str:
    """A container's hosts file. ``own``: its addresses, by order of networks; ``extra``: added hosts, then links."""
    text = _LOCAL4 + (_LOCAL6 if ipv6_loopback else "")
    text += "".join(f"{address}\t{names}\n" for address, names in extra if ipv6_loopback or ":" not in address)
    names = own_names(hostname, domainname)
    return text + "".join(f"{address.partition('/')[0]}\t{names}\n" for address in own if address and names)


def own_names(hostname: str, domainname: str = "") -> str:
    """``web.example.com web``: in full, then without domain when there is one (also one within the host name)."""
    full = f"{hostname}.{domainname}" if domainname else hostname
    bare, dot, _ = full.partition(".")
    return f"{full} {bare}" if dot else full


def link_line(address: str, alias: str, hostname: str, name: str) -> Line:
    """The line of a link: ``db 3cf7713321fd database``; the name is not said twice when it is the alias."""
    return address, " ".join(dict.fromkeys((alias, hostname, name)))


def extra_hosts(said: Iterable[str], gateways: Sequence[str] = ()) -> tuple[Line, ...]:
    """``name:address`` and ``name=address`` pairs as lines; ``host-gateway`` becomes the host's address(es).

    ``Invalid`` for nonsense, ``Internal`` when the host's address is asked for and there is none.
    """
    lines: list[Line] = []
    for pair in said:
        name, address = _pair(pair)
        if address != HOST_GATEWAY:
            lines.append((address, name))
        elif gateways:
            lines += [(gateway, name) for gateway in gateways]
        else:
            raise Internal("unable to derive the IP value for host-gateway")
    return tuple(lines)


def _pair(pair: str) -> Line:
    first = min((at for at in (pair.find(":"), pair.find("=")) if at >= 0), default=-1)
    name, address = (pair[:first], pair[first + 1 :]) if first > 0 else ("", "")
    if not name or not address:
        raise Invalid(f'bad format for add-host: "{pair}"')
    if address.startswith("[") and address.endswith("]"):
        address = address[1:-1]
    if address != HOST_GATEWAY:
        try:
            ipaddress.ip_address(address)
        except ValueError:
            raise Invalid(f'invalid IP address in add-host: "{address}"') from None
    return name, address


def carry_over(current: str, before: str, after: str) -> str:
    """``after`` in place of ``before``, keeping what was edited in ``current`` meanwhile.

    Lines of ours that are wanted no more go (each once), new ones are appended;
    everything else stays where it is.
    """
    if current == before:
        return after
    lines = current.splitlines()
    old, new = before.splitlines(), after.splitlines()
    for line in old:
        if line in new:
            new.remove(line)
        elif line in lines:
            lines.remove(line)
    lines += [line for line in new if line not in lines]
    return "".join(line + "\n" for line in lines)


# -- /etc/hostname ----------------------------------------------------------------------------


def hostname(name: str) -> str:
    """The hostname file: the name without the domain name, as Docker has it."""
    return name + "\n"


# -- /etc/resolv.conf ---------------------------------------------------------------------------


class ResolvConf(msgspec.Struct, frozen=True, kw_only=True):
    """A resolv.conf taken apart. ``other``: lines we do not know and keep; ``invalid``: servers that are none."""

    servers: tuple[str, ...] = ()
    search: tuple[str, ...] = ()
    options: tuple[str, ...] = ()
    other: tuple[str, ...] = ()
    invalid: tuple[str, ...] = ()
    source: str = "/etc/resolv.conf"


class Resolution(msgspec.Struct, frozen=True, kw_only=True):
    """What came of it: the file, and what the resolver has to know."""

    text: str
    upstreams: tuple[tuple[str, str], ...] = ()
    """(address, ``sandbox`` | ``host``)"""
    search: tuple[str, ...] = ()
    options: tuple[str, ...] = ()


class _Draft(msgspec.Struct):
    servers: list[str]
    search: list[str]
    options: list[str]
    notes: list[str] = msgspec.field(default_factory=list)


def parse_resolv_conf(text: str, source: str = "/etc/resolv.conf") -> ResolvConf:
    """A resolv.conf as libc reads it: the last search (or domain) counts, options add up."""
    servers: list[str] = []
    search: tuple[str, ...] = ()
    options: list[str] = []
    other: list[str] = []
    invalid: list[str] = []
    for line in text.splitlines():
        words = line.split()
        if not words or words[0][0] in "#;":
            continue
        if words[0] == "nameserver":
            if len(words) > 1:
                (invalid if _complaint(words[1]) else servers).append(words[1])
        elif words[0] in ("search", "domain"):
            search = tuple(words[1:]) or search
        elif words[0] == "options":
            options += words[1:]
        else:
            other.append(line)
    return ResolvConf(
        servers=tuple(servers),
        search=search,
        options=tuple(options),
        other=tuple(other),
        invalid=tuple(invalid),
        source=source,
    )


def resolv_conf(
    host: ResolvConf,
    mode: str,
    dns: Sequence[str] = (),
    dns_search: Sequence[str] = (),
    dns_options: Sequence[str] = (),
    *,
    ipv6: bool = False,
) -> Resolution:
    """A container's resolv.conf. ``mode``: ``names`` (user networks), ``plain`` (default bridge) or ``host``.

    ``dns*`` are the container's (or the daemon's) own; ``ipv6``: the container has IPv6.
    ``Internal`` with dockerd's words for a server that is no address: it is found out at start.
    """
    check_dns(dns)
    draft = _Draft(
        list(dns or host.servers),
        [domain for domain in dns_search if domain != "."] if dns_search else list(host.search),
        list(dns_options or host.options),
    )
    upstreams: tuple[tuple[str, str], ...] = ()
    ndots = "override" if dns_options else "host"
    if mode == "names":
        upstreams = _upstreams(draft.servers, bool(dns), ipv6)
        ndots = _ask_us(draft, upstreams) or ndots
    elif mode == "plain" and not dns:
        draft.servers = [server for server in draft.servers if not _only_host(server, ipv6)]
        if not draft.servers:
            draft.servers = list(PUBLIC4 + (PUBLIC6 if ipv6 else ()))
            draft.notes.append("# No server was left: public ones are used.")
    said = {"nameservers": dns, "search": dns_search, "options": dns_options}
    draft.notes.append(f"# Overrides: [{' '.join(name for name, value in said.items() if value)}]")
    if _has_ndots(draft.options):
        draft.notes.append(f"# Option ndots from: {ndots}")
    text = _written(draft, host, mode)
    return Resolution(text=text, upstreams=upstreams, search=tuple(draft.search), options=tuple(draft.options))


def _ask_us(draft: _Draft, upstreams: Iterable[tuple[str, str]]) -> str:
    """The file of a container that asks our resolver, and what its servers were; who says ``ndots``, if we do."""
    if not draft.servers:
        draft.notes.append("# No server was left: public ones are used.")
    draft.servers = [RESOLVER]
    asked = " ".join(f"host({address})" if place == "host" else address for address, place in upstreams)
    draft.notes.append(f"# ExtServers: [{asked}]")
    draft.options = [option for option in draft.options if not _bad_ndots(option)]
    if _has_ndots(draft.options):
        return ""
    draft.options.append("ndots:0")
    return "internal"


def check_dns(servers: Iterable[str]) -> None:
    """Refuse a ``--dns`` that is no address, in dockerd's words (it says so at start, with status 500)."""
    for server in servers:
        complaint = _complaint(server)
        if complaint:
            raise Internal(f'bad nameserver address {server}: ParseAddr("{server}"): {complaint}')


def _written(draft: _Draft, host: ResolvConf, mode: str) -> str:
    kinds = {"names": " (internal resolver)", "plain": " (legacy)"}
    lines = ["# Written by Fairlead.", ""]
    lines += [f"nameserver {server}" for server in draft.servers]
    lines += ["search " + " ".join(draft.search)] if draft.search else []
    lines += ["options " + " ".join(draft.options)] if draft.options else []
    lines += host.other
    lines += ["", f"# Based on host file: '{host.source}'{kinds.get(mode, '')}"]
    lines += [f"# Invalid nameservers: [{' '.join(host.invalid)}]"] if host.invalid else []
    return "\n".join(lines + draft.notes) + "\n"


def _upstreams(servers: Sequence[str], given: bool, ipv6: bool) -> tuple[tuple[str, str], ...]:
    """Servers and the place each is asked from."""
    if not servers:
        return tuple((server, "sandbox") for server in PUBLIC4 + (PUBLIC6 if ipv6 else ()))
    return tuple((server, "host" if not given and _only_host(server, ipv6) else "sandbox") for server in servers)


def _only_host(server: str, ipv6: bool) -> bool:
    """A server of the host's file that a container cannot reach by itself."""
    address = ipaddress.ip_address(server)
    return address.is_loopback or "%" in server or (address.version == 6 and not ipv6)


def _has_ndots(options: Iterable[str]) -> bool:
    return any(option.partition(":")[0] == "ndots" for option in options)


def _bad_ndots(option: str) -> bool:
    name, _, value = option.partition(":")
    return name == "ndots" and not (value.isdecimal() and value.isascii())


def _complaint(address: str) -> str:
    """What Go's address parser says about it; "" when it is an address."""
    try:
        ipaddress.ip_address(address)
        return ""
    except ValueError:
        pass
    if ":" not in address and "." in address:
        return _complaint4(address)
    if ":" not in address:
        return "unable to parse IP"
    for character in address.partition("%")[0].rpartition(":")[2]:
        if character not in "0123456789abcdefABCDEF.":
            return f'unexpected character (at "{address[address.index(character) :]}")'
    return f'unable to parse IP (at "{address}")' if address.count(":") > 7 else "address string too short"


def _complaint4(address: str) -> str:
    for character in address:
        if not (character.isdecimal() and character.isascii()) and character != ".":
            return f'unexpected character (at "{address[address.index(character) :]}")'
    fields = address.split(".")
    if "" in fields:
        rest = "." + address.partition("..")[2] if ".." in address else address
        return f'IPv4 field must have at least one digit (at "{rest}")'
    for value in fields:
        if len(value) > 1 and value[0] == "0":
            return "IPv4 field has octet with leading zero"
        if len(value) > 3 or int(value) > 255:
            return "IPv4 field has value >255"
    return "IPv4 address too short" if len(fields) < 4 else "IPv4 address too long"
