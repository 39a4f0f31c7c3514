"""Templates in a service's words, tried when it is created: a word that means nothing is refused then, not on a node.

env  hostname  mounts (source, target)      {{.Service.Name}} {{.Node.Hostname}} {{.Task.Slot}} ...
"""

from __future__ import annotations

from collections.abc import Iterator

from fairlead.core.cluster import Node, Task
from fairlead.core.refusals import invalid
from fairlead.core.service import ContainerSpec, ServiceSpec
from fairlead.core.session import ServiceView
from fairlead.core.template import render
from fairlead.errors import Invalid
from fairlead.swarm import taskspec


def check(spec: ServiceSpec) -> None:
    """Fills in every template as if for some task on some node; raises ``Invalid``."""
    view = ServiceView("service", spec.name, spec.labels or {})
    words = taskspec.context(Task("task", spec.task_template, slot=1), taskspec.Around(view, Node("node")))
    for what, where, text in _texts(spec.task_template.container_spec or ContainerSpec()):
        try:
            render(text, words)
        except Invalid as error:
            why = error.message.removeprefix("template parsing error: ").replace("template: :", "template: expansion:")
            why = why.replace('executing ""', 'executing "expansion"')
            raise invalid(f"expanding {what} failed: {where}{why}") from None


def _texts(container: ContainerSpec) -> Iterator[tuple[str, str, str]]:
    """(of what, where in it, text) of every text that is a template."""
    found = [("hostname", "", container.hostname)]
    found += [("env", f'expanding env "{text}": ', text) for text in container.env or ()]
    for mount in container.mounts or ():
        for key in ("Source", "Target"):
            text = str(mount.get(key) or "")
            found.append(("mounts", f'expanding mount {key.lower()} "{text}": ', text))
    return (one for one in found if "{{" in one[2])
