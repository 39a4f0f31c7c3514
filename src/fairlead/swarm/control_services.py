"""Services: created, changed, taken back, removed. See ``control``.

What a spec names (networks, secrets, configs) must be there, and still be there when the service is written; networks
are kept by id from then on.
"""

from __future__ import annotations

from collections.abc import Iterator

from msgspec.structs import replace

from fairlead.core import servicecheck, webmesh
from fairlead.core.allocation import NODE_NETWORKS
from fairlead.core.cluster import JobStatus, Service, UpdateStatus
from fairlead.core.petnames import petname
from fairlead.core.refusals import exists, invalid, unmet, unsupported
from fairlead.core.service import ContainerSpec, NetworkAttachment, ServiceSpec
from fairlead.core.swarmspec import ConfigFile, Secret, SharedNetwork
from fairlead.errors import FairleadError, Forbidden, NotFound
from fairlead.swarm import control_templates, webcerts
from fairlead.swarm.control_base import Change, Part, by_id, check_version, find

PETNAMES = 1 << 16


class ServiceControl(Part):
    def services(self) -> list[Service]:
        return by_id(self.state.services)

    def service(self, ref: str) -> Service:
        return find(self.state.services, ref, "service", lambda service: service.spec.name)

    async def create_service(self, spec: ServiceSpec) -> str:
        spec = self._named(spec)
        id = self.new_id()

        def decide() -> Change:
            settled, named = self._settled(spec)
            self._fits(settled, named, self.services())
            if any(other.spec.name == spec.name for other in self.state.services.values()):
                raise exists(f"name conflicts with an existing object: service {spec.name} already exists")
            now = self.clock()
            job = JobStatus(0, now) if spec.mode.is_job else None
            return Change((Service(id, settled, now, now, job=job),), read=tuple(self._things(settled)))

        await self.write(decide)
        return id

    async def update_service(self, ref: str, version: int, spec: ServiceSpec, back: bool = False) -> None:
        spec = self._named(spec)

        def decide() -> Change:
            service = self.service(ref)
            settled, named = self._settled(spec)
            self._fits(settled, named, [other for other in self.services() if other.id != service.id])
            if kind(settled) != kind(service.spec):
                raise unsupported("service mode change is not allowed")
            if settled.name != service.spec.name:
                raise unsupported("renaming services is not supported")
            check_version(version, service.version)
            changed = self._back(service) if back else replace(service, spec=settled, update=None)
            return Change((self._after(service, changed),), read=tuple(self._things(changed.spec)))

        await self.write(decide)

    async def remove_service(self, ref: str) -> None:
        await self.write(lambda: Change(delete=(self.service(ref),)))

    def _back(self, service: Service) -> Service:
        if service.previous is None:
            raise unmet(f"service {service.id} does not have a previous spec")
        status = UpdateStatus("rollback_started", started=self.clock(), message="manually requested rollback")
        return replace(service, spec=service.previous, update=status)

    def _after(self, before: Service, changed: Service) -> Service:
        """A job runs anew with every change."""
        now = self.clock()
        job = JobStatus(before.job.iteration + 1, now) if before.job else None
        return replace(changed, previous=before.spec, updated=now, job=job)

    # -- what it names -------------------------------------------------------------------------------

    def _settled(self, spec: ServiceSpec) -> tuple[ServiceSpec, list[SharedNetwork]]:
        """The spec with the ids of its networks, and those of the swarm's that its tasks are on."""
        template = spec.task_template
        named: list[SharedNetwork] = []
        networks = self._targets(spec.networks, named)
        template = replace(template, networks=self._targets(template.networks, named))
        settled = replace(spec, networks=networks, task_template=template)
        servicecheck.check(settled)
        control_templates.check(settled)
        return settled, named

    def _named(self, spec: ServiceSpec) -> ServiceSpec:
        return spec if spec.name else replace(spec, name=petname(self.draw(PETNAMES)))

    def _targets(
        self, given: tuple[NetworkAttachment, ...] | None, named: list[SharedNetwork]
    ) -> tuple[NetworkAttachment, ...] | None:
        return None if given is None else tuple(replace(one, target=self._target(one.target, named)) for one in given)

    def _target(self, ref: str, named: list[SharedNetwork]) -> str:
        if ref in NODE_NETWORKS:
            return ref
        try:
            network = find(self.state.networks, ref, "network", lambda network: network.spec.name)
        except NotFound as error:
            if ref == "none":
                raise NotFound(f"could not find the corresponding predefined swarm network: {error.message}") from None
            if self.local(ref):
                raise Forbidden(
                    f"The network {ref} cannot be used with services. Only networks scoped to the swarm can be used,"
                    " such as those created with the overlay driver."
                ) from None
            raise FairleadError(error.message) from None
        named.append(network)
        return network.id

    def _fits(self, spec: ServiceSpec, named: list[SharedNetwork], others: list[Service]) -> None:
        for network in named:
            if network.spec.ingress:
                raise invalid(f'Service cannot be explicitly attached to the ingress network "{network.spec.name}"')
        published = any(port.publish_mode == "ingress" for port in spec.ports)
        if published and not any(network.spec.ingress for network in self.state.networks.values()):
            raise unmet("service needs ingress network, but no ingress network is present")
        servicecheck.check_ports(spec, others)
        container = spec.task_template.container_spec or ContainerSpec()
        for secret in container.secrets or ():
            found = self.state.secrets.get(secret.secret_id)
            if found is None or found.spec.name != secret.secret_name:
                raise invalid(f"secret not found: {secret.secret_name}")
        for config in container.configs or ():
            kept = self.state.configs.get(config.config_id)
            if kept is None or kept.spec.name != config.config_name:
                raise invalid(f"config not found: {config.config_name}")
        for names in webmesh.certificates(spec.labels or {}):
            self._certified(names)

    def _certified(self, names: str) -> None:
        known = {secret.spec.name: secret for secret in self.state.secrets.values()}
        for name in names.split(","):
            if name not in known:
                raise invalid(f"secret not found: {name}")
        webcerts.check(names, [known[name].spec.data for name in names.split(",")])

    def _things(self, spec: ServiceSpec) -> Iterator[SharedNetwork | Secret | ConfigFile]:
        """What must not go while it is written; nothing twice."""
        container = spec.task_template.container_spec or ContainerSpec()
        shown = webmesh.secrets(spec.labels or {})
        certificates = {secret.id for secret in self.state.secrets.values() if secret.spec.name in shown}
        shelves: list[tuple[dict[str, SharedNetwork] | dict[str, Secret] | dict[str, ConfigFile], set[str]]] = [
            (self.state.networks, {one.target for one in spec.attachments}),
            (self.state.secrets, {one.secret_id for one in container.secrets or ()} | certificates),
            (self.state.configs, {one.config_id for one in container.configs or ()}),
        ]
        for shelf, ids in shelves:
            yield from (shelf[id] for id in sorted(ids & shelf.keys()))


def kind(spec: ServiceSpec) -> tuple[bool, bool]:
    return spec.mode.is_job, spec.mode.is_global
