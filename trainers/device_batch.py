"""A batch on the device that trains on it."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from data_pipeline.stream.batch import Batch


@dataclass(frozen=True)
class DeviceBatch:
    """A batch on the device; shapes as in `Batch`."""

    images: Tensor
    sizes: Tensor
    targets: Tensor
    weights: Tensor

    def split(self, rows: int) -> Iterator[DeviceBatch]:
        """The batch in parts of `rows` images at most, in order."""
        parts = [tensor.split(rows) for tensor in (self.images, self.sizes, self.targets, self.weights)]
        return (DeviceBatch(*part) for part in zip(*parts, strict=True))


def to_device(batch: Batch, device: torch.device) -> DeviceBatch:
    """Copy a batch to `device`, without waiting for it where the device allows."""
    arrays = (batch.images, batch.sizes, batch.targets, batch.weights)
    with warnings.catch_warnings():
        # Images that came through the object store are its own, read-only memory; nobody writes to them.
        warnings.filterwarnings("ignore", "The given NumPy array is not writable")
        tensors = [torch.from_numpy(array) for array in arrays]
    if device.type == "cuda":
        tensors = [tensor.pin_memory().to(device, non_blocking=True) for tensor in tensors]
    return DeviceBatch(*tensors)
