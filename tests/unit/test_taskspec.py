"""From a task to a container: every field of a service's container, templates, secrets, configs, names, labels."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from fairlead.core import servicecheck, serving
from fairlead.core.cluster import Attachment, Description, Node, NodeSpec, Task
from fairlead.core.container import Healthcheck, HostConfig, LogConfig, Ulimit
from fairlead.core.model import EndpointSettings, Ipam, Network, ServicePart, Subnet
from fairlead.core.service import (
    ConfigReference,
    ContainerSpec,
    DnsConfig,
    FileTarget,
    LogDriver,
    NetworkAttachment,
    Platform,
    ResourceRequirements,
    Resources,
    SecretReference,
    ServicePort,
    ServiceSpec,
    TaskSpec,
)
from fairlead.core.session import ServiceView
from fairlead.core.swarmspec import ConfigFile, Driver, FileSpec, Secret, SharedNetwork
from fairlead.errors import Invalid, NotFound
from fairlead.swarm.taskspec import Around, Wish, grace, parts, wish

NODE = Node("n1", description=Description("box", Platform("x86_64", "linux")))
WEB = ServiceView("s1", "web", {"com.docker.stack.namespace": "shop"})
AROUND = Around(WEB, NODE)


def task(slot: int = 3, **spec: Any) -> Task:
    return Task("t1", TaskSpec(container_spec=ContainerSpec(image="busybox", **spec)), "s1", slot, "n1")


def made(**spec: Any) -> Wish:
    return wish(task(**spec), AROUND)


def test_names_and_labels_are_dockers() -> None:
    found = made(labels={"mine": "1", "com.docker.swarm.task.id": "forged"})
    assert found.name == "web.3.t1"
    assert found.config.labels == {
        "mine": "1",
        "com.docker.swarm.node.id": "n1",
        "com.docker.swarm.service.id": "s1",
        "com.docker.swarm.service.name": "web",
        "com.docker.swarm.task": "",
        "com.docker.swarm.task.id": "t1",
        "com.docker.swarm.task.name": "web.3.t1",
    }
    assert wish(task(slot=0), AROUND).name == "web.n1.t1", "of a global service"


def test_every_field_arrives() -> None:
    spec = {
        "command": ("/init",), "args": ("serve", "now"), "hostname": "h", "env": ("A=1",), "dir": "/srv", "user": "5:6",
        "groups": ("7",), "init": True, "stop_signal": "SIGINT", "terminal": True, "open_stdin": True,
        "read_only": True, "health_check": Healthcheck(("CMD", "true")), "hosts": ("192.0.2.1 db data", "broken"),
        "dns_config": DnsConfig(("192.0.2.53",), ("lan",), ("ndots:2",)), "sysctls": {"net.core.somaxconn": "9"},
        "capability_add": ("CAP_NET_ADMIN",), "capability_drop": ("CAP_MKNOD",), "oom_score_adj": -5,
        "ulimits": (Ulimit("nofile", 9, 8),), "isolation": "default",
        "privileges": {"NoNewPrivileges": True, "Seccomp": {"Mode": "unconfined"}, "AppArmor": {"Mode": "disabled"},
                       "SELinuxContext": {"Disable": True}},
    }  # fmt: skip
    whole = task(**spec)
    limits = ResourceRequirements(Resources(5, 64 << 20, 50), Resources(memory_bytes=32 << 20))
    template = replace(whole.spec, resources=limits, log_driver=LogDriver("json-file", {"max-size": "1m"}))
    config, host = wish(replace(whole, spec=template), AROUND)[1:3]
    assert (config.entrypoint, config.cmd) == (("/init",), ("serve", "now"))
    assert (config.hostname, config.env, config.working_dir, config.user) == ("h", ("A=1",), "/srv", "5:6")
    assert (config.tty, config.open_stdin, config.stop_signal) == (True, True, "SIGINT")
    assert (config.image, config.healthcheck) == ("busybox", Healthcheck(("CMD", "true")))
    assert host == HostConfig(
        log_config=LogConfig("json-file", {"max-size": "1m"}),
        cap_add=("CAP_NET_ADMIN",),
        cap_drop=("CAP_MKNOD",),
        dns=("192.0.2.53",),
        dns_search=("lan",),
        dns_options=("ndots:2",),
        extra_hosts=("db:192.0.2.1",),
        group_add=("7",),
        oom_score_adj=-5,
        readonly_rootfs=True,
        security_opt=("no-new-privileges=true", "label=disable", "seccomp=unconfined", "apparmor=unconfined"),
        sysctls={"net.core.somaxconn": "9"},
        memory=64 << 20,
        memory_reservation=32 << 20,
        nano_cpus=5,
        pids_limit=50,
        ulimits=(Ulimit("nofile", 9, 8),),
        init=True,
    )


def test_templates() -> None:
    words = (
        "{{.Service.Name}} {{.Service.ID}} {{.Task.Name}} {{.Task.ID}} {{.Task.Slot}} {{.Node.ID}} {{.Node.Hostname}}"
    )
    words += (
        ' {{.Node.Platform.OS}}/{{.Node.Platform.Architecture}} {{index .Service.Labels "com.docker.stack.namespace"}}'
    )
    volume = {"Type": "volume", "Source": "v-{{.Task.Slot}}", "Target": "/{{.Service.Name}}", "ReadOnly": True}
    volume["VolumeOptions"] = {"Labels": {"of": "{{.Task.Name}}"}}
    found = made(env=(f"A={words}", "B={{"[:1]), hostname="{{.Node.Hostname}}-{{.Task.Slot}}", mounts=(volume,))
    assert found.config.env[0] == "A=web s1 web.3.t1 t1 3 n1 box linux/x86_64 shop"
    assert found.config.hostname == "box-3"
    assert found.host.mounts == (
        {
            "Type": "volume",
            "Source": "v-3",
            "Target": "/web",
            "ReadOnly": True,
            "VolumeOptions": {"Labels": {"of": "web.3.t1"}},
        },
    )
    with pytest.raises(Invalid, match="Nothing"):
        made(env=("A={{.Nothing}}",))


def test_ports_on_the_node() -> None:
    ports = (
        ServicePort("", "tcp", 80, 8080, "host"),
        ServicePort("", "tcp", 80, 0, "host"),
        ServicePort("", "udp", 53),
    )
    found = wish(replace(task(), host_ports=ports), AROUND)
    assert found.config.exposed_ports == {"80/tcp": {}, "53/udp": {}}
    assert found.host.port_bindings == {
        "80/tcp": ({"HostIp": "", "HostPort": "8080"}, {"HostIp": "", "HostPort": ""}),
        "53/udp": ({"HostIp": "", "HostPort": ""},),
    }


def net(id: str, **fields: Any) -> SharedNetwork:
    ipam = Ipam(config=(Subnet("10.0.1.0/24"),))
    return SharedNetwork(id, Network(id=id, name=f"{id}-name", created="", driver="overlay", ipam=ipam, **fields))


def test_networks_with_its_addresses_and_its_part() -> None:
    service = replace(
        WEB,
        addresses=(Attachment("n", ("10.0.1.2/24", "fd00::2/64")),),
        ports=(ServicePort("", "tcp", 80, 8080), ServicePort("", "tcp", 9, 9, "host")),
    )
    held = (Attachment("i", ("10.0.0.9/24",)), Attachment("n", ("10.0.1.7/24", "fd00::7/64"), ("alias",)))
    around = Around(service, NODE, {"n": net("n"), "i": net("i", ingress=True)})
    found = wish(replace(task(), networks=held), around)
    assert found.host.network_mode == "i"
    ingress = ServicePart("s1", "web", "t1", ports=("8080:80/tcp",))
    inner = ServicePart("s1", "web", "t1", vip="10.0.1.2", vip6="fd00::2", names=("alias",))
    assert found.networks == {
        "i": EndpointSettings(ipv4="10.0.0.9", part=ingress),
        "n": EndpointSettings(ipv4="10.0.1.7", ipv6="fd00::7", part=inner),
    }
    with pytest.raises(NotFound, match="network n not found"):
        wish(replace(task(), networks=held[1:]), AROUND)


@pytest.mark.parametrize(
    ("service", "node", "container", "policy", "weight"),
    [
        ({}, {}, {}, "", 1),
        ({serving.LABEL: "source"}, {serving.WEIGHT: "4"}, {}, "source", 4),
        ({serving.LABEL: "round-robin"}, {}, {serving.WEIGHT: "3"}, "round-robin", 3),
        ({serving.LABEL: "random"}, {serving.WEIGHT: "4"}, {serving.WEIGHT: "3"}, "", 12),
        ({serving.LABEL: "least"}, {serving.WEIGHT: "0"}, {serving.WEIGHT: "many"}, "", 1),
        ({}, {serving.WEIGHT: "90"}, {serving.WEIGHT: "90"}, "", serving.HEAVIEST),
    ],
)
def test_labels_say_who_is_chosen(
    service: dict[str, str], node: dict[str, str], container: dict[str, str], policy: str, weight: int
) -> None:
    """Of the service, of the node, and of the container; nonsense is nothing."""
    around = Around(replace(WEB, labels=service), replace(NODE, spec=NodeSpec(labels=node)), {"n": net("n")})
    one = replace(task(labels=container), networks=(Attachment("n", ("10.0.1.7/24",)),))
    (part,) = parts(one, around).values()
    assert (part.policy, part.weight, part.serving) == (policy, weight, False)


def test_a_policy_that_there_is_not_is_refused() -> None:
    with pytest.raises(Invalid, match="expected random, round-robin, source; who has the fewest"):
        servicecheck.check(ServiceSpec("web", {serving.LABEL: "least-connections"}, task().spec))


def test_a_network_that_every_machine_has() -> None:
    one = task()
    found = wish(replace(one, spec=replace(one.spec, networks=(NetworkAttachment("host"),))), AROUND)
    assert (found.host.network_mode, found.networks) == ("host", {"host": EndpointSettings()})


# -- secrets and configs -----------------------------------------------------------------------------------------------


def secret(id: str, data: bytes, templating: str = "") -> Secret:
    return Secret(id, FileSpec(id, data=data, templating=Driver(templating) if templating else None))


def test_secrets_and_configs_as_files() -> None:
    around = Around(WEB, NODE, {}, {"a": secret("a", b"A")}, {"c": ConfigFile("c", FileSpec("c", data=b"C"))})
    refs = {
        "secrets": (
            SecretReference(FileTarget("pw", "5", "6", 0o400), "a", "a"),
            SecretReference(FileTarget("/etc/pw"), "a", "a"),
        ),
        "configs": (
            ConfigReference(FileTarget("/etc/c.conf", mode=0o440), None, "c", "c"),
            ConfigReference(FileTarget("c"), None, "c", "c"),
            ConfigReference(None, {}, "c", "c"),
        ),
    }
    found = wish(task(**refs), around).files
    assert [tuple(file) for file in found] == [
        ("/run/secrets/pw", b"A", 5, 6, 0o400),
        ("/etc/pw", b"A", 0, 0, 0o444),
        ("/etc/c.conf", b"C", 0, 0, 0o440),
        ("/c", b"C", 0, 0, 0o444),
    ]
    with pytest.raises(NotFound, match="secret gone not found"):
        wish(task(secrets=(SecretReference(FileTarget("x"), "b", "gone"),)), around)
    for uid in ("root", "-1", "4294967295", "9" * 30):
        with pytest.raises(Invalid, match="a number is needed"):
            wish(task(secrets=(SecretReference(FileTarget("x", uid=uid), "a", "a"),)), around)


def test_a_config_that_is_a_template() -> None:
    text = b'{{.Service.Name}} {{env "A"}} {{secret "pw"}} {{config "c"}}{{env "none"}}'
    configs = {
        "t": ConfigFile("t", FileSpec("t", data=text, templating=Driver("golang"))),
        "c": ConfigFile("c", FileSpec("c", data=b"{{as it is}}")),
    }
    around = Around(WEB, NODE, {}, {"a": secret("a", b"hush")}, configs)
    found = wish(
        task(
            env=("A=b=c",),
            secrets=(SecretReference(FileTarget("pw"), "a", "a"),),
            configs=tuple(ConfigReference(FileTarget(id), None, id, id) for id in "tc"),
        ),
        around,
    )
    assert [file.data for file in found.files] == [b"hush", b"web b=c hush {{as it is}}", b"{{as it is}}"]
    binary = Around(WEB, NODE, {}, {"a": secret("a", b"\xff{{", "golang")})
    with pytest.raises(Invalid, match="is no text"):
        wish(task(secrets=(SecretReference(FileTarget("pw"), "a", "a"),)), binary)


def test_grace() -> None:
    assert grace(task()) == 10
    assert grace(task(stop_grace_period=1_500_000_000)) == 1.5
    assert grace(task(stop_grace_period=0)) == 0
