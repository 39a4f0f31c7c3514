"""Modules that a start imports, and nobody needs before it has answered: Python's own, and some of ours.

    postpone()           before asyncio, msgspec and logging are imported
    import ssl           a module that is still empty
    ssl.SSLContext       now it is loaded, once, and is the module it always was

asyncio imports OpenSSL, for a program that may never speak TLS; logging imports traceback, which brings a reader of
Python's source along; pathlib takes one function out of urllib, and looks at the paths of Windows; uuid asks platform,
which can read the banners of all Pythons there ever were, for the name of the system. Ours are what only some networks
need, and what makes containers: whoever uses them imports the module, not names out of it.

Rules
    1. A module that was imported already is left alone.
    2. What loads a module late gets the same object everybody got before, whichever thread asks first.
    3. ``from ssl import x`` is asking for it.
    4. Nothing is said in its place but what ``KNOWN`` has, and that is what it would say itself.
"""

from __future__ import annotations

import os
import sys
import typing
import urllib  # noqa: F401  # that ``urllib.parse`` is found in it
from importlib import import_module
from importlib.machinery import PathFinder
from threading import RLock
from types import ModuleType
from typing import Any

OURS = {
    "core": (
        "advertise complaints files links mesh ocimounts ociresources ocispec reference remotes restart "
        "signals usage users"
    ),
    "engine": "ends farewell ipam top",
    "host": (
        "command conmon conntrack files inlets inotify making mesh nftwire ociexec orphans ps rooted "
        "seccomp shaping vips weight"
    ),
    "store": "leases",
}
"""package -> modules"""
POSTPONED = (
    *("ssl", "asyncio.sslproto", "asyncio.staggered", "hashlib", "hmac", "secrets", "base64", "urllib.parse"),
    *("inspect", "traceback", "tokenize", "textwrap", "locale", "platform", "json", "msgspec.inspect"),
    *("subprocess", "ntpath", "shutil", "tarfile", "tempfile", "gzip", "bz2", "lzma"),
    *(f"fairlead.{package}.{name}" for package, names in OURS.items() for name in names.split()),
)
KNOWN: dict[str, dict[str, Any]] = {
    "platform": {"system": lambda: os.uname().sysname},
    "subprocess": {"PIPE": -1, "STDOUT": -2, "DEVNULL": -3},
    "traceback": {"extract_stack": lambda: sys.modules["traceback"].extract_stack(sys._getframe(1))},
    "urllib.parse": {"quote_from_bytes": lambda given: sys.modules["urllib.parse"].quote(given)},
}
"""module -> what of it can be said without it; none of them is a package"""
_lock = RLock()


def postpone() -> None:
    """From now on these are loaded when something is asked of them."""
    for name in POSTPONED:
        if name not in sys.modules:
            module = sys.modules[name] = _Late(name)
            vars(module).update(KNOWN.get(name, {}))
            package, _, last = name.rpartition(".")
            if package in sys.modules:
                setattr(sys.modules[package], last, module)
    _import_msgspec()


def _import_msgspec() -> None:
    """Without two things that it tries, and that cost more than itself.

    It prefers what ``typing_extensions`` has for older Pythons to the same in ``typing``: ``None`` is Python's word for
    a module that is not there. And it names a type ahead, to see how that is done; the first to do so, as whoever calls
    ``compile`` first, makes Python build all the classes of its syntax trees.
    """
    named_ahead = typing.ForwardRef
    hidden = "typing_extensions" not in sys.modules
    try:
        if hidden:
            sys.modules["typing_extensions"] = None  # type: ignore[assignment]
        typing.ForwardRef = lambda *_, **__: None  # type: ignore[assignment,misc]
        import msgspec  # noqa: F401
    finally:
        typing.ForwardRef = named_ahead  # type: ignore[misc]
        if hidden:
            del sys.modules["typing_extensions"]


class _Late(ModuleType):
    """A module that is not loaded yet."""

    def __getattr__(self, name: str) -> Any:
        """Called for what is not there, which is everything but ``__name__``, ``__spec__`` and their like."""
        if name == "__path__" and self.__name__ in KNOWN:  # ``from x import y`` asks whether x is a package
            raise AttributeError(name)
        with _lock:
            if self.__class__ is _Late and not vars(self).setdefault("__loading__", False):
                self.__dict__["__loading__"] = True
                _load(self)
                self.__class__ = ModuleType  # type: ignore[assignment]
                del self.__dict__["__loading__"]
            return ModuleType.__getattribute__(self, name)


def _load(module: ModuleType) -> None:
    """Find it where it would have been found, and run it."""
    from importlib.util import module_from_spec

    package = module.__name__.rpartition(".")[0]
    spec = PathFinder.find_spec(module.__name__, import_module(package).__path__ if package else None)
    if spec is None or spec.loader is None:
        raise ModuleNotFoundError(f"No module named {module.__name__!r}", name=module.__name__)
    vars(module).update(vars(module_from_spec(spec)))
    spec.loader.exec_module(module)
