"""Moves through the API, as users make them; some of them must be refused."""

from __future__ import annotations

import io
import json
import tarfile
import threading
from collections.abc import Callable

from lane.images import root_tar
from lane.machine import eventually
from soak.model import KINDS, Box, Net
from soak.player import PATIENCE, Broken, Move, Player

NETS, BOXES, VOLUMES, TAGS = 6, 9, 4, 4
"""as many as there may be at once"""
SCRIPT = "mkdir -p /tmp/w; echo {0} >/tmp/w/index.html; exec httpd -f -p {1} -h /tmp/w"
MOVES: dict[str, tuple[float, Move]] = {}


def move(name: str, weight: float) -> Callable[[Move], Move]:
    def enter(how: Move) -> Move:
        MOVES[name] = (weight, how)
        return how

    return enter


# -- networks -----------------------------------------------------------------------------


@move("network create", 6)
def network_create(p: Player) -> str | None:
    kinds = [kind for kind in KINDS if kind != "macvlan" or all(net.kind != kind for net in p.model.made())]
    kind, name = p.dice.choice(kinds), f"net{p.number()}"
    if len(p.model.nets) > NETS:
        return None
    p.call("POST", "/networks/create", {"Name": name, **KINDS[kind]}, expect=201)
    p.model.nets[name] = Net(name, kind)
    return f"{name} ({kind})"


@move("network rm", 5)
def network_remove(p: Player) -> str | None:
    net = p.pick([net for net in p.model.made() if not p.model.members(net.name)])
    if net is None:
        return None
    p.call("DELETE", f"/networks/{net.name}", expect=204)
    del p.model.nets[net.name]
    return net.name


@move("network rm refused", 1)
def network_in_use(p: Player) -> str | None:
    net = p.pick([net for net in p.model.made() if any(box.lives for box in p.model.members(net.name))])
    if net is None:
        return None
    p.call("DELETE", f"/networks/{net.name}", expect=403)
    return net.name


@move("connect", 8)
def connect(p: Player) -> str | None:
    pairs = [
        (box, net)
        for box in p.model.having("running", "created", "exited")
        if box.mode == "networks"
        for net in p.model.nets.values()
        if net.name not in box.networks
    ]
    pair = p.pick(pairs)
    if pair is None:
        return None
    box, net = pair
    body = {"Container": box.name, "EndpointConfig": {"Aliases": [box.token] if net.resolves else []}}
    p.call("POST", f"/networks/{net.name}/connect", body)
    box.networks.add(net.name)
    return f"{box.name} to {net.name}"


@move("disconnect", 6)
def disconnect(p: Player) -> str | None:
    box = p.pick([box for box in p.model.having("running", "created", "exited") if box.networks])
    if box is None:
        return None
    net = p.dice.choice(sorted(box.networks))
    p.call("POST", f"/networks/{net}/disconnect", {"Container": box.name})
    box.networks.remove(net)
    return f"{box.name} from {net}"


# -- containers ---------------------------------------------------------------------------


def _new(p: Player) -> tuple[Box, dict]:
    """A container to make, and its request."""
    number = p.number()
    box = Box(token=f"t{number}", name=f"box{number}", mode=p.dice.choices(["networks", "host", "none"], [20, 1, 1])[0])
    net = p.dice.choice(sorted(p.model.nets)) if box.mode == "networks" else box.mode
    if box.mode == "networks":
        box.networks.add(net)
        if p.dice.random() < 0.6:
            box.ports["80/tcp"] = str(18000 + number % 2000) if p.dice.random() < 0.7 else ""
    box.policy = p.dice.choices(["no", "unless-stopped"], [3, 1])[0]
    box.volume = p.dice.choice(sorted(p.model.volumes)) if p.model.volumes and p.dice.random() < 0.3 else ""
    page = 80 if box.mode == "networks" else 20000 + number
    body: dict = {
        "Image": "busybox",
        "Cmd": ["sh", "-c", SCRIPT.format(box.token, page)],
        "StopSignal": "SIGKILL",
        "Labels": {"token": box.token},
        "HostConfig": {
            "NetworkMode": net,
            "PortBindings": {port: [{"HostPort": there}] for port, there in box.ports.items()},
            "RestartPolicy": {"Name": box.policy},
            "Binds": [f"{box.volume}:/data"] if box.volume else [],
            "Init": p.dice.random() < 0.2,
        },
        "ExposedPorts": {port: {} for port in box.ports},
        "Volumes": {"/anonymous": {}} if p.dice.random() < 0.1 else {},
    }
    if box.mode == "networks" and p.model.nets[net].resolves:
        body["NetworkingConfig"] = {"EndpointsConfig": {net: {"Aliases": [box.token]}}}
    return box, body


