"""How many images a device takes at once: as configured, or as many as its memory holds."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from cluster.errors import UserError
from data_pipeline.storage.base import Storage
from trainers.config.compute import ComputeConfig
from trainers.config.failure import FailureConfig

FILE = "micro_batch_size"  # of a run's folder: what is left of compute.micro_batch_size after the memory was full


class MemoryFull(RuntimeError):
    """The memory of a device was full; the run resumes from its last checkpoint with smaller micro-batches."""


@dataclass(frozen=True)
class MicroBatch:
    """The micro-batch of a run: configured, or halved since because memory was full, which its folder remembers."""

    run: Storage
    compute: ComputeConfig
    failure: FailureConfig
    rows: int  # of a worker's part of a global batch

    @property
    def size(self) -> int:
        """Images at once."""
        file = self.run.child(FILE)
        size = self.compute.micro_batch_size or self.rows
        return min(size, int(file.read_bytes())) if self.failure.on_out_of_memory == "halve" and file.exists() else size

    def full(self, size: int, shape: tuple[int, ...], device: torch.device, needed: str) -> Exception:
        """What to raise when memory was full with `size` images at once of a batch of `shape`: the way out, or a restart."""
        half = size // 2
        if self.failure.on_out_of_memory == "halve" and half >= 1:
            self.run.child(FILE).write_bytes(str(half).encode())
            return MemoryFull(f"memory was full with {size} images at once; continuing with {half}")
        name = torch.cuda.get_device_name(device) if device.type == "cuda" else "this machine"
        smaller = f"Set compute.micro_batch_size={half}, " if half >= 1 else "Choose smaller images, "
        return UserError(
            f"The memory of {name} is full: {size} images at once of {shape[-2]}x{shape[-1]} pixels ({needed}). {smaller}"
            "compute.gradient_checkpointing=true or stream.batch_pixels; failure.on_out_of_memory=halve finds it by itself."
        )


def largest_that_fits(max_size: int, attempt: Callable[[int], None], device: torch.device) -> int:
    """The largest of `max_size`, its half, its quarter, ... images with which `attempt` does not fill the memory, or 1."""
    size = max_size
    while size > 1:
        try:
            attempt(size)
            return size
        except torch.OutOfMemoryError:
            size = (size + 1) // 2
        gc.collect()
        if device.type == "cuda":
            torch.cuda.empty_cache()
    return 1


@contextlib.contextmanager
def unchanged(network: torch.nn.Module) -> Any:
    """Inside, forward passes leave no trace in running statistics, and gradients are forgotten."""
    kept = {name: buffer.clone() for name, buffer in network.named_buffers()}
    try:
        yield
    finally:
        for name, buffer in network.named_buffers():
            buffer.copy_(kept[name])
        network.zero_grad(set_to_none=True)
