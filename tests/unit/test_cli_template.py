"""Go templates, as far as people type them."""

import pytest

from fairlead.cli import inspecting, sparse
from fairlead.core.template import render
from fairlead.errors import Invalid

DATA = {
    "Name": "/web",
    "State": {"Running": True, "Pid": 7, "Health": None},
    "Names": ["a", "b"],
    "Ports": {"80/tcp": [{"HostPort": "8080"}, {"HostPort": "8081"}], "53/udp": None},
    "Empty": {},
    "Label": lambda key: f"<{key}>",
}


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ("plain", "plain"),
        ("{{.Name}}", "/web"),
        ("{{ .State.Pid }}", "7"),
        ("{{.State.Running}}", "true"),
        ("{{.State.Health}}", "<no value>"),
        ("{{.Empty}}", "map[]"),
        ("{{.Names}}", "[a b]"),
        ("{{json .Ports}}", '{"80/tcp":[{"HostPort":"8080"},{"HostPort":"8081"}],"53/udp":null}'),
        ('{{join .Names ", "}}', "a, b"),
        ("{{range .Names}}<{{.}}>{{end}}", "<a><b>"),
        ("{{range $k, $v := .Ports}}{{$k}} {{end}}", "53/udp 80/tcp "),
        ("{{range $i, $n := .Names}}{{$i}}{{$n}}{{end}}", "0a1b"),
        ("{{range .Empty}}x{{else}}none{{end}}", "none"),
        ('{{(index (index .Ports "80/tcp") 1).HostPort}}', "8081"),
        ('{{index .Ports "80/tcp" 0 "HostPort"}}', "8080"),
        ('{{if eq .Name "/web"}}yes{{else}}no{{end}}', "yes"),
        ("{{if .Empty}}a{{else if .State.Health}}b{{else}}c{{end}}", "c"),
        ("{{if and .Names (not .Empty)}}both{{end}}", "both"),
        ("{{with .State}}{{.Pid}} {{$.Name}}{{end}}", "7 /web"),
        ("a {{- .State.Pid -}} b", "a7b"),
        ("{{/* nothing */}}x", "x"),
        ("{{.Name | upper | printf `%s!`}}", "/WEB!"),
        ('{{printf "%-4s|%03d" "a" 7}}', "a   |007"),
        ("{{len .Names}}{{println}}", "2\n"),
        ('{{.Label "color"}}', "<color>"),
        ("{{$x := .State.Pid}}{{$x}}{{$x}}", "77"),
    ],
)
def test_what_people_type(template: str, text: str) -> None:
    assert render(template, DATA) == text


@pytest.mark.parametrize(
    ("template", "words"),
    [
        ("{{.Nope}}", 'map has no entry for key "Nope"'),
        ("{{.Name.More}}", "can't evaluate field More"),
        ("{{nope .}}", 'function "nope" not defined'),
        ("{{if .Name}}", "unexpected EOF"),
        ("{{end}}", "unexpected {{end}}"),
        ("{{.Name", "unclosed action"),
        ("{{$nope}}", "undefined variable"),
        ("{{index .Names 9}}", "index out of range"),
        ("{{range .State.Pid}}{{end}}", "range can't iterate over 7"),
    ],
)
def test_what_does_not_hang_together(template: str, words: str) -> None:
    with pytest.raises(Invalid, match="template parsing error") as caught:
        render(template, DATA)
    assert words in caught.value.message


CONTAINER = {
    "Id": "4f0",
    "Created": "2026-01-02T03:04:05.6Z",
    "State": {"Status": "running", "Running": True, "Pid": 7, "StartedAt": "now", "Health": None},
    "Config": {
        "Entrypoint": None,
        "Labels": {"a": "b"},
        "ExposedPorts": {"80/tcp": {}},
        "Healthcheck": {
            "Test": ["CMD", "x"],
            "Interval": 90_000_000_000,
            "Timeout": 1_500_000_000,
            "StartPeriod": 250_000,
        },
    },
    "HostConfig": {
        "NanoCpus": 5,
        "RestartPolicy": {"Name": "no", "MaximumRetryCount": 0},
        "Ulimits": [{"Name": "nofile", "Hard": 20, "Soft": 10}],
    },
    "Mounts": [{"Type": "volume", "Name": "v", "RW": True}],
    "NetworkSettings": {
        "Ports": {"80/tcp": [{"HostIp": "::", "HostPort": "8080"}], "53/udp": None},
        "Networks": {"RED": {"IPAddress": "10.0.0.2", "IPAMConfig": None}},
    },
}
NETWORK = {
    "Id": "5e1",
    "Name": "RED",
    "Created": "2026-01-02T03:04:05.600000001+02:00",
    "IPAM": {"Driver": "default", "Config": [{"Subnet": "10.0.0.0/24", "Gateway": "10.0.0.1"}]},
    "Containers": {"4f0": {"Name": "web", "IPv4Address": "10.0.0.2/24"}},
}


