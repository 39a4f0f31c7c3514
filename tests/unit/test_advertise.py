"""--cluster-advertise against the addresses of this machine."""

import pytest

from fairlead.core.advertise import settle
from fairlead.errors import Invalid

HERE = [("lo", "127.0.0.1/8"), ("eth0", "fe80::1/64"), ("eth0", "fd00::5/64"), ("eth0", "10.0.0.5/24"),
        ("eth0", "10.0.0.6/24"), ("eth1", "fd01::5/64"), ("eth2", "fe80::2/64")]  # fmt: skip


@pytest.mark.parametrize(
    ("where", "address"), [("eth0", "10.0.0.5"), ("eth1", "fd01::5"), ("10.0.0.6", "10.0.0.6"), ("fd00::5", "fd00::5")]
)
def test_what_it_stands_for(where: str, address: str) -> None:
    assert settle(where, HERE) == (address, "")


@pytest.mark.parametrize("where", ["eth9", "eth2"])
def test_an_interface_without_an_address(where: str) -> None:
    with pytest.raises(
        Invalid, match=rf"\({where}\).*there are eth0, eth1, eth2.*--cluster-advertise.*ip -brief address"
    ):
        settle(where, HERE)


@pytest.mark.parametrize("where", ["10.9.9.9", "127.0.0.1", "0.0.0.0"])
def test_an_address_that_others_cannot_reach(where: str) -> None:
    address, warning = settle(where, HERE)
    assert address == where and f"cluster-advertise({where}) to be configured with a local ip-address" in warning
