"""What people type, and what is typed back: whole commands of the stock client, refusals above all.

    tests/data/as_a_user.txt     a block each: "$ command", what came on both streams, "(exit 0)"

    GOLDEN=write python -m pytest tests/api_replay/test_as_a_user.py --engine real     records dockerd's answers anew

The commands of one block follow each other on one engine; ``NAME`` stands for the word that only this engine knows.
"""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from api_replay.replay import DATA
from lane.client import docker_binary
from lane.engines import Engine, clean
from lane.golden import WRITE
from lane.machine import run

pytestmark = pytest.mark.lab
RECORDED = DATA / "as_a_user.txt"
RUN = "docker run --rm --name rr"
LOG = f"{RUN} --log-opt"
ASK = "curl -s --globoff --unix-socket $SOCKET"
CURL = f"{ASK} -X POST http://d/v1.51"
JSON = "-H 'Content-Type: application/json'"
MEMBERS = "python3 -c 'import json, sys; print(*json.load(sys.stdin))'"

BLOCKS = {
    "options that no container can have": [
        f"{RUN} --tmpfs /x:size=1k,foo busybox true",
        f"{RUN} --device-read-bps /dev/nosuch:1mb busybox true",
        f"{RUN} --security-opt no-new-privileges:maybe busybox true",
        f"{RUN} --security-opt no-new-privileges=false busybox true",
        f"{RUN} --security-opt writable-cgroups=maybe busybox true",
        f"{RUN} --security-opt writable-cgroups busybox true",
        f"{RUN} --sysctl kernel.shmmax=99 --ipc host busybox true",
        f"{RUN} --sysctl net.ipv4.ip_forward=1 --network host busybox true",
        f"{RUN} --hostname {'a' * 70} busybox true",
        f"{RUN} --stop-signal 99 busybox true",
        f"{RUN} --stop-signal NOSUCH busybox true",
        f"{RUN} -u 99999999999 busybox true",
        f"{RUN} --group-add nosuch busybox true",
        f"{RUN} --entrypoint /tmp busybox",
        f"{RUN} busybox nosuch",
        f"{RUN} --gpus all busybox true",
        f"{RUN} --mount type=bind,src=/etc,dst=/x,bind-propagation=rslave busybox true",
        f"{RUN} --mount type=bind,src=/etc,dst=/x,bind-propagation=shared busybox true",
        f"{RUN} --mount type=bind,src=/etc,dst=/x,bind-propagation=private busybox true",
    ],
    "log options": [
        f"{LOG} max-size=x busybox true",
        f"{LOG} max-size=0 busybox true",
        f"{LOG} max-file=0 busybox true",
        f"{LOG} max-file=2 busybox true",
        f"{LOG} compress=true busybox true",
        f"{LOG} mode=nosuch busybox true",
        f"{LOG} max-buffer-size=1m busybox true",
        f"{RUN} --log-driver local --log-opt compress=x busybox true",
        f"{RUN} --log-driver local --log-opt max-file=1 busybox true",
    ],
    "a container that runs": [
        "docker run -d --name aa busybox sleep 1000 | wc -l",
        "docker exec aa nosuch",
        "docker cp aa:/proc/version -",
        "docker cp aa:/sys/kernel/ostype -",
        "docker cp aa:/proc - | tar t",
        "docker cp aa:/ - | tar t | grep -c '^[.]*/*proc/.'",
        "echo hi | docker cp - aa:/tmp",
        "docker rename aa /",
        "docker rename aa ''",
    ],
    "nobody of that name, or nothing that makes sense": [
        "docker update --memory 1m nosuch",
        "docker update --restart bad nosuch",
        "docker update --cpus 500 nosuch",
        "docker update --memory 100m nosuch",
        "docker kill -s NOSUCH nosuch",
        "docker kill -s 65 nosuch",
        "docker kill nosuch",
    ],
    "archives that are none": [
        "echo short | docker load",
        "head -c 3000 /dev/zero | tr '\\0' x | docker load",
        "echo x | docker import -",
    ],
    "an archive": [
        "docker save busybox nginx | tar xO manifest.json | sed -E 's/[0-9a-f]{64}/ID/g; s/\"size\":[0-9]+/SIZE/g'",
    ],
    "versions of the API": [
        f'{ASK} {JSON} -d \'{{"Image":"busybox","HostConfig":{{"KernelMemory":5}}}}\' http://d/v1.41/containers/create',
        f"{ASK} http://d/v1.49/info | grep -o BridgeNfIptables",
        f"{ASK} http://d/v1.50/info | grep -o BridgeNfIptables",
        f"{ASK} http://d/v1.41/images/busybox/json | {MEMBERS}",
        f"{ASK} http://d/v1.51/images/busybox/json | {MEMBERS}",
        f"{ASK} http://d/v1.51/plugins/nosuch/json",
        "docker run --name sized busybox true",
        f"{ASK} 'http://d/v1.51/containers/sized/json?size=1' | {MEMBERS}",
    ],
    "filters": [
        "docker image prune -f --filter dangling=x",
        f'{CURL}\'/images/prune?filters={{"dangling":["true","false"]}}\'',
        "docker volume prune -f --filter all=x",
        f'{CURL}\'/volumes/prune?filters={{"all":["true","false"]}}\'',
        "docker volume ls --filter dangling=x",
        "docker run --name base busybox true",
        "docker commit base child | wc -l",
        "docker run --name young child true",
        "docker ps -a --format '{{.Names}}' --filter ancestor=busybox",
        "docker ps -a --format '{{.Names}}' --filter ancestor=child",
        "docker rm base young",
        "docker rmi child | wc -l",
    ],
}


def recorded() -> dict[str, str]:
    found = re.split(r"^## (.*)\n", RECORDED.read_text(), flags=re.MULTILINE)[1:] if RECORDED.exists() else []
    return dict(zip(found[::2], (text.strip("\n") for text in found[1::2]), strict=True))


@pytest.fixture
def shell(engine: Engine, tmp_path: Path) -> Iterator[Engine]:
    version = run([docker_binary(), "--version"]).out
    if "version 28." not in version:
        pytest.skip(f"these are the words of Docker 28, not of: {version}")
    engine.docker("image prune -f")  # of those that other tests built
    yield engine
    clean(engine)


def typed_back(engine: Engine, folder: Path, commands: list[str]) -> str:
    (folder / "docker").unlink(missing_ok=True)
    (folder / "docker").symlink_to(docker_binary())
    env = {**engine.docker.env, "SOCKET": str(engine.socket), "PATH": f"{folder}:{engine.docker.env['PATH']}"}
    told = []
    for command in commands:
        done = run(["sh", "-c", f"{{ {command}; }} 2>&1"], env=env, cwd=str(folder))
        told += [f"$ {command}", *([done.out] if done.out else []), f"(exit {done.code})"]
    text = re.sub(r"\b[0-9a-f]{64}\b", "<id>", "\n".join(told)).replace(str(engine.base), "<base>")
    return re.sub(r"sha256:<id>\b", "<id>", text).replace(", dstFd=/proc/thread-self/fd/14", "")


@pytest.mark.parametrize("block", BLOCKS)
def test_block(shell: Engine, tmp_path: Path, block: str) -> None:
    told = typed_back(shell, tmp_path, BLOCKS[block])
    if WRITE and shell.kind == "dockerd":
        known = recorded() | {block: told}
        kept = "\n\n".join(f"## {name}\n{known[name]}" for name in BLOCKS if name in known)
        RECORDED.write_text(kept + "\n")
    assert told == recorded()[block]
