"""Gossip in virtual time, from ten nodes to ten thousand."""
