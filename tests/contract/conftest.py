"""What several contract tests share."""

from lane.pretend import pretend_host

__all__ = ["pretend_host"]
