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
    """A batch on the device; shapes as in `Batch`.

    `counts`: which rows have a weight, known without waiting for the device; None where all have.
    """

    images: Tensor
    sizes: Tensor
    targets: Tensor
    weights: Tensor
    counts: tuple[bool, ...] | None = None

    @property
    def tensors(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """All that lies on the device."""
        return self.images, self.sizes, self.targets, self.weights

    def split(self, rows: int) -> Iterator[DeviceBatch]:
        """The batch in parts of `rows` images at most, in order."""
        for first in range(0, len(self.images), rows):
            part = slice(first, first + rows)
            images, sizes, targets, weights = (tensor[part] for tensor in self.tensors)
            yield DeviceBatch(images, sizes, targets, weights, None if self.counts is None else self.counts[part])

    def samples(self) -> tuple[DeviceBatch, int]:
        """The rows that have a weight, and how many there are; where none has, the first row and 0."""
        if self.counts is None or all(self.counts):
            return self, len(self.images)
        rows = [row for row, counts in enumerate(self.counts) if counts]
        chosen = torch.tensor(rows or [0], device=self.images.device)
        images, sizes, targets, weights = (tensor.index_select(0, chosen) for tensor in self.tensors)
        return DeviceBatch(images, sizes, targets, weights, None if rows else (False,)), len(rows)


def to_device(batch: Batch, device: torch.device) -> DeviceBatch:
    """Copy a batch to `device`, without waiting for it where the device allows."""
    arrays = (batch.images, batch.sizes, batch.targets, batch.weights)
    with warnings.catch_warnings():
        # Images that came through the object store are its own, read-only memory; nobody writes to them.
        warnings.filterwarnings("ignore", "The given NumPy array is not writable")
        tensors = [torch.from_numpy(array) for array in arrays]
    if device.type == "cuda":
        tensors = [tensor.pin_memory().to(device, non_blocking=True) for tensor in tensors]
    images, sizes, targets, weights = tensors
    counts = None if batch.weights.all() else tuple((batch.weights != 0).tolist())
    return DeviceBatch(images, sizes, targets, weights, counts)