def _create(p: Player) -> Box | None:
    if len(p.model.boxes) >= BOXES:
        return None
    box, body = _new(p)
    p.call("POST", f"/containers/create?name={box.name}", body, expect=201)
    p.model.boxes[box.name] = box
    return box


@move("create", 3)
def create(p: Player) -> str | None:
    box = _create(p)
    return box and f"{box.name} {box.mode} {sorted(box.networks)} {box.ports} {box.volume}"


@move("run", 12)
def run(p: Player) -> str | None:
    box = _create(p)
    if box is None:
        return None
    _start(p, box)
    return f"{box.name} {box.mode} {sorted(box.networks)} {box.ports} {box.volume}"


def _start(p: Player, box: Box) -> None:
    p.call("POST", f"/containers/{box.name}/start", expect=204)
    box.status = "running"


def _stop(p: Player, box: Box) -> None:
    p.call("POST", f"/containers/{box.name}/stop?t=1", expect=204)
    box.status = "exited"


def _restart(p: Player, box: Box) -> None:
    p.call("POST", f"/containers/{box.name}/restart?t=1", expect=204)
    box.status = "running"


@move("start", 8)
def start(p: Player) -> str | None:
    box = p.pick(p.model.having("created", "exited"))
    if box is None:
        return None
    _start(p, box)
    return box.name


@move("stop", 6)
def stop(p: Player) -> str | None:
    box = p.pick(p.model.having("running"))
    if box is None:
        return None
    _stop(p, box)
    return box.name


@move("restart", 5)
def restart(p: Player) -> str | None:
    box = p.pick(p.model.having("running", "exited"))
    if box is None:
        return None
    _restart(p, box)
    return box.name


@move("kill", 4)
def kill(p: Player) -> str | None:
    box = p.pick(p.model.having("running", "paused"))
    if box is None:
        return None
    p.call("POST", f"/containers/{box.name}/kill", expect=204)
    box.status = "exited"
    return box.name


@move("rm", 8)
def remove(p: Player) -> str | None:
    box = p.pick(p.model.having("created", "exited", "running", "paused"))
    if box is None or (len(p.model.boxes) < BOXES / 2 and p.dice.random() < 0.5):
        return None
    p.remove(box)
    return box.name


@move("pause", 2)
def pause(p: Player) -> str | None:
    box = p.pick(p.model.having("running"))
    if box is None:
        return None
    p.call("POST", f"/containers/{box.name}/pause", expect=204)
    box.status = "paused"
    return box.name


@move("unpause", 4)
def unpause(p: Player) -> str | None:
    box = p.pick(p.model.having("paused"))
    if box is None:
        return None
    p.call("POST", f"/containers/{box.name}/unpause", expect=204)
    box.status = "running"
    return box.name


@move("rename", 3)
def rename(p: Player) -> str | None:
    box = p.pick(p.model.having("created", "exited", "running", "paused"))
    if box is None:
        return None
    old, new = box.name, f"box{p.number()}"
    p.call("POST", f"/containers/{old}/rename?name={new}", expect=204)
    del p.model.boxes[old]
    box.name = new
    p.model.boxes[new] = box
    return f"{old} to {new}"


@move("update", 1)
def update(p: Player) -> str | None:
    box = p.pick(p.model.having("created", "exited", "running"))
    if box is None:
        return None
    box.policy = p.dice.choice(["no", "unless-stopped"])
    p.call("POST", f"/containers/{box.name}/update", {"RestartPolicy": {"Name": box.policy}})
    return f"{box.name} restarts {box.policy}"


