"""Protocol: what a part promises those who are given it, for people and for the type checker.

Python's own ``typing.Protocol`` can be asked at run time who keeps a promise, and makes an abstract class of each for
it, which is five times as dear as a class. Nobody here asks; whoever does (``isinstance``) takes Python's.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Protocol
else:

    class Protocol:
        """A class whose methods say what is promised."""


__all__ = ["Protocol"]
