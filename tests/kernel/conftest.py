"""Kernel tests run in a pretend host of their own (``lane.pretend``)."""

from lane.pretend import pretend_host

__all__ = ["pretend_host"]