@move("exec", 5)
def execute(p: Player) -> str | None:
    box = p.pick(p.model.having("running"))
    if box is None:
        return None
    request = {"AttachStdout": True, "AttachStderr": True, "Cmd": ["sh", "-c", f"echo said-{box.token}; exit 3"]}
    made = p.call("POST", f"/containers/{box.name}/exec", request, expect=201).json
    said = p.call("POST", f"/exec/{made['Id']}/start", {}).data  # type: ignore[index]
    if f"said-{box.token}\n".encode() not in said:
        raise Broken(f"exec in {box.name} said {said!r}")
    ended = eventually(lambda: not (seen := p.get(f"/exec/{made['Id']}/json"))["Running"] and seen, "an end", PATIENCE)  # type: ignore[index]
    if ended["ExitCode"] != 3:
        raise Broken(f"exec in {box.name} ended with {ended['ExitCode']}")
    return box.name


@move("logs", 2)
def logs(p: Player) -> str | None:
    box = p.pick(p.model.having("running", "exited"))
    if box is None:
        return None
    p.call("GET", f"/containers/{box.name}/logs?stdout=1&stderr=1&tail=20")
    return box.name


@move("top", 1)
def top(p: Player) -> str | None:
    box = p.pick(p.model.having("running"))
    if box is None:
        return None
    told = p.get(f"/containers/{box.name}/top")
    if not told["Processes"]:
        raise Broken(f"top of {box.name}, which runs, shows no process")
    return box.name


@move("stats", 1)
def stats(p: Player) -> str | None:
    box = p.pick(p.model.having("running"))
    if box is None:
        return None
    p.get(f"/containers/{box.name}/stats?stream=0&one-shot=1")
    return box.name


@move("cp", 2)
def copy(p: Player) -> str | None:
    box = p.pick(p.model.having("running", "created", "exited"))
    if box is None:
        return None
    text, archive = f"copied {p.number()}".encode(), io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        info = tarfile.TarInfo("note")
        info.size = len(text)
        tar.addfile(info, io.BytesIO(text))
    path = f"/containers/{box.name}/archive?path="
    p.call("PUT", f"{path}/root", raw=archive.getvalue(), kind="application/x-tar")
    back = p.call("GET", f"{path}/root/note").data
    with tarfile.open(fileobj=io.BytesIO(back)) as tar:
        read = tar.extractfile("note")
        if read is None or read.read() != text:
            raise Broken(f"what was copied into {box.name} did not come back")
    return box.name


@move("together", 4)
def together(p: Player) -> str | None:
    """Several at once, each with a container of its own."""
    those = [box for box in p.model.having("running", "created", "exited")]
    if len(those) < 3:
        return None
    failures: list[BaseException] = []
    workers, told = [], []
    for box in p.dice.sample(those, min(len(those), 4)):
        how = p.dice.choice([_restart, _stop] if box.status == "running" else [_start])
        told.append(f"{how.__name__[1:]} {box.name}")

        def work(how: Callable[[Player, Box], None] = how, box: Box = box) -> None:
            try:
                how(p, box)
            except BaseException as error:
                failures.append(error)

        workers.append(threading.Thread(target=work))
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    if failures:
        raise Broken(f"{', '.join(told)} at once: {failures[0]}") from failures[0]
    return ", ".join(told)


# -- what must be refused -----------------------------------------------------------------


@move("port taken", 1)
def port_taken(p: Player) -> str | None:
    holder = p.pick([b for b in p.model.boxes.values() if p.model.published(b) and b.ports.get("80/tcp")])
    if holder is None:
        return None
    port = holder.ports["80/tcp"]
    host = {"NetworkMode": "bridge", "PortBindings": {"80/tcp": [{"HostPort": port}]}}
    p.call("POST", "/containers/create?name=late", {"Image": "busybox", "HostConfig": host}, expect=201)
    answer = p.call("POST", "/containers/late/start", expect=500)
    if b"port is already allocated" not in answer.data:
        raise Broken(f"port {port} is {holder.name}'s, and the refusal says {answer.data!r}")
    p.call("DELETE", "/containers/late", expect=204)
    return port


