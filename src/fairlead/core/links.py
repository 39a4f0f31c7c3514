"""Legacy links (``--link database:db`` on the default bridge): what the linking container finds in its environment.

For an alias ``db`` of a container that exposes 3306/tcp at 172.17.0.2, as Docker has it:

    DB_PORT=tcp://172.17.0.2:3306            the lowest port, tcp before udp
    DB_PORT_3306_TCP=tcp://172.17.0.2:3306   and _ADDR, _PORT, _PROTO, for each port
    DB_NAME=/web/db
    DB_ENV_<NAME>=<value>                    of the target's own environment, except PATH and HOME
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from fairlead.errors import Invalid

NOT_PASSED_ON = ("PATH", "HOME")


def parse(link: str) -> tuple[str, str]:
    """``name:alias`` (or ``name``, which is its own alias) -> (name, alias); ``Invalid`` for anything else."""
    name, colon, alias = link.partition(":")
    if not name or (colon and not alias) or ":" in alias:
        raise Invalid(f"bad format for links: {link}")
    return name.removeprefix("/"), (alias or name).rpartition("/")[2]


def without(wished: Iterable[str], alias: str) -> tuple[str, ...]:
    """Those links whose alias is another one."""
    return tuple(link for link in wished if parse(link)[1] != alias)


def environment(
    own_name: str, alias: str, address: str, exposed: Iterable[str], target_env: Iterable[str]
) -> Iterator[str]:
    """``NAME=value`` lines; ``exposed`` as ``3306/tcp``."""
    prefix = alias.upper().replace("-", "_")
    ports = sorted(_port(text) for text in exposed)
    if ports:
        protocol, number = ports[0]
        yield f"{prefix}_PORT={protocol}://{address}:{number}"
    for protocol, number in ports:
        name = f"{prefix}_PORT_{number}_{protocol.upper()}"
        yield f"{name}={protocol}://{address}:{number}"
        yield f"{name}_ADDR={address}"
        yield f"{name}_PORT={number}"
        yield f"{name}_PROTO={protocol}"
    yield f"{prefix}_NAME=/{own_name}/{alias}"
    for entry in target_env:
        name, _, value = entry.partition("=")
        if name and name not in NOT_PASSED_ON:
            yield f"{prefix}_ENV_{name}={value}"


def _port(text: str) -> tuple[str, int]:
    number, _, protocol = text.partition("/")
    return protocol or "tcp", int(number.partition("-")[0])
