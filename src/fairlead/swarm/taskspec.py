"""Task spec: from a task and what it names to a container as the engine makes it.

    Task + its service, node, networks, secrets, configs --> Wish(name, config, host, networks, files)

    {{.Service.Name}}  {{.Task.Slot}}  {{.Node.Hostname}} ...     in env, hostname and mounts
    files                                                         secrets and configs; mounted one by one, read-only

Names and labels are Docker's: ``web.1.<task id>``, ``com.docker.swarm.task.id`` and its like.

What it does not do: touch anything. Whether the wish can come true is the engine's to say (``engine.creation``).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from fairlead.core import generics, mesh, serving, webmesh
from fairlead.core.allocation import NODE_NETWORKS
from fairlead.core.cluster import Attachment, Node, Task
from fairlead.core.container import Config, HostConfig, LogConfig
from fairlead.core.model import EndpointSettings, Network, ServicePart
from fairlead.core.service import ContainerSpec, FileTarget, Resources, ServicePort, TaskSpec
from fairlead.core.session import ServiceView
from fairlead.core.swarmspec import ConfigFile, FileSpec, Secret, SharedNetwork
from fairlead.core.template import render
from fairlead.errors import Invalid, NotFound

LABEL = "com.docker.swarm."
TASK = LABEL + "task.id"
SECRETS = "/run/secrets/"
MODE = 0o444
NOBODY = (1 << 32) - 1
"""is no owner: the kernel's -1"""
GRACE = 10.0


class File(NamedTuple):
    """A secret or config as the container sees it."""

    target: str
    data: bytes
    uid: int
    gid: int
    mode: int


class Wish(NamedTuple):
    """A container to be made. ``files`` become mounts once somebody has written them down."""

    name: str
    config: Config
    host: HostConfig
    networks: dict[str, EndpointSettings]
    files: tuple[File, ...]


class Around(NamedTuple):
    """What a task names, as it is known on its node."""

    service: ServiceView
    node: Node
    networks: Mapping[str, SharedNetwork] = {}
    secrets: Mapping[str, Secret] = {}
    configs: Mapping[str, ConfigFile] = {}


def wish(task: Task, around: Around) -> Wish:
    """Raises ``Invalid`` (a template, a file's owner) and ``NotFound`` (a network, secret or config)."""
    spec = task.spec.container_spec
    if spec is None:
        raise Invalid("only containers can be run as tasks")
    words = context(task, around)
    networks = {one.target: EndpointSettings() for one in task.spec.networks or () if one.target in NODE_NETWORKS}
    networks |= {one.network: _settings(one, task, around) for one in task.networks}
    return Wish(
        name(task, around.service),
        _config(task, spec, around, words),
        _host(task, spec, next(iter(networks), ""), words),
        networks,
        tuple(_files(spec, around, words)),
    )


def name(task: Task, service: ServiceView) -> str:
    return f"{service.name}.{task.slot or task.node}.{task.id}"


def grace(task: Task) -> float:
    """Seconds between asking it to stop and making it."""
    spec = task.spec.container_spec
    return GRACE if spec is None or spec.stop_grace_period is None else spec.stop_grace_period / 1e9


def context(task: Task, around: Around) -> dict[str, Any]:
    """What templates may name."""
    service, node = around.service, around.node
    platform = node.description.platform
    return {
        "Service": {"ID": service.id, "Name": service.name, "Labels": service.labels},
        "Node": {
            "ID": task.node,
            "Hostname": node.description.hostname,
            "Platform": {"Architecture": platform.architecture, "OS": platform.os},
        },
        "Task": {"ID": task.id, "Name": name(task, service), "Slot": str(task.slot or task.node)},
    }


def _filled(text: str, words: Mapping[str, Any], functions: Mapping[str, Any] = {}) -> str:
    return render(text, words, functions) if "{{" in text else text


# -- the container -----------------------------------------------------------------------------------------------------


def _config(task: Task, spec: ContainerSpec, around: Around, words: Mapping[str, Any]) -> Config:
    ours = {
        "node.id": task.node,
        "service.id": task.service,
        "service.name": around.service.name,
        "task": "",
        "task.id": task.id,
        "task.name": name(task, around.service),
    }
    return Config(
        hostname=_filled(spec.hostname, words),
        user=spec.user,
        env=(*(_filled(line, words) for line in spec.env or ()), *generics.variables(task.generic)) or None,
        entrypoint=spec.command or None,
        cmd=spec.args or None,
        image=spec.image,
        working_dir=spec.dir,
        tty=spec.terminal,
        open_stdin=spec.open_stdin,
        stop_signal=spec.stop_signal,
        healthcheck=spec.health_check,
        exposed_ports={f"{port.target_port}/{port.protocol}": {} for port in task.host_ports} or None,
        labels={**(spec.labels or {}), **(task.labels or {}), **{LABEL + key: value for key, value in ours.items()}},
    )