@move("nonsense", 3)
def nonsense(p: Player) -> str | None:
    box = p.pick(list(p.model.boxes.values()))
    if box is None:
        return None
    same = f"/containers/create?name={box.name}"
    wrong = {"Name": "wrong", "IPAM": {"Config": [{"Subnet": "10.9.0.0/33"}]}}
    late = {"Container": "nobody"}
    asked: list[tuple[str, str, object, int]] = [
        ("POST", "/containers/nobody/start", None, 404),
        ("POST", same, {"Image": "busybox"}, 409),
        ("POST", "/containers/create", {"Image": "nothing:here"}, 404),
        ("POST", "/containers/create", {"Image": "busybox", "HostConfig": {"NetworkMode": "nonet"}}, 201),
        ("POST", "/networks/create", wrong, 400),
        ("POST", "/networks/create", {"Name": "bridge"}, 403),
        ("POST", "/networks/bridge/connect", late, 404),
        ("DELETE", "/networks/bridge", None, 403),
        ("DELETE", "/images/nothing:here", None, 404),
        ("GET", "/containers/nobody/json", None, 404),
    ]
    method, path, body, status = p.dice.choice(asked)
    answer = p.call(method, path, body, expect=status)
    if status == 201:
        name = answer.json["Id"]  # type: ignore[index]
        p.call("POST", f"/containers/{name}/start", expect=404)
        p.call("DELETE", f"/containers/{name}", expect=204)
    return f"{method} {path}"


# -- images, volumes ----------------------------------------------------------------------


@move("import", 0.5)
def image_import(p: Player) -> str | None:
    if len(p.model.images) >= TAGS:
        return None
    tag = f"own{p.number()}:latest"
    p.call("POST", f"/images/create?fromSrc=-&repo={tag.split(':')[0]}&tag=latest", raw=root_tar())
    p.model.images.add(tag)
    return tag


@move("tag", 2)
def image_tag(p: Player) -> str | None:
    if len(p.model.images) >= TAGS:
        return None
    tag = f"also{p.number()}:v1"
    p.call("POST", f"/images/busybox/tag?repo={tag.split(':')[0]}&tag=v1", expect=201)
    p.model.images.add(tag)
    return tag


@move("rmi", 2)
def image_remove(p: Player) -> str | None:
    tag = p.pick(sorted(p.model.images))
    if tag is None:
        return None
    p.call("DELETE", f"/images/{tag}")
    p.model.images.remove(tag)
    return tag


@move("volume create", 2)
def volume_create(p: Player) -> str | None:
    if len(p.model.volumes) >= VOLUMES:
        return None
    name = f"vol{p.number()}"
    p.call("POST", "/volumes/create", {"Name": name}, expect=201)
    p.model.volumes.add(name)
    return name


@move("volume rm", 2)
def volume_remove(p: Player) -> str | None:
    used = {box.volume for box in p.model.boxes.values()}
    name = p.pick(sorted(p.model.volumes - used))
    if name is None:
        return None
    p.call("DELETE", f"/volumes/{name}", expect=204)
    p.model.volumes.remove(name)
    return name


@move("volume rm refused", 1)
def volume_in_use(p: Player) -> str | None:
    box = p.pick([box for box in p.model.boxes.values() if box.volume])
    if box is None:
        return None
    p.call("DELETE", f"/volumes/{box.volume}", expect=409)
    return box.volume


@move("prune", 0.7)
def prune(p: Player) -> str | None:
    """Stopped containers, then networks and volumes that nobody has."""
    p.call("POST", "/containers/prune")
    p.model.boxes = {name: box for name, box in p.model.boxes.items() if box.lives}
    p.call("POST", "/networks/prune")
    p.model.nets = {name: net for name, net in p.model.nets.items() if name == "bridge" or p.model.members(name)}
    p.call("POST", f"/volumes/prune?filters={json.dumps({'all': ['true']}, separators=(',', ':'))}")
    p.model.volumes &= {box.volume for box in p.model.boxes.values()}
    return f"{len(p.model.boxes)} containers, {len(p.model.nets)} networks, {len(p.model.volumes)} volumes are left"
