"""How a service is called, for ``engine.explain``: by its name, by a port of every node, by a name of the HTTP mesh.

    Caller + Ask + what is known of the service  -->  Finding: hops, and the address that is called in the end

What it does not do: walk there, or know rows and records (``engine.explainservices``).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from fairlead.core.asking import Answer, Ask, Asker, is_address, look_up
from fairlead.core.steps import Hop
from fairlead.engine.explainservices import Directory, Known, Route

TOLD = 5
"""tasks of which is said what is the matter"""


class Caller(NamedTuple):
    """``asker`` None: it knows no names of ours. ``networks``: id -> name. ``host``: where it would call this host."""

    title: str
    asker: Asker | None
    networks: Mapping[str, str]
    host: str
    container: str = ""
    service: str = ""
    """name of the service that it is a task of"""


class Finding(NamedTuple):
    """``address`` "": it is not called at all. ``resolved`` None: no name was asked for."""

    hops: list[Hop]
    address: str
    resolved: bool | None
    ask: Ask
    advice: tuple[str, ...] = ()
    service: Known | None = None
    route: Route | None = None


def call(directory: Directory, service: Known, caller: Caller, ask: Ask, family: int) -> Finding:
    """By its name or its own address; from where neither is known by a published port."""
    if caller.asker is None or caller.asker.names is None:
        return _by_port(directory, service, caller, ask)
    named = not is_address(ask.who)
    answer = look_up(caller.asker, ask.who, family) if named else Answer(ask.who, "")
    hops = [Hop("name", answer.says)] if answer.says else []
    on = directory.networks(service)
    shared = {id: name for id, name in on.items() if id in caller.networks}
    if not shared:
        theirs, mine = (_listed(names, "no network") for names in (on.values(), caller.networks.values()))
        says = f"service {service.name} is on {theirs}, {caller.title} on {mine}: they share none"
        hops.append(Hop("service", says, stops=True))
        return Finding(hops, "", False if named else None, ask, _together(directory, service, caller, on), service)
    hops += [directory.told(service, id, name) for id, name in shared.items()]
    hops += _idle(directory, service)
    if not answer.address:
        says = f"no task of {service.name} is known here: its name leads nowhere"
        hops.append(Hop("service", says, stops=True))
        return Finding(hops, "", False, ask, (_see(service),), service)
    return Finding(hops, answer.address, True if named else None, ask, service=service)


def web(directory: Directory, route: Route, caller: Caller, ask: Ask) -> Finding:
    """By a name of the HTTP mesh: first to HAProxy, at a port of every node."""
    ports, service = directory.web_ports(), route.service
    hops = [Hop("name", f"{ask.who} is a name of the HTTP mesh; whoever calls it must be led to any node, by DNS")]
    if not ports or ask.port not in (0, *ports):
        says = f"the HTTP mesh answers on {_listed(map(str, ports), 'no port')} of every node"
        says += f", not on {ask.port}" if ask.port else ""
        hops.append(Hop("http", says, stops=True))
        advice = f"call port {ports[0]}" if ports else "fairlead mesh http enable --port PORT"
        return Finding(hops, "", None, ask, (advice,), service)
    serve = [spot for spot in service.spots if spot.backend.part.serving and spot.backend.part.routes]
    says = f"HAProxy sends {route.place} to port {route.port} of service {service.name}, "
    hops.append(Hop("http", says + _many(len(serve)) + ("" if serve else ": it answers 503"), stops=not serve))
    hops += _idle(directory, service)
    if not serve:
        return Finding(hops, "", None, ask, (_see(service),), service)
    return Finding(hops, caller.host, None, ask._replace(port=ask.port or ports[0]), service=service, route=route)


def _by_port(directory: Directory, service: Known, caller: Caller, ask: Ask) -> Finding:
    ports = directory.published(service)
    fits = [p for p, own in ports.items() if p.protocol == ask.protocol and ask.port in (0, p.port, own)]
    fits.sort(key=lambda port: port.port != ask.port)
    knows = f"{caller.title} knows no names of services"
    if not fits:
        there = [f"{p.port} (for its own {own})" for p, own in ports.items()]
        says = f"{knows}, and {service.name} publishes {_listed(there, 'no port')}"
        says += f", not its {ask.port}" if ask.port and there else ""
        advice = f"publish it: fairlead service update --publish-add PORT:{ask.port or 'PORT'} {service.name}"
        return Finding([Hop("name", says, stops=True)], "", None, ask, (advice,), service)
    port = fits[0]
    says = f"{knows}; port {port.port} of every node leads to port {ports[port]} of {service.name}"
    hops = [Hop("name", says), *_idle(directory, service)]
    return Finding(hops, caller.host, None, ask._replace(port=port.port), service=service)


def _idle(directory: Directory, service: Known) -> list[Hop]:
    """Tasks that should serve and do not."""
    idle = list(directory.idle(service))
    more = [f"and {len(idle) - TOLD} more tasks"] if len(idle) > TOLD else []
    return [Hop("task", says) for says in (*idle[:TOLD], *more)]


def _together(directory: Directory, service: Known, caller: Caller, on: Mapping[str, str]) -> tuple[str, ...]:
    """How caller and service get a network in common."""
    id, network = next(iter(on.items()), ("", "NETWORK"))
    if caller.service:
        first = f"fairlead service update --network-add {network} {caller.service}"
    else:
        first = f"fairlead network connect {network} {caller.container}"
        if not directory.takes_containers(id):
            first = (
                f"{network} is for tasks only: make {caller.container} a service on it, or {network} with --attachable"
            )
    if not on:
        first = f"give it a network: fairlead service update --network-add NETWORK {service.name}"
    ports = [str(port.port) for port in directory.published(service)]
    return (first, f"or call a published port of any node: {', '.join(ports)}") if ports else (first,)


def _see(service: Known) -> str:
    return f"see what its tasks are about: fairlead service ps {service.name}, on a manager"


def _many(count: int) -> str:
    return "whose one task serves" if count == 1 else f"{count or 'none'} of whose tasks serve"


def _listed(words: Iterable[str], none: str) -> str:
    return ", ".join(words) or none
