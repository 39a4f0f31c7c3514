"""Members of a swarm's objects that the API leaves out when there is nothing to say, as Docker's client has them.

Docker's client reads an answer into a structure before a template is made of it, so ``{{json .UpdateStatus}}`` of a
service that was never updated is ``null``, and no mistake. A member is known by the one that it is in.

Only what is absent is told here; all else is as it was sent. Containers, images, networks and volumes, whose structures
people print as a whole, in Go's order and under Go's names, are typed through and through: ``shapes``.
"""

from __future__ import annotations

from typing import Any

import fairlead.core.template as template

LIST, MAP, NIL = template.NilList(), template.NilMap(), template.NilPointer()
ABSENT: dict[str, dict[str, Any]] = {
    "": {
        **dict.fromkeys(("PreviousSpec", "UpdateStatus", "ServiceStatus", "JobStatus", "JobIteration"), NIL),
        "ManagerStatus": NIL,
        **{"Slot": 0, "NodeID": "", "NetworksAttachments": LIST, "GenericResources": LIST},
    },
    "Spec": {
        **dict.fromkeys(("UpdateConfig", "RollbackConfig", "EndpointSpec", "Driver", "Templating"), NIL),
        **{"Networks": LIST, "Data": LIST, "Labels": MAP},
    },
    "TaskTemplate": {
        **dict.fromkeys(("PluginSpec", "NetworkAttachmentSpec", "Resources", "RestartPolicy", "Placement"), NIL),
        "LogDriver": NIL,
        **{"ContainerSpec": NIL, "Networks": LIST, "ForceUpdate": 0, "Runtime": ""},
    },
    "ContainerSpec": {
        **dict.fromkeys(("Labels", "Sysctls"), MAP),
        **dict.fromkeys(("Command", "Args", "Env", "Groups", "Mounts", "Hosts", "Secrets", "Configs", "Ulimits"), LIST),
        **dict.fromkeys(("CapabilityAdd", "CapabilityDrop"), LIST),
        **dict.fromkeys(("Hostname", "Dir", "User", "StopSignal", "Isolation"), ""),
        **dict.fromkeys(("TTY", "OpenStdin", "ReadOnly"), False),
        **dict.fromkeys(("Privileges", "StopGracePeriod", "Healthcheck", "DNSConfig", "Init"), NIL),
        "OomScoreAdj": 0,
    },
    "Mode": dict.fromkeys(("Replicated", "Global", "ReplicatedJob", "GlobalJob"), NIL),
    "Resources": dict.fromkeys(("Limits", "Reservations"), NIL),
    "Limits": {"NanoCPUs": 0, "MemoryBytes": 0, "Pids": 0},
    "Reservations": {"NanoCPUs": 0, "MemoryBytes": 0, "GenericResources": LIST},
    "RestartPolicy": {"Condition": "", "Delay": NIL, "MaxAttempts": NIL, "Window": NIL},
    "Placement": {"Constraints": LIST, "Preferences": LIST, "MaxReplicas": 0, "Platforms": LIST},
    "Endpoint": {"Ports": LIST, "VirtualIPs": LIST},
    "EndpointSpec": {"Mode": "", "Ports": LIST},
    "Engine": {"EngineVersion": "", "Labels": MAP, "Plugins": LIST},
    "Status": {**dict.fromkeys(("State", "Message", "Err", "Addr"), ""), "ContainerStatus": NIL},
    "ManagerStatus": {"Leader": False, "Reachability": "", "Addr": ""},
    "UpdateStatus": {"State": "", "StartedAt": NIL, "CompletedAt": NIL, "Message": ""},
}


def known(value: Any, name: str = "") -> Any:
    """An object of a swarm, for a template."""
    if isinstance(value, list):
        return [known(item, "?") for item in value]
    if not isinstance(value, dict):
        return value
    members = template.Sparse({key: known(item, key) for key, item in value.items()})
    members.absent = ABSENT.get({"PreviousSpec": "Spec"}.get(name, name), {})
    return members
