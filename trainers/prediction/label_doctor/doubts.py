"""Doubtful labels, ranked by how sure it is that they are wrong."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from trainers.prediction.label_doctor import cleanlab_method, confident_learning
from trainers.prediction.label_doctor.label_columns import LabelColumn

# Labels int64 (N,) and probabilities float64 (N, K) to the class that each row seems to have.
Method = Callable[[np.ndarray, np.ndarray], np.ndarray]
METHODS: dict[str, Method] = {"confident": confident_learning.suggest, "cleanlab": cleanlab_method.suggest}


@dataclass(frozen=True)
class Doubt:
    """A label of row number `row` that is likely wrong.

    Of a column with one class a row, `given` should be `suggested`. Where a row may have several classes, one of both is empty:
    without `given` the class `suggested` is missing, without `suggested` the class `given` is too much. The probabilities are
    those of the label as it is and as it should be.
    """

    row: int
    column: str
    given: str
    suggested: str
    given_prob: float
    suggested_prob: float

    @property
    def sureness(self) -> float:
        """The margin between what is suggested and what is given, from 0 to 1."""
        return self.suggested_prob - self.given_prob


def find_doubts(columns: Sequence[LabelColumn], method: Method) -> list[Doubt]:
    """All labels that `method` takes for wrong, the surest first."""
    doubts: list[Doubt] = []
    for column in columns:
        doubts += _several(column, method) if column.several else _one(column, method)
    order = {column.name: number for number, column in enumerate(columns)}
    return sorted(doubts, key=lambda doubt: (-doubt.sureness, doubt.row, order[doubt.column], doubt.given, doubt.suggested))


def _one(column: LabelColumn, method: Method) -> list[Doubt]:
    given = column.given.argmax(1)
    suggested = method(given, column.probs)
    names, probs = column.classes, column.probs
    return [
        Doubt(row, column.name, names[old], names[new], float(probs[row, old]), float(probs[row, new]))
        for row in np.flatnonzero(given != suggested).tolist()
        for old, new in [(int(given[row]), int(suggested[row]))]
    ]


def _several(column: LabelColumn, method: Method) -> list[Doubt]:
    """Each pair of row and class is a label of its own: absent or present."""
    doubts = []
    for index, name in enumerate(column.classes):
        present = column.probs[:, index]
        given = column.given[:, index].astype(np.int64)
        suggested = method(given, np.stack([1 - present, present], 1))
        for row in np.flatnonzero(given != suggested).tolist():
            prob = float(present[row])
            if given[row]:
                doubts.append(Doubt(row, column.name, name, "", prob, 1 - prob))
            else:
                doubts.append(Doubt(row, column.name, "", name, 1 - prob, prob))
    return doubts


def most_listed(labels: int, share: float | None, count: int | None) -> int:
    """How many doubts are listed at most, of `labels` labels, as `--share` or `--count` say; without them, all."""
    if share is not None:
        return max(1, math.ceil(labels * share - 1e-9))
    return labels if count is None else count
