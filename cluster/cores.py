"""How many cores a process may count on."""

from __future__ import annotations

import os


def cores_each(processes: int) -> int:
    """The part of this machine's cores, at least one, of each of `processes` that share it; of those this process may use."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, cores // processes)
