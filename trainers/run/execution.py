"""How the stream of a training worker executes: as configured, or what suits its machine."""

from __future__ import annotations

from collections.abc import Callable

import torch

from data_pipeline.augmentation.config import read_chain
from data_pipeline.stream.config import Execution, StreamConfig
from data_pipeline.stream.shared_memory import can_share_memory


def choose_execution(stream: StreamConfig, device: torch.device, machines_are_spare: Callable[[], bool]) -> Execution:
    """How the `stream` of a worker on `device` executes; `machines_are_spare` is asked for `auto` alone.

    A loop that launches a GPU's kernels is held up by threads that decode in its process. One that computes on CPUs is not: it
    waits in long calls that need no lock of the interpreter. Steps of albumentations hold the lock themselves, and would hold
    up either (`python -m benchmarks.augmentation`).
    """
    if stream.execution != "auto":
        return stream.execution
    if machines_are_spare():
        return "ray"
    apart = device.type == "cuda" or read_chain(stream.augmentation)[0].holds_lock
    return "process" if apart and can_share_memory() else "threads"
