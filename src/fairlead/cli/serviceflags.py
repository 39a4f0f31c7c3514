"""The flags of ``service create`` and ``service update``: what both have, and what each has of its own."""

from __future__ import annotations

from typing import Any

from fairlead.cli import servicewords as words
from fairlead.cli.command import Flag
from fairlead.cli.mounts import parse as mount

BOTH = {
    "--limit-cpu decimal": "Limit of CPUs: 1.5.",
    "--limit-memory bytes": "Limit of memory: 64m.",
    "--limit-pids int": "How many processes a task may have; 0: any.",
    "--reserve-cpu decimal": "CPUs that a node must have left.",
    "--reserve-memory bytes": "Memory that a node must have left.",
    "--oom-score-adj int": "How likely the kernel kills it when memory is short (-1000 to 1000).",
    "-w --workdir string": "Working directory in the container.",
    "-u --user string": "User name or id, with :group.",
    "--hostname string": "Host name in the container; may be a template.",
    "--credential-spec credential-spec": "",
    "--isolation string": "",
    "--stop-signal string": "Signal that asks it to stop.",
    "--stop-grace-period duration": "Time it gets to stop (default 10s).",
    "--replicas uint": "Number of tasks.",
    "--max-concurrent uint": "Tasks of a job that run at once (default: all).",
    "--replicas-max-per-node uint": "Most tasks on one node; 0: any number.",
    "--restart-condition string": "When a task is started again: none, on-failure, any (default any).",
    "--restart-delay duration": "Time before it is (default 5s).",
    "--restart-max-attempts uint": "How often, before giving up.",
    "--restart-window duration": "Time over which attempts are counted.",
    "--update-parallelism uint": "How many tasks an update changes at once; 0: all (default 1).",
    "--update-delay duration": "Time between two of them (default 0s).",
    "--update-monitor duration": "Time in which a new task may fail (default 5s).",
    "--update-failure-action string": "What happens if it does: pause, continue, rollback (default pause).",
    "--update-max-failure-ratio float": "Share of tasks that may fail (default 0).",
    "--update-order string": "start-first or stop-first (default stop-first).",
    "--rollback-parallelism uint": "How many tasks a rollback changes at once; 0: all (default 1).",
    "--rollback-delay duration": "Time between two of them (default 0s).",
    "--rollback-monitor duration": "Time in which a task may fail (default 5s).",
    "--rollback-failure-action string": "What happens if it does: pause, continue (default pause).",
    "--rollback-max-failure-ratio float": "Share of tasks that may fail (default 0).",
    "--rollback-order string": "start-first or stop-first (default stop-first).",
    "--endpoint-mode string": "How its name is resolved: vip or dnsrr (default vip).",
    "--health-cmd string": "Command that tells whether it is well.",
    "--health-interval positive": "Time between two checks: 30s.",
    "--health-timeout positive": "How long one check may take.",
    "--health-retries int": "Failures in a row that make it unhealthy.",
    "--health-start-period positive": "Time to start up, in which failures do not count.",
    "--health-start-interval positive": "Time between two checks while starting up.",
    "--log-driver string": "Where its output goes.",
    "--entrypoint command": "Replaces the image's entrypoint.",
}
SWITCHES = {
    "-d --detach": "Do not wait until the tasks run.",
    "-q --quiet": "Do not show progress.",
    "--with-registry-auth": "Give the nodes our credentials for the registry.",
    "--no-resolve-image": "Do not ask the registry for the digest of the image.",
    "--no-healthcheck": "Ignore the image's health check.",
    "-t --tty": "Give it a terminal.",
    "--read-only": "Make its root filesystem read-only.",
    "--init": "Run an init in it that forwards signals and reaps processes.",
}
LISTS_BOTH = {
    "--log-opt list": "Option of the log driver.",
    "--cap-add capability": "Capability to add.",
    "--cap-drop capability": "Capability to drop.",
}
CREATE = {"--name string": "Name of the service.", "--mode string": "replicated, global, replicated-job or global-job."}
LISTS_CREATE = {
    "-l --label label": "Label of the service: key=value.",
    "--container-label label": "Label of its containers: key=value.",
    "-e --env env": "Environment variable: NAME=value, or NAME to pass ours on.",
    "--env-file list": "File of environment variables.",
    "--mount mount": "Mount: type=bind|volume|tmpfs,source=…,target=….",
    "--constraint list": "Where tasks may run: node.labels.zone==east.",
    "--placement-pref pref": "How tasks spread: spread=node.labels.zone.",
    "--network network": "Network to connect to: NAME, or name=…,alias=…,driver-opt=….",
    "--secret secret": "Secret: NAME, or source=…,target=…,uid=…,gid=…,mode=….",
    "--config config": "Config: NAME, or source=…,target=…,uid=…,gid=…,mode=….",
    "-p --publish port": "Port of the mesh: 8080:80, or published=…,target=…,protocol=…,mode=ingress|host.",
    "--group list": "Further group of the process.",
    "--dns address": "Name server.",
    "--dns-search list": "Search domain.",
    "--dns-option list": "Resolver option.",
    "--host host": "Line of /etc/hosts: name:address.",
    "--sysctl list": "Kernel setting of its namespaces: key=value.",
    "--ulimit ulimit": "Limit of its processes: nofile=1024:2048.",
    "--generic-resource resource": "Resource that a node must have left: gpu=2.",
}
UPDATE = {"--image string": "Image of its containers.", "--args command": "Arguments of its command."}
UPDATE_SWITCHES = {
    "--force": "New tasks, also when nothing has changed.",
    "--rollback": "Go back to the specification before.",
}
LISTS_UPDATE = {
    **{
        f"{line.split()[-2]}-add {line.split()[-1]}": f"Add or change: {says[0].lower()}{says[1:]}"
        for line, says in LISTS_CREATE.items()
        if "--env-file" not in line
    },
    "--label-rm list": "Remove a label of the service.",
    "--container-label-rm list": "Remove a label of its containers.",
    "--env-rm list": "Remove an environment variable.",
    "--mount-rm list": "Remove a mount, by its target.",
    "--constraint-rm list": "Remove a constraint.",
    "--placement-pref-rm pref": "Remove a preference.",
    "--network-rm list": "Remove a network.",
    "--secret-rm list": "Remove a secret.",
    "--config-rm list": "Remove a config.",
    "--publish-rm port": "Remove a published port, by its target port.",
    "--group-rm list": "Remove a group.",
    "--dns-rm list": "Remove a name server.",
    "--dns-search-rm list": "Remove a search domain.",
    "--dns-option-rm list": "Remove a resolver option.",
    "--host-rm list": "Remove a line of /etc/hosts, by its name.",
    "--sysctl-rm list": "Remove a kernel setting.",
    "--ulimit-rm list": "Remove a limit.",
    "--generic-resource-rm list": "Remove a resource.",
}
READERS: dict[str, Any] = {
    "positive": words.span,
    "command": words.words,
    "mount": mount,
    "label": words.label,
    "env": words.variable,
    "pref": words.preference,
    "network": words.network,
    "secret": words.reference("secret"),
    "config": words.reference("config"),
    "port": words.ports,
    "address": words.server,
    "host": words.host,
    "resource": words.resource,
    "credential-spec": words.credential,
    "capability": words.capability,
}
SHOWN = {"positive": "duration", **dict.fromkeys(("label", "env", "address", "host", "resource", "capability"), "list")}
"""Docker's words for kinds of values, where ours are finer."""


def _flags(table: dict[str, str], many: bool = False) -> list[Flag]:
    """Flags from lines such as ``-w --workdir string``. What was not said is None."""
    flags = []
    for line, says in table.items():
        names = [word for word in line.split() if word.startswith("-")]
        kind = "" if line.endswith(names[-1]) else line.split()[-1]
        flags.append(Flag(names, SHOWN.get(kind, kind), None, says, many, read=READERS.get(kind)))
    return flags


def creating(function: Any) -> Any:
    """The flags of ``service create``, as parameters of the function."""
    flags = [*_flags({**BOTH, **CREATE, **SWITCHES}), *_flags({**LISTS_BOTH, **LISTS_CREATE}, many=True)]
    function.__dict__.setdefault("flags", []).extend(flags)
    return function


def updating(function: Any) -> Any:
    """The flags of ``service update``, as parameters of the function."""
    flags = [
        *_flags({**BOTH, **UPDATE, **SWITCHES, **UPDATE_SWITCHES}),
        *_flags({**LISTS_BOTH, **LISTS_UPDATE}, many=True),
    ]
    function.__dict__.setdefault("flags", []).extend(flags)
    return function
