"""Image references: what people type, and the two ways to write it back.

    busybox                 docker.io/library/busybox:latest      busybox:latest
    what is typed   ---->   normal (for registries)        ---->  familiar (for people)

Rules
    1. A first part with a dot, a colon or capital letters, or ``localhost``, is a
       registry; without one it is ``docker.io``, and there a bare name is in ``library/``.
    2. Sixty-four hexadecimal digits are an id, never a name.
    3. What cannot be a reference is ``Invalid`` in Docker's words; nothing is guessed.

What it does not do: know which images exist (``engine.images``).
"""

from __future__ import annotations

import fnmatch
import re

import msgspec

from fairlead.core.patterns import pattern
from fairlead.errors import Invalid

DEFAULT_DOMAIN = "docker.io"
LATEST = "latest"
LONGEST = 255

_COMPONENT = r"[a-z0-9]+(?:(?:[._]|__|[-]+)[a-z0-9]+)*"
_DOMAIN_PART = r"(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9])"
_DOMAIN = rf"(?:{_DOMAIN_PART}(?:\.{_DOMAIN_PART})*|\[(?:[a-fA-F0-9:]+)\])(?::[0-9]+)?"
_TAG = r"[\w][\w.-]{0,127}"
_DIGEST = r"[A-Za-z][A-Za-z0-9]*(?:[-_+.][A-Za-z][A-Za-z0-9]*)*:[0-9a-fA-F]{32,}"
_NAME = pattern(rf"{_DOMAIN}/{_COMPONENT}(?:/{_COMPONENT})*", re.ASCII)
_WHOLE = pattern(rf"(?P<name>.+?)(?::(?P<tag>{_TAG}))?(?:@(?P<digest>{_DIGEST}))?", re.ASCII)
_TAG_ONLY = pattern(_TAG, re.ASCII)
_ID = pattern(r"(?:sha256:)?([a-f0-9]{64})")
_SHORT = pattern(r"(?:sha256:)?([a-f0-9]{1,64})")


class Reference(msgspec.Struct, frozen=True, order=True):
    """One parsed reference; ``path`` without the registry, ``tag`` and ``digest`` empty when not given."""

    domain: str
    path: str
    tag: str = ""
    digest: str = ""

    @property
    def name(self) -> str:
        """Registry and path: ``docker.io/library/busybox``."""
        return f"{self.domain}/{self.path}"

    @property
    def familiar_name(self) -> str:
        """The name as people write it: ``busybox``, ``quay.io/a/b``."""
        if self.domain != DEFAULT_DOMAIN:
            return self.name
        return self.path.removeprefix("library/") if self.path.count("/") == 1 else self.path

    @property
    def normal(self) -> str:
        """Everything, for programs that talk to registries."""
        return self.name + self._tail()

    @property
    def familiar(self) -> str:
        """The whole reference as people write it."""
        return self.familiar_name + self._tail()

    def _tail(self) -> str:
        return (f":{self.tag}" if self.tag else "") + (f"@{self.digest}" if self.digest else "")

    def with_tag(self, tag: str) -> Reference:
        """The same name under another tag, without a digest."""
        return Reference(self.domain, self.path, check_tag(tag))

    def tagged(self) -> Reference:
        """``latest`` where neither tag nor digest is given."""
        return self if self.tag or self.digest else self.with_tag(LATEST)


def parse(text: str) -> Reference:
    """What somebody typed, normalised. ``Invalid`` in Docker's words."""
    if _ID.fullmatch(text) and not text.startswith("sha256:"):
        raise Invalid(f"invalid repository name ({text}), cannot specify 64-byte hexadecimal strings")
    domain, rest = _split_domain(text)
    match = _WHOLE.fullmatch(rest)
    if not match:
        raise Invalid("invalid reference format")
    path = match["name"]
    if path.lower() != path:
        raise Invalid(f"invalid reference format: repository name ({path}) must be lowercase")
    if not _NAME.fullmatch(f"{domain}/{path}"):
        raise Invalid("invalid reference format")
    if len(f"{domain}/{path}") > LONGEST:
        raise Invalid(f"repository name must not be more than {LONGEST} characters")
    return Reference(domain, path, match["tag"] or "", match["digest"] or "")


def _split_domain(text: str) -> tuple[str, str]:
    first, slash, rest = text.partition("/")
    plain = not any(mark in first for mark in ".:") and first != "localhost" and first.lower() == first
    domain, path = (DEFAULT_DOMAIN, text) if not slash or plain else (first, rest)
    if domain == "index.docker.io":
        domain = DEFAULT_DOMAIN
    if domain == DEFAULT_DOMAIN and "/" not in path:
        path = f"library/{path}"
    return domain, path


def check_tag(tag: str) -> str:
    """The tag itself, or ``Invalid``."""
    if not _TAG_ONLY.fullmatch(tag):
        raise Invalid("invalid tag format")
    return tag


def image_id(text: str) -> str:
    """``sha256:…`` if the text is a whole image id, with or without its prefix; "" if not."""
    match = _ID.fullmatch(text)
    return f"sha256:{match[1]}" if match else ""


def id_prefix(text: str) -> str:
    """The hexadecimal digits of what may be a shortened image id; "" if it cannot be one."""
    match = _SHORT.fullmatch(text)
    return match[1] if match else ""


def matches(pattern: str, familiar: str) -> bool:
    """Whether a ``reference=`` filter selects an image name: shell patterns per path part, tag optional."""
    name = familiar.partition("@")[0]
    bare = name.rpartition(":")[0] if ":" in name.rpartition("/")[2] else name
    return any(_glob(pattern, text) for text in (familiar, name, bare))


def _glob(pattern: str, text: str) -> bool:
    """``*`` and ``?`` that do not cross a slash, and ``[…]``. (``fnmatch`` takes linear time, whatever the pattern.)"""
    wanted, parts = pattern.replace("[^", "[!").split("/"), text.split("/")
    return len(wanted) == len(parts) and all(map(fnmatch.fnmatchcase, parts, wanted))
