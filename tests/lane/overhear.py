"""Writes tests/data/swarm_words/*.jsonl.gz anew: types each NAME.txt at the stock client and two real dockerds.

    cd tests; SID_ROOT=… python -m lane.overhear CLIENT [NAME…]       CLIENT: a docker 28.5.2

A line is a command; ``@2`` in front types it at the second engine, ``<<< text`` speaks to its standard input,
``{first}`` is the first engine's address, ``{node2}`` the second's node id, ``$(words)`` what the first engine answers.
"""

import gzip
import json
import re
import shlex
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from lane.engines import Dockerd, Engine
from lane.images import import_images
from lane.machine import Lan
from lane.overheard import DATA, HERE, Step, overhear


def lines(name: str, client: str, engines: list[Engine], folder: Path) -> list[Step]:
    """Everything that is in NAME.txt, typed."""
    first = engines[0]

    def answer(engine: Engine, words: str) -> str:
        env = {"DOCKER_HOST": f"unix://{engine.socket}", "PATH": "/usr/bin"}
        return subprocess.run([client, *shlex.split(words)], env=env, capture_output=True, text=True).stdout.split()[0]

    made, ids = [], dict[int, str]()
    for line in (DATA / f"{name}.txt").read_text().splitlines():
        if not line or line.startswith("#"):
            continue
        if line.startswith("sleep "):
            time.sleep(int(line.split()[1]))
            continue
        engine = engines[1] if line.startswith("@2 ") else first
        line = line.removeprefix("@2 ").replace("{first}", first.machine.address)
        for number, one in enumerate(engines, 1):
            if f"{{node{number}}}" in line:
                ids[number] = ids.get(number) or answer(one, "info --format '{{.Swarm.NodeID}}'")
                line = line.replace(f"{{node{number}}}", ids[number])
        line = re.sub(r"\$\((.*?)\)", lambda match: answer(first, match[1]), line)
        print(line, file=sys.stderr)
        made.append(overhear(client, engine.socket, line, DATA, folder / "p.sock"))
    return made


def plain(step: Step) -> str:
    """A step as a line, without paths of this machine."""
    text = json.dumps(step, separators=(",", ":"), ensure_ascii=False)
    return re.sub(r"/var/tmp/fl-\w+", "/var/lib/engine", text.replace(str(DATA), HERE)) + "\n"


def main(client: str, *names: str) -> None:
    lan = Lan()
    engines: list[Engine] = []
    try:
        for last in (11, 12):
            engines.append(Dockerd(lan, last))
            engines[-1].start()
            import_images(engines[-1].docker, engines[-1].base, ("busybox",))
        with tempfile.TemporaryDirectory() as folder:
            for name in names or sorted(file.stem for file in DATA.glob("*.txt")):
                text = "".join(map(plain, lines(name, client, engines, Path(folder))))
                (DATA / f"{name}.jsonl.gz").write_bytes(gzip.compress(text.encode(), mtime=0))
    finally:
        for engine in engines:
            engine.close()
        lan.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
