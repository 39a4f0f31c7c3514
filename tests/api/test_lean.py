"""The engine starts without aiohttp's client, and has it when it is wanted."""

import subprocess
import sys

PROGRAM = """
import sys
import fairlead.api.server, fairlead.host.registry
assert "aiohttp.client" not in sys.modules, "the engine's start pays for a client"
import aiohttp
assert aiohttp.ClientSession is sys.modules["aiohttp.client"].ClientSession
assert aiohttp.web.Request is sys.modules["aiohttp.web_request"].Request
assert aiohttp.__version__
try:
    aiohttp.nothing
except AttributeError:
    print("well")
"""


def test_the_client_is_imported_when_it_is_wanted() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=False)
    assert done.stdout == "well\n", done.stderr
