"""Addresses as they are written: of which family one is, and how it stands before a port.

    172.18.0.2   port 80   <-->   172.18.0.2:80
    fd00::2      port 80   <-->   [fd00::2]:80

A colon tells the families apart. Whether it is an address at all is for others to say (``core.addresses``): names of
hosts and interfaces stand before ports, too.
"""

from __future__ import annotations

from fairlead.errors import Invalid


def family_of(text: str) -> int:
    """4 or 6, of an address or prefix."""
    return 6 if ":" in text else 4


def bracketed(address: str) -> str:
    """As it stands where a colon follows."""
    return f"[{address}]" if ":" in address else address


def joined(address: str, port: int | str) -> str:
    return f"{bracketed(address)}:{port}"


def parted(text: str, usual: int = 0) -> tuple[str, int]:
    """(address, port) of what ``joined`` wrote; ``usual``: the port where none was said. Raises ``Invalid``."""
    host, colon, port = text.rpartition(":")
    if not colon or port.endswith("]") or (":" in host and not host.startswith("[")):
        return text.strip("[]"), usual
    if not (port.isascii() and port.isdigit() and len(port) < 6 and int(port) < 65536):
        raise Invalid(f'invalid port in address "{text}"')
    return host.strip("[]"), int(port)
