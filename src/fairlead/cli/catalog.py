"""The catalog: every command by the words it is called by, and where it lives.

Only strings: the module of a command is imported when it is called for (``load``).
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module

from fairlead.cli.command import Command, many, option, switch

COMMANDS = {
    "run": "running:run",
    "exec": "running:execute",
    "ps": "containers:ps",
    "build": "building:build",
    "pull": "registry:pull",
    "push": "registry:push",
    "images": "images:images",
    "login": "registry:login",
    "logout": "registry:logout",
    "search": "registry:search",
    "version": "system:version",
    "info": "system:info",
    "plan": "plans:wanted",
    "plan network create": "plans:network_create",
    "plan run": "plans:run",
    "doctor": "doctor:doctor",
    "explain": "explain:explain",
    "cluster hosts": "cluster:hosts",
    "cluster keys": "cluster:keys",
    "cluster rotate-key": "cluster:rotate_key",
    "mesh http disable": "mesh:disable",
    "mesh http enable": "mesh:enable",
    "mesh http ls": "mesh:ls",
    "builder build": "building:build",
    "builder prune": "pruning:builder",
    "container attach": "running:attach",
    "container commit": "images:commit",
    "container cp": "copying:cp",
    "container create": "running:create",
    "container diff": "containers:diff",
    "container exec": "running:execute",
    "container export": "copying:export",
    "container inspect": "inspecting:container",
    "container kill": "containers:kill",
    "container logs": "containers:logs",
    "container ls": "containers:ps",
    "container pause": "containers:pause",
    "container port": "containers:port",
    "container prune": "pruning:containers",
    "container rename": "containers:rename",
    "container restart": "containers:restart",
    "container rm": "containers:rm",
    "container run": "running:run",
    "container start": "running:start",
    "container stats": "stats:stats",
    "container stop": "containers:stop",
    "container top": "containers:top",
    "container unpause": "containers:unpause",
    "container update": "updating:update",
    "container wait": "containers:wait",
    "image build": "building:build",
    "image history": "images:history",
    "image import": "images:import_",
    "image inspect": "inspecting:image",
    "image load": "images:load",
    "image ls": "images:images",
    "image prune": "pruning:images",
    "image pull": "registry:pull",
    "image push": "registry:push",
    "image rm": "images:rmi",
    "image save": "images:save",
    "image tag": "images:tag",
    "network connect": "networks:connect",
    "network create": "networks:create",
    "network disconnect": "networks:disconnect",
    "network inspect": "inspecting:network",
    "network ls": "networks:ls",
    "network prune": "pruning:networks",
    "network rm": "networks:rm",
    "swarm init": "swarm:init",
    "swarm join": "swarm:join",
    "swarm join-token": "swarm:join_token",
    "swarm leave": "swarm:leave",
    "swarm update": "swarm:update",
    "swarm ca": "authority:ca",
    "swarm unlock": "swarm:unlock",
    "swarm unlock-key": "swarm:unlock_key",
    "node demote": "nodes:demote",
    "node inspect": "nodes:inspect",
    "node ls": "nodes:ls",
    "node promote": "nodes:promote",
    "node ps": "nodes:ps",
    "node rm": "nodes:rm",
    "node update": "nodes:update",
    "service create": "services:create",
    "service inspect": "services:inspect",
    "service logs": "servicelogs:logs",
    "service ls": "services:ls",
    "service ps": "services:ps",
    "service rm": "services:rm",
    "service rollback": "services:rollback",
    "service scale": "services:scale",
    "service update": "services:update",
    "secret create": "kept:create_secret",
    "secret inspect": "kept:inspect_secrets",
    "secret ls": "kept:ls_secrets",
    "secret rm": "kept:rm_secrets",
    "config create": "kept:create_config",
    "config inspect": "kept:inspect_configs",
    "config ls": "kept:ls_configs",
    "config rm": "kept:rm_configs",
    "stack config": "stack:config",
    "stack deploy": "stack:deploy",
    "stack ls": "stack:ls",
    "stack ps": "stack:ps",
    "stack rm": "stack:rm",
    "stack services": "stack:services",
    "volume create": "volumes:create",
    "volume inspect": "inspecting:volume",
    "volume ls": "volumes:ls",
    "volume prune": "pruning:volumes",
    "volume rm": "volumes:rm",
    "system df": "space:df",
    "system events": "events:events",
    "system info": "system:info",
    "system prune": "pruning:system",
    "attach": "running:attach",
    "commit": "images:commit",
    "cp": "copying:cp",
    "create": "running:create",
    "diff": "containers:diff",
    "events": "events:events",
    "export": "copying:export",
    "history": "images:history",
    "import": "images:import_",
    "inspect": "inspecting:inspect",
    "kill": "containers:kill",
    "load": "images:load",
    "logs": "containers:logs",
    "pause": "containers:pause",
    "port": "containers:port",
    "rename": "containers:rename",
    "restart": "containers:restart",
    "rm": "containers:rm",
    "rmi": "images:rmi",
    "save": "images:save",
    "start": "running:start",
    "stats": "stats:stats",
    "stop": "containers:stop",
    "tag": "images:tag",
    "top": "containers:top",
    "unpause": "containers:unpause",
    "update": "updating:update",
    "wait": "containers:wait",
    "help": "help:topic",
    "completion": "completing:completion",
    "__complete": "completing:complete",
}
"""What is typed -> where it lives below ``fairlead.cli``; in the order of the help page."""

ALIASES = {
    "container list": "container ls",
    "container ps": "container ls",
    "container remove": "container rm",
    "image list": "image ls",
    "image remove": "image rm",
    "network list": "network ls",
    "network remove": "network rm",
    "node list": "node ls",
    "node remove": "node rm",
    "service list": "service ls",
    "service remove": "service rm",
    "secret list": "secret ls",
    "secret remove": "secret rm",
    "config list": "config ls",
    "config remove": "config rm",
    "stack list": "stack ls",
    "stack up": "stack deploy",
    "stack remove": "stack rm",
    "stack down": "stack rm",
    "volume list": "volume ls",
    "volume remove": "volume rm",
}

GROUPS = {
    "cluster": "Look at the hosts that share networks",
    "mesh": "Lead HTTP by host name",
    "builder": "Manage builds",
    "container": "Manage containers",
    "image": "Manage images",
    "network": "Manage networks",
    "volume": "Manage volumes",
    "swarm": "Manage the swarm: one engine of many hosts",
    "node": "Manage the nodes of the swarm",
    "service": "Manage services",
    "secret": "Manage secrets",
    "config": "Manage configs",
    "stack": "Manage stacks: the services of a Compose file",
    "system": "Manage the engine",
}

PARTS = {
    "daemon": "Run the engine (also under the name dockerd).",
    "lab": "Many hosts on this machine, for learning and for tests.",
}
"""Commands that ``fairlead.__main__`` runs before we are asked; here only for the help page."""


@many("-H", "--host", help="Engine to talk to: unix:///path or tcp://address:port.")
@switch("--tls", help="Use TLS; implied by --tlsverify.")
@switch("--tlsverify", help="Use TLS and check the engine's certificate ($DOCKER_TLS_VERIFY).")
@option("--tlscacert", help="Who signs the engine's certificate (default ca.pem in $DOCKER_CERT_PATH or ~/.docker).")
@option("--tlscert", help="Our certificate (default cert.pem there).")
@option("--tlskey", help="Our key (default key.pem there).")
@option("--config", help="Folder of Docker's client settings; only its credentials are used.")
@option("-c", "--context", help="Only default is known.")
@option("-l", "--log-level", default="info", help="Accepted, without effect.")
@switch("-D", "--debug", help="Accepted, without effect.")
@switch("-v", "--version", help="Print our version.")
def root() -> int:
    """Gives containers their networks. Speaks Docker's API to the engine; start that with: fairlead daemon."""
    return 0


ROOT = Command(root, "[OPTIONS] COMMAND [ARG...]", (root.__doc__ or ""), root.flags, own_words=True)


def find(words: Sequence[str]) -> tuple[str, list[str]]:
    """(command, the words after it): the longest that ``COMMANDS`` knows; ("", words) when none."""
    for length in (3, 2, 1):
        name = " ".join(words[:length])
        if len(words) >= length and ALIASES.get(name, name) in COMMANDS:
            return ALIASES.get(name, name), list(words[length:])
    return "", list(words)


def load(name: str) -> Command:
    """The command of that name, its module imported."""
    module, _, attribute = COMMANDS[name].partition(":")
    command = getattr(import_module(f"fairlead.cli.{module}"), attribute)
    assert isinstance(command, Command)
    return command
