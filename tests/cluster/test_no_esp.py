"""Encrypted networks on hosts whose kernel cannot encrypt: known everywhere, joined nowhere, and nothing is left."""

import pytest

from cluster.town import Town


def test_joining_is_refused_and_leaves_nothing(town: Town) -> None:
    one, two, _ = town.hosts
    one("network create -d overlay --opt encrypted SECRET")
    town.everywhere("SECRET")
    said = two.docker.attempt("run -d --name db --net SECRET busybox sleep 1000")
    if not said.code:
        pytest.skip("this kernel has ESP: tests/full_kernel")
    assert "encrypted overlay networks need" in said.everything and "this kernel does not have" in said.everything
    assert not two.differs() and not two.members("SECRET")
    assert not two.machine.run("ls", "/run/fairlead/netns", check=False).stdout.split()
    for what in ("state", "policy"):
        assert "4790" not in two.machine.run("ip", "xfrm", what).stdout
    two("network create -d overlay CLEAR")
    two("network connect CLEAR db")
    two("network disconnect SECRET db")
    two("start db")
    assert two.members("CLEAR")