def _host(task: Task, spec: ContainerSpec, network: str, words: Mapping[str, Any]) -> HostConfig:
    limits, reserved = _resources(task.spec)
    dns = spec.dns_config
    return HostConfig(
        network_mode=network,
        mounts=tuple(_mount(one, words) for one in spec.mounts or ()) or None,
        port_bindings=_bindings(task.host_ports),
        log_config=_log_config(task.spec),
        nano_cpus=limits.cpus,
        memory=limits.memory_bytes,
        pids_limit=limits.pids or None,
        memory_reservation=reserved.memory_bytes,
        ulimits=spec.ulimits or None,
        sysctls=spec.sysctls or None,
        cap_add=spec.capability_add or None,
        cap_drop=spec.capability_drop or None,
        group_add=spec.groups or None,
        dns=dns.nameservers if dns else None,
        dns_search=dns.search if dns else None,
        dns_options=dns.options if dns else None,
        extra_hosts=tuple(_extra_hosts(spec)) or None,
        init=spec.init,
        readonly_rootfs=spec.read_only,
        oom_score_adj=spec.oom_score_adj,
        isolation=spec.isolation if spec.isolation != "default" else "",
        security_opt=_security(spec) or None,
    )


def _resources(template: TaskSpec) -> tuple[Resources, Resources]:
    asked = template.resources
    return (asked and asked.limits) or Resources(), (asked and asked.reservations) or Resources()


def _log_config(template: TaskSpec) -> LogConfig:
    driver = template.log_driver
    return LogConfig(driver.name, dict(driver.options or {})) if driver is not None else LogConfig()


def _bindings(ports: tuple[ServicePort, ...]) -> dict[str, tuple[dict[str, str], ...] | None] | None:
    found: dict[str, tuple[dict[str, str], ...] | None] = {}
    for port in ports:
        key, number = f"{port.target_port}/{port.protocol}", str(port.published_port or "")
        found[key] = (*(found.get(key) or ()), {"HostIp": "", "HostPort": number})
    return found or None


def _extra_hosts(spec: ContainerSpec) -> list[str]:
    """From lines of a hosts file; of each line the first name counts, as in Docker."""
    lines = [line.split() for line in spec.hosts or ()]
    return [f"{words[1]}:{words[0]}" for words in lines if len(words) > 1]


def _mount(document: Mapping[str, Any], words: Mapping[str, Any]) -> dict[str, Any]:
    """With its templates filled in: source, target, and labels and options of a volume."""
    filled = {key: _filled(text, words) for key, text in document.items() if key in ("Source", "Target")}
    return {**_deep(document, words, ("VolumeOptions",)), **filled}


def _deep(value: Any, words: Mapping[str, Any], only: tuple[str, ...] = ()) -> Any:
    if isinstance(value, Mapping):
        return {key: _deep(item, words) if not only or key in only else item for key, item in value.items()}
    return _filled(value, words) if isinstance(value, str) else value


def _security(spec: ContainerSpec) -> tuple[str, ...]:
    """Docker's ``Privileges`` as security options."""
    asked = spec.privileges or {}
    found = ["no-new-privileges=true"] if asked.get("NoNewPrivileges") else []
    labels = asked.get("SELinuxContext") or {}
    found += ["label=disable"] if labels.get("Disable") else []
    found += [f"label={key.lower()}:{labels[key]}" for key in ("User", "Role", "Type", "Level") if labels.get(key)]
    seccomp = asked.get("Seccomp") or {}
    if seccomp.get("Mode") == "unconfined":
        found.append("seccomp=unconfined")
    if (asked.get("AppArmor") or {}).get("Mode") == "disabled":
        found.append("apparmor=unconfined")
    return tuple(found)


# -- networks ----------------------------------------------------------------------------------------------------------


def _network(attachment: Attachment, around: Around) -> Network:
    if attachment.network not in around.networks:
        raise NotFound(f"network {attachment.network} not found")
    return around.networks[attachment.network].spec


def _settings(attachment: Attachment, task: Task, around: Around) -> EndpointSettings:
    addresses = [address.partition("/")[0] for address in attachment.addresses]
    return EndpointSettings(
        ipv4=next((address for address in addresses if ":" not in address), ""),
        ipv6=next((address for address in addresses if ":" in address), ""),
        driver_opts=attachment.driver_opts or {},
        part=part(task, around, attachment),
    )


