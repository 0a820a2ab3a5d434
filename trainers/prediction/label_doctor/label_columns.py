"""Labels and their probabilities as arrays, of out-of-fold predictions of any task with labels.

Legend: N rows, K classes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cluster.errors import UserError
from cluster.redaction import printable
from trainers.prediction.out_of_fold import OutOfFold
from trainers.tasks import Task
from trainers.tasks.classifiers.base import ClassifierTask

FEW_ROWS = 10  # of a class: a mean over fewer says little
_ROUNDING = 1e-4  # of probabilities that were averaged in float32


@dataclass(frozen=True)
class LabelColumn:
    """One column of labels: each row has one of the `classes`, or where `several`, any number of them.

    `given` are bool (N, K): the classes that each row is labeled with; `probs` are float64 (N, K).
    """

    name: str
    classes: tuple[str, ...]
    several: bool
    given: np.ndarray
    probs: np.ndarray

    @property
    def labels(self) -> int:
        """How many labels there are to be wrong: one a row, or one for each pair of row and class."""
        return int(self.given.size if self.several else len(self.given))

    def rare_classes(self) -> list[str]:
        """The classes that fewer than `FEW_ROWS` rows have, with those that none has."""
        return [name for name, rows in zip(self.classes, self.given.sum(0), strict=True) if rows < FEW_ROWS]


def require_labels(task: Task) -> ClassifierTask:
    """The task, which must be one with labels.

    Raises:
        UserError: it has none.
    """
    if not isinstance(task, ClassifierTask):
        raise UserError(
            f"Wrong labels are found in predictions of classes, and the task '{task.name}' has none. "
            "Its worst predictions are in the report that training writes."
        )
    return task


def label_columns(found: OutOfFold) -> list[LabelColumn]:
    """The columns of labels of a task, in its order.

    Raises:
        UserError: the task has no labels; or the predictions have a label that is no class, or probabilities that are none.
    """
    task = require_labels(found.task)
    if not found.rows:
        raise UserError("There are no out-of-fold predictions to find wrong labels in: every image was left out.")
    columns = []
    for name, classes in task.classes.items():
        own = f"{name}_probs"
        probs = _probs(found, own if own in task.prediction_schema.names else "probs", len(classes))
        columns.append(_column(found, name, classes, probs))
    return columns


def _column(found: OutOfFold, name: str, classes: tuple[str, ...], probs: np.ndarray) -> LabelColumn:
    several = found.truth_columns[name].startswith("list")
    index = {label: number for number, label in enumerate(classes)}
    given = np.zeros(probs.shape, bool)
    for number, row in enumerate(found.rows):
        for label in row[name] if several else [row[name]]:
            if label not in index:
                raise UserError(
                    f"Row '{printable(row['id'])}' has the label '{printable(str(label))}' in column '{name}', which is none "
                    f"of the {len(classes)} classes that were predicted. Make the out-of-fold predictions again."
                )
            given[number, index[label]] = True
    if not several:
        probs = probs / np.maximum(probs.sum(1, keepdims=True), 1e-12)
    return LabelColumn(name, classes, several, given, probs)


def _probs(found: OutOfFold, name: str, classes: int) -> np.ndarray:
    """The probabilities in column `name`: float64 (N, K)."""
    values = [row[name] or () for row in found.rows]
    bad = next((number for number, row in enumerate(values) if len(row) != classes), None)
    if bad is None:
        probs = np.array(values, np.float64)  # a null becomes NaN
        usable = ((probs >= 0) & (probs <= 1 + _ROUNDING)).all(1)
        if usable.all():
            return probs
        bad = int(usable.argmin())
    row = found.rows[bad]
    raise UserError(
        f"Row '{printable(row['id'])}' of fold {row['fold']} has no probabilities of the {classes} classes in '{name}': they "
        "are missing, or not from 0 to 1. If they are NaN, the training of that fold diverged: train it again."
    )
