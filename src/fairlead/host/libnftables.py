"""libnftables, by its C interface: the few calls of it that we make.

    Context()                    while this thread is in the namespace; it stays there
    context.run(words, flags)    (0, what was listed, "")   or   (not 0, …, the library's complaint)

The library's Python binding comes with the system only, and looks up twenty functions anew for every context; we have
a context for every sandbox. What is needed of it is this page.

Source: libnftables(3), nftables/libnftables.h.
"""

from __future__ import annotations

import ctypes
from functools import cache

from fairlead.errors import Internal, Unsupported

STATELESS, JSON, TERSE = 1 << 2, 1 << 4, 1 << 11
"""How a listing is told: without counters, as JSON, without elements of sets."""


class Context:
    """The way into the nftables of one namespace; one thread at a time."""

    def __init__(self) -> None:
        self._free = _library().nft_ctx_free
        self._handle = _library().nft_ctx_new(0)
        if not self._handle:
            raise Internal("libnftables has no room for another context")
        _library().nft_ctx_buffer_output(self._handle)
        _library().nft_ctx_buffer_error(self._handle)

    def run(self, words: str, flags: int = 0) -> tuple[int, str, str]:
        """One transaction, or one listing told as ``flags`` say: (code, what was listed, what was wrong)."""
        library = _library()
        library.nft_ctx_output_set_flags(self._handle, STATELESS | flags)
        code = library.nft_run_cmd_from_buffer(self._handle, words.encode())
        told = library.nft_ctx_get_output_buffer(self._handle)
        wrong = library.nft_ctx_get_error_buffer(self._handle)
        return code, told.decode(errors="replace"), wrong.decode(errors="replace")

    def __del__(self) -> None:
        if getattr(self, "_handle", None):
            self._free(self._handle)


@cache
def _library() -> ctypes.CDLL:
    try:
        library = ctypes.CDLL("libnftables.so.1")
    except OSError:
        raise Unsupported("libnftables.so.1 is missing: install the package libnftables1") from None
    handle, text, number = ctypes.c_void_p, ctypes.c_char_p, ctypes.c_uint
    for name, result, *arguments in (
        ("nft_ctx_new", handle, ctypes.c_uint32),
        ("nft_ctx_free", None, handle),
        ("nft_ctx_buffer_output", ctypes.c_int, handle),
        ("nft_ctx_buffer_error", ctypes.c_int, handle),
        ("nft_ctx_output_set_flags", None, handle, number),
        ("nft_run_cmd_from_buffer", ctypes.c_int, handle, text),
        ("nft_ctx_get_output_buffer", text, handle),
        ("nft_ctx_get_error_buffer", text, handle),
    ):
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
    return library
