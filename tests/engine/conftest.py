"""The engine on paper, for every test here."""

from paper import paper

__all__ = ["paper"]
