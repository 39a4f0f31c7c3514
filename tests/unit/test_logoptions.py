"""Log options, driver by driver; the complaints are those of dockerd 28.5.2."""

import pytest

from fairlead.core import logoptions
from fairlead.core.container import LogConfig
from fairlead.core.loglines import LogSettings
from fairlead.errors import FairleadError, Invalid


def config(type: str, **options: str) -> LogConfig:
    return LogConfig(type, {name.replace("_", "-"): value for name, value in options.items()})


@pytest.mark.parametrize(
    ("log", "means"),
    [
        (config(""), LogSettings(True, 0, 1)),
        (config("json-file", max_size="10m", max_file="3"), LogSettings(True, 10_000_000, 3)),
        (config("json-file", max_size="1.5KiB"), LogSettings(True, 1500, 1)),
        (config("json-file", max_size="7 b", max_file="2", compress="T"), LogSettings(True, 7, 2)),
        (config("json-file", max_file="2"), LogSettings(True, 0, 2)),
        (config("local"), LogSettings(True, 20 << 20, 5)),
        (config("local", max_size="10m", max_file="1", compress="false"), LogSettings(True, 10 << 20, 1)),
        (config("local", max_size="0"), LogSettings(True, 0, 5)),
        (config("none"), LogSettings(False, 0, 1)),
    ],
    ids=str,
)
def test_what_they_mean(log: LogConfig, means: LogSettings) -> None:
    logoptions.check(log)
    assert logoptions.settings(log) == means


@pytest.mark.parametrize(
    ("log", "says"),
    [
        (config("json-file", max_size="0"), "max-size must be a positive number"),
        (config("json-file", max_size="x"), "invalid size: 'x'"),
        (config("json-file", max_size="-1"), "invalid size: '-1'"),
        (config("json-file", max_size="1q"), "invalid suffix: 'q'"),
        (config("json-file", max_file="x"), 'strconv.Atoi: parsing "x": invalid syntax'),
        (config("json-file", max_file="0"), "max-file cannot be less than 1"),
        (config("json-file", compress="x"), 'strconv.ParseBool: parsing "x": invalid syntax'),
        (
            config("json-file", compress="true"),
            "compress cannot be true when max-file is less than 2 or max-size is not set",
        ),
        (config("local", max_size="1q"), "invalid value for max-size: 1q: invalid suffix: 'q'"),
        (config("local", max_file="x"), 'invalid value for max-file: x: strconv.Atoi: parsing "x": invalid syntax'),
        (config("local", max_file="0"), "compression cannot be enabled when max file count is 1"),
        (
            config("local", compress="x"),
            'error reading compress log option: strconv.ParseBool: parsing "x": invalid syntax',
        ),
    ],
    ids=str,
)
def test_what_no_container_starts_with(log: LogConfig, says: str) -> None:
    logoptions.check(log)
    with pytest.raises(FairleadError) as caught:
        logoptions.settings(log)
    assert caught.value.message == logoptions.START + says and caught.value.status == 500


@pytest.mark.parametrize(
    ("log", "says"),
    [
        (config("json-file", nope="1"), "unknown log opt 'nope' for json-file log driver"),
        (config("local", tag="1"), "unknown log opt 'tag' for log driver local"),
        (config("syslogg"), 'error looking up logging plugin syslogg: plugin "syslogg" not found'),
        (config("json-file", mode="x"), "logger: logging mode not supported: x"),
        (
            config("json-file", max_buffer_size="1m"),
            "logger: max-buffer-size option is only supported with 'mode=non-blocking'",
        ),
        (
            config("json-file", mode="non-blocking", max_buffer_size="x"),
            "error parsing option max-buffer-size: invalid size: 'x'",
        ),
    ],
    ids=str,
)
def test_what_no_container_is_made_with(log: LogConfig, says: str) -> None:
    with pytest.raises(Invalid) as caught:
        logoptions.check(log)
    assert caught.value.message == says
