"""Pretend machines on a pretend LAN, engines inside them, and the stock client that types.

Shared by ``tests/scenarios``, ``tests/api_replay``, ``tests/robustness`` and ``bench``. Nothing here belongs to the
product: a test may only use what any user has, namely a command line, a socket and a network.
"""