@pytest.mark.parametrize(
    ("form", "says"),
    [
        (
            "{{.ID}} {{.Created}} {{.HostConfig.NanoCPUs}} {{.HostConfig.Resources.Memory}}",
            "4f0 2026-01-02T03:04:05.6Z 5 0",
        ),
        ("{{.State}}", "{running true false false false false 7 0  now  <nil>}"),
        ("{{.State.Health}}{{if .State.Health}}y{{end}} {{json .State.Health}}", "<nil> null"),
        ("{{.Config.Entrypoint}} {{len .Config.Volumes}} {{.Config.ExposedPorts}}", "[] 0 map[80/tcp:{}]"),
        ("{{range .Config.Entrypoint}}x{{else}}none{{end}} {{json .Config.Entrypoint}}", "none null"),
        ("{{.Config.Healthcheck}}", "{[CMD x] 1m30s 1.5s 250µs 0s 0}"),
        ("{{.HostConfig.RestartPolicy}} {{.HostConfig.Ulimits}} {{.HostConfig.Init}}", "{no 0} [nofile=10:20] <nil>"),
        ("{{.NetworkSettings.Ports}}", "map[53/udp:[] 80/tcp:[{:: 8080}]]"),
        ("{{(index .NetworkSettings.Ports `80/tcp` 0).HostIP}}", "::"),
        (
            "{{.NetworkSettings.Networks.RED.IPAddress}} {{.NetworkSettings.Networks.no.IPAddress}}",
            "10.0.0.2 <no value>",
        ),
        ("{{.Config.Labels.a}} {{.Config.Labels.no}} '{{index .Config.Labels `no`}}'", "b <no value> ''"),
        ("{{range .Mounts}}{{.}}{{end}}", "{volume v     true }"),
        ("{{json .Mounts}}", '[{"Type":"volume","Name":"v","RW":true}]'),
        ("{{.Id}} {{.NetworkSettings.Ports}}", "4f0 map[53/udp:<nil> 80/tcp:[map[HostIp::: HostPort:8080]]]"),
        ("{{range $name, $value := .HostConfig.RestartPolicy}}{{$name}} {{end}}", "MaximumRetryCount Name "),
        ("{{len .HostConfig.RestartPolicy}}", "2"),
    ],
)
def test_an_object_is_what_it_is_to_docker_s_client(form: str, says: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Typed, with Go's names; where those do not fit, JSON with the API's. All as Docker 28.2's client printed it."""
    inspecting.shown([CONTAINER], form)
    assert capsys.readouterr().out == says + "\n"


@pytest.mark.parametrize(
    ("form", "says"),
    [
        ("{{.ID}} {{.Created}}", "5e1 2026-01-02 03:04:05.600000001 +0200 +0200"),
        ("{{.IPAM}} {{.Peers}} {{.ConfigFrom}}", "{default map[] [{10.0.0.0/24  10.0.0.1 map[]}]} [] {}"),
        ("{{.Containers}}", "map[4f0:{web   10.0.0.2/24 }]"),
        ("{{range .IPAM.Config}}{{.Gateway}}{{end}}", "10.0.0.1"),
    ],
)
def test_a_network_too(form: str, says: str, capsys: pytest.CaptureFixture[str]) -> None:
    inspecting.shown([NETWORK], form)
    assert capsys.readouterr().out == says + "\n"


MADE = {"Name": "web", "TaskTemplate": {"ContainerSpec": {"Image": "x"}}, "Mode": {"Global": {}}}
SERVICE = {"ID": "s", "Spec": MADE}


@pytest.mark.parametrize(
    ("form", "words"),
    [
        ("{{json .UpdateStatus}} {{.PreviousSpec}}", "null <nil>"),
        ("{{if .UpdateStatus}}yes{{else}}no{{end}}", "no"),
        ("{{json .Spec.TaskTemplate.ContainerSpec.Env}} {{.Spec.TaskTemplate.ContainerSpec.Mounts}}", "null []"),
        ("{{len .Spec.TaskTemplate.Networks}} {{.Spec.Labels}} {{json .Spec.Mode.Replicated}}", "0 map[] null"),
        ("{{json .Spec.TaskTemplate}}", '{"ContainerSpec":{"Image":"x"}}'),
    ],
)
def test_what_the_api_leaves_out_of_a_service_is_known(form: str, words: str) -> None:
    """Seen of Docker's client 28 at dockerd 28.5.2."""
    assert render(form, sparse.known(SERVICE)) == words


@pytest.mark.parametrize(
    "form", ["{{.Nope}}", "{{.UpdateStatus.State}}", "{{.Spec.UpdateStatus}}", "{{.Spec.Mode.Nope}}"]
)
def test_what_no_service_has_is_refused(form: str) -> None:
    with pytest.raises(Invalid, match="template parsing error"):
        render(form, sparse.known(SERVICE))
