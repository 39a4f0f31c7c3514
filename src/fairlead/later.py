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

import concurrent  # noqa: F401  # that ``concurrent.futures`` is found in it
import os
import sys
import typing
import urllib  # noqa: F401  # that ``urllib.parse`` is found in it
from contextlib import suppress
from importlib import import_module
from importlib.machinery import PathFinder
from threading import RLock
from types import ModuleType
from typing import Any

OURS = {
    "core": (
        "advertise complaints crossing files links mesh mounts ocimounts ociresources ocispec ports reference remotes "
        "restart shortcut signals usage users"
    ),
    "api": "gojson",
    "engine": "ends farewell ipam top",
    "host": (
        "bpf command conmon connections conntrack files inlets inotify making mesh nftwire ociexec orphans ps rooted "
        "seccomp shaping vips weight"
    ),
    "store": "leases",
}
"""package -> modules"""
POSTPONED = (
    *("ssl", "asyncio.sslproto", "asyncio.staggered", "hashlib", "hmac", "secrets", "base64", "urllib.parse"),
    *("inspect", "traceback", "tokenize", "linecache", "textwrap", "locale", "platform", "json", "fnmatch"),
    *("concurrent.futures", "msgspec.inspect", "msgspec._json_schema", "msgspec.toml", "msgspec.yaml"),
    *("subprocess", "ntpath", "shutil", "tarfile", "tempfile", "gzip", "bz2", "lzma"),
    *(f"fairlead.{package}.{name}" for package, names in OURS.items() for name in names.split()),
)
KNOWN: dict[str, dict[str, Any]] = {
    "concurrent.futures": {word: word for word in ("FIRST_COMPLETED", "FIRST_EXCEPTION", "ALL_COMPLETED")},
    "msgspec._json_schema": {
        word: lambda *given, of=word, **named: _itself("msgspec._json_schema", of)(*given, **named)
        for word in ("schema", "schema_components")
    },
    "fairlead.core.mounts": {"LOCAL": "local"},
    "platform": {"system": lambda: os.uname().sysname},
    "subprocess": {"PIPE": -1, "STDOUT": -2, "DEVNULL": -3},
    "traceback": {"extract_stack": lambda: _itself("traceback", "extract_stack")(sys._getframe(1))},
    "urllib.parse": {"quote_from_bytes": lambda given: _itself("urllib.parse", "quote_from_bytes")(given)},
}
"""module -> what of it can be said without it; of none of them a module is imported by way of ``from``"""
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
    _import_datetime()
    _import_msgspec()


def _import_datetime() -> None:
    """The compiled one is all there is to it. (Up to Python 3.11 the module first makes everything in Python.)"""
    if "datetime" not in sys.modules:
        with suppress(ImportError):
            sys.modules["datetime"] = import_module("_datetime")


def _import_msgspec() -> None:
    """Without what it tries, and what it can write that we have none of; both cost more than itself.

    It prefers what ``typing_extensions`` has for older Pythons to the same in ``typing``: ``None`` is Python's word for
    a module that is not there. It names a type ahead, to see how that is done; the first to do so, as whoever calls
    ``compile`` first, makes Python build all the classes of its syntax trees. And it wants to know decimal numbers and
    UUIDs when it meets them: we have it meet neither (our ids are text), so it knows two classes that nobody is of.
    """
    named_ahead = typing.ForwardRef
    absent: dict[str, Any] = {"typing_extensions": None}
    absent["decimal"], absent["uuid"] = ModuleType("decimal"), ModuleType("uuid")
    absent["decimal"].Decimal = type("Decimal", (), {})
    absent["uuid"].UUID, absent["uuid"].SafeUUID = type("UUID", (), {}), type("SafeUUID", (), {"unknown": None})
    hidden = absent.keys() - sys.modules.keys()
    try:
        sys.modules.update((name, absent[name]) for name in hidden)
        typing.ForwardRef = lambda *_, **__: None  # type: ignore[assignment,misc]
        import msgspec  # noqa: F401
    finally:
        typing.ForwardRef = named_ahead  # type: ignore[misc]
        for name in hidden:
            del sys.modules[name]


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


def _itself(name: str, word: str) -> Any:
    """What the module has under that word, loaded if it was not yet."""
    return _Late.__getattr__(import_module(name), word)  # type: ignore[arg-type]


def _load(module: ModuleType) -> None:
    """Find it where it would have been found, and run it."""
    from importlib.util import module_from_spec

    package = module.__name__.rpartition(".")[0]
    spec = PathFinder.find_spec(module.__name__, import_module(package).__path__ if package else None)
    if spec is None or spec.loader is None:
        raise ModuleNotFoundError(f"No module named {module.__name__!r}", name=module.__name__)
    vars(module).update(vars(module_from_spec(spec)))
    spec.loader.exec_module(module)
