"""What a container is asked to run: the image's wishes below, the user's on top. Docker's rules, field by field.

env       the user's variable wins by name; the image's others come first
cmd       the user's, else the image's, unless the user set an entrypoint
labels, exposed ports, volumes      both, the user's winning
the rest  the user's where given
"""

from __future__ import annotations

from typing import Any

from msgspec.structs import replace

from fairlead.core.container import Config


def merge(asked: Config, image: Config) -> Config:
    """The configuration a container gets: ``asked`` over ``image``."""
    own_entrypoint = asked.entrypoint is not None
    return replace(
        asked,
        user=asked.user or image.user,
        env=_environment(asked.env or (), image.env or ()),
        entrypoint=_entrypoint(asked, image),
        cmd=asked.cmd if asked.cmd is not None or own_entrypoint else image.cmd,
        working_dir=asked.working_dir or image.working_dir,
        labels={**(image.labels or {}), **(asked.labels or {})},
        exposed_ports=_both(image.exposed_ports, asked.exposed_ports),
        volumes=_both(image.volumes, asked.volumes),
        stop_signal=asked.stop_signal or image.stop_signal,
        healthcheck=asked.healthcheck or image.healthcheck,
        shell=asked.shell or image.shell,
        on_build=image.on_build if asked.on_build is None else asked.on_build,
    )


def command(config: Config) -> tuple[str, ...]:
    """Entrypoint and command put together: the argument list of process 1."""
    return (*(config.entrypoint or ()), *(config.cmd or ()))


def _entrypoint(asked: Config, image: Config) -> tuple[str, ...] | None:
    if asked.entrypoint is None:
        return image.entrypoint
    cleared = not any(asked.entrypoint)
    return None if cleared else asked.entrypoint


def _environment(asked: tuple[str, ...], image: tuple[str, ...]) -> tuple[str, ...]:
    own = {entry.partition("=")[0] for entry in asked}
    return (*asked, *(entry for entry in image if entry.partition("=")[0] not in own))


def _both(image: dict[str, Any] | None, asked: dict[str, Any] | None) -> dict[str, Any] | None:
    return {**(image or {}), **asked} if asked else image
