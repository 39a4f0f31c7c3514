"""Stock serf agents and nodes of ours in one cluster: each sees the other alive, failed, back, gone; sealed or not."""

import base64

import pytest

from fairlead.core.serf import decode_tags
from fairlead.core.serfkeys import LIST, KeyAnswered
from gossip.conftest import Cluster, until
from gossip.stock import Agent

pytestmark = pytest.mark.slow


async def mixed(cluster: Cluster) -> list[str]:
    """Two agents and two nodes; everybody joined through the first agent."""
    agent = await cluster.agent("ada", role="web")
    await cluster.agent("bea")
    await cluster.agents["bea"].ask("join", f"127.0.0.1:{agent.port}")
    for name in ("nora", "otto"):
        (await cluster.node(name, role="db")).join([cluster.address("ada")])
    everybody = ["ada", "bea", "nora", "otto"]
    for name in everybody:
        await cluster.wait(name, "alive", by=everybody)
    return everybody


async def test_alive_with_tags_on_both_sides(cluster: Cluster) -> None:
    await mixed(cluster)
    assert (await cluster.agents["bea"].members())["nora"] == ("alive", {"role": "db", "fairlead": "1"})
    seen = cluster.nodes["otto"].machine.swim.members.table["ada"]
    assert decode_tags(seen.meta) == {"role": "web"}


async def test_a_stock_agent_joins_through_one_of_ours(cluster: Cluster) -> None:
    await cluster.node("nora")
    agent = await cluster.agent("ada")
    await agent.ask("join", str(cluster.address("nora")))
    await cluster.wait("nora", "alive", by=["ada"])
    await cluster.wait("ada", "alive", by=["nora"])


async def test_an_agent_that_dies_and_returns(cluster: Cluster) -> None:
    everybody = await mixed(cluster)
    others = [name for name in everybody if name != "bea"]
    cluster.agents["bea"].kill()
    await cluster.wait("bea", "failed", by=others)
    cluster.agents["bea"].start()
    await cluster.wait("bea", "alive", by=others)


async def test_a_node_that_dies_and_returns(cluster: Cluster) -> None:
    everybody = await mixed(cluster)
    others = [name for name in everybody if name != "otto"]
    port = cluster.address("otto").port
    await cluster.close("otto")
    await cluster.wait("otto", "failed", by=others)
    (await cluster.node("otto", port=port)).join([cluster.address("nora")])
    await cluster.wait("otto", "alive", by=others)


async def test_an_agent_that_leaves(cluster: Cluster) -> None:
    everybody = await mixed(cluster)
    cluster.agents["bea"].leave()
    await cluster.wait("bea", "left", by=[name for name in everybody if name != "bea"])


async def test_a_node_that_leaves_and_comes_again(cluster: Cluster) -> None:
    everybody = await mixed(cluster)
    others = [name for name in everybody if name != "nora"]
    port = cluster.address("nora").port
    await cluster.nodes["nora"].leave()
    await cluster.wait("nora", "left", by=others)
    await cluster.close("nora")
    (await cluster.node("nora", port=port)).join([cluster.address("ada")])
    await cluster.wait("nora", "alive", by=everybody)


async def test_new_tags_arrive(cluster: Cluster) -> None:
    await mixed(cluster)
    cluster.nodes["nora"].change_tags({"role": "cache"})

    async def arrived() -> bool:
        return (await cluster.agents["bea"].members())["nora"][1] == {"role": "cache", "fairlead": "1"}

    await until(arrived, "the new tags")


async def test_distances_are_learnt_from_each_other(cluster: Cluster) -> None:
    await mixed(cluster)

    async def known() -> bool:
        return "rtt" in await cluster.agents["ada"].ask("rtt", "ada", "nora")

    async def learnt() -> bool:
        return cluster.nodes["nora"].machine.coordinates.distance("ada") < 0.1

    await until(known, "the agent to know our coordinate")
    await until(learnt, "us to know the agent's")


