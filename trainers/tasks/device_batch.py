"""A batch on the device that trains on it."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
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
    targets: dict[str, Tensor]
    weights: Tensor
    counts: tuple[bool, ...] | None = None

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        """All that lies on the device."""
        return self.images, self.sizes, self.weights, *self.targets.values()

    def _map(self, choose: Callable[[Tensor], Tensor], counts: tuple[bool, ...] | None) -> DeviceBatch:
        targets = {name: choose(tensor) for name, tensor in self.targets.items()}
        return DeviceBatch(choose(self.images), choose(self.sizes), targets, choose(self.weights), counts)

    def split(self, rows: int) -> Iterator[DeviceBatch]:
        """The batch in parts of `rows` images at most, in order."""
        for first in range(0, len(self.images), rows):
            part = slice(first, first + rows)
            yield self._map(lambda tensor, part=part: tensor[part], None if self.counts is None else self.counts[part])  # type: ignore[misc]

    def samples(self) -> tuple[DeviceBatch, int]:
        """The rows that have a weight, and how many there are; where none has, the first row and 0."""
        if self.counts is None or all(self.counts):
            return self, len(self.images)
        rows = [row for row, counts in enumerate(self.counts) if counts]
        chosen = torch.tensor(rows or [0], device=self.images.device)
        return self._map(lambda tensor: tensor.index_select(0, chosen), None if rows else (False,)), len(rows)


def to_device(batch: Batch, device: torch.device) -> DeviceBatch:
    """Copy a batch to `device`, without waiting for it where the device allows."""

    def copied(array: np.ndarray) -> Tensor:
        tensor = torch.from_numpy(array)
        return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor

    with warnings.catch_warnings():
        # Images that came through the object store are its own, read-only memory; nobody writes to them.
        warnings.filterwarnings("ignore", "The given NumPy array is not writable")
        images, sizes, weights = (copied(array) for array in (batch.images, batch.sizes, batch.weights))
        targets = {name: copied(array) for name, array in batch.targets.items()}
    counts = None if batch.weights.all() else tuple((batch.weights != 0).tolist())
    return DeviceBatch(images, sizes, targets, weights, counts)
