"""Giving memory back to the system, where the C library is glibc.

Left to itself it raises, with every large array that is freed, the size from which arrays get pages of their own; the
others lie in heaps that small survivors keep from shrinking, so that a process that makes many shards holds more after
each. With the size fixed, what a shard took goes back when it is made.
"""

from __future__ import annotations

import ctypes
from functools import cache

# Numbers of mallopt's parameters.
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
# Smaller arrays share heaps: pages of their own would have to be cleared for each.
_OWN_PAGES_BYTES = 8 << 20


@cache
def bound() -> None:
    """Fix from which size on arrays get pages of their own, for the whole process."""
    if (libc := _glibc()) is not None:
        libc.mallopt(_MMAP_THRESHOLD, _OWN_PAGES_BYTES)
        libc.mallopt(_TRIM_THRESHOLD, 4 * _OWN_PAGES_BYTES)


def give_back() -> None:
    """Give the free pages of all heaps back."""
    if (libc := _glibc()) is not None:
        libc.malloc_trim(0)


@cache
def _glibc() -> ctypes.CDLL | None:
    libc = ctypes.CDLL(None)
    return libc if hasattr(libc, "mallopt") and hasattr(libc, "malloc_trim") else None