async def test_an_event_crosses_us(cluster: Cluster) -> None:
    """Two agents that know each other only by way of a node: what one fires, the other hears."""
    await mixed(cluster)
    await cluster.agents["ada"].ask("event", "deploy", "now")

    async def heard() -> bool:
        return "user-event: deploy" in cluster.agents["bea"].log()

    await until(heard, "the event")


async def test_nothing_we_sent_was_found_wrong(cluster: Cluster) -> None:
    await mixed(cluster)
    await cluster.nodes["nora"].leave()
    for agent in cluster.agents.values():
        for line in agent.log().splitlines():
            assert "[ERR]" not in line and "Got ping for unexpected" not in line, line


async def test_a_key_is_rotated_without_losing_anybody(cluster: Cluster) -> None:
    """We take the new key in before the agents use it, and go on talking to those with the old one."""
    if cluster.key is None:
        pytest.skip("needs a key")
    new = b"f" * 32
    agent = await cluster.agent("ada")
    node = await cluster.node("nora", keys=(cluster.key, new))
    node.join([cluster.address("ada")])
    await cluster.wait("ada", "alive", by=["nora"])
    late = await cluster.node("otto", keys=(new, cluster.key))
    late.join([cluster.address("nora")])
    await cluster.wait("otto", "alive", by=["nora"])
    late.join([cluster.address("ada")])
    await until(lambda: _asks_for(agent), "the agent to meet a key it does not know")
    assert await cluster.seen("nora", "ada") == "alive"


async def _asks_for(agent: Agent) -> bool:
    return "No installed keys could decrypt" in agent.log()


async def test_another_key_is_another_cluster(cluster: Cluster) -> None:
    agent = await cluster.agent("ada")
    stranger = await cluster.node("eve", keys=(b"wrong key of 32 bytes, or nearly",))
    stranger.join([cluster.address("ada")])
    friend = await cluster.node("nora")
    friend.join([cluster.address("ada")])
    await cluster.wait("nora", "alive", by=["ada"])
    assert "eve" not in await agent.members()
    assert "ada" not in stranger.machine.swim.members.table


async def test_serf_keys_are_answered_by_us(cluster: Cluster) -> None:
    """``serf keys`` asks, everybody does and answers: a key is rotated under a cluster of agents and nodes."""
    everybody = await mixed(cluster)
    agent, node = cluster.agents["bea"], cluster.nodes["nora"]
    new = base64.b64encode(b"n" * 32).decode()
    if cluster.key is None:
        assert "encryption not enabled" in await agent.ask("keys", "-list")
        return
    old = base64.b64encode(cluster.key).decode()
    for words in (("-install", new), ("-use", new), ("-remove", old)):
        said = await agent.ask("keys", *words)
        assert "Successfully" in said and "failed" not in said.lower(), said
    assert {one.machine.swim.envelope.ring.keys for one in cluster.nodes.values()} == {(b"n" * 32,)}  # type: ignore[union-attr]
    listed = await agent.ask("keys", "-list")
    assert f"{new} [4/4]" in " ".join(listed.split()) and old not in listed, listed
    late = await cluster.node("zoe", keys=(b"n" * 32,))
    late.join([node.machine.swim.address])
    await cluster.wait("zoe", "alive", by=[*everybody, "zoe"])


async def test_agents_answer_us(cluster: Cluster) -> None:
    await mixed(cluster)
    node = cluster.nodes["otto"]
    node.do(lambda now: node.machine.ask_keys(77, LIST, b"", now))

    async def answered() -> bool:
        return {fact.node for fact in cluster.facts if isinstance(fact, KeyAnswered)} == {"ada", "bea", "nora", "otto"}

    await until(answered, "four answers")
    for fact in cluster.facts:
        if isinstance(fact, KeyAnswered):
            assert fact.id == 77 and fact.answer.done == (cluster.key is not None)
