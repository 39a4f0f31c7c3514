"""Tests for kernels with everything (VLANs, ipvlan, GRE, ESP, cgroup v2): ``scripts/test full-kernel`` brings one."""

import os
from collections.abc import Iterator

import pytest

from lane.engines import Engine, clean
from lane.machine import Lan, run
from scenarios.lab import Lab


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if "FULL_KERNEL" not in os.environ:
        for item in items:
            if "full_kernel" in item.path.parts:
                item.add_marker(
                    pytest.mark.skip(reason="needs 8021q, ipvlan, ESP, GRE, cgroup v2: scripts/test full-kernel")
                )


@pytest.fixture(scope="session", autouse=True)
def modules() -> None:
    """A device kind asked for inside a namespace does not load its module on every kernel: load them here."""
    if "FULL_KERNEL" in os.environ:
        # Or each network namespace is born with the tunnels' fallback devices in it (gre0 and so on).
        assert run(["sysctl", "-w", "net.core.fb_tunnels_only_for_init_net=2"]).code == 0
        for name in ("8021q", "ipvlan", "macvlan", "dummy", "veth", "bridge", "ip_gre", "loop"):
            assert run(["modprobe", name]).code == 0, name


@pytest.fixture
def lab(lan: Lan, engine: Engine) -> Iterator[Lab]:
    yield Lab(lan, engine)
    clean(engine)
