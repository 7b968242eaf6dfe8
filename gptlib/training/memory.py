"""Freed memory of a CPU run is kept for the next step, which would otherwise ask the system for it anew."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Iterator
from contextlib import contextmanager

# Parameters of glibc's mallopt, from its malloc.h. Afterwards they have the values to which glibc itself raises them in
# a process that handles large tensors; it stops doing so once it has been told anything.
TRIM_THRESHOLD, MMAP_THRESHOLD, MMAP_MAX = -1, -3, -4
KEEPING = {TRIM_THRESHOLD: 2**31 - 1, MMAP_MAX: 0}
USUAL = {TRIM_THRESHOLD: 64 * 2**20, MMAP_THRESHOLD: 32 * 2**20, MMAP_MAX: 65_536}


@contextmanager
def freed_memory_kept() -> Iterator[None]:
    """Inside, memory that a tensor gives back stays with the process; at the end it goes to the system.

    By default, glibc asks the system for every large tensor and returns it at once. The system hands out memory page by
    page and fills it with zeros, which takes a tenth of a training step of a small GPT. Elsewhere than on Linux with
    glibc, this does nothing.
    """
    libc = _glibc()
    if libc is None:
        yield
        return
    for parameter, value in KEEPING.items():
        libc.mallopt(parameter, value)
    try:
        yield
    finally:
        for parameter, value in USUAL.items():
            libc.mallopt(parameter, value)
        libc.malloc_trim(0)


def _glibc() -> ctypes.CDLL | None:
    if not sys.platform.startswith("linux"):
        return None
    libc = ctypes.CDLL(None)
    return libc if hasattr(libc, "gnu_get_libc_version") and hasattr(libc, "mallopt") else None
