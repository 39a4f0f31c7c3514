"""Dockerfile lines over a configuration."""

import pytest

from fairlead.core import instructions
from fairlead.core.container import Config, Healthcheck
from fairlead.errors import Invalid


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ('CMD ["sh", "-x"]', Config(cmd=("sh", "-x"))),
        ("cmd echo $HOME", Config(cmd=("/bin/sh", "-c", "echo $HOME"))),
        ('ENTRYPOINT ["/x"]', Config(entrypoint=("/x",))),
        ("ENV A=b C=\"d e\" D='$A'", Config(env=("A=b", "C=d e", "D=$A"))),
        ("ENV A b  c", Config(env=("A=b  c",))),
        (r"ENV A=x\ y", Config(env=("A=x y",))),
        ("EXPOSE 80 53/udp 90-91", Config(exposed_ports={"80/tcp": {}, "53/udp": {}, "90/tcp": {}, "91/tcp": {}})),
        ("USER 1000:1000", Config(user="1000:1000")),
        ("WORKDIR a/../b", Config(working_dir="/b")),
        ("VOLUME /a /b", Config(volumes={"/a": {}, "/b": {}})),
        ('VOLUME ["/a b"]', Config(volumes={"/a b": {}})),
        ('LABEL a=b "c d"=e', Config(labels={"a": "b", "c d": "e"})),
        ("STOPSIGNAL SIGQUIT", Config(stop_signal="SIGQUIT")),
        ("ONBUILD RUN x", Config(on_build=("RUN x",))),
        ("HEALTHCHECK NONE", Config(healthcheck=Healthcheck(test=("NONE",)))),
        (
            'HEALTHCHECK --interval=1m30s --retries=3 CMD ["a"]',
            Config(healthcheck=Healthcheck(test=("CMD", "a"), interval=90 * 10**9, retries=3)),
        ),
        ("HEALTHCHECK CMD a b", Config(healthcheck=Healthcheck(test=("CMD-SHELL", "a b")))),
    ],
)
def test_one_line(line: str, expected: Config) -> None:
    assert instructions.apply(Config(), [line]) == expected


def test_variables_mean_the_environment_so_far() -> None:
    config = instructions.apply(Config(env=("A=1", "B=2")), ["ENV A=x$A", "ENV C=${A}${Z:-z}${B:+b}", "WORKDIR /w/$C"])
    assert config.env == ("A=x1", "B=2", "C=x1zb")
    assert config.working_dir == "/w/x1zb"


def test_an_entrypoint_forgets_the_command_that_was_for_the_old_one() -> None:
    old = Config(cmd=("old",))
    assert instructions.apply(old, ['ENTRYPOINT ["/e"]']).cmd is None
    assert instructions.apply(old, ['CMD ["new"]\nENTRYPOINT ["/e"]']).cmd == ("new",)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("RUN x", "RUN is not a valid change command"),
        ("CMD", "CMD requires at least one argument"),
        ("EXPOSE x", "Invalid containerPort: x"),
        ("EXPOSE 80/x", "invalid proto: x"),
        ("EXPOSE 99999", "Invalid containerPort: 99999"),
        ("ENV A", "ENV must have two arguments"),
        ("ENV A=b C", 'Syntax error - can\'t find = in "C". Must be of the form: name=value'),
        ("ONBUILD FROM x", "FROM isn't allowed as an ONBUILD trigger"),
        ("USER a b", "USER requires exactly one argument"),
        ('LABEL a="b', "unexpected end of statement while looking for matching quote"),
        ("HEALTHCHECK --interval=x CMD a", 'time: invalid duration "x"'),
    ],
)
def test_nonsense_is_named(line: str, words: str) -> None:
    with pytest.raises(Invalid) as error:
        instructions.apply(Config(), [line])
    assert error.value.message == words
