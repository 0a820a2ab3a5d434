"""The heap of this process: memory that tensors free is kept for the next ones."""

from __future__ import annotations

import ctypes
import platform

_MMAP_THRESHOLD, _TRIM_THRESHOLD = -3, -1  # of mallopt(3)
_LARGE = 2**30 - 1  # bytes


def keep_freed_memory() -> None:
    """Keep what is freed in the heap instead of giving it back to the system, which hands it out again page by page.

    A training step on a CPU frees and takes hundreds of megabytes of activations; by default glibc maps each large one anew,
    and the kernel clears its pages. Does nothing where the C library is not glibc.
    """
    if platform.libc_ver()[0] != "glibc":
        return
    libc = ctypes.CDLL(None)
    libc.mallopt(_MMAP_THRESHOLD, _LARGE)
    libc.mallopt(_TRIM_THRESHOLD, _LARGE)
