"""A batch on the device that trains on it."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from operator import itemgetter

import torch
from torch import Tensor

from data_pipeline.stream.batch import Batch


@dataclass(frozen=True)
class DeviceBatch:
    """A batch on the device; shapes as in `Batch`.

    `has_weight`: which rows have a weight, known without waiting for the device; None where all have.
    """

    images: Tensor
    sizes: Tensor
    targets: dict[str, Tensor]
    weights: Tensor
    has_weight: tuple[bool, ...] | None = None

    @property
    def tensors(self) -> list[Tensor]:
        """All that lies on the device."""
        return [self.images, self.sizes, self.weights, *self.targets.values()]

    def map(self, change: Callable[[Tensor], Tensor], has_weight: tuple[bool, ...] | None) -> DeviceBatch:
        """The batch with every tensor changed."""
        targets = {name: change(tensor) for name, tensor in self.targets.items()}
        return DeviceBatch(change(self.images), change(self.sizes), targets, change(self.weights), has_weight)

    def split(self, rows: int) -> Iterator[DeviceBatch]:
        """The batch in parts of `rows` images at most, in order."""
        for first in range(0, len(self.images), rows):
            part = slice(first, first + rows)
            yield self.map(itemgetter(part), self.has_weight and self.has_weight[part])

    def samples(self) -> tuple[DeviceBatch, int]:
        """The rows that have a weight, and how many there are; where none has, the first row and 0."""
        if self.has_weight is None or all(self.has_weight):
            return self, len(self.images)
        rows = [row for row, weighted in enumerate(self.has_weight) if weighted]
        chosen = torch.tensor(rows or [0], device=self.images.device)
        return self.map(lambda tensor: tensor.index_select(0, chosen), None if rows else (False,)), len(rows)


def to_device(batch: Batch, device: torch.device) -> DeviceBatch:
    """Copy a batch to `device`, without waiting for it where the device allows."""
    with warnings.catch_warnings():
        # Images that came through the object store are its own, read-only memory; nobody writes to them.
        warnings.filterwarnings("ignore", "The given NumPy array is not writable")
        targets = {name: torch.from_numpy(array) for name, array in batch.targets.items()}
        host = DeviceBatch(
            torch.from_numpy(batch.images), torch.from_numpy(batch.sizes), targets, torch.from_numpy(batch.weights)
        )
    has_weight = None if batch.weights.all() else tuple((batch.weights != 0).tolist())
    if device.type != "cuda":
        return host.map(lambda tensor: tensor, has_weight)
    return host.map(lambda tensor: tensor.pin_memory().to(device, non_blocking=True), has_weight)
