"""How the stream of a training worker executes: as configured, or what suits its machine."""

from __future__ import annotations

from collections.abc import Callable

import torch

from data_pipeline.stream.config import Execution
from data_pipeline.stream.shared_memory import can_share_memory


def choose_execution(configured: Execution, device: torch.device, machines_are_spare: Callable[[], bool]) -> Execution:
    """What `stream.execution` means for a worker on `device`; `machines_are_spare` is asked for `auto` alone.

    A loop that launches a GPU's kernels is held up by threads that decode in its process. One that computes on CPUs is not: it
    waits in long calls that need no lock of the interpreter.
    """
    if configured != "auto":
        return configured
    if machines_are_spare():
        return "ray"
    return "process" if device.type == "cuda" and can_share_memory() else "threads"
