"""The rules are followed as they are written, and no word of them is unknown."""

from fairlead.core.model import PortBinding
from fairlead.core.rules import NetworkRules, binding_elements, network_elements, skeleton
from fairlead.core.ruleset import Packet, Ruleset, Surroundings, unknown_words
from fairlead.core.wanted import Skeleton

RED = NetworkRules(device="br-red", subnets=("10.1.0.0/24",))


def ruleset(network: NetworkRules = RED) -> Ruleset:
    ports = binding_elements([PortBinding(80, "tcp", "0.0.0.0", 8080)], "10.1.0.2", "", network)
    around = Surroundings(lambda address: address == "192.0.2.1", own_address=lambda device, family: "192.0.2.1")
    return Ruleset(skeleton(), (*network_elements(network), *ports), around)


def test_every_word_of_our_skeletons_is_known() -> None:
    for text in (skeleton(), skeleton(drop_foreign=(4, 6))):
        assert not unknown_words(text)
        assert len(list(Ruleset(text, (), Surroundings()).rules())) > 30


def test_an_unknown_word_is_noticed() -> None:
    strange = Skeleton(text="chain forward {\n type filter hook forward priority 0;\n ip ttl 1 drop\n}\n")
    assert unknown_words(strange) == ["ip ttl 1 drop"]


def test_a_published_port_is_translated_by_its_element() -> None:
    packet = Packet(source="192.0.2.9", target="192.0.2.1", protocol="tcp", port=8080, arrives="lan0")
    verdict = ruleset().at("prerouting", packet)
    assert (verdict.packet.target, verdict.packet.port, verdict.packet.translated) == ("10.1.0.2", 80, True)
    met = verdict.met[-1]
    assert met.chain == "published" and met.element is not None and met.element.item == "tcp . 8080"


def test_the_guard_is_asked_before_the_map() -> None:
    packet = Packet(source="192.0.2.9", target="127.0.0.1", protocol="tcp", port=8080, arrives="lan0")
    verdict = ruleset().at("prerouting", packet)
    assert verdict.dropped and verdict.met[-1].chain == "guard"


def test_what_leaves_is_masqueraded_and_what_stays_is_not() -> None:
    packet = Packet(source="10.1.0.2", target="203.0.113.1", protocol="tcp", port=80, leaves="lan0")
    assert ruleset().at("postrouting", packet).packet.source == "192.0.2.1"
    stays = Packet(source="10.1.0.2", target="10.1.0.3", protocol="tcp", port=80, leaves="br-red")
    assert ruleset().at("postrouting", stays).packet.source == "10.1.0.2"


def test_entering_needs_a_reason() -> None:
    packet = Packet(source="10.9.0.2", target="10.1.0.2", protocol="tcp", port=80, arrives="br-blue", leaves="br-red")
    verdict = ruleset().at("forward", packet)
    assert verdict.dropped and [met.chain for met in verdict.met] == ["forward", "entering"]


def test_without_a_table_everything_passes() -> None:
    packet = Packet(source="10.9.0.2", target="10.1.0.2", protocol="tcp", port=80, leaves="br-red")
    assert not Ruleset(None, (), Surroundings()).at("forward", packet).dropped
