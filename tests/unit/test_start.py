"""What a start costs, counted in what is imported: time would tell about the machine, this tells about us."""

from __future__ import annotations

import hashlib
import importlib
import subprocess
import sys
import traceback

import pytest

from fairlead import later
from fairlead.core import digest

LATE = {
    "fairlead.daemon": {
        *("aiohttp", "cryptography", "kazoo", "uvloop", "dataclasses", "email", "http.client", "_ssl", "_hashlib"),
        *("_bz2", "_lzma", "random", "ast", "typing_extensions", "json.decoder", "platform", "msgspec.inspect"),
        *("concurrent.futures", "decimal", "uuid", "linecache", "fnmatch", "msgspec.toml", "msgspec._json_schema"),
        *("fairlead.core.mounts", "fairlead.core.ports", "fairlead.api.gojson", "fairlead.engine.leads"),
        *("fairlead.engine.drivers.ipvlan", "fairlead.engine.drivers.macvlan"),
        *("ntpath", "subprocess", "traceback", "urllib.parse", "asyncio.staggered"),
        *("fairlead.api.containers", "fairlead.api.system", "fairlead.api.wire", "fairlead.api.tls"),
        *("fairlead.engine.builds", "fairlead.engine.cluster", "fairlead.engine.creation", "fairlead.engine.doctor"),
        *("fairlead.engine.encryption", "fairlead.engine.execs", "fairlead.engine.explain", "fairlead.engine.system"),
        *("fairlead.engine.leasesclient", "fairlead.engine.streams", "fairlead.engine.transfers"),
        *("fairlead.core.ruleset", "fairlead.core.terrain", "fairlead.core.validate"),
        *("fairlead.core.mesh", "fairlead.core.ocispec", "fairlead.core.remotes", "fairlead.core.webmesh"),
        *("fairlead.core.files", "fairlead.core.reference", "fairlead.core.usage", "fairlead.engine.top"),
        *("fairlead.host.archive", "fairlead.host.build", "fairlead.host.registry"),
        *("fairlead.host.conmon", "fairlead.host.ociexec", "fairlead.host.rooted", "fairlead.host.seccomp"),
        *("fairlead.host.inlets", "fairlead.host.mesh", "fairlead.host.vips", "fairlead.host.making"),
    },
}
"""What is started -> what it must not import before it is asked for something that needs it."""


GIVEN = {"quote_from_bytes": (b"/a b\xff",), "schema": (int,), "schema_components": ([int],)}
"""word of ``later.KNOWN`` -> what it is called with"""


@pytest.mark.parametrize("module", LATE)
def test_a_start_does_not_pay_for_what_comes_late(module: str) -> None:
    program = f"""
import sys
before = set(sys.modules)  # Python 3.13 has its own reasons to have read some of it by now
from fairlead import later
later.postpone()
import {module}
print(*(name for name, one in sys.modules.items() if name not in before and not isinstance(one, later._Late)))
"""
    assert not set(_printed(program)) & LATE[module]


def test_what_a_postponed_module_says_is_what_it_would_say() -> None:
    said = {
        (name, word): (says(*GIVEN.get(word, ())), getattr(importlib.import_module(name), word)(*GIVEN.get(word, ())))
        if callable(says)
        else (says, getattr(importlib.import_module(name), word))
        for name, known in later.KNOWN.items()
        for word, says in known.items()
        if word != "extract_stack"
    }
    assert all(ours == theirs for ours, theirs in said.values()), said
    (here, *_), (there, *_) = (
        reversed(say()) for say in (later.KNOWN["traceback"]["extract_stack"], traceback.extract_stack)
    )
    assert here.name == there.name == "<genexpr>"


def test_who_was_said_in_the_place_of_a_module_asks_it_when_it_is_called() -> None:
    program = """
from fairlead import later
later.postpone()
import asyncio, sys, msgspec
from traceback import extract_stack
from urllib.parse import quote_from_bytes
print(*(type(sys.modules[name]).__name__ for name in ("traceback", "urllib.parse", "msgspec._json_schema")))
print(extract_stack()[-1].lineno, quote_from_bytes(b"/a b"), *msgspec.json.schema(int).values())
"""
    assert _printed(program) == ["_Late", "_Late", "_Late", "8", "/a%20b", "integer"]


def test_the_compiled_datetime_is_all_of_it() -> None:
    program = """
from fairlead import later
later.postpone()
import datetime, pickle, msgspec, sqlite3, sys
now = datetime.datetime.now(datetime.UTC)
print(pickle.loads(pickle.dumps(now)) == now == msgspec.json.decode(msgspec.json.encode(now), type=datetime.datetime))
print(datetime.datetime.strptime("2026", "%Y").year, datetime.timedelta(days=1) + datetime.date(2026, 1, 1))
found = set(dir(datetime))
del sys.modules["datetime"]
import datetime
print(*sorted(set(datetime.__all__) - found), datetime.datetime is type(now))
"""
    assert _printed(program) == ["True", "2026", "2026-01-02", "True"]


def test_nothing_is_compiled_at_a_start() -> None:
    program = """
import builtins
compiled = []
def note(*given, of=builtins.compile, **named):
    compiled.append(given[0])
    return of(*given, **named)
builtins.compile = note
from fairlead import later
later.postpone()
import fairlead.daemon
print([text for text in compiled if isinstance(text, str)])
"""
    assert _printed(program) == ["[]"]


def test_what_is_postponed_is_itself_when_it_is_asked() -> None:
    program = """
from fairlead import later
later.postpone()
import asyncio, sys
print("_ssl" in sys.modules)
import ssl
print(asyncio.base_events.ssl is ssl, type(ssl.create_default_context()) is asyncio.base_events.ssl.SSLContext)
print(asyncio.base_events.sslproto.SSLProtocol.__module__)
from inspect import signature
from hashlib import sha256
print(len(signature(sha256).parameters) > 0, type(sys.modules["inspect"]).__name__, hasattr(ssl, "no_such_thing"))
"""
    assert _printed(program) == ["False", "True", "True", "asyncio.sslproto", "True", "module", "False"]


def test_all_that_ask_at_once_get_the_module() -> None:
    program = """
from fairlead import later
later.postpone()
import tarfile
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
together = Barrier(8)
def ask(number):
    together.wait()
    return tarfile.TarFile.__name__
with ThreadPoolExecutor(8) as pool:
    print(*pool.map(ask, range(8)))
"""
    assert _printed(program) == ["TarFile"] * 8


def _printed(program: str) -> list[str]:
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()


def test_digests_without_openssl_are_the_same() -> None:
    assert digest.sha256(b"bridge").digest() == hashlib.sha256(b"bridge").digest()
    program = "import sys; from fairlead.core import digest; print('_hashlib' in sys.modules)"
    assert _printed(program) == ["False"]


def test_a_signal_is_heard_whenever_it_comes() -> None:
    program = """
import asyncio, os, signal
from fairlead import daemon
async def early_and_late():
    for when in ("before", "while"):
        stop = daemon._Signals()
        if when == "before":
            os.kill(os.getpid(), signal.SIGINT)
        else:
            asyncio.get_running_loop().call_later(0.01, os.kill, os.getpid(), signal.SIGTERM)
        await stop.heard()
        print(when)
asyncio.run(early_and_late())
"""
    assert _printed(program) == ["before", "while"]
