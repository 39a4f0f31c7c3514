"""What ``swarm init`` makes of what people say."""

from fairlead.core.swarmspec import CaConfig, ClusterSpec, ExternalCa, Raft
from fairlead.engine.swarm import InitRequest
from fairlead.swarm.founding import settled


def test_what_is_said_is_kept_and_what_is_not_is_usual() -> None:
    theirs = (ExternalCa(url="https://ca"),)
    spec = ClusterSpec(raft=Raft(5, 3, election_tick=99), ca_config=CaConfig(external_cas=theirs))
    made = settled(InitRequest(spec=spec))
    assert made.raft == Raft(5, 3), "ticks are Docker's own consensus's"
    assert made.ca_config.external_cas == theirs
    assert settled(InitRequest(spec=ClusterSpec(raft=Raft(0, None, 0)))).raft == Raft()
