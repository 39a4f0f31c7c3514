"""Traffic: what a call of ``making`` puts on devices: addresses, routes, rules, neighbours, forwarding entries, rates.

    addresses --> devices up --> all else         one batch for each namespace, in the order of the plan
        |
        '-- the kernel has something under that key:  equal: so be it;  ours: replaced;  somebody else's: ``Conflict``

Rules
    1. What is on a device that was born in this call goes with it; of the rest each that was made is undone by itself.
    2. A route of the host that is not on a device of ours is nobody's to replace. In a sandbox all routes are ours.
    3. The kernel takes several rules of one priority, we one: others of ours go before ours is asked for.

What a message looks like is ``routing``'s.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterable, Sequence

import msgspec
from msgspec.structs import replace

from fairlead.core.wanted import HOST, Address, Link, Route, Rule, Wanted, by_namespace
from fairlead.errors import Conflict
from fairlead.host import links, routing
from fairlead.host.doors import Doors
from fairlead.host.netlink import Refused, Request
from fairlead.host.refusals import as_error
from fairlead.host.removing import GONE

Rising = tuple[Link, str, int]
"""(link, namespace, index) of an end to be brought up"""


class _Batch(msgspec.Struct):
    """Requests for one namespace, each with what it is for."""

    requests: list[Request] = msgspec.field(default_factory=list)
    items: list[Wanted] = msgspec.field(default_factory=list)

    def add(self, item: Wanted, request: Request) -> None:
        self.items.append(item)
        self.requests.append(request)


class Traffic:
    """``index``: the number of the device that an item names; ``dies_when_undone``: whether that device goes when this
    call is undone, and what is on it too; ``undo`` is given what takes back each deed."""

    def __init__(
        self,
        doors: Doors,
        index: Callable[[Wanted, str, str], int],
        dies_when_undone: Callable[[str, str], bool],
        undo: Callable[[Callable[[], None]], None],
    ) -> None:
        self._doors, self._index, self._dies_when_undone, self._undo = doors, index, dies_when_undone, undo

    def make(self, objects: Iterable[Wanted], rising: Sequence[Rising]) -> None:
        """All of it, the host's first; devices come up between their addresses and their routes."""
        plan = by_namespace([item for item in objects if isinstance(item, routing.Item)])
        order = dict.fromkeys([HOST, *(ns for _, ns, _ in rising), *plan])
        for ns in order:
            items = plan.get(ns, [])
            self._drop_other_rules(ns, [item for item in items if isinstance(item, Rule)])
            batch = _Batch()
            for item in items:
                if isinstance(item, Address):
                    batch.add(item, routing.add(item, self._index(item, ns, item.link)))
            for link, where, index in rising:
                if where == ns:
                    batch.add(link, links.set_state(index, link.up))
            for item in items:
                if not isinstance(item, Address):
                    batch.add(item, routing.add(item, self._index(item, ns, routing.link_of(item))))
            if batch.requests:
                self._do(ns, batch)

    def _do(self, ns: str, batch: _Batch) -> None:
        refused = self._doors[ns].netlink.do(batch.requests)
        made = [item for at, item in enumerate(batch.items) if at not in refused and isinstance(item, routing.Item)]
        lasting = [item for item in made if not self._dies_when_undone(item.ns, routing.link_of(item))]
        if lasting:
            undo = [routing.drop(item, self._index(item, ns, routing.link_of(item))) for item in reversed(lasting)]
            self._undo(lambda: _check(self._doors[ns].netlink.do(undo)))
        for at, refusal in sorted(refused.items()):
            item = batch.items[at]
            if refusal.errno != errno.EEXIST or isinstance(item, Link):
                raise as_error(item, refusal)
            assert isinstance(item, routing.Item)
            self._replace(ns, item)

    def _replace(self, ns: str, item: routing.Item) -> None:
        """Something is there under that key: fine if it is equal, replaced if it is ours."""
        if isinstance(item, Rule):
            return  # the very same rule: others were dropped before
        netlink = self._doors[ns].netlink
        index = self._index(item, ns, routing.link_of(item))
        requests = [routing.add(item, index, again=True)]
        if isinstance(item, Address):
            other = routing.same_address(netlink, item, index)
            if other == item.address:
                if ns == HOST and (there := routing.reconnect(netlink, item, index)):
                    raise routing.in_the_way(there)
                return
            requests.insert(0, routing.drop(replace(item, address=other), index))
        if isinstance(item, Route) and ns == HOST:  # in a sandbox all routes are ours
            devices = {device.index: device for device in self._doors[ns].devices()}
            for route, _ in routing.routes(netlink, {number: device.name for number, device in devices.items()}, ns):
                if routing.same_route(item, route):
                    return
                if route.key == item.key and not any(d.ours for d in devices.values() if d.name == route.link):
                    raise routing.in_the_way(route)
        for refusal in netlink.do(requests).values():
            raise as_error(item, refusal)

    def _drop_other_rules(self, ns: str, wanted: list[Rule]) -> None:
        """The kernel takes several rules of one priority; a key of ours means one."""
        by_key = {rule.key: rule for rule in wanted}
        for family in {rule.family for rule in wanted}:
            for rule, ours in list(routing.rules(self._doors[ns].netlink, ns, family)):
                if rule.key not in by_key or rule == by_key[rule.key]:
                    continue
                if not ours:
                    raise Conflict(f"a rule of priority {rule.priority} exists already and is not ours: {rule}")
                _check(self._doors[ns].netlink.do([routing.drop(rule, 0)]))


def _check(refused: dict[int, Refused]) -> None:
    for refusal in refused.values():
        if refusal.errno not in GONE:
            raise refusal
