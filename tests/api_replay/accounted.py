"""The answers in which we differ from dockerd 28.5.2 on purpose, each with its reason.

ACCOUNTED     number of the request in tests/data/docker_answers.jsonl -> (status, words in our answer, why)
IN_SESSIONS   part of an answer in tests/data/sessions, as a regular expression -> why

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
    102: (400, "open /proc/sys/net/bogus: no such file or directory", RUNTIME),
}

IN_SESSIONS: dict[str, str] = {
    r"/DockerVersion": "the version that made the image is ours",
    r"/GraphDriver/Data/(Lower|Merged|Upper|Work)Dir": "files lie elsewhere: an image is one directory here",
    r"(/\*)?/NetworkSettings/Networks/\w+_back/IPAddress": (
        "Compose repeats its wish in a field for results; dockerd shows that until the container starts"
    ),
    r"/CDISpecDirs": "no device injection",
    r"/Containerd": "no containerd",
    r"/Runtimes/io\.containerd\.runc\.v2": "no containerd",
    r"/Runtimes/runc/status": "crun's features are not asked for",
    r"/KernelMemoryTCP": "kernel memory for TCP is not limited by itself",
    r"/memory_stats/stats/\w+": "all figures that this kernel has",
}
