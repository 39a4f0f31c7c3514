"""A process ends while a session with ZooKeeper is still being ended: it waits for that, and does not die of it."""

import subprocess
import sys

PROGRAM = """
import asyncio, threading
from fairlead.store import zookeeper

class Slow:
    def stop(self):
        go.wait()
        print("stopped", flush=True)
    def close(self): ...

async def main():
    connection = zookeeper.Connection.__new__(zookeeper.Connection)
    connection.client, connection._loop = Slow(), asyncio.get_running_loop()
    connection._closing, connection._closed = False, asyncio.Event()
    zookeeper.LEAVE = 0.01
    await connection.close()
    print("left", flush=True)

go = threading.Event()
asyncio.run(main())
threading.Timer(0.1, go.set).start()
"""


def test_a_session_that_ends_slowly_is_waited_for_at_the_end() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=30, check=False)
    assert (done.returncode, done.stdout.split()) == (0, ["left", "stopped"]), done.stderr
