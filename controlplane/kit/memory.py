"""Memory that was used once and will not be again."""

import ctypes


def give_back() -> None:
    """Return what is free to the system: a parsed snapshot of ten thousand keys leaves 12 MiB behind, for ever.

    Only glibc can do that; with another C library nothing happens.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
