"""``explain`` knows where a packet goes that leaves the host in an overlay."""

from cluster.town import Town
from lane.machine import eventually


def test_explain_knows_the_other_hosts(town: Town) -> None:
    one, two, _ = town.hosts
    one("network create -d overlay --subnet=10.10.10.0/24 RED")
    town.everywhere("RED")
    one("run -itd --name web --net RED busybox")
    two("run -itd --name db --net RED busybox")
    eventually(lambda: one.pings("web", "db"), "db")
    told = one.machine.run("fairlead", "explain", "--check", "web", "db:5432").stdout
    assert f"in UDP to {two.machine.address4}, out by eth0: db on node-2 is reached there" in told
    assert "arrives at another host" in told
    nobody = one.machine.run("fairlead", "explain", "web", "10.10.10.77", check=False)
    assert nobody.returncode and "nobody has 10.10.10.77" in nobody.stdout
