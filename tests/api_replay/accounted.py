"""The answers in which we differ from dockerd 28.5.2 on purpose, each with its reason.

Number of the request in tests/data/docker_answers.jsonl -> (status, words that must be in our answer, why).
A difference that is not here is a defect; an entry that no longer differs is stale. Both fail the lane.
"""

RUNTIME = "the runtime is crun, not runc: the same status, the reason in its own words"

ACCOUNTED: dict[int, tuple[int, str, str]] = {
    8: (403, "overlaps 10.61.0.0/24 of network ea", "says with what the pool overlaps"),
    100: (
        400,
        "cannot be connected to any other network",
        "dockerd fails half way, putting the address on the host; we refuse before doing anything",
    ),
    102: (400, "open /proc/sys/net/bogus: No such file or directory", RUNTIME),
    104: (500, "net.ipv4.ip_forward", RUNTIME),
}
