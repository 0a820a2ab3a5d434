"""Metrics of which rows are kept, because no sums give them: what depends on an order of all scores, say."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from cluster.errors import UserError
from cluster.yaml_text import shown
from trainers.tasks.metrics.base import Metrics

PACKED_AT_ONCE = 4096  # rows

Records = NDArray[np.void]  # a structured array: a record for each row


@dataclass
class RowMetrics(Metrics):
    """Metrics over kept rows: parts add up to the same records, in one order, however rows were spread and in whichever order.

    So every metric of the sum is the same to the last digit, also one whose last digits depend on the order of a sum.
    """

    classes: tuple[str, ...] = field(kw_only=True)  # in the order of the outputs
    _waiting: list[Any] = field(default_factory=list, repr=False)  # rows that are not packed yet
    _parts: list[Records] = field(default_factory=list, repr=False)

    def _pack(self, rows: Sequence[Any]) -> Records:
        """A record for each of the rows that were handed to `_keep`."""
        raise NotImplementedError

    def _keep(self, row: Any) -> None:
        self.count += 1
        self._waiting.append(row)
        if len(self._waiting) == PACKED_AT_ONCE:
            self._packed()

    def _packed(self) -> list[Records]:
        if self._waiting:
            self._parts.append(self._pack(self._waiting))
            self._waiting = []
        return self._parts

    @property
    def records(self) -> Records:
        """All rows, sorted by their bytes."""
        self._parts = [np.concatenate([self._pack([]), *self._packed()])]
        (whole,) = self._parts
        return whole[np.argsort(whole.view(np.dtype((np.void, whole.dtype.itemsize))), kind="stable")]

    def __add__(self, other: Self) -> Self:
        if self.classes != other.classes:
            raise ValueError("metrics of other classes do not add up")
        return replace(
            self,
            count=self.count + other.count,
            rejected=self.rejected + other.rejected,
            _waiting=[],
            _parts=[*self._packed(), *other._packed()],
        )

    def __getstate__(self) -> dict[str, Any]:
        self._packed()
        return self.__dict__


def class_index(classes: Sequence[str]) -> dict[str, int]:
    """The place of each class."""
    return {name: index for index, name in enumerate(classes)}


def require_prediction(name: str, index: dict[str, int]) -> int:
    """The place of a predicted class.

    Raises:
        UserError: there is no such class.
    """
    if name not in index:
        raise UserError(
            f"A prediction names the class '{shown(name)}', which is none of the checkpoint's: {shown(list(index))}. "
            "Predict again with this checkpoint."
        )
    return index[name]
