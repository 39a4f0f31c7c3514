"""The HTTP mesh asked for, shown and taken back, over a swarm on paper."""

from __future__ import annotations

from fairlead.core import webmesh
from fairlead.core.service import ContainerSpec, NetworkAttachment, ServiceSpec, TaskSpec

from .test_swarm_answers import Town, asking, town

__all__ = ["town"]
PLACE = "/fairlead/mesh/http"


def shop(label: str) -> ServiceSpec:
    template = TaskSpec(ContainerSpec(image="shop"), networks=(NetworkAttachment(target=webmesh.NAME),))
    return ServiceSpec(name="shop", labels={webmesh.LABELS[0]: label}, task_template=template)


async def test_it_comes_and_goes(town: Town) -> None:
    async with asking(town) as client:
        assert (await client.ask("GET", PLACE)).json == {"Enabled": False, "Ports": [], "Routes": []}
        assert (await client.ask("POST", PLACE, {"Port": 8080, "HTTPS": 8443})).status == 201
        await town.settle()
        await town.control_.create_service(shop("80=http://shop.example.com/new"))
        shown = (await client.ask("GET", PLACE)).json
        assert shown["Enabled"] and shown["Ports"] == [8080, 8443]
        led = {"URL": "http://shop.example.com/new", "Service": "shop", "Port": 80, "Sticky": False}
        assert shown["Routes"] == [{**led, "Secrets": [], "Redirect": ""}]
        assert (await client.ask("DELETE", PLACE)).status == 204
        assert [network.spec.name for network in town.control_.networks()] == ["ingress", "ucp-hrm"], "shop is on it"


async def test_what_makes_no_sense_changes_nothing(town: Town) -> None:
    async with asking(town) as client:
        for asked in ({"Port": 0}, *({name: port} for name in ("Port", "HTTPS") for port in (70000, "80", None, -1))):
            assert (await client.ask("POST", PLACE, asked)).status == 400
        assert [network.spec.name for network in town.control_.networks()] == ["ingress"]
