"""Kept: what this host's gossip must find again after a restart, in one file that only root can read.

    our private key     who we are, to others
    the ring            to be let in although the store is away
    places              where to knock then

Rules
    1. The file is replaced as a whole; it is never half written.
    2. A file that cannot be read is started anew, and said: the others learn our new key from the store.
"""

from __future__ import annotations

import logging
import os
from pathlib import Path

import msgspec

from fairlead.core.places import Place

log = logging.getLogger(__name__)

MOST_PLACES = 256
"""More are not needed: any of them tells of all."""


class Notes(msgspec.Struct):
    """``private`` is 32 bytes, ``ring`` the keys of the cluster, the one in use first."""

    private: bytes = b""
    ring: list[bytes] = []
    places: dict[str, Place] = {}


class Kept:
    """The notes and their file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.notes = self._read()

    def _read(self) -> Notes:
        try:
            return msgspec.json.decode(self._path.read_bytes(), type=Notes)
        except FileNotFoundError:
            return Notes()
        except (OSError, msgspec.MsgspecError, UnicodeDecodeError) as problem:
            log.warning("%s cannot be read, it is begun anew: %s", self._path, problem)
            return Notes()

    def save(self) -> None:
        """Write the notes. A disk that is full costs the memory, not the gossip."""
        fresh = self._path.with_suffix(".new")
        while len(self.notes.places) > MOST_PLACES:
            del self.notes.places[next(iter(self.notes.places))]
        try:
            with open(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
                file.write(msgspec.json.encode(self.notes))
                file.flush()
                os.fsync(file.fileno())
            fresh.replace(self._path)
        except OSError as problem:
            log.warning("%s cannot be written: %s", self._path, problem.strerror)
