"""The answers in which we differ from dockerd 28.5.2 on purpose, each with its reason.

Number of the request in tests/data/docker_answers.jsonl -> (status, words that must be in our answer, why).
A difference that is not here is a defect; an entry that no longer differs is stale. Both fail the lane.
"""

ACCOUNTED: dict[int, tuple[int, str, str]] = {}
