"""aiohttp's server without its client, until somebody wants the client.

    import aiohttp          runs the package's ``__init__``: client, TLS, every certificate of the system
    from aiohttp import web the server, which needs none of that

The first costs a third of the time in which a returning engine is not there yet. So the package is put in place with
its path alone; its modules are imported as they are asked for, and its ``__init__`` is run when a name is wanted that
is no module of it (``aiohttp.ClientSession``). Where aiohttp was imported before us, nothing is changed.
"""

from __future__ import annotations

import sys
from importlib import import_module
from importlib.util import find_spec, module_from_spec
from types import ModuleType
from typing import Any


class _Package(ModuleType):
    __version__ = ""
    """for the Server header, which we overwrite"""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        if find_spec(f"{self.__name__}.{name}"):
            return import_module(f"{self.__name__}.{name}")
        assert self.__spec__ is not None and self.__spec__.loader is not None
        self.__class__ = ModuleType  # type: ignore[assignment]
        self.__spec__.loader.exec_module(self)
        return getattr(self, name)


def prepare(name: str = "aiohttp") -> None:
    """Put the package in place; only what is asked of it will be imported."""
    spec = find_spec(name)
    if name not in sys.modules and spec is not None:
        module = sys.modules[name] = module_from_spec(spec)
        module.__class__ = _Package
