"""What can go wrong, in nine words.

Every error that crosses a module boundary is one of these. Each says whose
fault it is and carries the HTTP status the API answers with, so that there is
one place (``api.server``) where errors become responses and none where an
error has to be guessed from its text.

Rules
    1. The message is what the user reads: it names the object, the reason and
       the way out, in Docker's own words where Docker has words for it.
    2. An error raised before any deed leaves nothing behind. An error raised
       half way is raised *after* the undoing; what could not be undone rides
       along as a note (``add_note``).
    3. Nobody catches ``FairleadError`` to go on as if nothing had happened.
"""

from __future__ import annotations


class FairleadError(Exception):
    """Base of all; ``status`` is the HTTP status it becomes."""

    status = 500

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class Invalid(FairleadError):
    """The caller asked for something that makes no sense. Nothing was changed."""

    status = 400


class Forbidden(FairleadError):
    """The request is sensible, but policy says no. Nothing was changed."""

    status = 403


class NotFound(FairleadError):
    """The named thing does not exist. Nothing was changed."""

    status = 404


class NotModified(FairleadError):
    """The thing is already so (a started container started again). Nothing was changed."""

    status = 304


class Conflict(FairleadError):
    """Somebody or something else holds what is asked for. Nothing was changed."""

    status = 409


class Unsupported(FairleadError):
    """This kernel, version or machine lacks what is needed; the message names it. Nothing was changed."""

    status = 501


class Unavailable(FairleadError):
    """A part we depend on (store, swarm, child process) is not there now; trying again later may work."""

    status = 503


class Internal(FairleadError):
    """Our fault, or the machine's: the deed failed and was undone as far as the notes say."""

    status = 500