def parts(task: Task, around: Around) -> dict[str, ServicePart]:
    """What clients see of the task, by network; it changes with labels of its service and its node while it runs."""
    return {attachment.network: part(task, around, attachment) for attachment in task.networks}


def part(task: Task, around: Around, attachment: Attachment) -> ServicePart:
    """The task as clients on that network see it; nothing is sent to it until somebody says that it serves."""
    service, network = around.service, _network(attachment, around)
    own = (task.spec.container_spec and task.spec.container_spec.labels) or {}
    held = next((held.addresses for held in service.addresses if held.network == attachment.network), ())
    virtual = [address.partition("/")[0] for address in held]
    published = [port for port in service.ports if network.ingress and port.publish_mode == "ingress"]
    at = f"{where}@" if (where := service.labels.get(mesh.AT, "")) else ""
    return ServicePart(
        service=service.id,
        name=service.name,
        task=task.id,
        vip=next((address for address in virtual if ":" not in address), ""),
        vip6=next((address for address in virtual if ":" in address), ""),
        names=attachment.aliases,
        weight=serving.weight(around.node.spec.labels.get(serving.WEIGHT, ""), own.get(serving.WEIGHT, "")),
        policy=_policy(service),
        ports=tuple(
            f"{at}{port.published_port}:{port.target_port}/{port.protocol}"
            f"{';v2' if port.protocol == 'tcp' and service.labels.get(mesh.PROXY) == mesh.V2 else ''}"
            for port in published
        ),
        routes=_routes(service) if network.name == webmesh.NAME else (),
    )


def _policy(service: ServiceView) -> str:
    try:
        return serving.asked(service.labels.get(serving.LABEL, ""))
    except Invalid:
        return ""


def _routes(service: ServiceView) -> tuple[str, ...]:
    """Labels that make no sense were refused when the service was made, or are older than that."""
    try:
        return webmesh.routes(service.labels, service.ports)
    except Invalid:
        return ()


# -- secrets and configs -----------------------------------------------------------------------------------------------


def _files(spec: ContainerSpec, around: Around, words: Mapping[str, Any]) -> list[File]:
    functions = _functions(spec, around, words)
    found = []
    for secret in spec.secrets or ():
        if secret.file is not None:
            held = _held("secret", around.secrets, secret.secret_id, secret.secret_name)
            target = secret.file.name or secret.secret_name
            place = target if target.startswith("/") else SECRETS + target
            found.append(_file(place, secret.file, held, words, functions))
    for config in spec.configs or ():
        if config.file is not None:
            held = _held("config", around.configs, config.config_id, config.config_name)
            target = config.file.name or config.config_name
            place = target if target.startswith("/") else "/" + target
            found.append(_file(place, config.file, held, words, functions))
    return found


def _file(
    place: str, asked: FileTarget, held: FileSpec, words: Mapping[str, Any], functions: Mapping[str, Any]
) -> File:
    data = held.data
    if held.templating is not None and held.templating.name == "golang":
        try:
            data = _filled(data.decode(), words, functions).encode()
        except UnicodeDecodeError:
            raise Invalid(f"{held.name} is to be filled in as a template, and is no text") from None
    return File(place, data, _number("uid", asked.uid), _number("gid", asked.gid), asked.mode & 0o7777 or MODE)


def _held(kind: str, known: Mapping[str, Secret] | Mapping[str, ConfigFile], id: str, called: str) -> FileSpec:
    if id not in known:
        raise NotFound(f"{kind} {called or id} not found")
    return known[id].spec


def _functions(spec: ContainerSpec, around: Around, words: Mapping[str, Any]) -> dict[str, Any]:
    """What templates of secrets and configs may ask for besides: by the name under which the task has it."""
    secrets = {one.file.name: one.secret_id for one in spec.secrets or () if one.file is not None}
    configs = {one.file.name: one.config_id for one in spec.configs or () if one.file is not None}
    env = dict(_filled(line, words).partition("=")[::2] for line in spec.env or ())

    def secret(target: str) -> str:
        return _held("secret", around.secrets, secrets.get(target, ""), target).data.decode(errors="replace")

    def config(target: str) -> str:
        return _held("config", around.configs, configs.get(target, ""), target).data.decode(errors="replace")

    return {"secret": secret, "config": config, "env": lambda key: env.get(key, "")}


def _number(what: str, text: str) -> int:
    """An owner; Docker takes numbers only."""
    if text and not (text.isascii() and text.isdigit() and int(text[:11]) < NOBODY):
        raise Invalid(f"invalid {what} {text!r} of a file: a number is needed")
    return int(text or 0)
