"""Modules that a start imports, and nobody needs before it has answered: Python's own, and some of ours.

    postpone()           before asyncio, msgspec and logging are imported
    import ssl           a module that is still empty
    ssl.SSLContext       now it is loaded, once, and is the module it always was

asyncio imports OpenSSL, for a program that may never speak TLS; traceback, which logging imports, brings a reader of
Python's source along; msgspec prefers what ``typing_extensions`` has for older Pythons to the same in ``typing``; uuid
asks platform, which can read the banners of all Pythons there ever were, for the name of the system. Ours are what only
some networks need, and what makes containers: whoever uses them imports the module, not names out of it.

Rules
    1. A module that was imported already is left alone.
    2. What loads a module late gets the same object everybody got before, whichever thread asks first.
    3. ``from ssl import x`` is asking for it.
    4. Nothing is said in its place but what ``KNOWN`` has, and that is what it would say itself.
"""

from __future__ import annotations

import os
import sys
from importlib.machinery import PathFinder
from importlib.util import find_spec, module_from_spec
from threading import RLock
from types import ModuleType
from typing import Any

POSTPONED = (
    *("ssl", "asyncio.sslproto", "hashlib", "hmac", "secrets", "base64"),
    *("inspect", "tokenize", "textwrap", "locale", "platform", "json", "msgspec.inspect"),
    *("shutil", "tarfile", "tempfile", "gzip", "bz2", "lzma", "zlib"),
    *("fairlead.core.mesh", "fairlead.core.remotes", "fairlead.engine.farewell"),
    *("fairlead.core.complaints", "fairlead.core.ociresources", "fairlead.core.ocispec", "fairlead.core.users"),
    *(
        "fairlead.host.conmon",
        "fairlead.host.ociexec",
        "fairlead.host.ps",
        "fairlead.host.rooted",
        "fairlead.host.seccomp",
    ),
    *("fairlead.host.inlets", "fairlead.host.mesh", "fairlead.host.vips"),
    *("fairlead.host.conntrack", "fairlead.host.shaping"),
)
KNOWN = {"platform": {"system": lambda: os.uname().sysname}}
"""module -> what of it can be said without it"""
_lock = RLock()


def postpone() -> None:
    """From now on these are loaded when something is asked of them."""
    for name in POSTPONED:
        if name not in sys.modules:
            package, _, _ = name.rpartition(".")
            place = find_spec(package).submodule_search_locations if package else None  # type: ignore[union-attr]
            spec = PathFinder.find_spec(name, place)
            if spec is not None and spec.loader is not None:
                module = sys.modules[name] = module_from_spec(spec)
                module.__dict__.update(KNOWN.get(name, {}))
                module.__class__ = _Late
    if "typing_extensions" not in sys.modules:
        sys.modules["typing_extensions"] = None  # type: ignore[assignment]  # Python's word for "not here"
        try:
            import msgspec  # noqa: F401
        finally:
            del sys.modules["typing_extensions"]


class _Late(ModuleType):
    """A module that is not loaded yet."""

    def __getattr__(self, name: str) -> Any:
        """Called for what is not there, which is everything but ``__name__``, ``__spec__`` and their like."""
        with _lock:
            if self.__class__ is _Late and not vars(self).setdefault("__loading__", False):
                self.__dict__["__loading__"] = True
                self.__spec__.loader.exec_module(self)  # type: ignore[union-attr]
                self.__class__ = ModuleType
                del self.__dict__["__loading__"]
            return ModuleType.__getattribute__(self, name)
