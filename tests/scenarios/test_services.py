"""Names beyond addresses: wildcard aliases, and services by port (SRV)."""

from scenarios.lab import Lab


def test_services_and_wildcards(lab: Lab) -> None:
    lab.docker("network create net1")
    lab.run("-d --name web --network net1 --network-alias *.shop.test nginx")
    lab.run("-d --name asks --network net1 -p 9090:9091/udp busybox sleep 1000")
    assert "80 web.net1" in lab.inside("asks", "nslookup -type=srv _80._tcp.web")
    assert "9091 asks.net1" in lab.inside("asks", "nslookup -type=srv _9091._udp.asks")
    assert "9091 asks" not in lab.inside("asks", "nslookup -type=srv _9091._tcp.asks")
    assert lab.pings("asks", "a.b.shop.test") and not lab.resolves("asks", "shop.test")
