"""What there is to see on the hosts of a cluster, and where it differs from what should be there."""

import json
import re
from typing import Any, NamedTuple

from cluster.town import Host
from lane.machine import eventually

EVERYBODY = "00:00:00:00:00:00"
NAMESPACES = "/run/fairlead/netns"


class Attached(NamedTuple):
    """A container on one network, as its own host has it."""

    address: str
    mac: str
    vtep: str


Truth = dict[str, dict[str, Attached]]
"""container -> network -> how it is attached"""


def asked(host: Host, path: str) -> Any:
    """The engine's own answer: quicker than a client."""
    return json.loads(host.machine.ask(f"/v1.44{path}"))


def running(host: Host) -> set[str]:
    return {told["Names"][0].strip("/") for told in asked(host, "/containers/json")}


def truth(hosts: list[Host]) -> Truth:
    """What the hosts say of their own containers."""
    return {
        told["Names"][0].strip("/"): {
            network: Attached(one["IPAddress"], one["MacAddress"], host.machine.address4)
            for network, one in told["NetworkSettings"]["Networks"].items()
        }
        for host in hosts
        for told in asked(host, "/containers/json")
    }


def overlays(host: Host) -> dict[str, Any]:
    """The cluster's networks as a host tells of them, by name."""
    named = [told["Name"] for told in asked(host, "/networks") if told["Driver"] == "overlay"]
    return {name: asked(host, f"/networks/{name}") for name in named}


def without_store(hosts: list[Host]) -> list[str]:
    """Who says that the store does not answer."""
    said = [(host, warning) for host in hosts for warning in asked(host, "/info")["Warnings"] or ()]
    return [f"{host.machine.name}: {warning}" for host, warning in said if "the cluster store" in warning]


def lists(hosts: list[Host], networks: list[str], truth: Truth) -> list[str]:
    """Every host knows every network, and who is on it wherever they run."""
    wrong = []
    for host in hosts:
        known = overlays(host)
        if set(known) != set(networks):
            wrong.append(f"{host.machine.name} knows the networks {sorted(known)}, not {networks}")
        for told in known.values():
            listed = {one["Name"]: one["IPv4Address"].split("/")[0] for one in told["Containers"].values()}
            there = {name: on[told["Name"]].address for name, on in truth.items() if told["Name"] in on}
            if listed != there:
                wrong.append(f"{host.machine.name} lists on {told['Name']}: {listed}, not {there}")
    return wrong


def tables(hosts: list[Host], truth: Truth) -> list[str]:
    """Forwarding and neighbour entries are those of the others' containers, where the network is at all."""
    wrong = []
    for host in hosts:
        here = {net for on in truth.values() for net, one in on.items() if one.vtep == host.machine.address4}
        known = overlays(host)
        wanted = {f"1-{known[net]['Id'][:10]}": net for net in here}
        found = [name for name in host.machine.run("ls", NAMESPACES, check=False).stdout.split() if name[:2] == "1-"]
        if set(found) != set(wanted):
            wrong.append(f"{host.machine.name} has the overlays {found}, not {wanted}")
            continue
        for ns, net in wanted.items():
            others = [on[net] for on in truth.values() if net in on and on[net].vtep != host.machine.address4]
            forwarded = {(one.mac, one.vtep) for one in others} | {(EVERYBODY, one.vtep) for one in others}
            answered = {(one.address, one.mac) for one in others}
            remote = {(row["mac"], row["dst"]) for row in _rows(host, ns, "bridge", "fdb") if "dst" in row}
            known_by = {(row["dst"], row["lladdr"]) for row in _rows(host, ns, "ip", "neigh")}
            for what, there, should in (("forwards", remote, forwarded), ("answers for", known_by, answered)):
                if there != should:
                    wrong.append(f"{host.machine.name} {what} on {net}: {sorted(there)}, not {sorted(should)}")
    return wrong


def _rows(host: Host, ns: str, program: str, table: str) -> list[dict]:
    words = ["nsenter", f"--net={NAMESPACES}/{ns}", program, "-j", table, "show", "dev", "vxlan0"]
    return json.loads(host.machine.run(*words, check=False).stdout or "[]")


def calls(host: Host, name: str, wanted: dict[str, set[str]]) -> list[str]:
    """A container pings names and addresses, all at once.

    ``wanted``: target -> the addresses it may be, and one must answer; none: it must not be reached.
    """
    each = '(told=$(ping -c1 -W1 {0} 2>&1); echo "{0}|$?|$told" | head -n 1) &'
    said = host.inside(name, " ".join(each.format(target) for target in wanted) + " wait").lines if wanted else []
    told = {line.split("|")[0]: line.split("|")[1:] for line in said if line.count("|") >= 2}
    wrong = []
    for target, allowed in wanted.items():
        code, *words = told.get(target, ["no answer"])
        address = re.search(r"\(([0-9.]+)\)", " ".join(words))
        if (code == "0" and address is not None and address[1] in allowed) if allowed else code != "0":
            continue
        wrong.append(f"{name} to {target} (should be {sorted(allowed) or 'nobody'}): {code} {' '.join(words)}")
    return wrong


def footprint(hosts: list[Host]) -> dict[str, list[str]]:
    """What the engines have on their machines, once nobody uses anything."""
    found = {}
    for host in hosts:
        host.docker.attempt("network rm docker_gwbridge")
        machine = host.machine
        rules = machine.run("nft", "-s", "list", "ruleset").stdout
        found[f"{machine.name}: devices"] = re.findall(r"^\d+: (\w+)", machine.run("ip", "-o", "link").stdout, re.M)
        found[f"{machine.name}: rules"] = [line.strip() for line in rules.splitlines()]
        found[f"{machine.name}: namespaces"] = machine.run("ls", NAMESPACES, check=False).stdout.split()
        found[f"{machine.name}: cgroups"] = machine.run(
            "find", "/sys/fs/cgroup", "-type", "d", "-path", f"*{machine.cgroup}/*"
        ).stdout.split()
    return {key: sorted(lines) for key, lines in found.items()}


def same(hosts: list[Host], before: dict[str, list[str]]) -> None:
    """Nothing is left, nothing is lost."""

    def nothing() -> bool:
        return footprint(hosts) == before

    try:
        eventually(nothing, "nothing is left")
    except AssertionError:
        now = footprint(hosts)
        told = [f"{key}: {set(now[key]) ^ set(before[key])}" for key in before if now[key] != before[key]]
        raise AssertionError("\n".join(told)) from None
