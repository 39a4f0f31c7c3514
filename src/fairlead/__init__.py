"""Fairlead gives containers their networks."""

__version__ = "0.1.0"
