"""Interface between a dataset's task and the stream: how the columns of a task become the target tensors of a batch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np


class UnusableTarget(Exception):
    """A row whose target cannot be used, with the reason. The stream counts it as rejected and continues."""


class TargetEncoder(Protocol):
    """How a task's columns become the target tensors of a batch.

    The stream calls it in any thread or task; it is pickled once a run.
    """

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the columns of a shard that it reads."""

    def encode(self, row: Mapping[str, Any]) -> Any:
        """Encode one row, given the values of `columns`.

        Raises:
            UnusableTarget: this row has no usable target; it becomes an entry of the batch's `errors`.
            UserError: a mistake in the data that ends the run, such as a token outside the vocabulary.
        """

    def collate(self, targets: Sequence[Any | None], size: int) -> dict[str, np.ndarray]:
        """Stack encoded targets into arrays of `size` rows; None, or missing at the end, stands for a blank row."""

    def concat(self, parts: Sequence[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
        """Concatenate the results of `collate` for consecutive parts of one batch."""


class NoTargets:
    """A target encoder that reads no columns, for reading the images of any dataset."""

    columns: tuple[str, ...] = ()

    def encode(self, row: Mapping[str, Any]) -> Any:
        """Return None: there is no target."""
        return None

    def collate(self, targets: Sequence[Any | None], size: int) -> dict[str, np.ndarray]:
        """Return no arrays."""
        return {}

    def concat(self, parts: Sequence[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
        """Return no arrays."""
        return {}
