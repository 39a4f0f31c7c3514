"""Conducts many machines. See docs/map.md."""
