"""Fuzzing: a million inputs that nobody would send, and what must be true of each answer.

    mutate    the dice: bytes, words and trees, spoilt a little
    targets   what is tried: its share of the inputs, how an input is made, what must be true
    dns wires words documents requests     the targets, by what they read
    run       the lane: ``scripts/test fuzz --inputs 1000000``; one input again: ``--only NAME --number N``

The rules that hold for every target: nothing is raised but our own errors, an input takes at most ``BOUND`` seconds,
and memory does not grow with their number. An input is made from the seed, the target's name and its number alone, so
each can be made again. What was found stands in ``test_found.py``.
"""
