"""Go templates, as far as people type them."""

import pytest

from fairlead.cli import inspecting
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


@pytest.mark.parametrize(
    ("form", "says"),
    [
        ("{{.Config.Entrypoint}} {{.Config.Labels}}", "[] map[]"),
        ("{{json .Config.Entrypoint}} {{json .Config}}", 'null {"Entrypoint":null,"Labels":null,"Healthcheck":null}'),
        ("{{range .Config.Entrypoint}}x{{end}}{{len .Config.Labels}}{{if .Config.Labels}}y{{end}}", "0"),
        ("{{.Config.Healthcheck}}", "<no value>"),
    ],
)
def test_what_is_null_is_an_empty_list_or_map_to_a_client_that_knows_it(
    form: str, says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    inspecting.shown([{"Config": {"Entrypoint": None, "Labels": None, "Healthcheck": None}}], form)
    assert capsys.readouterr().out == says + "\n"
